"""Davis-Yin three-operator splitting: a gradient and two proxes."""

from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import Array, PyTree

from ..operators.structure import scale
from ..types import real, require
from .base import Info, change, step_size_or_default, warm, warm_prox


class DavisYinState(NamedTuple):
    """Image, governing variable, warm start of the prior's prox."""

    position: PyTree
    other: PyTree
    aux: PyTree


class DavisYin(eqx.Module):
    """``min f(x) + g(x) + h(x)`` with ``f`` smooth, ``g`` the prior and ``h`` the constraint, by their proxes.

    ``x = prox_{step h}(z)``, ``u = prox_{step g}(2 x - z - step grad f(x))``, ``z <- z + relaxation (u - x)``;
    ``position`` is ``x``, so it satisfies a constraint exactly. Converges for ``step_size < 2 / L`` (default
    ``1 / L``) and ``0 < relaxation < 2 - step_size L / 2``. Without ``h`` it is proximal gradient, without ``f``
    Douglas-Rachford. ``num_inner`` is the number of inner iterations of an iterative prox of the prior, warm-started.
    Source: Davis and Yin (2017), algorithm 1.
    """

    likelihood: Any
    prior: Any
    constraint: Any
    step_size: Array
    relaxation: Array
    num_inner: int = eqx.field(static=True)

    def __init__(
        self,
        likelihood: Any,
        prior: Any,
        constraint: Any,
        step_size: Any = None,
        relaxation: Any = 1.0,
        num_inner: int = 10,
    ):
        self.likelihood, self.prior, self.constraint = likelihood, prior, constraint
        self.step_size, self.relaxation = step_size_or_default(step_size, likelihood), real(relaxation)
        self.num_inner = num_inner
        require(self.relaxation, "relaxation", positive=True, below=2.0)

    def init(self, x: PyTree, key: Any = None) -> DavisYinState:
        """Start with ``z = x``."""
        return DavisYinState(x, x, warm(self.prior, x))

    def step(self, state: DavisYinState) -> tuple[DavisYinState, Info]:
        """One prox of each term and one gradient."""
        x, moved = self._half(state.other)
        u, aux = warm_prox(self.prior, moved, self.step_size, state.aux, self.num_inner)
        z = state.other + scale(self.relaxation, u - x)
        return DavisYinState(x, z, aux), change(z, state.other)

    def unknowns(self, state: DavisYinState) -> tuple[PyTree, PyTree]:
        """Image and governing variable."""
        return state.position, state.other

    def fixed_point(self, pair: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        """One round on (x, z)."""
        x, moved = self._half(pair[1])
        u = self.prior.prox(moved, self.step_size)
        return x, pair[1] + scale(self.relaxation, u - x)

    def _half(self, z: PyTree) -> tuple[PyTree, PyTree]:
        x = self.constraint.prox(z, self.step_size)
        return x, 2 * x - z - scale(self.step_size, self.likelihood.grad(x))
