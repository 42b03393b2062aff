"""Underdamped (kinetic) Langevin dynamics by the BAOAB splitting."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..types import inner, real, require
from .langevin import like, standard_normal
from .target import Posterior, require_terms


class UnderdampedState(NamedTuple):
    """Position and momentum, and the potential, the score and its auxiliary variables at the position."""

    position: Array
    momentum: Array
    potential: Float[Array, ""]
    score: Array
    aux: PyTree


class UnderdampedInfo(NamedTuple):
    """Energy that the step created, and the acceptance probability ``min(1, exp(-energy_error))`` that a test would have."""

    energy_error: Float[Array, ""]
    acceptance_rate: Float[Array, ""]


class Underdamped(eqx.Module):
    """Underdamped Langevin, ``dx = p dt``, ``dp = score(x) dt - friction p dt + sqrt(2 friction) dW``, in BAOAB steps.

    Half kick B, half drift A, exact Ornstein-Uhlenbeck step O of the momentum (unit mass), A, B: one score per step, bias
    O(step_size^2) in averages over positions, none on a Gaussian of any precision k while ``step_size < 2 / sqrt(k)``. The
    dynamics is not corrected. ``info.energy_error`` is the energy that the kicks and drifts created (the heat exchanged in O
    excluded): ``exp(-energy_error)`` is the ratio of a Metropolis test of the whole step, by which ``StepSizeAdaptation`` can
    choose the step size (target 0.8 to 0.9).

    Args:
        likelihood: A Module with potential ``f(x)`` and ``.score(x)``; the whole target with ``prior=None``.
        prior: The same (``Moreau`` included), or None.
        step_size: Time step, in the unit of x (its square is comparable with the step size of ``ULA``). Positive.
        friction: In inverse units of time; about the square root of the smallest curvature mixes best. Positive.

    Raises ``ValueError`` for values that are not positive. Reference: Leimkuhler and Matthews 2013, Appl. Math. Res.
    Express 2013(1), section 3; J. Chem. Phys. 138, 174102, for the exactness on Gaussians.
    """

    likelihood: Any
    prior: Any
    step_size: Array = eqx.field(converter=real)
    friction: Array = eqx.field(converter=real, default=1.0)

    def __check_init__(self):
        require(self.step_size, "step_size", positive=True)
        require(self.friction, "friction", positive=True)
        require_terms(self.likelihood, self.prior, potential=True)

    def init(self, x: Array, key: PRNGKeyArray | None = None) -> UnderdampedState:
        """State at ``x`` with a momentum from N(0, I), or zero without a key."""
        target = Posterior(self.likelihood, self.prior)
        momentum = jnp.zeros_like(x) if key is None else standard_normal(key, x)
        potential, score, aux = target.energy_step(x, target.score_init(x))
        return UnderdampedState(x, momentum, potential, score, aux)

    def step(self, key: PRNGKeyArray, state: UnderdampedState) -> tuple[UnderdampedState, UnderdampedInfo]:
        """One BAOAB step."""
        x = state.position
        half = like(0.5 * self.step_size, x)
        time = jnp.asarray(self.friction, x.real.dtype) * jnp.asarray(self.step_size, x.real.dtype)
        kicked = state.momentum + half * state.score
        noise = like(jnp.sqrt(-jnp.expm1(-2 * time)), x) * standard_normal(key, x)
        thermal = like(jnp.exp(-time), x) * kicked + noise
        x = x + half * kicked + half * thermal
        potential, score, aux = Posterior(self.likelihood, self.prior).energy_step(x, state.aux)
        momentum = thermal + half * score
        kinetic = _kinetic(momentum) - _kinetic(thermal) + _kinetic(kicked) - _kinetic(state.momentum)
        error = potential - state.potential + kinetic
        rate = jnp.where(jnp.isnan(error), 0, jnp.exp(-jnp.maximum(error, 0)))
        return UnderdampedState(x, momentum, potential, score, aux), UnderdampedInfo(error, rate)


def _kinetic(momentum: Array) -> Array:
    return inner(momentum, momentum) / 2
