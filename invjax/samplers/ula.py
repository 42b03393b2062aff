"""The unadjusted Langevin algorithm."""

from __future__ import annotations

from typing import Any

import equinox as eqx
from jaxtyping import Array, PRNGKeyArray

from ..types import norm, real, require
from .langevin import LangevinInfo, LangevinState, diffuse, standard_normal
from .target import Posterior, require_terms


class ULA(eqx.Module):
    """Unadjusted Langevin: ``x + h score(x) + sqrt(2 h) z`` with ``z ~ N(0, I)`` samples ``exp(-f - g)`` with bias O(h).

    On N(0, s^2) the chain is stable for ``h < 2 s^2`` and its variance is ``s^2 / (1 - h / (2 s^2))``; in general take
    ``h`` below ``2 / L`` with L the Lipschitz constant of the score. Positions are real or complex arrays (a complex ``z``
    has N(0, 1) real and imaginary parts). ``projection``, an indicator prior, projects every position (projected Langevin,
    Bubeck, Eldan, Lehec 2018, Discrete Comput. Geom. 59): for a convex set, with a further bias at its boundary.

    Args:
        likelihood: A Module with ``.score(x)``: a likelihood, or the whole target with ``prior=None``.
        prior: A Module with ``.score(x)``, ``Moreau(g, smoothing)`` for one that has only a prox, or None.
        step_size: The time step h, in the squared unit of x. Positive, or ``ValueError``.
        projection: A Module whose ``prox`` is the projection, or None.

    Reference: Roberts and Tweedie 1996, Bernoulli 2(4), equation 2.
    """

    likelihood: Any
    prior: Any
    step_size: Array = eqx.field(converter=real)
    projection: Any = None

    def __check_init__(self):
        require(self.step_size, "step_size", positive=True)
        require_terms(self.likelihood, self.prior)

    def init(self, x: Array, key: PRNGKeyArray | None = None) -> LangevinState:
        """State at ``x``; nothing is drawn."""
        return LangevinState(x, Posterior(self.likelihood, self.prior).score_init(x))

    def step(self, key: PRNGKeyArray, state: LangevinState) -> tuple[LangevinState, LangevinInfo]:
        """One transition."""
        x = state.position
        score, aux = Posterior(self.likelihood, self.prior).score_step(x, state.aux)
        moved = diffuse(x, score, self.step_size, standard_normal(key, x))
        if self.projection is not None:
            moved = self.projection.prox(moved, self.step_size)
        return LangevinState(moved, aux), LangevinInfo(norm(score))
