"""Primal-dual methods: Chambolle-Pock and Condat-Vu."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..operators.structure import add, scale
from ..types import real, require
from .base import Info, change, dual_step, split, step_size_or_default


class PrimalDualState(NamedTuple):
    """Image and dual variables."""

    position: PyTree
    dual: PyTree


class DataTerm(NamedTuple):
    """``u -> noise.potential(u, y)``, with its prox."""

    noise: Any
    y: Any

    def prox(self, u: Array, step_size: Array) -> Array:
        return self.noise.prox(u, self.y.astype(u.dtype), step_size)


class ChambollePock(eqx.Module):
    """``min f(x) + outer(K x)`` with ``prior(x) = outer(K x)``: dual ascent on the prior, proximal descent on f.

    ``x+ = prox_{tau f}(x - tau K^H p)``, ``p+ = prox_{sigma outer*}(p + sigma K (2 x+ - x))``. Converges for
    ``tau sigma |K|^2 <= 1``; ``step_size`` is ``tau`` and ``sigma = 1 / (tau |K|^2)``. With ``dualise=True`` the data term
    is dual too (``K = (A, K)``, no prox of ``f`` needed: Poisson noise with a blur). ``constraint`` is an optional prior
    with a prox (a box) on ``x`` that replaces the prox of f in the dualised form. The implicit derivative of the image is
    defined also where the dual solution is not unique (TV). Source: Chambolle and Pock (2011), algorithm 1.
    """

    likelihood: Any
    prior: Any
    step_size: Array
    dual_step_size: Array
    constraint: Any
    dualise: bool = eqx.field(static=True)

    def __init__(self, likelihood: Any, prior: Any, step_size: Any, *, dualise: bool = False, constraint: Any = None):
        self.likelihood, self.prior, self.dualise, self.constraint = likelihood, prior, dualise, constraint
        self.step_size = real(step_size)
        require(self.step_size, "step_size", positive=True)
        if constraint is not None and not dualise:
            raise ValueError(
                "constraint: expected dualise=True with a constraint (the prox of f is not that of f + box)"
            )
        _, K = split(prior, likelihood.operator.in_structure)
        bound = K.norm() ** 2 + (likelihood.operator.norm() ** 2 if dualise else 0)
        self.dual_step_size = real(1 / (self.step_size * bound))

    def init(self, x: PyTree, key: Any = None) -> PrimalDualState:
        """Start at ``x`` with dual zero."""
        _, K = split(self.prior, x)
        duals = (K(x), self.likelihood.operator(x) if self.dualise else ())
        return PrimalDualState(x, jax.tree.map(jnp.zeros_like, duals))

    def step(self, state: PrimalDualState) -> tuple[PrimalDualState, Info]:
        """One primal and one dual step."""
        new = self.fixed_point(state)
        return new, change(new, state)

    def unknowns(self, state: PrimalDualState) -> PrimalDualState:
        """Image and duals."""
        return state

    def fixed_point(self, state: PrimalDualState) -> PrimalDualState:
        """The primal-dual map on the pair."""
        x, (p, q) = state
        tau, sigma = self.step_size, self.dual_step_size
        outer, K = split(self.prior, x)
        A = self.likelihood.operator
        if not self.dualise:
            new = self.likelihood.prox(x - scale(tau, K.H(p)), tau)
            p = dual_step(outer, add(p, K(2 * new - x), sigma), sigma)
            return PrimalDualState(new, (p, q))
        new = x - scale(tau, K.H(p) + A.H(q))
        if self.constraint is not None:
            new = self.constraint.prox(new, tau)
        ahead = 2 * new - x
        p = dual_step(outer, add(p, K(ahead), sigma), sigma)
        q = dual_step(DataTerm(self.likelihood.noise, self.likelihood.y), q + scale(sigma, A(ahead)), sigma)
        return PrimalDualState(new, (p, q))


class CondatVu(eqx.Module):
    """``min f(x) + h(x) + outer(K x)``: a gradient step on f, a prox of ``h`` (``constraint``), a dual step on the prior.

    ``x+ = prox_{tau h}(x - tau (grad f(x) + K^H p))``, ``p+ = prox_{sigma outer*}(p + sigma K (2 x+ - x))``. Converges for
    ``1 / tau - sigma |K|^2 >= L / 2``; ``step_size`` is ``tau`` (default ``1 / L``) and ``sigma = (1 / tau - L / 2) / |K|^2``.
    Source: Condat (2013), Vu (2013).
    """

    likelihood: Any
    prior: Any
    step_size: Array
    dual_step_size: Array
    constraint: Any

    def __init__(self, likelihood: Any, prior: Any, step_size: Any = None, *, constraint: Any = None):
        self.likelihood, self.prior, self.constraint = likelihood, prior, constraint
        self.step_size = step_size_or_default(step_size, likelihood)
        _, K = split(prior, likelihood.operator.in_structure)
        self.dual_step_size = real((1 / self.step_size - likelihood.lipschitz / 2) / K.norm() ** 2)
        require(
            self.dual_step_size, "step_size (expected below 2 / likelihood.lipschitz): the dual step", positive=True
        )

    def init(self, x: PyTree, key: Any = None) -> PrimalDualState:
        """Start at ``x`` with dual zero."""
        _, K = split(self.prior, x)
        return PrimalDualState(x, jax.tree.map(jnp.zeros_like, K(x)))

    def step(self, state: PrimalDualState) -> tuple[PrimalDualState, Info]:
        """One gradient, prox and dual step."""
        new = self.fixed_point(state)
        return new, change(new, state)

    def unknowns(self, state: PrimalDualState) -> PrimalDualState:
        """Image and dual."""
        return state

    def fixed_point(self, state: PrimalDualState) -> PrimalDualState:
        """The primal-dual map on the pair."""
        x, p = state
        outer, K = split(self.prior, x)
        new = x - scale(self.step_size, self.likelihood.grad(x) + K.H(p))
        if self.constraint is not None:
            new = self.constraint.prox(new, self.step_size)
        p = dual_step(outer, add(p, K(2 * new - x), self.dual_step_size), self.dual_step_size)
        return PrimalDualState(new, p)
