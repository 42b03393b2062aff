"""A loss between clouds of 2562 points and its gradient: sliced, energy-based sliced, and Sinkhorn with 200 iterations; float32.

    python benchmarks/sliced_against_sinkhorn.py

The clouds are points of the unit sphere and of a copy with bumps, in no common order (d = 3), and 128 features of them,
cosines of random frequencies, scaled to norm one. Squared distances, epsilon = 0.05; Sinkhorn does its 200 iterations whether it
has converged or not (``marginal_error``), ours and ott-jax's. The quality is the value of the loss; ``cheaper`` is the seconds of
our Sinkhorn over those of the line, ``cheaper_cpu`` that of processor time, ``cheaper_than_peer`` that of ott-jax's seconds. The
bars: ten times cheaper than both, and an energy-based distance that is not below the sliced one of the same directions
(Chebyshev's inequality). The losses are those of Le, Nguyen, Sun, Ho and Xie (2024), CVPR.
"""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import Peer, Stopwatch, against, emit, interleave, parser, record, without

from invjax import kernels, ot

EPSILON, ITERATIONS, PER_STEP, FEATURES = 0.05, 200, 10, 128
FACTOR = 10.0


def sphere(num: int) -> np.ndarray:
    """Points spread evenly over the unit sphere, on a spiral."""
    i = np.arange(num) + 0.5
    height, angle = 1 - 2 * i / num, np.pi * (1 + 5**0.5) * i
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], 1)


def clouds(num: int, dim: int) -> tuple[jax.Array, jax.Array]:
    """The sphere and its copy with bumps, or features of both."""
    r = np.random.default_rng(0)
    x = sphere(num)
    bumps = 0.3 * np.exp(4 * (x @ np.array([[0.6, 0.0, 0.8], [-0.8, 0.6, 0.0]]).T - 1))
    y = (x * (1 + bumps.sum(1, keepdims=True)))[r.permutation(num)]
    if dim != 3:
        frequencies, phases = 2 * r.normal(size=(3, dim)), 2 * np.pi * r.uniform(size=dim)
        x, y = (np.cos(v @ frequencies + phases) for v in (x, y))
        x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)


@jax.jit
def sliced(x: jax.Array, y: jax.Array, directions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``SW_2^2`` and its gradient."""
    return jax.value_and_grad(lambda x: ot.sliced_wasserstein(x, y, directions).cost)(x)


@jax.jit
def energy_based(x: jax.Array, y: jax.Array, directions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The energy-based mean of the same costs, and its gradient."""
    return jax.value_and_grad(lambda x: ot.sliced_wasserstein(x, y, directions, energy_based=True).cost)(x)


@jax.jit
def entropic(x: jax.Array, y: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """The regularised cost with the marginal error, and its gradient."""

    def loss(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = ot.sinkhorn(ot.between(x, y), EPSILON, atol=0.0, max_steps=ITERATIONS // PER_STEP)
        return found.value, found.marginal_error

    return jax.value_and_grad(loss, has_aux=True)(x)


def lines_of(num: int, dim: int, counts: tuple[int, ...], repeats: int) -> list[dict]:
    """All losses of one pair of clouds."""
    x, y = clouds(num, dim)
    runs: dict[str, Any] = {"Sinkhorn": lambda: entropic(x, y)}
    for count in counts:
        directions = kernels.directions(jax.random.key(0), "orthogonal", count, dim)
        runs[f"sliced, {count} directions"] = lambda d=directions: sliced(x, y, d)
        runs[f"energy-based, {count} directions"] = lambda d=directions: energy_based(x, y, d)
    watches = {name: Stopwatch(run) for name, run in runs.items()}
    given = {"x": np.asarray(x), "y": np.asarray(y), "epsilon": EPSILON, "iterations": ITERATIONS}
    peer = Peer("ott-jax", "ott_fixed_sinkhorn.py", sys.executable, given)
    interleave(watches, [peer], repeats)
    (value, error), _ = watches["Sinkhorn"].result
    sizes: dict[str, Any] = {"points": num, "d": dim}
    case, slowest = f"n = {num}, d = {dim}", watches["Sinkhorn"].times()
    mine = record(f"{case}/Sinkhorn", sizes, slowest, float(value), "loss", marginal_error=float(error))
    lines = [without(mine, peer)] if peer.missing else []
    for variant, facts in peer.facts.items():
        # The same iterations from the same start would give the same value: ours go through larger regularisations first.
        as_good = float(error) <= facts["error"]
        lines.append(against(mine, peer, variant, facts["value"], ours_is_as_good=as_good, peer_error=facts["error"]))
    theirs = [min(times) for times in peer.seconds.values()]
    for name, watch in list(watches.items())[1:]:
        times, loss = watch.times(), float(watch.result[0])
        cheaper = {
            "cheaper": slowest["seconds"] / times["seconds"],
            "cheaper_cpu": slowest["cpu_seconds"] / times["cpu_seconds"],
            "cheaper_than_peer": theirs[0] / times["seconds"] if theirs else None,
        }
        bars = {"ten times cheaper": cheaper["cheaper"] >= FACTOR}
        if theirs:
            bars["ten times cheaper than ott-jax"] = cheaper["cheaper_than_peer"] >= FACTOR
        if name.startswith("energy"):
            plain = float(watches[name.replace("energy-based", "sliced")].result[0])
            bars["not below sliced"] = loss >= plain * (1 - 1e-5)
        lines.append(record(f"{case}/{name}", sizes, times, loss, "loss", **cheaper, bars=bars))
    peer.close()
    return lines


def main() -> None:
    args = parser(__doc__.splitlines()[0]).parse_args()
    num, counts = (642, (100,)) if args.quick else (2562, (100, 200))
    lines = []
    for dim in (3, FEATURES):
        lines += lines_of(num, dim, counts, args.repeats or (2 if args.quick else 5))
    emit(lines)


if __name__ == "__main__":
    main()
