"""Plug-and-play on 8 x 8 digits with the exact denoiser of a Gaussian mixture: PnP-ULA, PPnP-ULA, PnP-SGD, and the truth.

    python benchmarks/digits.py

The mixture of ten components is fitted to scikit-learn's digits (values in [0, 1]; 50 images are kept apart), so the posterior
mean is known in closed form, and the denoiser is exact. Two problems with sigma = 0.05: half of the pixels, and a 3 x 3 box blur.
The claims are those of Laumont et al. 2022 (SIAM J. Imaging Sci. 15) and 2023 (J. Math. Imaging Vis. 65), scaled down. Needs
scikit-learn. The quality is the mean of the PSNR over the images.
"""

from __future__ import annotations

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from harness import Stopwatch, emit, parser, record

from invjax import InverseProblem, iterate, likelihoods, metrics, operators, priors, sample, samplers, solvers
from invjax.reducers import Moments

SHAPE, SIGMA, LEVEL, COMPONENTS, RIDGE = (8, 8, 1), 0.05, 5 / 255, 10, 1e-3
BOX = (0.0, 1.0)
STOPS, EXACT = 200, "exact posterior mean"


def digits(num_tests: int) -> tuple[priors.GaussianMixture, jax.Array]:
    """The mixture fitted to all images but the last ``num_tests``, and those."""
    from sklearn.datasets import load_digits
    from sklearn.mixture import GaussianMixture

    images = load_digits().data / 16
    fit = GaussianMixture(COMPONENTS, reg_covar=RIDGE, random_state=0).fit(images[:-num_tests])
    means = fit.means_.reshape(COMPONENTS, *SHAPE).astype(np.float32)
    mixture = priors.GaussianMixture(fit.weights_.astype(np.float32), means, fit.covariances_.astype(np.float32))
    return mixture, jnp.asarray(images[-num_tests:].reshape(-1, *SHAPE), jnp.float32)


def problems() -> dict[str, InverseProblem]:
    """The two problems."""
    keep = np.random.default_rng(0).uniform(size=SHAPE) < 0.5
    models: dict[str, Any] = {
        "inpainting": operators.Mask(keep, SHAPE),
        "blur": operators.Blur(operators.uniform_kernel(3), SHAPE),
    }
    return {name: InverseProblem(A, likelihoods.Gaussian(SIGMA)) for name, A in models.items()}


def psnr_of_mse(images: jax.Array, truth: jax.Array) -> jax.Array:
    """PSNR over the last axes, one for each leading index."""
    return -10 * jnp.log10(jnp.mean((images - truth) ** 2, (-1, -2, -3)))


def level(method: Any) -> Any:
    """Where the noise level of PnP-SGD is."""
    return method.prior.sigma


@eqx.filter_jit
def langevin(keys: jax.Array, problem: Any, mixture: Any, ys: jax.Array, num_steps: int, projected: bool) -> Any:
    """Moments of one chain per image."""

    def one(key: jax.Array, y: jax.Array) -> Any:
        f = problem.likelihood(y)
        prior = priors.RED(mixture.denoiser, LEVEL)
        # 1 for the residual: that of each Gaussian of the mixture, as for a network of the paper.
        sampler = samplers.PnPULA(f, prior, 1.0, box=BOX, projected=projected)
        start = f.operator.H(y)
        return sample(key, sampler, start, num_steps, burn_in=num_steps // 10, collect=Moments()).collected

    return jax.lax.map(lambda pair: one(*pair), (keys, ys), batch_size=10)


@eqx.filter_jit
def running_means(keys: jax.Array, problem: Any, mixture: Any, ys: jax.Array, num_steps: int, projected: bool) -> Any:
    """The mean of the chain so far, ``STOPS`` times along it, without burn-in."""

    def one(key: jax.Array, y: jax.Array) -> Any:
        f = problem.likelihood(y)
        sampler = samplers.PnPULA(f, priors.RED(mixture.denoiser, LEVEL), 1.0, box=BOX, projected=projected)
        path = sample(key, sampler, f.operator.H(y), STOPS, thinning=num_steps // STOPS).collected
        return jnp.cumsum(path, 0) / jnp.arange(1, STOPS + 1)[:, None, None, None]

    return jax.lax.map(lambda pair: one(*pair), (keys, ys), batch_size=10)


@eqx.filter_jit
def maximum(
    keys: jax.Array, problem: Any, mixture: Any, ys: jax.Array, num_steps: int, coarse: bool, starts: Any = None
) -> Any:
    """PnP-SGD from ``A^H y`` or ``starts``, with the level fixed or falling from 50 / 255 in the first half."""

    def one(key: jax.Array, y: jax.Array, start: jax.Array) -> jax.Array:
        f = problem.likelihood(y)
        prior = priors.RED(mixture.denoiser, LEVEL)
        step = 1 / (f.lipschitz + 1 / LEVEL**2)
        top = 50 / 255 if coarse else LEVEL
        fall = jnp.geomspace(top, LEVEL, num_steps // 2)
        method = solvers.Continuation(solvers.PnPSGD(f, prior, step, num_flat=3 * num_steps // 4), level, fall)
        return iterate(method, start, num_steps, key=key)[0].position

    starts = jax.vmap(problem.operator.H)(ys) if starts is None else starts
    return jax.lax.map(lambda triple: one(*triple), (keys, ys, starts), batch_size=10)


@eqx.filter_jit
def exact_means(problem: Any, mixture: Any, ys: jax.Array) -> jax.Array:
    """Posterior means of the mixture, in closed form."""

    def one(y: jax.Array) -> jax.Array:
        posterior = mixture.posterior(problem.likelihood(y))
        return jnp.tensordot(posterior.weights, posterior.means, 1)

    return jax.lax.map(one, ys, batch_size=10)


def log_posterior(x: jax.Array, y: jax.Array, problem: Any, mixture: Any) -> jax.Array:
    """Up to a constant, with the smoothed prior."""
    return -problem.likelihood(y)(x) + mixture.log_prob(x, LEVEL)


def steps_to(
    keys: jax.Array,
    problem: Any,
    mixture: Any,
    ys: jax.Array,
    clean: jax.Array,
    num_steps: int,
    projected: bool,
    found: dict,
) -> dict:
    """Steps until the running mean is within 2, 1 and 0.5 dB of the exact posterior mean; None where it never is."""
    running = running_means(keys, problem, mixture, ys, num_steps, projected)
    psnr = np.mean(np.asarray(psnr_of_mse(running, clean[:, None])), 0)
    exact = float(jnp.mean(jax.vmap(metrics.psnr)(found[EXACT][0], clean)))
    first = {gap: np.flatnonzero(psnr >= exact - gap) for gap in (2, 1, 0.5)}
    return {f"steps_to_{gap}dB": int(k[0] + 1) * num_steps // STOPS if len(k) else None for gap, k in first.items()}


def runs_of(keys: jax.Array, problem: Any, mixture: Any, ys: jax.Array, num_steps: int) -> dict[str, Any]:
    """Every method by name."""
    chain = functools.partial(langevin, keys, problem, mixture, ys, num_steps)
    climb = functools.partial(maximum, keys, problem, mixture, ys, num_steps)
    return {
        EXACT: lambda: exact_means(problem, mixture, ys),
        "PnP-ULA": lambda: chain(False),
        "PPnP-ULA": lambda: chain(True),
        "PnP-SGD": lambda: climb(False),
        "PnP-SGD, coarse to fine": lambda: climb(True),
        "PnP-SGD, from the posterior mean": lambda: climb(False, exact_means(problem, mixture, ys)),
    }


def lines_of(name: str, problem: Any, mixture: Any, clean: jax.Array, num_steps: int) -> list[dict]:
    """All methods on one problem."""
    keys = jax.random.split(jax.random.key(1), len(clean))
    ys = jax.vmap(problem.measure)(jax.random.split(jax.random.key(0), len(clean)), clean)
    density = jax.jit(jax.vmap(functools.partial(log_posterior, problem=problem, mixture=mixture)))
    found = {"measurement": (jax.vmap(problem.operator.H)(ys), {}, {"seconds": 0.0})}
    values = {}
    for method, run in runs_of(keys, problem, mixture, ys, num_steps).items():
        watch = Stopwatch(run)
        watch()
        out, facts = watch.result, {}
        if method in ("PnP-ULA", "PPnP-ULA"):
            mean, sd = out.mean, jnp.sqrt(out.variance)
            facts["coverage_2sd"] = float(jnp.mean(jnp.abs(clean - mean) <= 2 * sd))
            facts |= steps_to(keys, problem, mixture, ys, clean, num_steps // 5, method == "PPnP-ULA", found)
            out = mean
        values[method] = density(out, ys)
        if method.startswith("PnP-SGD"):
            facts["denser_than_mean"] = float(jnp.mean(values[method] >= values[EXACT]))
            facts["at_least_as_dense_as_fixed"] = float(jnp.mean(values[method] >= values["PnP-SGD"] - 1e-2))
        found[method] = (out, facts, watch.times())
    sizes = {"images": len(clean), "steps": num_steps}
    quality = {method: float(jnp.mean(jax.vmap(metrics.psnr)(out, clean))) for method, (out, _, _) in found.items()}
    return [
        record(f"digits/{name}/{method}", sizes, times, quality[method], "mean PSNR", **facts)
        for method, (_, facts, times) in found.items()
    ]


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, default=100_000, help="of each method")
    args = options.parse_args()
    num_tests, num_steps = (10, 2000) if args.quick else (50, args.steps)
    mixture, clean = digits(num_tests)
    emit([line for name, problem in problems().items() for line in lines_of(name, problem, mixture, clean, num_steps)])


if __name__ == "__main__":
    main()
