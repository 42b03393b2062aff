"""Priors of a linear transform of the image."""

from __future__ import annotations

from typing import Any, Literal

import equinox as eqx
from jaxtyping import Array

from ..operators import FiniteDifferences, LinearOperator
from ..operators.structure import scale
from ..types import real
from .base import Prior
from .huber import Huber
from .splitting import SplitPrior
from .variation import Channels, Grouping, Kind


class Analysis(SplitPrior):
    """``g(x) = lam outer(K x)``, ``outer`` a convex prior with a closed-form prox and ``K`` any linear operator.

    ``Analysis(L1(), K)`` is analysis sparsity in a frame ``K``; ``Analysis(GroupL1(axes=(0,)), FiniteDifferences(shape))`` is
    total variation (``TV`` is faster). The prox is iterative (see ``SplitPrior``); the gradient ``lam K^H grad outer(K x)``
    exists where ``outer`` has one, and is then ``lipschitz = lam outer.lipschitz |K|^2`` Lipschitz.
    """

    outer: Prior
    operator: LinearOperator
    lam: Array
    rtol: Array
    squared_norm: Array
    max_inner: int = eqx.field(static=True)

    def __init__(
        self, outer: Prior, operator: LinearOperator, lam: Any = 1.0, *, rtol: Any = 1e-5, max_inner: int = 5000
    ):
        self.outer, self.operator = outer, operator
        self.lam, self.rtol, self.max_inner = real(lam), real(rtol), max_inner
        self.squared_norm = real(operator.norm() ** 2)

    @property
    def smooth(self) -> bool:  # type: ignore[override]  # that of ``outer``
        """Whether ``outer`` is smooth."""
        return self.outer.smooth

    @property
    def lipschitz(self) -> Array:
        """Lipschitz constant of the gradient, where ``outer`` has one."""
        return self.lam * self.outer.lipschitz * self.squared_norm  # type: ignore[attr-defined]

    def __call__(self, x):
        value = self.outer(self.operator(x))
        return self._weighted(value, value)

    def grad(self, x):
        """``lam K^H grad outer(K x)``. Raises ``ValueError`` where ``outer`` is not smooth."""
        gradient = self.operator.H(self.outer.grad(self.operator(x)))
        return scale(self.lam, gradient)

    def pair(self, x):
        return self.outer, self.operator

    def split(self) -> tuple[Prior, LinearOperator]:
        """``(lam outer, K)``: what the splitting solvers use."""
        return self.lam * self.outer, self.operator


def huber_tv(
    shape: tuple[int, ...],
    lam: Any = 1.0,
    delta: Any = 0.01,
    kind: Kind = "isotropic",
    channels: Channels = "joint",
    *,
    boundary: Literal["neumann", "circular"] = "neumann",
    complex: bool = False,
    rtol: Any = 1e-5,
    max_inner: int = 5000,
) -> Analysis:
    """Total variation with the Huber function of ``D x``: quadratic where ``|D x| <= delta``, so smooth, without staircases.

    The arguments are those of ``TV``; ``delta`` is that of ``Huber``. Smooth and with a prox. Source: Huber (1964) for the
    function; Chambolle and Pock (2011), section 6.2.
    """
    outer = Huber(real(1.0), real(delta), Grouping(kind, channels).axes)
    D = FiniteDifferences(shape, boundary, complex=complex)
    return Analysis(outer, D, lam, rtol=rtol, max_inner=max_inner)
