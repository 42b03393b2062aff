"""Proximal gradient (ISTA)."""

from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import Array, PyTree

from ..operators.structure import scale
from .base import Info, change, step_size_or_default


class ProximalGradientState(NamedTuple):
    """Iterate and warm start of the prox."""

    position: PyTree
    aux: PyTree


class ProximalGradient(eqx.Module):
    """``x <- prox_{step g}(x - step grad f(x))``; converges for ``step_size < 2 / L``, gap ``<= L |x0 - x*|^2 / (2 k)``.

    ``num_inner`` is the number of inner iterations of a prox that has no closed form (TV), warm-started from step to step.
    Source: Combettes and Wajs (2005).
    """

    likelihood: Any
    prior: Any
    step_size: Array
    num_inner: int = eqx.field(static=True)

    def __init__(self, likelihood: Any, prior: Any, step_size: Any = None, num_inner: int = 10):
        self.likelihood, self.prior, self.num_inner = likelihood, prior, num_inner
        self.step_size = step_size_or_default(step_size, likelihood)

    def init(self, x: PyTree, key: Any = None) -> ProximalGradientState:
        """Start at ``x``."""
        return ProximalGradientState(x, self.prior.prox_init(x))

    def step(self, state: ProximalGradientState) -> tuple[ProximalGradientState, Info]:
        """One gradient step on f, one prox of g."""
        x = state.position
        moved = x - scale(self.step_size, self.likelihood.grad(x))
        position, aux = self.prior.prox_step(moved, self.step_size, state.aux, self.num_inner)
        return ProximalGradientState(position, aux), change(position, x)

    def fixed_point(self, x: PyTree) -> PyTree:
        """The prox-gradient map."""
        return self.prior.prox(x - scale(self.step_size, self.likelihood.grad(x)), self.step_size)
