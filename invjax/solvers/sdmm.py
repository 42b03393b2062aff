"""Simultaneous-direction method of multipliers: ADMM whose every step is closed form, also for TV."""

from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import Array, PyTree

from ..operators.structure import add, scale
from ..types import real, require
from .base import Info, change, split


class SDMMState(NamedTuple):
    """Iterate; the governing variables ``s = v + d_v`` and ``t = w + d_w``: split variable plus scaled dual."""

    position: PyTree
    s: PyTree
    t: PyTree


class SDMM(eqx.Module):
    """``min f(v) + outer(w)`` subject to ``v = x``, ``w = K x``, for a prior ``g(x) = outer(K x)`` (TV: K = differences).

    ``v = prox_{step f}(s)``, ``w = prox_{(step / rho) outer}(t)``,
    ``x = (I + rho K^H K)^(-1) (2 v - s + rho K^H (2 w - t))``, ``s <- s + relaxation (x - v)``,
    ``t <- t + relaxation (K x - w)``: the scaled duals are ``s - v`` and ``t - w``. Every part is closed form when
    the prox of f and the spectrum of ``K^H K`` are (circular blur, TV), so an iteration costs a few fast transforms and
    there is no inner loop. ``step_size`` and ``rho`` are free positive numbers; ``relaxation`` in (0, 2) over-relaxes.
    Source: Setzer, Steidl and Teuber (2010); Combettes and Pesquet (2011), section 10.6.
    """

    likelihood: Any
    prior: Any
    step_size: Array = eqx.field(converter=real)
    rho: Array = eqx.field(converter=real, default=1.0)
    relaxation: Array = eqx.field(converter=real, default=1.8)

    def __check_init__(self):
        require(self.step_size, "step_size", positive=True)
        require(self.rho, "rho", positive=True)
        require(self.relaxation, "relaxation", positive=True, below=2.0)

    def init(self, x: PyTree, key: Any = None) -> SDMMState:
        """Start at ``s = x``, ``t = K x``."""
        _, K = split(self.prior, x)
        return SDMMState(x, x, K(x))

    def step(self, state: SDMMState) -> tuple[SDMMState, Info]:
        """One closed-form round."""
        new = self.fixed_point(state)
        return new, change((new.s, new.t), (state.s, state.t))

    def unknowns(self, state: SDMMState) -> SDMMState:
        """All three variables."""
        return state

    def fixed_point(self, state: SDMMState) -> SDMMState:
        """One round."""
        _, s, t = state
        outer, K = split(self.prior, s)
        v = self.likelihood.prox(s, self.step_size)
        w = outer.prox(t, self.step_size / self.rho)
        x = K.shifted_solve(2 * v - s + scale(self.rho, K.H(add(add(w, w), t, -1))), self.rho)
        return SDMMState(x, add(s, x - v, self.relaxation), add(t, add(K(x), w, -1), self.relaxation))
