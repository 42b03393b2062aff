"""Linearised ADMM: splitting ``w = K x`` without a solve in ``K``."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..operators.structure import scale
from ..types import real, require
from .base import Info, change, split


class LinearisedADMMState(NamedTuple):
    """Image, split variable, scaled dual."""

    position: PyTree
    w: PyTree
    dual: PyTree


class LinearisedADMM(eqx.Module):
    """``min f(x) + outer(w)`` subject to ``w = K x``, for a prior ``g(x) = outer(K x)``: proxes only, no linear
    solve.

    ``x <- prox_{step f}(x - (step / rho) K^H (K x - w + d))``, ``w = prox_{rho outer}(K x + d)``,
    ``d <- d + K x - w``. Converges for ``0 < step_size <= rho / |K|^2``; ``rho`` defaults to ``step_size |K|^2``.
    Source: Parikh and Boyd (2014), section 4.4.2; the split inexact Uzawa method of Zhang, Burger and Osher (2011).
    """

    likelihood: Any
    prior: Any
    step_size: Array
    rho: Array

    def __init__(self, likelihood: Any, prior: Any, step_size: Any, rho: Any = None):
        self.likelihood, self.prior, self.step_size = likelihood, prior, real(step_size)
        require(self.step_size, "step_size", positive=True)
        if rho is None:
            _, K = split(prior, likelihood.operator.in_structure)
            rho = self.step_size * K.norm() ** 2
        self.rho = real(rho)
        require(self.rho, "rho", positive=True)

    def init(self, x: PyTree, key: Any = None) -> LinearisedADMMState:
        """Start at ``w = K x`` with dual zero."""
        _, K = split(self.prior, x)
        w = K(x)
        return LinearisedADMMState(x, w, jnp.zeros_like(w))

    def step(self, state: LinearisedADMMState) -> tuple[LinearisedADMMState, Info]:
        """One prox of each term and a dual update."""
        new = self.fixed_point(state)
        return new, change(new, state)

    def unknowns(self, state: LinearisedADMMState) -> LinearisedADMMState:
        """All three variables."""
        return state

    def fixed_point(self, state: LinearisedADMMState) -> LinearisedADMMState:
        """One round."""
        x, w, d = state
        outer, K = split(self.prior, x)
        x = self.likelihood.prox(x - scale(self.step_size / self.rho, K.H(K(x) - w + d)), self.step_size)
        moved = K(x) + d
        w = outer.prox(moved, self.rho)
        return LinearisedADMMState(x, w, moved - w)
