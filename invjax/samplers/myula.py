"""The Moreau-Yosida unadjusted Langevin algorithm."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..types import real, require
from .langevin import LangevinInfo, LangevinState
from .moreau import Moreau
from .target import Posterior
from .ula import ULA


class MYULA(eqx.Module):
    """ULA on the Moreau-smoothed posterior: ``x + h (score_f(x) + (prox_{s g}(x) - x) / s) + sqrt(2 h) z``, s = smoothing.

    For a smooth likelihood f and a prior g with a prox (TV, l1, an indicator). Stable for ``h < 2 / (L_f + 1/s)`` with L_f
    the Lipschitz constant of the likelihood's score; the bias is O(h) on top of that of the smoothing, which vanishes with
    s. ``myula_defaults(likelihood)`` gives the usual values. The prox is warm-started from step to step.

    Args:
        likelihood: A Module with ``.score(x)``.
        prior: A Module with ``prox``, ``prox_init`` and ``prox_step``.
        step_size: The time step h. Positive, or ``ValueError``.
        smoothing: The parameter s of the Moreau envelope. Positive, or ``ValueError``.
        constraint: A second prior that is smoothed in the same way, such as the indicator of x >= 0, or None. It adds 1/s to
            the Lipschitz constant.
        num_inner: Iterations of an iterative prox in each step.

    Reference: Durmus, Moulines, Pereyra 2018, SIAM J. Imaging Sci. 11(1), equation 3.7.
    """

    likelihood: Any
    prior: Any
    step_size: Array = eqx.field(converter=real)
    smoothing: Array = eqx.field(converter=real)
    constraint: Any = None
    num_inner: int = eqx.field(static=True, default=10)

    def __check_init__(self):
        require(self.step_size, "step_size", positive=True)
        self._ula()  # checks the other fields

    def _ula(self) -> ULA:
        smooth = Moreau(self.prior, self.smoothing, self.num_inner)
        if self.constraint is None:
            return ULA(self.likelihood, smooth, self.step_size)
        both = Posterior(smooth, Moreau(self.constraint, self.smoothing, self.num_inner))
        return ULA(self.likelihood, both, self.step_size)

    def init(self, x: Array, key: PRNGKeyArray | None = None) -> LangevinState:
        """State at ``x``; nothing is drawn."""
        return self._ula().init(x)

    def step(self, key: PRNGKeyArray, state: LangevinState) -> tuple[LangevinState, LangevinInfo]:
        """One transition."""
        return self._ula().step(key, state)


def myula_defaults(likelihood: Any) -> dict[str, Array]:
    """``smoothing = 1 / L_f`` and ``step_size = 1 / (L_f + 1 / smoothing)``, half the stability bound.

    Use as ``MYULA(f, g, **myula_defaults(f))``; computes ``f.lipschitz`` once. Raises ``ValueError`` when it is not finite
    and positive.
    """
    smoothing = 1 / jnp.asarray(likelihood.lipschitz)
    require(smoothing, "1 / likelihood.lipschitz", positive=True)
    return {"step_size": smoothing / 2, "smoothing": smoothing}
