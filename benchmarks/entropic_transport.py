"""Entropic transport at eta = 1200 to a marginal error of 1e-9: sparse Newton and Sinkhorn, ott-jax and POT; float64."""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp
from harness import Peer, Stopwatch, against, emit, interleave, parser, peer_pythons, record, without
from transport_problems import ETA, densities, images, random_assignment

from invjax import ot

TOLERANCE = 1e-9


def error_of(coupling: Any) -> float:
    """L1 error of both marginals."""
    return float(coupling.marginal_error)


def main() -> None:
    args = parser(__doc__.splitlines()[0]).parse_args()
    jax.config.update("jax_enable_x64", True)
    n, size = (100, 14) if args.quick else (500, 28)
    cap, slow_cap = (2000, 2000) if args.quick else (20_000, 5000)  # of the iterations of every Sinkhorn, and of POT's
    cases = {
        **{f"random assignment, n = {k}": (random_assignment(k), 16) for k in ((n,) if args.quick else (200, 400, n))},
        f"images, L1, n = {size**2}": (images(1, size), 64),
        f"images, squared L2, n = {size**2}": (images(2, size), 64),
        f"densities on the line, n = {n}": (densities(n), 32),
    }
    lines = []
    for case, ((cost, a, b), kept) in cases.items():
        problem = ot.Problem(jnp.asarray(cost), jnp.asarray(a), jnp.asarray(b))

        def newton(problem: Any = problem, kept: int = kept) -> Any:
            return ot.sinkhorn_newton(problem, 1 / ETA, num_kept=kept, atol=TOLERANCE / 2, max_steps=300)

        def sinkhorn(problem: Any = problem) -> Any:
            return ot.sinkhorn(problem, 1 / ETA, atol=TOLERANCE / 2, max_steps=cap // 10)

        ours = {"sparse Newton": Stopwatch(newton), "Sinkhorn": Stopwatch(sinkhorn)}
        given = {"cost": cost, "a": a, "b": b, "epsilon": 1 / ETA, "tolerance": TOLERANCE, "cap": cap}
        pythons = peer_pythons(args)
        peers = [
            Peer("ott-jax", "ott_entropic_transport.py", sys.executable, given),
            Peer("POT", "pot_entropic_transport.py", pythons.get("pot"), given | {"cap": slow_cap}),
        ]
        interleave(ours, peers, args.repeats or (2 if args.quick else 3))
        sizes = {"rows": len(a), "columns": len(b), "kept": kept}
        for name, watch in ours.items():
            found = watch.result
            mine = record(
                f"{case}/{name}", sizes, watch.times(), error_of(found), "marginal error", dtype="float64",
                num_steps=int(found.num_steps), value=float(found.value),
            )  # fmt: skip
            for peer in peers:
                if peer.missing:
                    lines.append(without(mine, peer))
                for variant, facts in peer.facts.items():
                    as_good = error_of(found) <= max(facts["error"], 2 * TOLERANCE)
                    lines.append(
                        against(mine, peer, variant, facts["error"], ours_is_as_good=as_good, peer_facts=facts)
                    )
        for peer in peers:
            peer.close()
    emit(lines)


if __name__ == "__main__":
    main()
