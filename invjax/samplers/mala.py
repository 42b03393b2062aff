"""The Metropolis-adjusted Langevin algorithm."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..types import inner, real, require, select
from .langevin import diffuse, like, standard_normal
from .target import Posterior, require_terms


class MALAState(NamedTuple):
    """The position, and the potential and score there."""

    position: Array
    potential: Float[Array, ""]
    score: Array


class MALAInfo(NamedTuple):
    """Probability with which the proposal was accepted (0 where it is not finite), and whether it was."""

    acceptance_rate: Float[Array, ""]
    is_accepted: Bool[Array, ""]


class MALA(eqx.Module):
    """Metropolis-adjusted Langevin: proposal ``y = x + h score(x) + sqrt(2 h) z``, accepted with probability

    ``min(1, exp(U(x) - U(y) - |x - y - h score(y)|^2 / (4 h) + |z|^2 / 2))``: reversible for ``exp(-U)``, U = f + g, for every
    step size; acceptance near 0.574 is the most efficient in high dimension (``StepSizeAdaptation`` finds it). The correction
    is exact only for potentials and scores that are deterministic functions of x: an iterative prox inside ``Moreau`` is used
    to its tolerance here, without warm start.

    Args:
        likelihood: A Module with potential ``f(x)`` and ``.score(x)``; the whole target with ``prior=None``.
        prior: The same, or None.
        step_size: The time step h, in the squared unit of x. Positive, or ``ValueError``.

    Reference: Roberts and Tweedie 1996, Bernoulli 2(4), section 1.4; Roberts and Rosenthal 1998, JRSS B 60(1), for 0.574.
    """

    likelihood: Any
    prior: Any
    step_size: Array = eqx.field(converter=real)

    def __check_init__(self):
        require(self.step_size, "step_size", positive=True)
        require_terms(self.likelihood, self.prior, potential=True)

    def init(self, x: Array, key: PRNGKeyArray | None = None) -> MALAState:
        """State at ``x``; nothing is drawn."""
        target = Posterior(self.likelihood, self.prior)
        return MALAState(x, target(x), target.score(x))

    def step(self, key: PRNGKeyArray, state: MALAState) -> tuple[MALAState, MALAInfo]:
        """One transition."""
        move_key, accept_key = jax.random.split(key)
        noise = standard_normal(move_key, state.position)
        proposal = self.init(diffuse(state.position, state.score, self.step_size, noise))
        log_ratio = state.potential - proposal.potential + self._log_backward(proposal, state) + inner(noise, noise) / 2
        rate = jnp.where(jnp.isnan(log_ratio), 0, jnp.exp(jnp.minimum(log_ratio, 0)))
        accepted = jax.random.uniform(accept_key, dtype=rate.dtype) < rate
        return select(accepted, proposal, state), MALAInfo(rate, accepted)

    def _log_backward(self, start: MALAState, end: MALAState) -> Array:
        """Log density of the proposal ``end`` from ``start``, up to a constant."""
        drift = like(self.step_size, start.position) * start.score
        gap = end.position - start.position - drift
        return -inner(gap, gap) / (4 * jnp.asarray(self.step_size, gap.real.dtype))
