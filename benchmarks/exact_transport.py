"""Exact transport: assignments against SciPy, POT and ott-jax; sliced distances against POT. float32 unless said."""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from harness import Peer, Stopwatch, against, emit, interleave, parser, peer_pythons, record, without

from invjax import ot


def _lines(mine: dict, peers: list[Peer], quality: str, as_good: Any) -> list[dict]:
    lines = []
    for peer in peers:
        if peer.missing:
            lines.append(without(mine, peer))
        for variant, facts in peer.facts.items():
            good = as_good(mine["quality"], facts[quality])
            lines.append(against(mine, peer, variant, facts[quality], ours_is_as_good=good))
    return lines


def assignments(args: Any, sizes: tuple[int, ...]) -> list[dict]:
    """The best permutation of random costs and of clouds in the plane, float64."""
    lines = []
    for n in sizes:
        r = np.random.default_rng(0)
        x, y = r.normal(size=(n, 2)), r.normal(size=(n, 2)) + 1
        for case, cost in (
            ("random costs", r.uniform(size=(n, n))),
            ("plane", np.sum((x[:, None] - y[None]) ** 2, -1)),
        ):
            problem = ot.Problem(jnp.asarray(cost))
            watch = Stopwatch(lambda p=problem: ot.assignment(p))
            peers = [
                Peer("here", "scipy_assignment.py", sys.executable, {"cost": cost}),
                Peer("POT", "pot_assignment.py", peer_pythons(args).get("pot"), {"cost": cost}),
            ]
            interleave({"assignment": watch}, peers, args.repeats or 5)
            rows, columns = scipy.optimize.linear_sum_assignment(cost)
            best = cost[rows, columns].mean()
            for facts in (facts for peer in peers for facts in peer.facts.values()):
                facts["error"] = facts["value"] / best - 1
            mine = record(
                f"assignment, {case}, n = {n}", {"n": n}, watch.times(), float(watch.result.transport_cost()) / best - 1,
                "relative error", dtype="float64",
                duality_gap=float(watch.result.duality_gap),
            )  # fmt: skip
            lines += _lines(mine, peers, "error", lambda mine, theirs: mine <= theirs + 1e-9)
            for peer in peers:
                peer.close()
    return lines


def _by_numpy(x: np.ndarray, y: np.ndarray, theta: np.ndarray) -> float:
    """SW_2 in float64."""
    u, v = (np.sort(theta.astype(float) @ z.astype(float).T) for z in (x, y))
    return float(np.sqrt(np.mean((u - v) ** 2)))


def sliced(args: Any, shapes: tuple[tuple[int, int, int], ...]) -> list[dict]:
    """SW_2 of clouds (n, d) by the same directions, against NumPy in float64."""
    lines = []
    for n, d, num in shapes:
        r = np.random.default_rng(1)
        x, y = (r.normal(size=(n, d)).astype(np.float32) + shift for shift in (0, np.float32(0.5)))
        theta = r.normal(size=(num, d)).astype(np.float32)
        theta /= np.linalg.norm(theta, axis=1, keepdims=True)
        given = [jnp.asarray(v) for v in (x, y, theta)]
        watch = Stopwatch(lambda g=given: ot.sliced_wasserstein(*g).distance)
        gradient = Stopwatch(lambda g=given: _gradient(*g))
        peer = Peer("POT", "pot_sliced.py", peer_pythons(args).get("pot"), {"x": x, "y": y, "directions": theta})
        interleave({"distance": watch, "gradient": gradient}, [peer], args.repeats or 5)
        exact = _by_numpy(x, y, theta)
        error = abs(float(watch.result) / exact - 1)
        for facts in peer.facts.values():
            facts["error"] = abs(facts["value"] / exact - 1)
        sizes = {"n": n, "d": d, "directions": num}
        case = f"sliced, n = {n}, d = {d}, {num} directions"
        mine = record(case, sizes, watch.times(), error, "relative error")
        lines += _lines(mine, [peer], "error", lambda mine, theirs: mine <= max(theirs, 1e-5))
        lines.append(record(f"{case}/gradient", sizes, gradient.times(), None, ""))
        peer.close()
    return lines


@jax.jit
def _gradient(x: Any, y: Any, theta: Any) -> Any:
    return jax.grad(lambda x: ot.sliced_wasserstein(x, y, theta).distance)(x)


def main() -> None:
    args = parser(__doc__.splitlines()[0]).parse_args()
    lines = sliced(args, ((500, 3, 50),) if args.quick else ((2000, 3, 100), (10_000, 10, 100), (100_000, 3, 50)))
    jax.config.update("jax_enable_x64", True)
    lines += assignments(args, (64,) if args.quick else (128, 512, 1024))
    emit(lines)


if __name__ == "__main__":
    main()
