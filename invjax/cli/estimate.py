"""What ``invjax restore`` computes with any prior: the choice of its weight, the posterior by chains, their summary.

An approach (``tv.TotalVariation``, ``learned.LearnedDenoiser``) has ``weights``, ``posterior_factors``, ``reconstruct``,
``map_estimate`` and ``sampler``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from .. import metrics
from ..chains import sample_chains
from ..drive import sample
from ..likelihoods import Likelihood
from ..operators import LinearOperator, linearise
from ..reducers import Every, Moments, Quantiles
from ..samplers import posterior_sure
from ..solvers import discrepancy, sure
from ..sweeps import sweep
from ..types import Fn

_PILOT_SAMPLES, _PILOT_BURN_IN = 25, 15
_TRACED_PIXELS = 1024
_MARGIN = 1.5  # over the Lipschitz constant of the Gauss-Newton form at one point


class Choice(NamedTuple):
    """The sweep over weights: SURE, discrepancy and (with the truth) PSNR per weight, and the weight chosen."""

    weights: np.ndarray
    sure: np.ndarray
    discrepancy: np.ndarray
    psnr: np.ndarray | None
    chosen: float


def lipschitz_constant(likelihood: Likelihood, x: Array) -> Array:
    """That of the gradient of the likelihood; for a nonlinear operator, with a margin, that of its Gauss-Newton form at ``x``."""
    if isinstance(likelihood.operator, LinearOperator):
        return likelihood.lipschitz
    return _MARGIN * (linearise(likelihood.operator, x).norm() / likelihood.noise.sigma) ** 2


def choose_weight(
    key: Array, approach: Any, likelihood: Likelihood, start: Array, truth: Array | None = None
) -> Choice:
    """Run all weights as one program; take the one with the smallest SURE, which does not look at the truth."""
    weights, reference = approach.weights, start if truth is None else truth
    mesh = cpu_mesh(len(weights))
    risk, misfit, psnr = sweep(
        _score_weight, weights, key, approach, likelihood, start, reference, batch_size=1, mesh=mesh
    )
    chosen = float(weights[int(jnp.nanargmin(risk))])
    quality = None if truth is None else np.asarray(psnr)
    return Choice(weights, np.asarray(risk), np.asarray(misfit), quality, chosen)


def _score_weight(
    lam: Array, key: Array, approach: Any, likelihood: Likelihood, start: Array, reference: Array
) -> tuple[Array, Array, Array]:
    def reconstruct(y: Array) -> Array:
        return approach.reconstruct(Likelihood(likelihood.operator, likelihood.noise, y), start, lam)

    x = reconstruct(likelihood.y)
    return sure(key, reconstruct, likelihood), discrepancy(likelihood, x), metrics.psnr(x, reference)


class PilotChoice(NamedTuple):
    """Short chains over weights for the posterior: SURE of the posterior mean per weight, and the weight chosen."""

    weights: np.ndarray
    sure: np.ndarray
    chosen: float


def choose_posterior_weight(key: Array, approach: Any, likelihood: Likelihood, start: Array, lam: float) -> PilotChoice:
    """The weight whose posterior mean has the smallest SURE, at or above that of the MAP estimate.

    The mean of a posterior needs a larger weight than its mode; both are chosen without the truth.
    """
    weights = np.float32(lam) * approach.posterior_factors
    risk = sweep(_pilot, weights, key, approach, likelihood, start, batch_size=1, mesh=cpu_mesh(len(weights)))
    return PilotChoice(weights, np.asarray(risk), float(weights[int(jnp.nanargmin(risk))]))


def _pilot(lam: Array, key: Array, approach: Any, likelihood: Likelihood, start: Array) -> Array:
    sampler, _, _ = approach.sampler("skrock", likelihood, lam, _PILOT_SAMPLES)
    collect = Moments(of=Fn(_prediction, likelihood.operator))
    samples = sample(key, sampler, start, _PILOT_SAMPLES, burn_in=_PILOT_BURN_IN, collect=collect)
    return posterior_sure(likelihood, samples.collected.mean, samples.collected.variance)


def _prediction(state: Any, info: Any, operator: Any) -> Array:
    return operator(state.position)


class Posterior(NamedTuple):
    """Pixelwise mean, standard deviation and 5 % and 95 % quantiles, draws of some pixels, status per chain."""

    mean: Array
    std: Array
    lower: Array
    upper: Array
    draws: Array
    status: Array


def posterior(
    keys: Array,
    approach: Any,
    likelihood: Likelihood,
    start: Array,
    lam: float | None,
    method: str,
    num_samples: int,
    *,
    num_chunks: int = 1,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> Posterior:
    """Langevin chains from the MAP estimate on the posterior of the approach, whose prior has the weight ``lam``, if any.

    ``on_progress`` gets the fraction of the steps that are done, ``num_chunks`` times during collection.
    """
    sampler, burn_in, thinning = approach.sampler(
        method, likelihood, None if lam is None else jnp.float32(lam), num_samples
    )
    num_steps = burn_in + num_samples * thinning
    pixels = jnp.linspace(0, start.size - 1, min(_TRACED_PIXELS, start.size)).astype(jnp.int32)
    collect = {
        "moments": Moments(),
        "quantiles": Quantiles(jnp.array([0.05, 0.95], jnp.float32)),
        "draws": Every(1, of=Fn(_some_pixels, pixels)),
    }
    samples = sample_chains(
        keys,
        sampler,
        start,
        num_samples,
        burn_in=burn_in,
        thinning=thinning,
        collect=collect,
        mesh=cpu_mesh(len(keys)),
        num_chunks=num_chunks,
        on_chunk=lambda run: on_progress(int(run.step[0]) / num_steps),
    )
    moments, quantiles = samples.collected["moments"], samples.collected["quantiles"].mean(0)
    # Law of total variance over the chains.
    variance = moments.variance.mean(0) + moments.mean.var(0)
    draws = samples.collected["draws"]
    return Posterior(moments.mean.mean(0), jnp.sqrt(variance), quantiles[0], quantiles[1], draws, samples.status)


def summarise_draws(draws: Array) -> dict[str, Array]:
    """Median ESS over the traced pixels, 95th percentiles of R-hat and of mcse / sd."""
    from ..samplers import summarise

    s = summarise(draws)
    return {"ess_median": s.median_ess, "rhat_p95": s.rhat_95, "mcse_over_sd": s.mcse_over_sd_95}


def _some_pixels(state: Any, info: Any, pixels: Array) -> Array:
    return state.position.reshape(-1)[pixels]


def cpu_mesh(count: int) -> Mesh | None:
    """A mesh over as many devices as divide ``count``, or None for one device."""
    devices = jax.devices()
    use = max(d for d in range(1, len(devices) + 1) if count % d == 0)
    return None if use == 1 else Mesh(np.array(devices[:use]), ("lanes",))
