"""The derivative of a forward model at a point, as a linear operator."""

from __future__ import annotations

import jax
from jaxtyping import PyTree

from .base import LinearOperator
from .operator import Operator
from .structure import at_precision_of, conform


def linearise(A: Operator, x: PyTree) -> LinearOperator:
    """``h -> d/dt A(x + t h)`` at ``t = 0``; a linear operator is its own derivative.

    The adjoint is exact. Maps of complex images such as ``|B x|^2`` are differentiable in the real sense only, where the
    adjoint is that of the inner product ``Re <a, b>``.
    """
    return A if isinstance(A, LinearOperator) else Linearised(A, conform(x, A.in_structure, "x"))


class Linearised(LinearOperator):
    """See ``linearise``."""

    operator: Operator
    point: PyTree

    @property
    def in_structure(self):
        return self.operator.in_structure

    @property
    def out_structure(self):
        return self.operator.out_structure

    def apply(self, x):
        point = jax.tree.map(lambda p, v: at_precision_of(v, p), self.point, x)
        return jax.jvp(self.operator.apply, (point,), (x,))[1]

    def adjoint(self, y):
        point = jax.tree.map(lambda p: at_precision_of(y, p), self.point)
        return self.operator.vjp(point)[1](y)
