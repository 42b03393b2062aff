"""Plug-and-play restoration with the shipped denoiser: eight problems, four photographs that it has not seen, beside TV.

    python benchmarks/restoration.py > restoration.jsonl

Each problem is solved by TV (weight by SURE, and the best weight, which needs the truth), by DPIR (lam 0.23, and lam by
SURE), by PnP-FISTA and PnP-ADMM, and by the posterior mean of the PnP-SK-ROCK of ``invjax restore`` with its 90 % intervals.
Every setting is one rule for all problems; they were tried on crops of photographs that are not among the four. The
plug-and-play methods start at the TV estimate with the weight by SURE, the sampler at that of DPIR. The quality is the mean
PSNR over the photographs, nothing clipped; seconds are those of all photographs, run once, spread over the processors. SURE
estimates the error of ``A x``: it does not see what A loses. The line ``prox`` has the relative residual of the data term's
prox, and its time beside that of the denoiser.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from harness import Stopwatch, emit, parser, record
from jax.sharding import Mesh
from jaxtyping import Array
from restoration_problems import PHOTOGRAPHS, PROBLEMS, Case, case, size_of

from invjax import iterate, metrics, priors, sample, solvers
from invjax.cli.learned import LearnedDenoiser
from invjax.likelihoods import Likelihood
from invjax.nn import shipped_denoiser
from invjax.operators.tomography import XRayTransform
from invjax.solvers import sure
from invjax.sweeps import sweep

TV_WEIGHTS, SPLITTING_STEPS, FISTA_STEPS = np.geomspace(2, 64, 11).astype(np.float32), 300, 150
"""With so many steps the PSNR of TV is within 0.01 dB of that of a longer run, at its best weights."""
LAM, LAMS = 0.23, np.array([0.115, 0.23, 0.46, 0.92], np.float32)
"""DPIR's weight in its paper, and those among which SURE chooses."""
SIGMAS = np.geomspace(49 / 255, 0.01, 24).astype(np.float32)
"""DPIR's levels: its largest and smallest, and the 24 steps of its super-resolution, for all problems."""
ADMM_LEVEL, NUM_STEPS = 5 / 255, 40
"""For PnP-ADMM the level; for it and PnP-FISTA the steps. Both have lam 1: the square of the level is the step."""
PROBE_SEED, CHAIN_SEED = 0, 1
SURE_TV, BEST_TV, DPIR, SAMPLER = "TV, weight by SURE", "TV, best weight", "DPIR, lam 0.23", "PnP-SK-ROCK, mean"


def tv_estimate(f: Likelihood, lam: Array) -> Array:
    """The MAP estimate, by splitting where the prox of f is closed form, else by FISTA."""
    zero = jnp.zeros(f.operator.in_structure.shape)
    prior = priors.TV(zero.shape, lam)
    if isinstance(f.operator, XRayTransform):
        return iterate(solvers.FISTA(f, prior, restart=True), zero, FISTA_STEPS)[0].position
    method = solvers.ChambollePock(f, prior, 0.05 / lam)  # 0.05 is a typical difference of neighbouring pixels
    return iterate(method, zero, SPLITTING_STEPS)[0].position


def dpir_estimate(start: Array, denoiser: Any, f: Likelihood, lam: Array) -> Array:
    """DPIR's image after its last level."""
    return iterate(solvers.DPIR(f, denoiser, SIGMAS, lam), start, len(SIGMAS))[0].position


def risks(problem: Any, y: Array, weights: np.ndarray, estimate: Callable[[Likelihood, Array], Array]) -> Array:
    """SURE of each weight, with the same probe."""

    def risk(lam: Array) -> Array:
        def reconstruct(y: Array) -> Array:
            return estimate(problem.likelihood(y), lam)

        return sure(jax.random.key(PROBE_SEED), reconstruct, problem.likelihood(y))

    return jax.lax.map(risk, jnp.asarray(weights))


def tv(point: dict, problem: Any, denoiser: Any) -> dict:
    """TV with both choices of its weight; all methods have these three arguments, and TV no use for the denoiser."""
    f = problem.likelihood(point["y"])
    images = jax.lax.map(functools.partial(tv_estimate, f), jnp.asarray(TV_WEIGHTS))
    quality = jax.vmap(metrics.psnr, (0, None))(images, point["clean"])
    chosen = {
        SURE_TV: jnp.argmin(risks(problem, point["y"], TV_WEIGHTS, tv_estimate)),
        BEST_TV: jnp.argmax(quality),
    }
    return {name: {"image": images[k], "weight": jnp.asarray(TV_WEIGHTS)[k]} for name, k in chosen.items()}


def dpir(point: dict, problem: Any, denoiser: Any) -> dict:
    """DPIR with the weight of its paper."""
    f = problem.likelihood(point["y"])
    return {DPIR: {"image": dpir_estimate(point["start"], denoiser, f, jnp.float32(LAM))}}


def dpir_by_sure(point: dict, problem: Any, denoiser: Any) -> dict:
    """DPIR with the weight of the smallest SURE, whose derivative leaves out that the start depends on y too."""
    estimate = functools.partial(dpir_estimate, point["start"], denoiser)
    lam = jnp.asarray(LAMS)[jnp.argmin(risks(problem, point["y"], LAMS, estimate))]
    return {"DPIR, lam by SURE": {"image": estimate(problem.likelihood(point["y"]), lam), "weight": lam}}


def pnp_fista(point: dict, problem: Any, denoiser: Any) -> dict:
    """FISTA with step 1 / L: its noise level is sigma / |A|."""
    method = solvers.FISTA(problem.likelihood(point["y"]), priors.PlugAndPlay(denoiser))
    return {"PnP-FISTA": {"image": iterate(method, point["start"], NUM_STEPS)[0].position}}


def pnp_admm(point: dict, problem: Any, denoiser: Any) -> dict:
    """ADMM at a fixed noise level."""
    method = solvers.ADMM(problem.likelihood(point["y"]), priors.PlugAndPlay(denoiser), ADMM_LEVEL**2)
    return {"PnP-ADMM": {"image": iterate(method, point["start"], NUM_STEPS)[0].position}}


def pnp_skrock(point: dict, problem: Any, denoiser: Any, *, num_samples: int, burn_in: int) -> dict:
    """Posterior mean, standard deviation and coverage of the intervals between the 5 % and 95 % quantiles of one chain."""
    f = problem.likelihood(point["y"])
    sampler, _, _ = LearnedDenoiser(f.lipschitz, denoiser).sampler("skrock", f, None, num_samples)
    # Burn-in is cut off here: as a phase of its own it would compile the network once more.
    out = sample(jax.random.key(CHAIN_SEED), sampler, point[DPIR], burn_in + num_samples)
    draws = out.collected[burn_in:]
    low, high = jnp.quantile(draws, jnp.array([0.05, 0.95]), axis=0)
    facts = {"coverage": metrics.coverage(point["clean"], low, high).fraction, "status": out.status}
    return {SAMPLER: {"image": draws.mean(0), "std": draws.std(0), **facts}}


def timed(method: Callable, points: dict, problem: Any, denoiser: Any, mesh: Mesh | None) -> tuple[dict, dict]:
    """Results of a method on all photographs, and its times with those of the compilation apart."""
    begin = time.perf_counter()
    program = eqx.filter_jit(functools.partial(sweep, method, batch_size=1, mesh=mesh))
    compiled = program.lower(points, problem, denoiser).compile()
    start, cpu = time.perf_counter(), time.process_time()
    results = jax.block_until_ready(compiled(points, problem, denoiser))
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    times = {
        "seconds": seconds,
        "seconds_median": seconds,
        "cpu_seconds": cpu_seconds,
        "compile_seconds": start - begin,
    }
    return results, times


def line_of(name: str, method: str, result: dict, clean: Array, times: dict) -> dict:
    """One line: means over the photographs, and the values of each."""
    values = {
        "psnr": jax.vmap(metrics.psnr)(result["image"], clean),
        "ssim": jax.vmap(metrics.ssim)(result["image"], clean),
        **{k: v for k, v in result.items() if k not in ("image", "std")},
    }
    facts = {f"{k}_per_image": np.asarray(v).round(4).tolist() for k, v in values.items()}
    facts |= {k: float(np.mean(values[k])) for k in ("ssim", "coverage") if k in values}
    if "std" in result:
        facts["mean_std"] = float(jnp.mean(result["std"]))
    sizes = {"image": list(clean.shape[1:3]), "images": len(clean)}
    return record(f"restoration/{name}/{method}", sizes, times, float(values["psnr"].mean()), "mean PSNR", **facts)


def prox_line(name: str, data: Case, denoiser: Any) -> dict:
    """How exactly the prox of the data term solves its equation at DPIR's largest step, and its time beside the denoiser's."""
    f, x = data.problem.likelihood(data.measured[0]), jnp.full_like(data.clean[0], 0.5)
    step = SIGMAS[0] ** 2 / LAM
    z, times = _seconds(eqx.filter_jit(lambda f, x: f.prox(x, step)), f, x)
    _, of_denoiser = _seconds(eqx.filter_jit(lambda D, x: D(x, SIGMAS[0])), denoiser, x)
    residual = jnp.linalg.norm(z - x + step * f.grad(z)) / jnp.linalg.norm(step * f.grad(x))
    facts = {"denoiser_seconds": of_denoiser["seconds"]}
    sizes = {"image": list(x.shape[:2])}
    return record(f"restoration/{name}/prox", sizes, times, float(residual), "relative residual", **facts)


def _seconds(fn: Callable, *args: Any) -> tuple[Any, dict]:
    watch = Stopwatch(lambda: fn(*args))
    for _ in range(3):
        watch()
    return watch.result, watch.times()


def summary(lines: list[dict]) -> list[dict]:
    """Mean PSNR of each method over the problems, and by how much it is above TV with the best weight."""
    table: dict[str, dict[str, float]] = {}
    for line in lines:
        _, name, method = line["case"].split("/")
        if method == "prox":
            continue
        table.setdefault(method, {})[name] = line["quality"]
    out = []
    for method, quality in table.items():
        leads = {name: quality[name] - table[BEST_TV][name] for name in quality}
        facts = {"lead_over_best_tv": leads, "mean_lead_over_best_tv": float(np.mean(list(leads.values())))}
        times = {"seconds": None, "seconds_median": None, "cpu_seconds": None, "compile_seconds": None}
        case_name = f"restoration/mean over the problems/{method}"
        out.append(
            record(
                case_name,
                {"problems": len(quality)},
                times,
                float(np.mean(list(quality.values()))),
                "mean PSNR",
                **facts,
            )
        )
    return out


def one_problem(name: str, size: int, photographs: tuple[str, ...], methods: tuple, denoiser: Any) -> tuple[list, dict]:
    """All lines of one problem, and the images of every method."""
    data = case(name, size, photographs)
    use = max(d for d in range(1, len(jax.devices()) + 1) if len(photographs) % d == 0)
    mesh = Mesh(np.array(jax.devices()[:use]), ("images",)) if use > 1 else None
    points = {"clean": data.clean, "y": data.measured}
    lines, found = [], {"clean": {"image": data.clean}}
    for method in methods:
        results, times = timed(method, points, data.problem, denoiser, mesh)
        found |= results
        lines += [line_of(name, k, result, data.clean, times) for k, result in results.items()]
        points["start"] = found[SURE_TV]["image"]
        if DPIR in found:
            points[DPIR] = found[DPIR]["image"]
    return [*lines, prox_line(name, data, denoiser)], found


def picture(path: str, found: dict[str, dict]) -> None:
    """The first photograph in every problem: clean, TV at its best, DPIR, posterior mean and standard deviation."""
    from matplotlib import pyplot as plt

    columns = [("clean", "image"), (BEST_TV, "image"), (DPIR, "image"), (SAMPLER, "image"), (SAMPLER, "std")]
    figure, axes = plt.subplots(len(found), 5, figsize=(15, 3 * len(found)), squeeze=False, layout="constrained")
    for row, (name, results) in zip(axes, found.items(), strict=True):
        for ax, (method, kind) in zip(row, columns, strict=True):
            scale = {"vmin": 0, "vmax": 1} if kind == "image" else {}
            ax.imshow(results[method][kind][0, ..., 0], cmap="gray" if kind == "image" else "viridis", **scale)
            ax.set(title=f"{method}: {kind}", xticks=[], yticks=[])
        row[0].set_ylabel(name)
    figure.savefig(path, dpi=80)


def arguments() -> argparse.Namespace:
    """The command line: what all scripts have, and parts of the table."""
    result = parser(__doc__.splitlines()[0])
    result.add_argument("--size", type=int, default=256, help="side of the images, a multiple of 8 (tomography: half)")
    result.add_argument("--photographs", nargs="+", default=PHOTOGRAPHS, choices=PHOTOGRAPHS)
    result.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS), metavar="PROBLEM")
    result.add_argument("--samples", type=int, default=50, help="of the chain, after a fifth as many of burn-in")
    result.add_argument("--picture", help="file for a picture of the first photograph in every problem")
    args = result.parse_args()
    if args.quick:
        args.size, args.photographs, args.problems, args.samples = 64, PHOTOGRAPHS[:1], list(PROBLEMS)[4:6], 10
    return args


def main() -> None:
    args = arguments()
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)  # XLA's convolutions use one thread of a device
    denoiser = shipped_denoiser("grey")
    sampler = functools.partial(pnp_skrock, num_samples=args.samples, burn_in=args.samples // 5)
    methods = (tv, dpir, dpir_by_sure, pnp_fista, pnp_admm, sampler)
    lines, found = [], {}
    for name in args.problems:
        new, found[name] = one_problem(name, size_of(name, args.size), tuple(args.photographs), methods, denoiser)
        emit(new)
        lines += new
    emit(summary(lines))
    if args.picture:
        picture(args.picture, found)


if __name__ == "__main__":
    main()
