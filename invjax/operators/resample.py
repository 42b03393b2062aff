"""Decimation, and downsampling with an anti-alias kernel (super-resolution), whose prox is closed form."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .base import LinearOperator
from .blur import Blur, Boundary
from .kernels import antialias_kernel
from .spectrum import Fourier, RealFourier, Spectrum
from .structure import is_complex, structure


class Decimate(LinearOperator):
    """``S_s``: keep every ``factor``-th pixel of each spatial axis of ``(H, W, C)``, starting with the first.

    After a circulant operator ``B`` the product ``S B B^H S^H`` is circulant on the coarse grid; its spectrum is the mean of
    the ``factor^d`` aliases of ``|B|^2``. The spatial sizes must be multiples of ``factor``.
    """

    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    factor: int = eqx.field(static=True)

    def __init__(self, shape: tuple[int, ...], factor: int, *, complex: bool = False):
        self.in_structure = structure(shape, complex)
        self.factor = factor
        if factor < 1 or any(n % factor for n in shape[:-1]):
            raise ValueError(f"factor: expected a positive divisor of the spatial sizes {shape[:-1]}, got {factor}")

    @property
    def out_structure(self):
        *sizes, channels = self.in_structure.shape
        return structure((*(n // self.factor for n in sizes), channels), is_complex(self.in_structure))

    def apply(self, x):
        return x[(slice(None, None, self.factor),) * (x.ndim - 1)]

    @property
    def cogram_spectrum(self):
        basis = _fourier(self.out_structure)
        return Spectrum(jnp.ones((1,) * len(self.in_structure.shape)), basis, basis)

    def push_spectrum(self, fine: Spectrum) -> Spectrum | None:
        """Spectrum of ``S F S^H`` for a circulant ``F`` on the fine grid: the mean of its aliases."""
        if fine.right != _fourier(self.in_structure):
            return super().push_spectrum(fine)
        *sizes, _ = self.in_structure.shape
        values = fine.values
        if isinstance(fine.right, RealFourier):
            values = _full_plane(values, sizes[-1])
        for axis, n in enumerate(sizes):
            coarse = n // self.factor
            split = values.reshape(*values.shape[:axis], self.factor, coarse, *values.shape[axis + 1 :])
            values = split.mean(axis)
        basis = _fourier(self.out_structure)
        if isinstance(basis, RealFourier):
            last = len(sizes) - 1
            values = jax.lax.slice_in_dim(values, 0, values.shape[last] // 2 + 1, axis=last)
        return Spectrum(values, basis, basis)


def _fourier(struct):
    sizes = struct.shape[:-1]
    return Fourier(tuple(range(len(sizes)))) if is_complex(struct) else RealFourier(sizes)


def _full_plane(half, last: int):
    """All frequencies from those of ``rfftn`` for a real, even spectrum (that of a real kernel times its conjugate)."""
    axis = half.ndim - 2
    mirrored = jax.lax.slice_in_dim(half, 1, last - half.shape[axis] + 1, axis=axis)
    mirrored = jnp.flip(mirrored, axis)
    for a in range(axis):
        mirrored = jnp.roll(jnp.flip(mirrored, a), 1, a)
    return jnp.concatenate([half, mirrored], axis)


def at_scale(A: LinearOperator, factor: int, kernel: Any = "bicubic") -> LinearOperator:
    """``A U``: the operator ``A`` on images ``factor`` times as coarse, which ``U`` interpolates. Multi-scale methods use it.

    ``U = factor^d S^H`` for the ``downsampling`` ``S`` of images ``(H, W, C)`` (volumes: ``d = 3``) with ``kernel``, circular: a
    constant image stays that constant where the aliases of the kernel vanish. Raises ``ValueError`` as ``downsampling``
    does.
    """
    shape = A.in_structure.shape
    upsample = downsampling(shape, factor, kernel, complex=is_complex(A.in_structure)).H
    return A @ (factor ** (len(shape) - 1) * upsample)


def downsampling(
    shape: tuple[int, ...],
    factor: int,
    kernel: Any = "gaussian",
    boundary: Boundary = "circular",
    *,
    complex: bool = False,
) -> LinearOperator:
    """``y = S_s (h * x)``: blur with an anti-alias kernel, keep every ``factor``-th pixel.

    ``kernel`` is an array or one of "gaussian", "bilinear", "bicubic", "sinc", or None for none. With a circular boundary
    the prox is closed form: with ``rho = 1 / step``, ``b = A^H y + rho z`` and ``M`` the mean over aliases,
    ``x = (b - A^H (M(|h|^2) + rho)^(-1) A b) / rho``. Upsampling is the adjoint, ``downsampling(...).H``.
    """
    decimate = Decimate(shape, factor, complex=complex)
    if kernel is None:
        return decimate
    if isinstance(kernel, str):
        kernel = antialias_kernel(kernel, factor, len(shape) - 1)
    return decimate @ Blur(kernel, shape, boundary, complex=complex)
