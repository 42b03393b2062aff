"""Non-uniform Fourier transforms at arbitrary frequencies, and their fast normal operator."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..types import real, require
from .base import LinearOperator
from .nonuniform import interpolate, spread
from .structure import at_precision_of, complex_dtype, default_precision, is_complex, structure


class NUFFT(LinearOperator):
    """Fourier samples of an image at arbitrary points: ``y_m = w_m N^(-1/2) sum_r x_r exp(-i <k_m, r>)``, r in pixels, N pixels.

    ``points`` ``(M, d)`` are radians per pixel, in the order of the image's axes and periodic in 2 pi; the origin of r is at
    index ``n // 2``, so points on the grid ``2 pi j / n`` give the samples of ``FourierTransform(shape, centred=True)``. The d
    axes before the channels are transformed, those before them (coils) are kept: ``(N, H, W, C) -> (N, M, C)`` for d = 2.
    ``weights`` ``(M,)`` are the w_m (default 1; square roots of a density compensation, visibility weights).

    ``eps`` is the relative accuracy asked of the transform (default 1e-6 for float32, 1e-12 for float64). ``A.H`` is the exact
    adjoint. ``A.gram`` is one circular convolution of twice the size, whose kernel one transform computes: iterative solves
    use it. Differentiable in the points and weights. Needs ``nufftax`` (``pip install 'invjax[nufft]'``). The adjoint
    holds ``M (log10(1 / eps) + 2)^d`` products in memory. Raises ``ValueError`` for points that are not ``(M, 2)`` or
    ``(M, 3)`` or weights of another length. Source: Fessler and Sutton (2003); the convolution: Wajer and Pruessmann (2001).
    """

    points: Array = eqx.field(converter=real)
    weights: Array | None = eqx.field(converter=real)
    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    eps: float | None = eqx.field(static=True)

    def __init__(
        self,
        points: Any,
        shape: tuple[int, ...],
        weights: Any = None,
        *,
        complex: bool = True,
        eps: float | None = None,
    ):
        points = jnp.asarray(real(points))
        self.points = points.astype(jnp.result_type(float)) if points.dtype.kind in "biu" else points
        self.weights = real(weights)
        self.in_structure = structure(shape, complex)
        self.eps = eps
        if points.ndim != 2 or points.shape[1] not in (2, 3) or not points.size:
            raise ValueError(f"points: expected a shape (M, 2) or (M, 3) with M > 0, got {points.shape}")
        if len(shape) < self.points.shape[1] + 1:
            raise ValueError(f"shape: expected {self.points.shape[1]} spatial axes and channels, got {shape}")
        require(self.weights, "weights", shape=self.points.shape[:1])
        require(eps, "eps", positive=True)

    @property
    def out_structure(self):
        before, _, channels = self._split
        return structure((*before, self.points.shape[0], channels), complex=True)

    @property
    def _split(self) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """Leading axes, grid, channels."""
        shape, d = self.in_structure.shape, self.points.shape[1]
        return shape[: -1 - d], shape[-1 - d : -1], shape[-1]

    def _factors(self, x: Array) -> Array:
        """``w_m N^(-1/2)`` at the dtype of the complex ``x``, shaped to broadcast to the samples; a scalar without weights."""
        before, grid, _ = self._split
        weights = jnp.ones(()) if self.weights is None else self.weights.reshape(*(1,) * len(before), -1, 1)
        return (float(np.prod(grid)) ** -0.5 * at_precision_of(x, weights)).astype(x.dtype)

    def apply(self, x):
        before, grid, channels = self._split
        x = x.astype(complex_dtype(x.dtype))
        images = jnp.moveaxis(x, -1, len(before)).reshape(-1, *grid)
        samples = interpolate(at_precision_of(x, self.points), images, self.eps)
        return self._factors(x) * jnp.moveaxis(samples.reshape(*before, channels, -1), -1, -2)

    def adjoint(self, y):
        before, grid, channels = self._split
        samples = jnp.moveaxis(jnp.conj(self._factors(y)) * y, -1, -2).reshape(-1, y.shape[-2])
        images = spread(at_precision_of(y, self.points), samples, grid, self.eps)
        x = jnp.moveaxis(images.reshape(*before, channels, *grid), len(before), -1)
        return x if is_complex(self.in_structure) else x.real

    @property
    def gram(self):
        """``A^H A`` as a ``Toeplitz`` operator; its kernel is computed at the widest precision in use."""
        grid = self._split[1]
        precision = np.promote_types(jnp.finfo(self.points.dtype).dtype, default_precision())
        like = jnp.zeros((), complex_dtype(precision))
        factors = jnp.broadcast_to(jnp.abs(self._factors(like).ravel()) ** 2, self.points.shape[:1])
        points = at_precision_of(like, self.points)
        kernel = spread(points, factors.astype(like.dtype)[None], tuple(2 * n for n in grid), self.eps)[0]
        return Toeplitz(kernel, self.in_structure.shape, complex=is_complex(self.in_structure))


class Toeplitz(LinearOperator):
    """``(A x)_r = sum_s t_(r - s) x_s`` for a Hermitian kernel ``t_(-d) = conj(t_d)``: what ``NUFFT(...).gram`` returns.

    ``kernel`` holds ``t_d`` for lags d from -n to n - 1 along each axis (those at -n are not used). The image ``(H, W, C)`` is
    padded to twice its size, and leading axes are kept. Real images give the real part.
    """

    transfer: Array
    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)

    def __init__(self, kernel: Any, shape: tuple[int, ...], *, complex: bool = True):
        self.in_structure = structure(shape, complex)
        grid = shape[-1 - kernel.ndim : -1]
        if kernel.shape != tuple(2 * n for n in grid):
            raise ValueError(f"kernel: expected twice the size {grid}, got {kernel.shape}")
        inside = kernel[tuple(slice(1, None) for _ in grid)]
        padded = jnp.pad(inside, [(1, 0)] * kernel.ndim)
        self.transfer = jnp.fft.fftn(jnp.fft.ifftshift(padded)).real

    @property
    def out_structure(self):
        return self.in_structure

    def apply(self, x):
        d = self.transfer.ndim
        axes = range(x.ndim - 1 - d, x.ndim - 1)
        grid = [x.shape[a] for a in axes]
        coefficients = jnp.fft.fftn(x, s=[2 * n for n in grid], axes=axes)
        transfer = self.transfer.reshape(*(1,) * axes[0], *self.transfer.shape, 1)
        product = at_precision_of(x, transfer).astype(coefficients.dtype) * coefficients
        y = jnp.fft.ifftn(product, axes=axes)[(..., *(slice(n) for n in grid), slice(None))]
        return y if is_complex(self.in_structure) else y.real

    def adjoint(self, y):
        return self.apply(y)

    @property
    def H(self):
        return self
