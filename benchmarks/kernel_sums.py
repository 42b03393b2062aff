"""Kernel sums ``s_m = sum_n w_n K(x_n, y_m)`` of N = M points: over all pairs, and by slicing, float32.

Points are normal, weights uniform. All pairs: against KeOps and against blocks of matrix products in PyTorch. Slicing: against
simple_torch_NFFT with the same directions, so with the same slicing error (distance sets up to d = 100, orthogonal ones beyond).
Then from which N on slices are faster than all pairs, and a million points. The quality is ``sum |s - s_exact| / sum |s_exact|``
in float64 over the first thousand points. ``temp_bytes`` is what the compiled program allocates besides its arguments and result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import Peer, Stopwatch, against, emit, interleave, parser, peer_pythons, record, without
from kernel_problems import KERNELS, Clouds, exact_sums, gaussian_clouds
from peers.common import relative_l1

from invjax import kernels

QUALITY = "relative L1 error"
DENSE = ((10_000, (3, 10, 50, 784)), (100_000, (3,)))  # KeOps takes more than a minute for the larger ones
SLICED = ((10_000, (10, 50, 784)), (100_000, (10, 50, 784)))
CROSSOVER = (1000, 3000, 10_000, 40_000, 100_000)
SLICES = 160
FACTS = ("batch", "threads")
PARTS = ("dense", "sliced", "crossover", "large")


def drawn(num: int, dim: int) -> jax.Array:
    """The directions that everybody has."""
    kind = "distance" if dim <= 100 else "orthogonal"
    return kernels.directions(jax.random.key(0), kind, num, dim)


def planned(name: str, clouds: Clouds, xi: jax.Array, method: str) -> tuple[kernels.Plan | None, float]:
    """The plan of a method, and the seconds that it took; none for all pairs."""
    if method == "dense":
        return None, 0.0
    kernel, start = KERNELS[name](clouds.bandwidth), time.perf_counter()
    plan = kernels.plan(kernel, (clouds.x.shape, clouds.y.shape), clouds.radius, method=method, directions=xi)
    return jax.block_until_ready(plan), time.perf_counter() - start


def stopwatch(name: str, clouds: Clouds, plan: kernels.Plan | None) -> Stopwatch:
    """Times of one sum."""
    kernel, arrays = KERNELS[name](clouds.bandwidth), [jnp.asarray(a) for a in (clouds.x, clouds.y, clouds.w)]
    return Stopwatch(lambda: kernels.kernel_sum(kernel, *arrays, plan=plan))


def memory(name: str, shape: tuple[int, int], plan: kernels.Plan | None) -> dict[str, Any]:
    """Bytes of temporary arrays of the compiled program, and over those of its points."""
    points, weights = (jax.ShapeDtypeStruct(s, jnp.float32) for s in (shape, shape[:1]))
    program = jax.jit(lambda kernel, x, y, w, plan: kernels.kernel_sum(kernel, x, y, w, plan=plan))
    compiled = program.lower(KERNELS[name](1.0), points, points, weights, plan).compile()
    found = compiled.memory_analysis().temp_size_in_bytes
    return {"temp_bytes": found, "temp_over_points": found / (8 * shape[0] * shape[1])}


def line(case: str, clouds: Clouds, watch: Stopwatch, error: float | None, **facts: Any) -> dict:
    sizes = {"points": len(clouds.x), "dim": clouds.x.shape[1]}
    if "plan_seconds" in facts:
        sizes["slices"] = facts.pop("slices")
    return record(case, sizes, watch.times(), error, QUALITY, **facts)


def compared(mine: dict, name: str, peers: Iterable[Peer]) -> list[dict]:
    """Our line, and it again beside every variant of the peers for this kernel."""
    lines = [mine]
    for peer in peers:
        if peer.missing:
            lines.append(without(mine, peer))
        for variant, facts in peer.facts.items():
            if variant.startswith(name):
                # Rounding, or the same slicing error: a twentieth more is as good.
                as_good = mine["quality"] <= max(1.05 * facts["error"], 1e-6)
                extra = {f"peer_{fact}": facts[fact] for fact in FACTS if fact in facts}
                lines.append(against(mine, peer, variant, facts["error"], ours_is_as_good=as_good, **extra))
    return lines


def arrays_for_peers(clouds: Clouds, exact: dict[str, np.ndarray], **more: Any) -> dict[str, Any]:
    """What the scripts of the peers read."""
    given = {"x": clouds.x, "y": clouds.y, "w": clouds.w, "bandwidth": clouds.bandwidth}
    return given | {f"exact {name}": sums for name, sums in exact.items()} | more


def dense_lines(num: int, dim: int, pythons: dict[str, str], quick: bool, repeats: int) -> list[dict]:
    """All pairs."""
    clouds, names = gaussian_clouds(num, dim), ("gauss", "negative distance")
    exact = exact_sums(names, clouds)
    given = arrays_for_peers(clouds, exact)
    peers = [Peer(p, f"{p}_kernel_sums.py", pythons.get(p), given, quick=quick) for p in ("keops", "torch")]
    watches = {name: stopwatch(name, clouds, None) for name in names}
    interleave(watches, peers, repeats)
    lines = []
    for name, watch in watches.items():
        error = relative_l1(np.asarray(watch.result), exact[name])
        facts = memory(name, clouds.x.shape, None)
        mine = line(f"kernel sums/all pairs/N={num} d={dim}/{name}", clouds, watch, error, **facts)
        lines += compared(mine, name, peers)
    for peer in peers:
        peer.close()
    return lines


def sliced_lines(num: int, dim: int, pythons: dict[str, str], quick: bool, repeats: int) -> list[dict]:
    """Slices, at the same directions for all."""
    clouds, names = gaussian_clouds(num, dim), [name for name in KERNELS if name != "matern 3.5"]
    exact, xi = exact_sums(names, clouds), drawn(40 if quick else SLICES, dim)
    given = arrays_for_peers(clouds, exact, directions=np.asarray(xi, np.float32))
    peer = Peer("nfft", "nfft_kernel_sums.py", pythons.get("nfft"), given, quick=quick)
    cases = [(name, "grid") for name in names] + [("negative distance", "sort")] * (num <= 10_000)
    plans = {case: planned(case[0], clouds, xi, case[1]) for case in cases}
    watches = {case: stopwatch(case[0], clouds, plan) for case, (plan, _) in plans.items()}
    interleave({"/".join(case): watch for case, watch in watches.items()}, [peer], repeats)
    lines = []
    for (name, method), watch in watches.items():
        plan, seconds = plans[name, method]
        error = relative_l1(np.asarray(watch.result), exact[name])
        facts = memory(name, clouds.x.shape, plan) | {"slices": len(xi), "plan_seconds": seconds}
        case = f"kernel sums/{len(xi)} slices/N={num} d={dim}/{name}, {method}"
        mine = line(case, clouds, watch, error, **facts)
        lines += compared(mine, name, [peer] if method == "grid" else [])
    peer.close()
    return lines


def crossover_lines(name: str, counts: tuple[int, ...], num_slices: int, dim: int, repeats: int) -> list[dict]:
    """All pairs and slices of more and more points."""
    xi, found = drawn(num_slices, dim), {}
    for num in counts:
        clouds = gaussian_clouds(num, dim)
        exact = exact_sums([name], clouds)[name]
        plans = {method: planned(name, clouds, xi, method)[0] for method in ("dense", "grid")}
        watches = {method: stopwatch(name, clouds, plan) for method, plan in plans.items()}
        interleave(watches, [], repeats)
        for method, watch in watches.items():
            error = relative_l1(np.asarray(watch.result), exact)
            case = f"kernel sums/crossover {name}/N={num} d={dim}/{method}"
            found[num, method] = line(case, clouds, watch, error)
    ratios = [found[num, "grid"]["seconds"] / found[num, "dense"]["seconds"] for num in counts]
    facts = {"crossover_points": crossover(counts, ratios)}
    return [mine | (facts if method == "grid" else {}) for (_, method), mine in found.items()]


def crossover(counts: tuple[int, ...], ratios: list[float]) -> int | None:
    """Where a ratio of seconds falls to one, between two counts on logarithmic axes; none where it does not."""
    steps = zip(counts, counts[1:], ratios, ratios[1:], strict=False)
    for low, high, before, after in steps:
        if before > 1 >= after:
            part = np.log(before) / np.log(before / after)
            return round(low * float(high / low) ** float(part))
    return None


def large_lines(num: int, dim: int, repeats: int) -> list[dict]:
    """A million points by slices; and the memory of all pairs in high dimension, which is not timed."""
    lines, xi, clouds = [], drawn(SLICES, dim), gaussian_clouds(num, dim)
    names = ("gauss", "negative distance")
    exact = exact_sums(names, clouds)
    for name in names:
        plan, seconds = planned(name, clouds, xi, "grid")
        watch = stopwatch(name, clouds, plan)
        interleave({name: watch}, [], repeats)
        error = relative_l1(np.asarray(watch.result), exact[name])
        facts = memory(name, clouds.x.shape, plan) | {"slices": len(xi), "plan_seconds": seconds}
        case = f"kernel sums/{len(xi)} slices/N={num} d={dim}/{name}, grid"
        lines.append(line(case, clouds, watch, error, **facts))
    return lines


def dense_memory(num: int, dim: int) -> dict:
    """A line without times: what the program of all pairs allocates."""
    nothing = dict.fromkeys(("seconds", "seconds_median", "cpu_seconds", "compile_seconds"))
    case, sizes = f"kernel sums/memory of all pairs/N={num} d={dim}/gauss", {"points": num, "dim": dim}
    return record(case, sizes, nothing, None, QUALITY, **memory("gauss", (num, dim), None))


def jobs(parts: list[str], pythons: dict[str, str], quick: bool, repeats: int) -> list[Callable[[], list[dict]]]:
    """What to run, in order. Cases of many points have few repeats."""
    dense, sliced, counts = DENSE, SLICED, CROSSOVER
    if quick:
        dense, sliced, counts = ((2000, (3, 10)),), ((2000, (10,)),), (500, 2000)
    found: list[Callable[[], list[dict]]] = []
    for part, cases, lines_of, few in (("dense", dense, dense_lines, 1), ("sliced", sliced, sliced_lines, 2)):
        for num, dims in cases if part in parts else ():
            times = repeats if num <= 10_000 else min(repeats, few)
            found += [lambda f=lines_of, n=num, d=d, t=times: f(n, d, pythons, quick, t) for d in dims]
    if "crossover" in parts:
        names, num_slices = ("gauss", "negative distance"), 40 if quick else SLICES
        found += [lambda n=name: crossover_lines(n, counts, num_slices, 10, min(repeats, 3)) for name in names]
    if "large" in parts:
        found.append(lambda: [dense_memory(100_000, 784)])
        found += [] if quick else [lambda: large_lines(1_000_000, 10, min(repeats, 3))]
    return found


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    args = options.parse_args()
    jax.config.update("jax_enable_x64", False)
    repeats = args.repeats or (3 if args.quick else 7)
    for job in jobs(args.parts, peer_pythons(args), args.quick, repeats):
        emit(job())


if __name__ == "__main__":
    main()
