"""Phase retrieval: intensities of a linear transform, and coded diffraction patterns."""

from __future__ import annotations

from typing import Any

import jax

from ..types import squared
from .base import LinearOperator
from .fourier import FourierTransform
from .modulation import Modulation
from .operator import Operator
from .structure import structure


class PhaseRetrieval(Operator):
    """``A(x) = |B x|^2`` for any linear ``B``; blind to a global phase, ``A(e^{i phi} x) = A(x)``.

    With a linear ``L``, ``A @ L`` is ``PhaseRetrieval(B @ L)``. The derivative is ``h -> 2 Re(conj(B x) B h)``, its adjoint
    ``v -> 2 B^H (v B x)``. Usual choices of ``B``: a complex ``GaussianSensing``, ``structured_random``, ``coded_diffraction``,
    ``Ptychography``, ``FourierTransform`` after ``pad``. Raises ``ValueError`` unless ``B`` is linear.
    """

    operator: LinearOperator

    def __check_init__(self):
        if not isinstance(self.operator, LinearOperator):
            raise ValueError(f"operator: expected a LinearOperator, got {type(self.operator).__name__}")

    @property
    def in_structure(self):
        return self.operator.in_structure

    @property
    def out_structure(self):
        return jax.tree.map(lambda s: structure(s.shape), self.operator.out_structure)

    def apply(self, x):
        return jax.tree.map(squared, self.operator.apply(x))

    def __matmul__(self, other):
        return PhaseRetrieval(self.operator @ other) if isinstance(other, LinearOperator) else super().__matmul__(other)

    def vjp(self, x):
        u = self.operator.apply(x)

        def adjoint(v):
            return self.operator.adjoint(jax.tree.map(lambda a, b: (2 * a).astype(b.dtype) * b, v, u))

        return jax.tree.map(squared, u), adjoint


def coded_diffraction(masks: Any, shape: tuple[int, ...]) -> LinearOperator:
    """``y_k = F (m_k x)``: orthonormal DFTs ``(K, H, W, C)`` of a complex image seen through K masks.

    ``masks`` is ``(K, H, W, C)``, or has size 1 along any axis of the image (``generators.CodedMasks`` draws them); volumes
    ``(D, H, W, C)`` likewise. ``A^H A = diag(sum_k |m_k|^2)``: norm, pseudo-inverse and prox are closed form. The zero
    frequency is at index 0. Raises ``ValueError`` for masks of another shape. Source: Candes, Li and Soltanolkotabi (2015).
    """
    copies = Modulation(masks, shape, complex=True)
    axes = tuple(range(1, len(shape)))
    return FourierTransform(copies.out_structure.shape, axes=axes) @ copies
