"""Entropic transport of 50,000 points in bounded memory: cost blocks against ott-jax's and geomloss with KeOps; float32.

"blocks, started from 4,000" solves the problem of the first 4,000 points of both clouds, whose kernel is held, and starts from
the potential that this gives all points.
"""

from __future__ import annotations

import functools
import resource
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import Peer, Stopwatch, against, emit, parser, peer_pythons, record, without

from invjax import ot


def main() -> None:
    args = parser(__doc__.splitlines()[0]).parse_args()
    n, blur = (2000, 0.1) if args.quick else (50_000, 0.1)
    r = np.random.default_rng(0)
    x = r.uniform(size=(n, 3)).astype(np.float32)
    y = (0.5 + 0.3 * r.normal(size=(n, 3))).astype(np.float32)
    epsilon, tolerance = blur**2, 1e-2
    given = {"x": x, "y": y, "epsilon": epsilon, "tolerance": tolerance}

    @functools.partial(jax.jit, static_argnums=2)
    def solve(x: Any, y: Any, few: int | None) -> tuple[Any, Any, Any, Any]:
        init = None
        if few is not None:
            init = ot.sinkhorn(ot.between(x[:few], y[:few]), epsilon, atol=tolerance).T.potential(y)
        found = ot.sinkhorn(ot.between(x, y), epsilon, init=init, atol=tolerance)
        return found.value, found.marginal_error, found.status, found.num_steps

    clouds = jnp.asarray(x), jnp.asarray(y)
    ours = []
    for name, few in (("blocks", None), ("blocks, started from 4,000", min(4000, n // 4))):
        temporary = solve.lower(*clouds, few).compile().memory_analysis().temp_size_in_bytes
        watch = Stopwatch(functools.partial(solve, *clouds, few))
        watch()
        value, error, status, steps = (np.asarray(v) for v in watch.result)
        ours.append(record(
            f"{n} points/{name}", {"n": n, "d": 3}, watch.times(), float(error), "marginal error", value=float(value),
            status=int(status), num_steps=int(steps), temporary_bytes=int(temporary),
            peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        ))  # fmt: skip
    lines = []
    for peer in (
        Peer("ott-jax", "ott_large_transport.py", sys.executable, given),
        Peer("geomloss", "geomloss_large_transport.py", peer_pythons(args).get("geomloss"), given),
    ):
        if peer.missing:
            lines += [without(mine, peer) for mine in ours]
        for variant, facts in peer.facts.items():
            peer(variant)
            for mine in ours:
                good = mine["quality"] <= facts["error"] * 1.05
                lines.append(against(mine, peer, variant, facts["error"], ours_is_as_good=good, peer_facts=facts))
        peer.close()
    emit(lines)


if __name__ == "__main__":
    main()
