"""Splitting with the proxes of both terms: half-quadratic splitting, ADMM, Douglas-Rachford."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..operators.structure import scale
from ..types import real, require
from .base import Info, change


class SplittingState(NamedTuple):
    """Iterate, second variable of the splitting, warm start of the prox of the prior."""

    position: PyTree
    other: PyTree
    aux: PyTree


class HQS(eqx.Module):
    """Half-quadratic splitting: ``u = prox_{step f}(x)``, ``x = prox_{step g}(u)``.

    Minimises ``f(u) + g(x) + |u - x|^2 / (2 step)`` over both (f and the Moreau envelope of g); ``position`` is ``u``. It
    tends to a minimiser of f + g as ``step_size -> 0``. Source: Geman and Yang (1995).
    """

    likelihood: Any
    prior: Any
    step_size: Array = eqx.field(converter=real)
    num_inner: int = eqx.field(static=True, default=10)

    def __check_init__(self):
        require(self.step_size, "step_size", positive=True)

    def init(self, x: PyTree, key: Any = None) -> SplittingState:
        """Start at ``x``."""
        return SplittingState(x, x, self.prior.prox_init(x))

    def step(self, state: SplittingState) -> tuple[SplittingState, Info]:
        """One prox of each term."""
        u = self.likelihood.prox(state.other, self.step_size)
        other, aux = self.prior.prox_step(u, self.step_size, state.aux, self.num_inner)
        return SplittingState(u, other, aux), change(u, state.position)

    def fixed_point(self, u: PyTree) -> PyTree:
        """One round of both proxes."""
        return self.likelihood.prox(self.prior.prox(u, self.step_size), self.step_size)


class ADMM(eqx.Module):
    """``u = prox_{step f}(x - z)``, ``x = prox_{step g}(u + z)``, ``z <- z + relaxation (u - x)``; ``position`` is ``x``.

    Minimises f + g for any ``step_size > 0`` and ``0 < relaxation < (1 + sqrt 5) / 2``. ``z`` is the scaled dual variable.
    Source: Gabay and Mercier (1976), Boyd et al. (2011) section 3.
    """

    likelihood: Any
    prior: Any
    step_size: Array = eqx.field(converter=real)
    relaxation: Array = eqx.field(converter=real, default=1.0)
    num_inner: int = eqx.field(static=True, default=10)

    def __check_init__(self):
        require(self.step_size, "step_size", positive=True)
        require(self.relaxation, "relaxation", positive=True, below=1.6180340)

    def init(self, x: PyTree, key: Any = None) -> SplittingState:
        """Start at ``x`` with dual zero."""
        return SplittingState(x, jnp.zeros_like(x), self.prior.prox_init(x))

    def step(self, state: SplittingState) -> tuple[SplittingState, Info]:
        """One prox of each term and a dual update."""
        u = self.likelihood.prox(state.position - state.other, self.step_size)
        x, aux = self.prior.prox_step(u + state.other, self.step_size, state.aux, self.num_inner)
        z = state.other + scale(self.relaxation, u - x)
        return SplittingState(x, z, aux), change((x, z), (state.position, state.other))

    def unknowns(self, state: SplittingState) -> tuple[PyTree, PyTree]:
        """Image and scaled dual."""
        return state.position, state.other

    def fixed_point(self, pair: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        """One round on (x, z)."""
        u = self.likelihood.prox(pair[0] - pair[1], self.step_size)
        x = self.prior.prox(u + pair[1], self.step_size)
        return x, pair[1] + scale(self.relaxation, u - x)


class DouglasRachford(eqx.Module):
    """``x = prox_{step g}(s)``, ``s <- s + relaxation (prox_{step f}(2 x - s) - x)``; ``position`` is ``x``.

    Minimises f + g for any ``step_size > 0`` and ``0 < relaxation < 2``. With relaxation 1 its iterates are those of ADMM,
    ``s = u + z``. Source: Lions and Mercier (1979).
    """

    likelihood: Any
    prior: Any
    step_size: Array = eqx.field(converter=real)
    relaxation: Array = eqx.field(converter=real, default=1.0)
    num_inner: int = eqx.field(static=True, default=10)

    def __check_init__(self):
        require(self.step_size, "step_size", positive=True)
        require(self.relaxation, "relaxation", positive=True, below=2.0)

    def init(self, x: PyTree, key: Any = None) -> SplittingState:
        """Start with ``s = x``."""
        return SplittingState(x, x, self.prior.prox_init(x))

    def step(self, state: SplittingState) -> tuple[SplittingState, Info]:
        """One prox of each term, at a point and at its reflection."""
        x, aux = self.prior.prox_step(state.other, self.step_size, state.aux, self.num_inner)
        moved = self.likelihood.prox(2 * x - state.other, self.step_size) - x
        s = state.other + scale(self.relaxation, moved)
        return SplittingState(x, s, aux), change(s, state.other)

    def unknowns(self, state: SplittingState) -> tuple[PyTree, PyTree]:
        """Image and governing variable."""
        return state.position, state.other

    def fixed_point(self, pair: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        """One round on (x, s)."""
        x = self.prior.prox(pair[1], self.step_size)
        moved = self.likelihood.prox(2 * x - pair[1], self.step_size) - x
        return x, pair[1] + scale(self.relaxation, moved)
