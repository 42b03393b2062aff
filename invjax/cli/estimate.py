"""The three computations of ``invjax restore``: the weight, the MAP estimate, the posterior."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from .. import metrics
from ..chains import sample_chains
from ..drive import iterate, sample, solve
from ..likelihoods import Likelihood
from ..operators import LinearOperator, linearise
from ..operators.spectrum import RealFourier
from ..priors import TV
from ..reducers import Every, Moments, Quantiles
from ..samplers import MYULA, SKROCK, Moreau, max_step_size, posterior_sure
from ..solvers import FISTA, SplitBregman, discrepancy, sure
from ..sweeps import sweep
from ..types import Fn

WEIGHTS = np.geomspace(1.0, 200.0, 16).astype(np.float32)
_SWEEP_STEPS = 60
_PILOT_FACTORS = np.array([1.0, 1.5, 2.2, 3.3, 5.0, 7.5], np.float32)
_PILOT_SAMPLES, _PILOT_BURN_IN = 25, 15
_STAGES = 10
_INNER = 8  # enough for the prox at the largest weights; at small ones 5 would do
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


def map_method(likelihood: Likelihood, lam: Any, lipschitz: Array) -> tuple[Any, TV]:
    """Solver and prior: split Bregman where operator and circular TV share the Fourier basis, else FISTA."""
    shape = likelihood.operator.in_structure.shape
    gram = likelihood.operator.gram_spectrum if isinstance(likelihood.operator, LinearOperator) else None
    if gram is not None and isinstance(gram.right, RealFourier):
        prior = TV(shape, lam, boundary="circular")
        return SplitBregman(likelihood, prior, 20 * lam), prior  # 1 / 20 is a typical difference of neighbouring pixels
    prior = TV(shape, lam)
    return FISTA(likelihood, prior, 1 / lipschitz), prior


def choose_weight(
    key: Array, likelihood: Likelihood, start: Array, lipschitz: Array, truth: Array | None, window: tuple, mesh: Any
) -> Choice:
    """Run all weights as one program; take the one with the smallest SURE, which does not look at the truth."""
    reference = truth if truth is not None else start[window]
    score = functools.partial(_score_weight, window=window)
    risk, misfit, psnr = sweep(score, WEIGHTS, key, likelihood, start, lipschitz, reference, batch_size=1, mesh=mesh)
    chosen = float(WEIGHTS[int(jnp.nanargmin(risk))])
    quality = None if truth is None else np.asarray(psnr)
    return Choice(WEIGHTS, np.asarray(risk), np.asarray(misfit), quality, chosen)


def _score_weight(
    lam: Array, key: Array, likelihood: Likelihood, start: Array, lipschitz: Array, reference: Array, *, window: tuple
) -> tuple[Array, Array, Array]:
    def reconstruct(y: Array) -> Array:
        f = Likelihood(likelihood.operator, likelihood.noise, y)
        return iterate(map_method(f, lam, lipschitz)[0], start, _SWEEP_STEPS)[0].position

    x = reconstruct(likelihood.y)
    risk = sure(key, reconstruct, likelihood)
    return risk, discrepancy(likelihood, x), metrics.psnr(x[window], reference)


def map_estimate(likelihood: Likelihood, start: Array, lipschitz: Array, lam: float) -> Any:
    """The MAP estimate: a ``Solution``."""
    method, _ = map_method(likelihood, jnp.float32(lam), lipschitz)
    return solve(method, start, rtol=1e-4, max_steps=2000)


class PilotChoice(NamedTuple):
    """Short chains over weights for the posterior: SURE of the posterior mean per weight, and the weight chosen."""

    weights: np.ndarray
    sure: np.ndarray
    chosen: float


def choose_posterior_weight(
    key: Array, likelihood: Likelihood, start: Array, lipschitz: Array, lam: float
) -> PilotChoice:
    """The weight whose posterior mean has the smallest SURE, at or above that of the MAP estimate.

    The mean of a posterior needs a larger weight than its mode; both are chosen without the truth.
    """
    weights = np.float32(lam) * _PILOT_FACTORS
    risk = sweep(_pilot, weights, key, likelihood, start, lipschitz, batch_size=1, mesh=cpu_mesh(len(weights)))
    return PilotChoice(weights, np.asarray(risk), float(weights[int(jnp.nanargmin(risk))]))


def _pilot(lam: Array, key: Array, likelihood: Likelihood, start: Array, lipschitz: Array) -> Array:
    sampler = skrock(likelihood, lam, lipschitz)
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
    likelihood: Likelihood,
    start: Array,
    lipschitz: Array,
    lam: float,
    method: str,
    num_samples: int,
    *,
    mesh: Mesh | None = None,
    num_chunks: int = 1,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> Posterior:
    """Langevin chains from the MAP estimate on the posterior with a Moreau-smoothed TV prior.

    ``on_progress`` gets the fraction of the steps that are done, ``num_chunks`` times during collection.
    """
    sampler, burn_in, thinning = sampler_for(method, likelihood, lam, lipschitz, num_samples)
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
        mesh=mesh,
        num_chunks=num_chunks,
        on_chunk=lambda run: on_progress(int(run.step[0]) / num_steps),
    )
    moments, quantiles = samples.collected["moments"], samples.collected["quantiles"].mean(0)
    # Law of total variance over the chains.
    variance = moments.variance.mean(0) + moments.mean.var(0)
    draws = samples.collected["draws"]
    return Posterior(moments.mean.mean(0), jnp.sqrt(variance), quantiles[0], quantiles[1], draws, samples.status)


def sampler_for(
    method: str, likelihood: Likelihood, lam: float, lipschitz: Array, num_samples: int
) -> tuple[Any, int, int]:
    """Sampler, burn-in and thinning. Both target the TV posterior with envelope parameter ``1 / L``."""
    if method == "myula":
        _, prior = map_method(likelihood, jnp.float32(lam), lipschitz)
        # Half the stability bound of the likelihood and the envelope together.
        sampler = MYULA(likelihood, prior, step_size=1 / (2 * lipschitz), smoothing=1 / lipschitz, num_inner=_INNER)
        return sampler, 10 * num_samples, 20
    return skrock(likelihood, jnp.float32(lam), lipschitz), max(10, num_samples // 5), 1


def skrock(likelihood: Likelihood, lam: Array, lipschitz: Array) -> SKROCK:
    """SK-ROCK on the Moreau-smoothed TV posterior, at half its largest stable step."""
    _, prior = map_method(likelihood, lam, lipschitz)
    step_size = 0.5 * max_step_size(2 * lipschitz, _STAGES)  # L of the likelihood plus 1 / smoothing
    return SKROCK(likelihood, Moreau(prior, 1 / lipschitz, _INNER), step_size, _STAGES)


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
