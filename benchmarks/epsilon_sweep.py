"""One problem at 32 regularisations: a sweep in one program against a loop of ott-jax, compiled once and as it comes; float32."""

from __future__ import annotations

import sys
from typing import Any

import jax.numpy as jnp
import numpy as np
from harness import Peer, Stopwatch, against, emit, interleave, parser, record

from invjax import ot, sweep

TOLERANCE = 1e-3  # the default of ott-jax


def solve(epsilon: Any, problem: Any) -> tuple[Any, Any, Any]:
    """One lane."""
    found = ot.sinkhorn(problem, epsilon, atol=TOLERANCE)
    return found.value, found.marginal_error, found.status


def main() -> None:
    args = parser(__doc__.splitlines()[0]).parse_args()
    n, lanes = (60, 8) if args.quick else (300, 32)
    r = np.random.default_rng(0)
    x, y = r.normal(size=(n, 2)), r.normal(size=(n, 2)) + 1
    squares = np.sum((x[:, None] - y[None]) ** 2, -1)
    lines = []
    for case, cost in (
        ("random costs", r.uniform(size=(n, n))),
        ("clouds in the plane", squares / squares.mean()),
    ):
        cost = cost.astype(np.float32)
        epsilons = np.geomspace(3e-3, 0.3, lanes).astype(np.float32)
        problem = ot.Problem(jnp.asarray(cost))
        ours = {
            f"batches of {size}": Stopwatch(lambda p=problem, e=epsilons, s=size: sweep(solve, e, p, batch_size=s))
            for size in (4, lanes)
        }
        given = {"cost": cost, "epsilons": epsilons, "tolerance": TOLERANCE}
        peer = Peer("ott-jax", "ott_epsilon_sweep.py", sys.executable, given)
        interleave(ours, [peer], args.repeats or (2 if args.quick else 5))
        for name, watch in ours.items():
            values, errors, status = (np.asarray(v) for v in watch.result)
            mine = record(
                f"{lanes} regularisations, {case}, n = {n}/{name}",
                {"n": n, "lanes": lanes},
                watch.times(),
                float(errors.max()),
                "worst marginal error",
                converged=int(np.sum(status == 0)),
            )
            for variant, facts in peer.facts.items():
                as_good = bool(errors.max() <= max(facts["error"], TOLERANCE)) and not status.any()
                # Dual values at the tolerance: they agree to it, times the size of the potentials.
                apart = float(np.max(np.abs(values - np.asarray(facts["values"]))))
                lines.append(
                    against(mine, peer, variant, facts["error"], ours_is_as_good=as_good, largest_difference=apart)
                )
        peer.close()
    emit(lines)


if __name__ == "__main__":
    main()
