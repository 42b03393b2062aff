"""Restoration with the shipped denoiser: DPIR, and Langevin chains on the posterior that the denoiser defines."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..drive import iterate
from ..likelihoods import GaussNewton, Likelihood
from ..nn import Frozen, shipped_denoiser
from ..operators import LinearOperator
from ..priors import RED, Box, PerChannel
from ..samplers import SKROCK, PnPULA, max_step_size, tailed
from ..solvers import DPIR, dpir_sigmas

_STEPS = 16
_SIGMA_MAX = 0.4  # the largest level of training: the first steps fill what was not measured
_LEVEL = 10 / 255  # of the prior in the posterior: at lower levels the chains leave what the network was trained on
_BOX = (0.0, 1.0)
_RESIDUAL = 1.1
"""Lipschitz constant of ``x - D(x)``: 1 for the exact denoiser, whose Jacobian has no negative eigenvalues, and a margin."""
_STAGES = 10


def denoiser_for(num_channels: int) -> Frozen | PerChannel:
    """The shipped denoiser: that of colour photographs for three channels, else the grey one, on each channel by itself."""
    if num_channels == 3:
        return shipped_denoiser("colour")
    grey = shipped_denoiser("grey")
    return grey if num_channels == 1 else PerChannel(grey)


class LearnedDenoiser(eqx.Module):
    """Plug-and-play MAP and posterior with ``D(x, sigma)``; ``lipschitz`` is that of the gradient of the likelihood."""

    weights: ClassVar[np.ndarray] = np.geomspace(0.1, 1.0, 6).astype(np.float32)
    posterior_factors: ClassVar[np.ndarray | None] = None  # the denoiser is the score of a density: no weight to choose

    lipschitz: Array
    denoiser: Any

    def reconstruct(self, likelihood: Likelihood, start: Array, lam: Array) -> Array:
        """The result of ``map_estimate``."""
        return self.map_estimate(likelihood, start, lam)[0]

    def map_estimate(self, likelihood: Likelihood, start: Array, lam: Array) -> tuple[Array, Array, int]:
        """DPIR from ``start``: image, status and number of steps."""
        linear = isinstance(likelihood.operator, LinearOperator)
        f = likelihood if linear else GaussNewton(likelihood)
        sigma = jnp.asarray(likelihood.noise.sigma)
        levels = dpir_sigmas(sigma, _STEPS, jnp.maximum(sigma, _SIGMA_MAX))
        method = DPIR(f, self.denoiser, levels, lam)
        state, _, status = iterate(method, start, _STEPS)
        return state.position, status, _STEPS

    def sampler(self, method: str, likelihood: Likelihood, lam: None, num_samples: int) -> tuple[Any, int, int]:
        """Sampler, burn-in and thinning; both target the posterior of the prior smoothed at the level 10 / 255."""
        prior, of_prior = RED(self.denoiser, jnp.float32(_LEVEL)), _RESIDUAL / _LEVEL**2
        if method == "pnp-ula":
            sampler = PnPULA(likelihood, prior, _RESIDUAL, likelihood_lipschitz=self.lipschitz, box=_BOX)
            return sampler, 5 * num_samples, 10
        smoothing = 1 / (self.lipschitz + of_prior)
        step_size = 0.5 * max_step_size(2 / smoothing, _STAGES)  # L of likelihood, prior and box together
        return (
            SKROCK(likelihood, tailed(prior, Box(*_BOX), smoothing), step_size, _STAGES),
            max(10, num_samples // 5),
            1,
        )
