"""Cropping; its adjoint is padding with zeros."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from .base import LinearOperator
from .spectrum import Pixel, Spectrum
from .structure import structure


class Crop(LinearOperator):
    """The window of ``out_shape`` that begins at ``start`` (default: centred); ``A A^H = I``; ``A.H`` pads with zeros.

    Raises ``ValueError`` when the window does not lie inside ``shape``.
    """

    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    out_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    start: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        start: tuple[int, ...] | None = None,
        *,
        complex: bool = False,
    ):
        self.in_structure, self.out_structure = structure(shape, complex), structure(out_shape, complex)
        if len(shape) != len(out_shape):
            raise ValueError(f"out_shape: expected {len(shape)} axes, got {out_shape}")
        self.start = (
            tuple((n - m) // 2 for n, m in zip(shape, out_shape, strict=True)) if start is None else tuple(start)
        )
        ends = [s + m for s, m in zip(self.start, out_shape, strict=True)]
        if any(s < 0 or e > n for s, e, n in zip(self.start, ends, shape, strict=True)):
            raise ValueError(f"out_shape: expected a window inside {shape}, got {out_shape} from {self.start}")

    def apply(self, x):
        ends = [s + m for s, m in zip(self.start, self.out_structure.shape, strict=True)]
        return jax.lax.slice(x, self.start, ends)

    def adjoint(self, y):
        sizes = zip(self.start, y.shape, self.in_structure.shape, strict=True)
        return jnp.pad(y, [(s, n - s - m) for s, m, n in sizes])

    @property
    def cogram_spectrum(self):
        return Spectrum(jnp.ones((1,) * len(self.out_structure.shape)), Pixel(), Pixel())

    def push_spectrum(self, inner: Spectrum) -> Spectrum | None:
        if inner.left == inner.right == Pixel() and inner.values.ndim == len(self.in_structure.shape):
            return Spectrum(self.apply(jnp.broadcast_to(inner.values, self.in_structure.shape)), Pixel(), Pixel())
        return super().push_spectrum(inner)


def pad(shape: tuple[int, ...], out_shape: tuple[int, ...], *, complex: bool = False) -> LinearOperator:
    """Zero padding of ``shape`` to the larger ``out_shape``, the image in the centre: the adjoint of ``Crop``."""
    return Crop(out_shape, shape, complex=complex).H
