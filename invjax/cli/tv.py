"""Restoration with total variation: MAP by split Bregman or FISTA, Langevin chains on its Moreau envelope."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import numpy as np
from jaxtyping import Array

from ..drive import iterate, solve
from ..likelihoods import Likelihood
from ..operators import LinearOperator
from ..operators.spectrum import RealFourier
from ..priors import TV
from ..samplers import MYULA, SKROCK, Moreau, max_step_size
from ..solvers import FISTA, SplitBregman

_SWEEP_STEPS = 60
_STAGES = 10
_INNER = 8  # enough for the prox at the largest weights; at small ones 5 would do


class TotalVariation(eqx.Module):
    """MAP and posterior under ``exp(-lam TV(x))``; ``lipschitz`` is that of the gradient of the likelihood."""

    weights: ClassVar[np.ndarray] = np.geomspace(1.0, 200.0, 16).astype(np.float32)
    posterior_factors: ClassVar[np.ndarray | None] = np.array([1.0, 1.5, 2.2, 3.3, 5.0, 7.5], np.float32)

    lipschitz: Array

    def reconstruct(self, likelihood: Likelihood, start: Array, lam: Array) -> Array:
        """The MAP estimate, well enough for a choice of the weight."""
        return iterate(self._method(likelihood, lam)[0], start, _SWEEP_STEPS)[0].position

    def map_estimate(self, likelihood: Likelihood, start: Array, lam: Array) -> tuple[Array, Array, Array]:
        """The MAP estimate: image, status and number of steps."""
        solution = solve(self._method(likelihood, lam)[0], start, rtol=1e-4, max_steps=2000)
        return solution.position, solution.status, solution.num_steps

    def sampler(self, method: str, likelihood: Likelihood, lam: Array, num_samples: int) -> tuple[Any, int, int]:
        """Sampler, burn-in and thinning. Both target the TV posterior with envelope parameter ``1 / L``."""
        _, prior = self._method(likelihood, lam)
        L = self.lipschitz
        if method == "myula":
            # Half the stability bound of the likelihood and the envelope together.
            sampler = MYULA(likelihood, prior, step_size=1 / (2 * L), smoothing=1 / L, num_inner=_INNER)
            return sampler, 10 * num_samples, 20
        step_size = 0.5 * max_step_size(2 * L, _STAGES)  # L of the likelihood plus 1 / smoothing
        return SKROCK(likelihood, Moreau(prior, 1 / L, _INNER), step_size, _STAGES), max(10, num_samples // 5), 1

    def _method(self, likelihood: Likelihood, lam: Array) -> tuple[Any, TV]:
        """Solver and prior: split Bregman where operator and circular TV share the Fourier basis, else FISTA."""
        shape = likelihood.operator.in_structure.shape
        gram = likelihood.operator.gram_spectrum if isinstance(likelihood.operator, LinearOperator) else None
        if gram is not None and isinstance(gram.right, RealFourier):
            prior = TV(shape, lam, boundary="circular")
            # 1 / 20 is a typical difference of neighbouring pixels.
            return SplitBregman(likelihood, prior, 20 * lam), prior
        prior = TV(shape, lam)
        return FISTA(likelihood, prior, 1 / self.lipschitz), prior
