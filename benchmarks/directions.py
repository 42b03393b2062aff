"""Sets of directions for slicing: their gap on the sphere, the seconds to make them, and the error of sliced kernel sums.

    python benchmarks/directions.py --fashion-mnist FOLDER

The gap (``kernels.sphere_gap``, float64) stands beside that of the published distance sets of Hertrich, Jahn and Quellmalz (2025,
arXiv 2410.01316). Sets are made from scratch, with an empty cache: "compile" is mostly that. Errors, ``sum |s - s_exact| / sum
|s_exact|`` in float64 over the first thousand points, are means of ten draws: Fashion-MNIST by its first 30 principal components,
and normal points in ten dimensions; P slices beside random Fourier features of P and 2 P frequencies, each a cosine and a sine.
FOLDER holds the files of the Debian package dataset-fashion-mnist; without them that part is left out.
"""

from __future__ import annotations

import functools
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from harness import Stopwatch, emit, parser, record
from kernel_problems import DATASETS, KERNELS, Clouds, exact_sums, fashion_clouds, gaussian_clouds
from peers.common import relative_l1

from invjax import kernels

KINDS = ("distance", "sobol", "orthogonal", "iid")
PUBLISHED = {
    (3, 20): 6.476e-3,
    (3, 160): 2.811e-4,
    (3, 640): 3.513e-5,
    (10, 20): 2.055e-2,
    (10, 160): 1.834e-3,
    (10, 640): 3.777e-4,
    (50, 20): 3.422e-2,
    (50, 160): 2.867e-3,
    (50, 640): 6.808e-4,
}
"""Gaps of the published distance sets: (dim, num) to the gap."""
DEGREES = {"gauss": None, "matern 3.5": 7, "matern 1.5": 3, "laplace": 1}
"""Of freedom of the t law of the frequencies; the normal law for a Gaussian."""


def gap_lines(dims: Iterable[int], counts: Iterable[int], draws: int) -> list[dict]:
    """Gaps: the mean of some draws, one for distance sets, whose gap no rotation changes."""
    lines, keys = [], jax.random.split(jax.random.key(0), draws)
    for dim, num, kind in ((d, n, k) for d in dims for n in counts for k in KINDS):
        watch = Stopwatch(functools.partial(kernels.directions, keys[0], kind, num, dim))
        found = []
        for key in keys if kind != "distance" else keys[:2]:
            watch.run = functools.partial(kernels.directions, key, kind, num, dim)
            watch()
            found.append(float(kernels.sphere_gap(watch.result)))
        gap, facts = float(np.mean(found)), {"first_seconds": watch.first}
        if kind == "distance":
            facts |= {"published": PUBLISHED[dim, num], "over_published": gap / PUBLISHED[dim, num]}
        sizes = {"directions": num, "dim": dim}
        lines.append(
            record(f"directions/gap d={dim} P={num}/{kind}", sizes, watch.times(), gap, "gap", dtype="float64", **facts)
        )
    return lines


def frequencies(key: jax.Array, name: str, num: int, dim: int, bandwidth: float) -> jax.Array:
    """Those of random Fourier features ``(num, dim)``: normal for a Gaussian, of a multivariate t law for Matern kernels."""
    of_normal, of_chi = jax.random.split(key)
    normal, degrees = jax.random.normal(of_normal, (num, dim)) / bandwidth, DEGREES[name]
    if degrees is None:
        return normal
    return normal * jnp.sqrt(degrees / jax.random.chisquare(of_chi, degrees, (num,)))[:, None]


@jax.jit
def feature_sum(omega: jax.Array, x: jax.Array, y: jax.Array, w: jax.Array) -> jax.Array:
    """``mean_k sum_n w_n cos <omega_k, x_n - y_m>``."""
    of_x, of_y = x @ omega.T, y @ omega.T
    return (jnp.cos(of_y) @ (w @ jnp.cos(of_x)) + jnp.sin(of_y) @ (w @ jnp.sin(of_x))) / omega.shape[0]


def methods(name: str, num: int, clouds: Clouds, keys: jax.Array) -> dict[str, tuple[Callable, list]]:
    """Every method: a function of a draw, and its draws."""
    dim, kernel = clouds.x.shape[1], KERNELS[name](clouds.bandwidth)
    x, y, w = (jnp.asarray(a) for a in (clouds.x, clouds.y, clouds.w))
    found: dict[str, tuple[Callable, list]] = {}
    plan = None
    for kind in KINDS:
        sets = [kernels.directions(key, kind, num, dim) for key in keys]
        if plan is None:
            plan = kernels.plan(kernel, (x.shape, y.shape), clouds.radius, method="grid", directions=sets[0])
        plans = [eqx.tree_at(lambda p: p.directions, plan, xi) for xi in sets]
        found[kind] = (lambda p: kernels.kernel_sum(kernel, x, y, w, plan=p)), plans
    for label, count in {"P frequencies": num, "2P frequencies": 2 * num}.items() if name in DEGREES else ():
        features = [frequencies(key, name, count, dim, clouds.bandwidth) for key in keys]
        found[label] = (lambda omega: feature_sum(omega, x, y, w)), features
    return found


def measured(total: Callable, draws: list, exact: np.ndarray) -> tuple[dict[str, float], list[float]]:
    """Times of a sum and the error of every draw; the first draw is also the warm-up."""
    watch, errors = Stopwatch(functools.partial(total, draws[0])), []
    for draw in draws:
        watch.run = functools.partial(total, draw)
        watch()
        errors.append(relative_l1(np.asarray(watch.result), exact))
    return watch.times(), errors


def error_lines(problem: str, clouds: Clouds, names: Iterable[str], counts: Iterable[int], draws: int) -> list[dict]:
    """Errors of all methods for some kernels and numbers of slices."""
    lines, keys, names = [], jax.random.split(jax.random.key(1), draws), list(names)
    exact = exact_sums(names, clouds)
    for name, num in ((n, c) for n in names for c in counts):
        tried = {m: measured(*how, exact[name]) for m, how in methods(name, num, clouds, keys).items()}
        means = {method: float(np.mean(errors)) for method, (_, errors) in tried.items()}
        verdict = {f"{m}_over_distance": means[m] / means["distance"] for m in KINDS[1:]} | {
            "order_holds": in_order(means)
        }
        if "2P frequencies" in means:
            verdict["frequencies_over_iid"] = means["2P frequencies"] / means["iid"]
        sizes = {"points": len(clouds.x), "dim": clouds.x.shape[1], "slices": num, "draws": draws}
        for method, (times, errors) in tried.items():
            facts: dict[str, Any] = {"standard_error": float(np.std(errors, ddof=1) / np.sqrt(draws))}
            facts |= verdict if method == "distance" else {}
            case = f"directions/{problem} P={num} {name}/{method}"
            lines.append(record(case, sizes, times, means[method], "relative L1 error", **facts))
    return lines


def in_order(means: dict[str, float]) -> bool:
    """Distance sets below Sobol and orthogonal ones, and both below independent directions."""
    between = [means["sobol"], means["orthogonal"]]
    return means["distance"] < min(between) and max(between) < means["iid"]


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--fashion-mnist", type=pathlib.Path, default=DATASETS, metavar="FOLDER")
    args = options.parse_args()
    jax.config.update("jax_enable_x64", False)
    points, draws = (2000, 3) if args.quick else (10_000, args.repeats or 10)
    dims, counts = ((3, 10), (20, 160)) if args.quick else ((3, 10, 50), (20, 160, 640))
    slices = (40,) if args.quick else (40, 160, 640)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["INVJAX_CACHE"] = cache
        with jax.enable_x64(True):
            emit(gap_lines(dims, counts, draws))
        emit(error_lines(f"normal d=10 N={points}", gaussian_clouds(points, 10), KERNELS, (160,), draws))
        try:
            clouds = fashion_clouds(args.fashion_mnist, points, 30)
        except FileNotFoundError as missing:
            print(f"{missing}; without it that part is left out", file=sys.stderr)
        else:
            emit(error_lines(f"fashion d=30 N={points}", clouds, KERNELS, slices, draws))


if __name__ == "__main__":
    main()
