"""Ptychography from few photons: HQS with the shipped denoiser, with TV and without a prior, beside rPIE.

    python benchmarks/ptychography.py

An object 96 x 96 with the amplitude of one photograph in [0.3, 1] and the phase of another in [0, pi / 2]; a Gaussian probe
``exp(-r^2 / 10^2 + i r^2 / 60)`` that ends at r = 15; positions every 8 or 16 pixels, moved by up to one pixel; Poisson counts at
20 or 2 photons per unit of intensity. The quality is the PSNR of the complex object (peak 1) after the global phase is aligned,
where more than a fifth of the greatest light falls, as the mean over draws of the noise; that of the amplitude stands beside.

rPIE takes 40 sweeps with alpha = 0.5; ``best`` is the best of all alphas and stops, chosen on the truth. HQS takes 100 steps
from an object of ones, rho rises from 0.3 to 1. TV has one level for all pixels. Denoiser and TV have one rule each for all rows,
``lam = w / photons`` and ``w / sqrt(photons)`` times the mean light, with w chosen on other objects (``--tune``); ``best`` of
TV is its best weight and data term in each row, chosen on the truth.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from harness import Stopwatch, emit, parser, record
from jaxtyping import Array

from invjax import InverseProblem, iterate, likelihoods, metrics, nn, operators, priors, solvers
from invjax.data import photograph
from invjax.reducers import Every

SIZE, WINDOW = 96, 32
ROWS = ((8, 20.0), (8, 2.0), (16, 20.0))
"""Step of the positions in pixels, and photons per unit of intensity."""
TEST, OTHERS = ("camera", "chelsea"), (("astronaut", "moon"), ("coffee", "clock"))
"""Amplitude and phase: of the table, and of the objects on which the denoiser's weight was chosen."""
WEIGHT, TV_WEIGHT = 0.014, 0.05
"""``lam`` of the denoiser times the photons; that of TV times their square root."""
WIDTH = 6.0
"""Pixels of the local means that the denoiser leaves as they are."""
TV_WEIGHTS = (0.005, 0.01, 0.02, 0.03, 0.05)
ALPHAS = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
SWEEPS, STEPS = 40, 100
BAR_RPIE, BAR_RPIE_FEW, BAR_TV = 1.0, 4.0, 0.5
"""Decibels over rPIE, over rPIE at 2 photons, and over TV (in the mean of the rows)."""
BASELINES = {"rPIE": "rpie", "HQS + TV, counts": "tv"}


class OneLevel(eqx.Module):
    """A denoiser that gets one level for a map of levels: that of the mean light over the pixels that are judged."""

    denoiser: Any

    def __call__(self, z: Array, sigma: Array) -> Array:
        inside = sigma < jnp.sqrt(5.0) * jnp.min(sigma)
        return self.denoiser(z, jnp.sqrt(jnp.sum(inside) / jnp.sum(jnp.where(inside, sigma**-2, 0))))


class TVDenoiser(eqx.Module):
    """The prox of TV as a denoiser at level sigma."""

    prior: priors.TV

    def __call__(self, x: Array, sigma: Array) -> Array:
        return self.prior.prox(x, sigma**2)


def scene(names: tuple[str, str], step: int, photons: float, draws: int) -> tuple[Array, Any, Array]:
    """The object, its operator, and measured intensities ``(draws, L, h, w, 1)``."""
    amplitude, angle = (photograph(name, SIZE, grey=True) for name in names)
    x = (0.3 + 0.7 * amplitude) * jnp.exp(0.5j * jnp.pi * angle)
    axis = np.arange(WINDOW) - WINDOW // 2
    square = np.float32(axis[:, None] ** 2 + axis**2)[..., None]
    probe = np.where(square < 15**2, np.exp(-square / 10**2 + 1j * square / 60), 0).astype(np.complex64)
    corners = operators.raster_scan(x.shape, probe.shape[:2], step)
    corners = operators.jitter(jax.random.key(1), corners, 1, x.shape, probe.shape[:2])
    A = operators.Ptychography(probe, corners, x.shape)
    problem = InverseProblem(operators.PhaseRetrieval(A), likelihoods.Poisson(1 / photons))
    return x, A, jax.vmap(problem.measure, (0, None))(jax.random.split(jax.random.key(0), draws), x)


def likelihood(A: Any, y: Array, counts: bool) -> Any:
    """Of counts, or of amplitudes; neither HQS nor rPIE uses the parameter of the noise."""
    noise = likelihoods.Poisson(1.0) if counts else likelihoods.Amplitude(1.0)
    return InverseProblem(operators.PhaseRetrieval(A), noise).likelihood(y)


def coupling(method: Any) -> Any:
    """Where rho is."""
    return method.rho


@eqx.filter_jit
def hqs(A: Any, ys: Array, denoiser: Any, lam: Array, counts: bool) -> Array:
    """The object from each draw, one after the other."""

    def one(y: Array) -> Array:
        method = solvers.PtychographyHQS(likelihood(A, y, counts), denoiser, lam)
        method = solvers.Continuation(method, coupling, jnp.geomspace(0.3, 1.0, STEPS))
        return iterate(method, jnp.ones(A.in_structure.shape, jnp.complex64), STEPS)[0].position

    return jax.lax.map(one, ys)


@eqx.filter_jit
def rpie(A: Any, ys: Array, alpha: Array) -> Array:
    """The object from each draw after each sweep, ``(draws, sweeps, H, W, 1)``."""

    def one(y: Array) -> Array:
        method, start = solvers.RPIE(likelihood(A, y, False), alpha), jnp.ones(A.in_structure.shape, jnp.complex64)
        return iterate(method, start, SWEEPS, key=jax.random.key(0), trace=Every(1))[1]

    return jax.lax.map(one, ys)


def psnrs(images: Array, x: Array, A: Any) -> tuple[Array, Array]:
    """PSNR of the objects ``(..., H, W, 1)`` and of their amplitudes in the light, the mean over the first axis."""
    light = A.illumination
    inside = light > 0.2 * light.max()

    def one(image: Array) -> tuple[Array, Array]:
        found, truth = metrics.align_phase(jnp.where(inside, image, 0), x * inside), x * inside
        errors = jnp.abs(found - truth), jnp.abs(found) - jnp.abs(truth)
        return tuple(-10 * jnp.log10(jnp.sum(e**2) / jnp.sum(inside)) for e in errors)

    both = jax.lax.map(one, images.reshape(-1, *x.shape))
    return tuple(jnp.mean(p.reshape(images.shape[:-3]), 0) for p in both)


def network(denoiser: Any) -> Any:
    """``denoiser`` on real and imaginary parts, whose values lie in [-1, 1]."""
    return priors.ComplexParts(priors.Rescaled(denoiser, -1.0, 1.0))


def tv_denoiser(shape: tuple[int, ...]) -> Any:
    """TV on real and imaginary parts."""
    return OneLevel(priors.ComplexParts(TVDenoiser(priors.TV(shape))))


def mean_light(A: Any) -> Array:
    """The mean light where the quality is judged."""
    return jnp.mean(A.illumination, where=A.illumination > 0.2 * A.illumination.max())


def methods(A: Any, ys: Array, photons: float) -> dict[str, Any]:
    """The runs that are timed; no parameter of these is chosen on the truth of the table."""
    lam, of_tv = jnp.float32(WEIGHT / photons), TV_WEIGHT / photons**0.5 * mean_light(A)
    plain = nn.shipped_denoiser("grey")
    denoiser, tv = network(priors.MeanPreserving(plain, WIDTH)), tv_denoiser(A.in_structure.shape)
    return {
        "rPIE": lambda: rpie(A, ys, jnp.float32(0.5))[:, -1],
        "HQS, amplitudes": lambda: hqs(A, ys, None, lam, False),
        "HQS, counts": lambda: hqs(A, ys, None, lam, True),
        "HQS + TV, counts": lambda: hqs(A, ys, tv, of_tv, True),
        "HQS + denoiser, counts": lambda: hqs(A, ys, denoiser, lam, True),
        "HQS + denoiser, amplitudes": lambda: hqs(A, ys, denoiser, lam, False),
        "HQS + denoiser, counts, one level": lambda: hqs(A, ys, OneLevel(denoiser), lam, True),
        "HQS + denoiser, counts, means not kept": lambda: hqs(A, ys, network(plain), lam, True),
    }


def best_rpie(A: Any, ys: Array, x: Array) -> dict[str, Any]:
    """The alpha and the stop with the greatest PSNR: chosen on the truth."""
    runs = [psnrs(rpie(A, ys, jnp.float32(alpha)), x, A) for alpha in ALPHAS]
    i, k = np.unravel_index(np.argmax([r[0] for r in runs]), (len(ALPHAS), SWEEPS))
    return {
        "quality": float(runs[i][0][k]),
        "amplitude_psnr": float(runs[i][1][k]),
        "alpha": ALPHAS[i],
        "sweeps": int(k) + 1,
    }


def best_tv(A: Any, ys: Array, x: Array) -> dict[str, Any]:
    """The weight and the data term with the greatest PSNR: chosen on the truth."""
    denoiser, mean = tv_denoiser(x.shape), mean_light(A)
    found = []
    for counts in (False, True):
        for weight in TV_WEIGHTS:
            quality, amplitude = psnrs(hqs(A, ys, denoiser, weight * mean, counts), x, A)
            found.append(
                {"quality": float(quality), "amplitude_psnr": float(amplitude), "weight": weight, "counts": counts}
            )
    return max(found, key=lambda run: run["quality"])


def one_row(step: int, photons: float, draws: int, repeats: int) -> list[dict]:
    """All lines for one step and number of photons."""
    x, A, ys = scene(TEST, step, photons, draws)
    sizes = {"image": [SIZE, SIZE], "positions": A.shifts.shape[0], "draws": draws}
    case, unit = f"ptychography/step {step}, {photons:g} photons", "complex PSNR [dB]"
    nothing = {"seconds": None, "seconds_median": None, "cpu_seconds": None, "compile_seconds": None}
    chosen = {"rPIE, best on the truth": best_rpie(A, ys, x), "HQS + TV, best on the truth": best_tv(A, ys, x)}
    lines = [record(f"{case}/{name}", sizes, nothing, **run, quality_name=unit) for name, run in chosen.items()]
    best_rpie_run, best_tv_run = chosen.values()
    references = {"best_rpie": best_rpie_run["quality"], "best_tv": best_tv_run["quality"]}
    for name, run in methods(A, ys, photons).items():
        watch = Stopwatch(run)
        for _ in range(repeats):
            watch()
        quality, amplitude = (float(p) for p in psnrs(watch.result, x, A))
        if name in BASELINES:
            references[BASELINES[name]] = quality
        over = {f"over_{k}": quality - v for k, v in references.items()}
        bars = {"bar_over_rpie": BAR_RPIE_FEW if photons == 2 else BAR_RPIE, "bar_over_tv": BAR_TV}
        extra = {"amplitude_psnr": amplitude, **over, **(bars if name.startswith("HQS + denoiser") else {})}
        lines.append(record(f"{case}/{name}", sizes, watch.times(), quality, unit, **extra))
    return lines


def tune(draws: int) -> list[dict]:
    """Both weights on the other objects: the mean of their PSNR over objects and rows."""
    nothing = {"seconds": None, "seconds_median": None, "cpu_seconds": None, "compile_seconds": None}
    scenes = [(photons, *scene(names, step, photons, draws)) for step, photons in ROWS for names in OTHERS]
    learned = network(priors.MeanPreserving(nn.shipped_denoiser("grey"), WIDTH))
    tv = tv_denoiser(scenes[0][1].shape)
    lines = []
    for weight in (0.007, 0.01, 0.014, 0.02, 0.028):
        found = [psnrs(hqs(A, ys, learned, jnp.float32(weight / n), True), x, A)[0] for n, x, A, ys in scenes]
        lines.append(
            record(f"ptychography/choice of the weight/denoiser/{weight}", {"draws": draws}, nothing, *_mean(found))
        )
    for weight in (0.025, 0.035, 0.05, 0.07, 0.1):
        found = [psnrs(hqs(A, ys, tv, weight / n**0.5 * mean_light(A), True), x, A)[0] for n, x, A, ys in scenes]
        lines.append(record(f"ptychography/choice of the weight/TV/{weight}", {"draws": draws}, nothing, *_mean(found)))
    return lines


def _mean(found: list) -> tuple[float, str]:
    return float(np.mean(found)), "complex PSNR [dB]"


def main() -> None:
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument(
        "--tune", action="store_true", help="only choose the weight of the denoiser, on other objects"
    )
    args = arguments.parse_args()
    draws, repeats = (1, 1) if args.quick else (6, args.repeats or 1)
    if args.tune:
        emit(tune(draws))
        return
    emit([line for step, photons in ROWS for line in one_row(step, photons, draws, repeats)])


if __name__ == "__main__":
    main()
