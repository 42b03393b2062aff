"""Simultaneous-direction method of multipliers: ADMM whose every step is closed form, also for TV."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..types import real, require
from .base import Info, change, split


class SDMMState(NamedTuple):
    """Iterate; the split variables' scaled duals for ``v = x`` and ``w = K x``."""

    position: PyTree
    v: PyTree
    w: PyTree
    dual_v: PyTree
    dual_w: PyTree


class SDMM(eqx.Module):
    """``min f(v) + outer(w)`` subject to ``v = x``, ``w = K x``, for a prior ``g(x) = outer(K x)`` (TV: K = differences).

    ``x = (I + rho K^H K)^(-1) (v - d_v + rho K^H (w - d_w))``, ``v = prox_{step f}(x + d_v)``,
    ``w = prox_{(step / rho) outer}(K x + d_w)``, then ``d_v += x - v``, ``d_w += K x - w``. Every part is closed form when
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
        """Start at ``x`` with duals zero."""
        _, K = split(self.prior, x)
        w = K(x)
        return SDMMState(x, x, w, jnp.zeros_like(x), jax.tree.map(jnp.zeros_like, w))

    def step(self, state: SDMMState) -> tuple[SDMMState, Info]:
        """One closed-form round."""
        outer, K = split(self.prior, state.position)
        rho, relax = self.rho, self.relaxation
        target = state.v - state.dual_v + rho * K.H(state.w - state.dual_w)
        x = K.shifted_solve(target, jnp.asarray(rho, target.real.dtype))
        over_v = relax * x + (1 - relax) * state.v
        over_w = relax * K(x) + (1 - relax) * state.w
        v = self.likelihood.prox(over_v + state.dual_v, self.step_size)
        w = outer.prox(over_w + state.dual_w, self.step_size / rho)
        new = SDMMState(x, v, w, state.dual_v + over_v - v, state.dual_w + over_w - w)
        return new, change(new, state)

    def unknowns(self, state: SDMMState) -> SDMMState:
        """All five variables."""
        return state

    def fixed_point(self, state: SDMMState) -> SDMMState:
        """One round."""
        return self.step(state)[0]
