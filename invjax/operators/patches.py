"""Overlapping patches of images, and their sums."""

from __future__ import annotations

import functools
import math
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .base import LinearOperator
from .spectrum import Pixel, Spectrum
from .structure import is_complex, structure


class Patches(LinearOperator):
    """All patches of ``size`` pixels along each spatial axis, ``stride`` apart: ``(H, W, C) -> (n, p, p, C)``, row by row.

    ``boundary="valid"`` takes those inside the image, "circular" wraps around. The adjoint adds the patches up, ``A^H A`` is
    the diagonal of how many patches see a pixel, and ``pinv`` averages overlapping patches (zero where there is none).
    Volumes ``(D, H, W, C)`` give ``(n, p, p, p, C)``. Raises ``ValueError`` for patches larger than the image.
    """

    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    size: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    boundary: Literal["valid", "circular"] = eqx.field(static=True)

    def __init__(
        self,
        shape: tuple[int, ...],
        size: int,
        stride: int = 1,
        boundary: Literal["valid", "circular"] = "valid",
        *,
        complex: bool = False,
    ):
        self.in_structure = structure(shape, complex)
        self.size, self.stride, self.boundary = size, stride, boundary
        if boundary not in ("valid", "circular"):
            raise ValueError(f"boundary: expected 'valid' or 'circular', got {boundary!r}")
        if len(shape) < 2 or not 1 <= size <= min(shape[:-1]):
            raise ValueError(f"size: expected 1 to the smallest spatial size of {shape}, got {size}")
        if stride < 1:
            raise ValueError(f"stride: expected an integer >= 1, got {stride}")

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of patches along each spatial axis."""
        lost = self.size if self.boundary == "valid" else 1
        return tuple((n - lost) // self.stride + 1 for n in self.in_structure.shape[:-1])

    @property
    def out_structure(self):
        shape = self.in_structure.shape
        patch = (self.size,) * (len(shape) - 1)
        return structure((math.prod(self.counts), *patch, shape[-1]), is_complex(self.in_structure))

    def apply(self, x):
        dims = x.ndim - 1
        if self.boundary == "circular":
            x = jnp.pad(x, [*[(0, self.size - 1)] * dims, (0, 0)], mode="wrap")
        for axis in reversed(range(dims)):  # (..., n, rest) -> (..., n, rest, p)
            x = self._windows(x, axis)
        # now (n_1, ..., n_d, C, p_d, ..., p_1)
        order = (*range(dims), *reversed(range(dims + 1, 2 * dims + 1)), dims)
        return x.transpose(order).reshape(self.out_structure.shape)

    def _windows(self, x: Array, axis: int) -> Array:
        """Strided slices along an axis; by slices its transpose is a sum of padded arrays, where a gather's is a scatter."""
        last = (self.counts[axis] - 1) * self.stride + 1
        slices = [jax.lax.slice_in_dim(x, k, k + last, self.stride, axis) for k in range(self.size)]
        return jnp.stack(slices, axis=-1)

    @property
    def gram_spectrum(self):
        seen = []
        for n, count in zip(self.in_structure.shape[:-1], self.counts, strict=True):
            pixels = (np.arange(count)[:, None] * self.stride + np.arange(self.size)) % n
            seen.append(jnp.asarray(np.bincount(pixels.ravel(), minlength=n), float))
        return Spectrum(functools.reduce(jnp.multiply.outer, seen)[..., None], Pixel(), Pixel())
