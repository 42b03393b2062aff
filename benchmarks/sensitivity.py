"""How well a distance between denoisers or operators predicts the error of what PnP-ULA samples with the wrong one.

    python benchmarks/sensitivity.py

First the cross mixture of Renaud et al. 2024 (ICLR): 21 denoisers that are wrong on one side of a cut. The quality is the
correlation of the sliced W1 distance between the sampled laws with the posterior-L2 distance; ``prior_distance`` is that with
the distance under the prior, and ``largest_ratio_to_floor`` the error of the cuts with d_1 < 0.1 over that of a second run.
Then digits (``digits.py``; needs scikit-learn), where a Gaussian blur of 0.5 pixels is taken for one of up to 3: the quality is
the rank correlation up to a width of 1.5. Beyond that the distance falls, as it does in closed form for a Gaussian prior
(``tests/samplers/test_sensitivity.py``).
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from digits import BOX, LEVEL, SHAPE, digits
from harness import Stopwatch, emit, parser, record

from invjax import InverseProblem, likelihoods, operators, priors, sample, samplers

EPS, ALPHA, STEP = 0.05, 0.3, 0.05
CUTS = jnp.linspace(-5, 5, 21)
WIDTHS = jnp.linspace(0.5, 3.0, 21)
WIDTH, NEAR, SIGMA = 0.5, 1.5, 0.05


class Cut(eqx.Module):
    """``D(x)`` where ``x_1 > cut``, zero elsewhere."""

    denoiser: Any
    cut: Any

    def __call__(self, x: jax.Array, sigma: Any) -> jax.Array:
        return jnp.where(x[0] > self.cut, self.denoiser(x, sigma), 0)


def sliced(x: np.ndarray, y: np.ndarray, directions: np.ndarray) -> float:
    """Mean over the directions of the W1 distance of the projections; the numbers of points are equal."""
    return float(np.mean(np.abs(np.sort(x @ directions, 0) - np.sort(y @ directions, 0))))


def ranks(values: np.ndarray) -> np.ndarray:
    """Their places in increasing order."""
    return np.argsort(np.argsort(values))


@eqx.filter_jit
def cross_draws(denoiser: Any, cuts: jax.Array, keys: jax.Array, y: jax.Array, length: int) -> jax.Array:
    """Draws ``(cut, draw, 2)`` of the chains with ``D`` cut at ``cuts``."""
    f = InverseProblem(operators.Identity((2,)), likelihoods.Gaussian(1.0)).likelihood(y)

    def chain(cut: jax.Array, key: jax.Array) -> jax.Array:
        prior = priors.RED(Cut(denoiser, cut), EPS**0.5, ALPHA)
        sampler = samplers.PnPULA(f, prior, 1.0, STEP, box=(-jnp.inf, jnp.inf), allow_unstable=True)
        return sample(key, sampler, jnp.zeros(2), length // 40, burn_in=length // 2, thinning=20).collected

    return jax.vmap(jax.vmap(chain, (None, 0)))(cuts, keys).reshape(len(cuts), -1, 2)


@eqx.filter_jit
def denoiser_distances(draws: jax.Array, denoiser: Any, cuts: jax.Array) -> jax.Array:
    """Root mean square of ``D - D_cut`` over the draws."""

    def distance(cut: jax.Array) -> jax.Array:
        wrong = Cut(denoiser, cut)
        return samplers.posterior_l2(draws, lambda x: denoiser(x, EPS**0.5), lambda x: wrong(x, EPS**0.5))

    return jax.lax.map(distance, cuts)


def wrong_denoisers(num_chains: int, length: int) -> dict:
    """The line of the cross mixture."""
    covariances = np.array([[[2, 0.5], [0.5, 0.15]], [[0.15, 0.5], [0.5, 2]]], np.float32)
    cross = priors.GaussianMixture(np.full(2, 0.5, np.float32), np.zeros((2, 2), np.float32), covariances)
    cuts = jnp.concatenate([CUTS, jnp.full(2, -jnp.inf)])
    keys = jax.random.split(jax.random.key(5), (len(cuts), num_chains))
    watch = Stopwatch(lambda: cross_draws(cross.denoiser, cuts, keys, jnp.array([0.0, 8.0]), length))
    watch()
    draws = np.asarray(watch.result)
    angles = np.linspace(0, np.pi, 32, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    reference, again = draws[-2:]
    moved, floor = (
        np.array([sliced(reference, x, directions) for x in draws[:-2]]),
        sliced(reference, again, directions),
    )
    prior_keys = jax.random.split(jax.random.key(6), len(reference))
    posterior, prior = (
        np.asarray(denoiser_distances(x, cross.denoiser, CUTS))
        for x in (jnp.asarray(reference), jax.vmap(cross.sample)(prior_keys))
    )
    r_posterior, r_prior = (float(np.corrcoef(d, moved)[0, 1]) for d in (posterior, prior))
    facts = {
        "prior_distance": r_prior,
        "ahead_of_prior": r_posterior - r_prior,
        "w1_floor": floor,
        "largest_ratio_to_floor": float(np.max(moved[posterior < 0.1]) / floor),
    }
    sizes = {"chains": num_chains, "steps": length, "cuts": len(CUTS)}
    return record("sensitivity/wrong denoisers", sizes, watch.times(), r_posterior, "correlation", **facts)


@eqx.filter_jit
def digit_draws(mixture: Any, widths: jax.Array, keys: jax.Array, y: jax.Array, length: int) -> jax.Array:
    """Draws ``(width, draw, 64)`` of the chains with the blur of each width."""
    prior = priors.RED(mixture.denoiser, LEVEL)

    def chain(width: jax.Array, key: jax.Array) -> jax.Array:
        f = blurred(width, y)
        sampler = samplers.PnPULA(f, prior, 1.0, box=BOX, likelihood_lipschitz=1 / SIGMA**2)
        return sample(key, sampler, y, length // 100, burn_in=length // 2, thinning=50).collected

    return jax.vmap(jax.vmap(chain, (None, 0)))(widths, keys).reshape(len(widths), -1, 64)


def blurred(width: jax.Array, y: jax.Array) -> Any:
    """The likelihood of ``y`` under the blur of this width."""
    A = operators.Blur(operators.gaussian_kernel(width, 7), SHAPE)
    return InverseProblem(A, likelihoods.Gaussian(SIGMA)).likelihood(y)


@eqx.filter_jit
def drift_distances(draws: jax.Array, widths: jax.Array, y: jax.Array) -> jax.Array:
    """d_1 between the chain of the true width and those of ``widths``."""
    true = blurred(jnp.float32(WIDTH), y)
    images = draws.reshape(-1, *SHAPE)
    return jax.lax.map(lambda w: samplers.posterior_l2(images, true.score, blurred(w, y).score), widths)


def wrong_operators(num_chains: int, length: int) -> dict:
    """The line of the digits: one image."""
    mixture, clean = digits(50)
    y = InverseProblem(blurred(jnp.float32(WIDTH), clean[0]).operator, likelihoods.Gaussian(SIGMA)).measure(
        jax.random.key(0), clean[0]
    )
    widths = jnp.concatenate([WIDTHS, jnp.full(2, WIDTH)]).astype(jnp.float32)
    keys = jax.random.split(jax.random.key(1), (len(widths), num_chains))
    watch = Stopwatch(lambda: digit_draws(mixture, widths, keys, y, length))
    watch()
    draws = np.asarray(watch.result)
    directions = np.random.default_rng(2).normal(size=(64, 128))
    directions /= np.linalg.norm(directions, axis=0)
    reference, again = draws[-2:]
    moved, floor = (
        np.array([sliced(reference, x, directions) for x in draws[:-2]]),
        sliced(reference, again, directions),
    )
    distance = np.asarray(drift_distances(jnp.asarray(reference), widths[:-2], y))
    facts = {"w1_floor": floor, "w1": [round(float(v), 4) for v in moved], "d1": [round(float(v), 2) for v in distance]}
    near = np.asarray(WIDTHS) <= NEAR
    rank = float(np.corrcoef(ranks(distance[near]), ranks(moved[near]))[0, 1])
    facts["rank_correlation_of_all_widths"] = float(np.corrcoef(ranks(distance), ranks(moved))[0, 1])
    sizes = {"chains": num_chains, "steps": length, "widths": len(WIDTHS)}
    return record("sensitivity/wrong operators", sizes, watch.times(), rank, "rank correlation", **facts)


def main() -> None:
    quick = parser(__doc__.splitlines()[0]).parse_args().quick
    lines = [wrong_denoisers(*((16, 1000) if quick else (64, 20_000)))]
    emit([*lines, wrong_operators(*((8, 2000) if quick else (32, 10_000)))])


if __name__ == "__main__":
    main()
