"""Convolution with a kernel: circular (diagonal in Fourier space) and with valid, zero, reflect or replicate boundaries."""

from __future__ import annotations

import functools
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..types import real
from .base import LinearOperator
from .spectrum import Fourier, RealFourier, Spectrum
from .structure import at_precision_of, structure

Boundary = Literal["circular", "valid", "zero", "reflect", "replicate"]
PAD_MODE = {"zero": "constant", "reflect": "reflect", "replicate": "edge"}


class Blur(LinearOperator):
    """``y = h * x``: true convolution, kernel centre at ``floor(size / 2)``, over the spatial axes of ``(H, W, C)``.

    ``kernel`` is ``(h, w)`` or ``(h, w, C)`` for images and ``(d, h, w[, C])`` for volumes ``(D, H, W, C)``. ``boundary``:
    circular; valid (output ``H - h + 1``); zero, reflect (edge pixel not repeated), replicate (output as input). A
    circular blur has the known spectrum ``DFT(h)``: norm, pseudo-inverse and prox are closed form. The transfer function
    is computed once, here: to differentiate in the kernel or ``vmap`` over kernels, build the operator inside the
    function. Raises ``ValueError`` when the kernel does not fit the image.
    """

    transfer: Array
    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    kernel_shape: tuple[int, ...] = eqx.field(static=True)
    boundary: Boundary = eqx.field(static=True)

    def __init__(self, kernel: Any, shape: tuple[int, ...], boundary: Boundary = "circular", *, complex: bool = False):
        kernel = real(kernel)
        self.in_structure = structure(shape, complex)
        self.boundary = boundary
        dims = len(shape) - 1
        if boundary not in get_args(Boundary):
            raise ValueError(f"boundary: expected one of {get_args(Boundary)}, got {boundary!r}")
        if dims < 1 or jnp.ndim(kernel) not in (dims, dims + 1):
            raise ValueError(
                f"kernel: expected {dims} or {dims + 1} axes for shape {shape}, got shape {jnp.shape(kernel)}"
            )
        kernel = kernel if kernel.ndim == dims + 1 else kernel[..., None]
        if kernel.shape[-1] not in (1, shape[-1]):
            raise ValueError(f"kernel: expected 1 or {shape[-1]} channels, got {kernel.shape[-1]}")
        if jnp.iscomplexobj(kernel) and not complex:
            raise ValueError("kernel: expected a real kernel for a real image (or complex=True), got a complex one")
        self.kernel_shape = kernel.shape[:-1]
        if any(k > n for k, n in zip(self.kernel_shape, shape, strict=False)):
            raise ValueError(f"kernel: expected at most the image size {shape[:-1]}, got {self.kernel_shape}")
        self.transfer = transfer_function(kernel, self._grid, self._complex)

    @property
    def _complex(self) -> bool:
        return jnp.issubdtype(self.in_structure.dtype, jnp.complexfloating)

    @property
    def _grid(self) -> tuple[int, ...]:
        """Sizes of the periodic grid on which the convolution is computed."""
        sizes = self.in_structure.shape[:-1]
        if self.boundary == "circular":
            return sizes
        if self.boundary == "valid":
            return tuple(fast_size(n) for n in sizes)
        return tuple(fast_size(n + k - 1) for n, k in zip(sizes, self.kernel_shape, strict=True))

    @property
    def out_structure(self):
        if self.boundary != "valid":
            return self.in_structure
        *sizes, channels = self.in_structure.shape
        return structure((*(n - k + 1 for n, k in zip(sizes, self.kernel_shape, strict=True)), channels), self._complex)

    @property
    def _basis(self):
        return Fourier(tuple(range(len(self._grid)))) if self._complex else RealFourier(self._grid)

    @property
    def spectrum(self):
        return Spectrum(self.transfer, self._basis, self._basis) if self.boundary == "circular" else None

    def apply(self, x):
        coefficients = self.to_fourier(x)
        return self.from_fourier(at_precision_of(x, self.transfer).astype(coefficients.dtype) * coefficients)

    def to_fourier(self, x: Array) -> Array:
        """Fourier coefficients of the extended image, which ``transfer`` multiplies."""
        if self.boundary != "circular":
            x = self._pad(x)
        return self._basis.forward(x)

    def from_fourier(self, coefficients: Array) -> Array:
        """The image of Fourier coefficients, cropped to the output."""
        y = self._basis.inverse(coefficients)
        return y if self.boundary == "circular" else self._crop(y)

    def _pad(self, x: Array) -> Array:
        """Extend by the reach of the kernel on both sides (but "valid"), then with zeros to a size that the FFT likes."""
        if self.boundary != "valid":
            reach = [((k - 1) // 2, k // 2) for k in self.kernel_shape]
            x = jnp.pad(x, [*reach, (0, 0)], mode=PAD_MODE[self.boundary])
        rest = [(0, g - n) for g, n in zip(self._grid, x.shape, strict=False)]
        return jnp.pad(x, [*rest, (0, 0)])

    def _crop(self, y: Array) -> Array:
        """The part of the periodic convolution whose inputs are all inside."""
        starts = [(k - 1) // 2 for k in self.kernel_shape]
        sizes = self.out_structure.shape
        return jax.lax.slice(y, (*starts, 0), (*(s + n for s, n in zip(starts, sizes, strict=False)), sizes[-1]))


@functools.partial(jax.jit, static_argnums=(1, 2))
def transfer_function(kernel: Array, sizes: tuple[int, ...], complex: bool) -> Array:
    """Fourier transform on a periodic grid of a kernel ``(*k, C)`` whose origin is its entry ``k // 2``."""
    spatial = kernel.shape[:-1]
    pad = [(0, n - k) for n, k in zip(sizes, spatial, strict=True)] + [(0, 0)]
    centred = jnp.roll(jnp.pad(kernel, pad), [-(k // 2) for k in spatial], range(len(sizes)))
    return (jnp.fft.fftn if complex else jnp.fft.rfftn)(centred, axes=range(len(sizes)))


def fast_size(n: int) -> int:
    """Smallest size >= n with no prime factor above 5."""
    while True:
        m = n
        for p in (2, 3, 5):
            while m % p == 0:
                m //= p
        if m == 1:
            return n
        n += 1
