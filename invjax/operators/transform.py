"""The base class of unitary transforms: a basis makes an operator."""

from __future__ import annotations

import abc

import jax.numpy as jnp

from .base import LinearOperator
from .spectrum import Basis, Pixel, Spectrum


class UnitaryTransform(LinearOperator):
    """``x -> U^H x``, the coefficients in an orthonormal basis: ``A^H = A^(-1)``; norm, pseudo-inverse and prox are closed form.

    A subclass defines ``in_structure`` and ``basis``; the coefficients have the shape and kind of the image.
    """

    @property
    @abc.abstractmethod
    def basis(self) -> Basis:
        """The orthonormal basis ``U``."""

    @property
    def out_structure(self):
        return self.in_structure

    def apply(self, x):
        return self.basis.forward(x)

    def adjoint(self, y):
        return self.basis.inverse(y)

    @property
    def spectrum(self):
        return Spectrum(jnp.ones(()), Pixel(), self.basis)
