"""Rearrangements of the same numbers: reshaping and permuting axes. Unitary, and what is diagonal in pixels stays so."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp

from .base import LinearOperator
from .spectrum import Pixel, Spectrum
from .structure import is_complex, structure


class Rearrangement(LinearOperator):
    """The base class of operators that only move entries: ``A^H A = A A^H = I``. A subclass defines ``apply`` and ``H``."""

    @property
    def gram_spectrum(self):
        return Spectrum(jnp.ones(()), Pixel(), Pixel())

    @property
    def cogram_spectrum(self):
        return self.gram_spectrum

    def push_spectrum(self, inner: Spectrum) -> Spectrum | None:
        if inner.values.size > 1 and inner.left == inner.right == Pixel():
            return Spectrum(self.apply(jnp.broadcast_to(inner.values, self.in_structure.shape)), Pixel(), Pixel())
        return super().push_spectrum(inner)

    def adjoint(self, y):
        return self.H.apply(y)


class Reshape(Rearrangement):
    """``shape -> out_shape`` with the same entries in C order. Raises ``ValueError`` for another number of entries."""

    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    out_structure: jax.ShapeDtypeStruct = eqx.field(static=True)

    def __init__(self, shape: tuple[int, ...], out_shape: tuple[int, ...], *, complex: bool = False):
        self.in_structure, self.out_structure = structure(shape, complex), structure(out_shape, complex)
        if math.prod(shape) != math.prod(out_shape):
            raise ValueError(f"out_shape: expected {math.prod(shape)} entries as in {shape}, got {out_shape}")

    def apply(self, x):
        return x.reshape(self.out_structure.shape)

    @property
    def H(self):
        return Reshape(self.out_structure.shape, self.in_structure.shape, complex=is_complex(self.in_structure))


class Permute(Rearrangement):
    """``y = x.transpose(axes)`` for arrays of ``shape``. Raises ``ValueError`` unless ``axes`` is a permutation."""

    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    axes: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, shape: tuple[int, ...], axes: tuple[int, ...], *, complex: bool = False):
        self.in_structure, self.axes = structure(shape, complex), tuple(axes)
        if sorted(self.axes) != list(range(len(shape))):
            raise ValueError(f"axes: expected a permutation of {tuple(range(len(shape)))}, got {self.axes}")

    @property
    def out_structure(self):
        return structure(tuple(self.in_structure.shape[a] for a in self.axes), is_complex(self.in_structure))

    def apply(self, x):
        return x.transpose(self.axes)

    @property
    def H(self):
        back = tuple(self.axes.index(a) for a in range(len(self.axes)))
        return Permute(self.out_structure.shape, back, complex=is_complex(self.in_structure))
