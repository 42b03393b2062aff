"""A sweep over the weight of TV: 16 and 64 deblurrings of 128x128, 100 iterations of Chambolle-Pock each.

The same iteration everywhere (closed-form prox of the data term, Neumann differences, ``tau sigma |D|^2 = 1``): ours by
``invjax.sweep`` with several batch sizes, on one CPU device and on two (one per core); PyTorch written for this comparison, as a
loop over weights and as one batch; DeepInverse's Chambolle-Pock and its FISTA in a loop over some weights, scaled to all.
"""

from __future__ import annotations

import os

DEVICES = 2
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from harness import Peer, Stopwatch, against, emit, interleave, parser, peer_pythons, record, without  # noqa: E402
from jax.sharding import Mesh  # noqa: E402
from jaxtyping import Array  # noqa: E402
from peers.common import psnr  # noqa: E402
from problems import SIGMA, deblurring  # noqa: E402

from invjax import Likelihood, iterate, sweep  # noqa: E402
from invjax.priors import TV  # noqa: E402
from invjax.solvers import ChambollePock  # noqa: E402

SIZE, NUM_STEPS, TAU = 128, 100, 2.5
SAME_PSNR = 0.01


def deblur(weight: Array, f: Likelihood, start: Array) -> Array:
    """100 iterations for one weight, in the units of ``|A x - y|^2 / 2``."""
    g = TV(start.shape, weight / SIGMA**2)
    return iterate(ChambollePock(f, g, TAU * SIGMA**2), start, NUM_STEPS)[0].position


def stopwatches(weights: Array, f: Likelihood, start: Array, quick: bool) -> dict[tuple[int, int], Stopwatch]:
    """Ours for every (devices, batch size)."""
    mesh = Mesh(np.array(jax.devices()[:DEVICES]), ("point",))
    num = weights.shape[0]
    found = {}
    for devices in (1, DEVICES):
        for batch in (1, 4) if quick else (1, 2, 4, 8, num // devices):
            spread = mesh if devices > 1 else None
            found[devices, batch] = Stopwatch(
                lambda b=batch, m=spread: sweep(deblur, weights, f, start, batch_size=b, mesh=m)
            )
    return found


def one_count(num: int, pythons: dict[str, str], quick: bool, repeats: int) -> list[dict]:
    """All lines for one number of weights."""
    f, arrays = deblurring(SIZE)
    start = jnp.asarray(arrays["start"])[..., None]
    weights = jnp.logspace(-3.5, -1.5, num)
    problem = arrays | {"weights": np.asarray(weights), "tau": TAU, "num_steps": NUM_STEPS}
    peers = [Peer(name, f"{name}_sweep.py", pythons.get(name), problem, quick=quick) for name in ("torch", "deepinv")]
    ours = stopwatches(weights, f, start, quick)
    interleave({f"{d} {b}": s for (d, b), s in ours.items()}, peers, repeats)
    lines = []
    for (devices, batch), stopwatch in ours.items():
        psnrs = [psnr(x, arrays["clean"]) for x in np.asarray(stopwatch.result)]
        sizes = {"image": [SIZE, SIZE], "weights": num, "steps": NUM_STEPS, "batch_size": batch, "devices": devices}
        case = f"sweep/{num}/{devices} device{'s' * (devices > 1)}/batch {batch}"
        lines.append(record(case, sizes, stopwatch.times(), float(np.mean(psnrs)), "mean PSNR", psnrs=psnrs))
    best = min(lines, key=lambda line: line["seconds"])
    for peer in peers:
        lines += lines_of_peer(best, peer, num)
        peer.close()
    for line in lines:
        line.pop("psnrs")
    return lines


def lines_of_peer(best: dict, peer: Peer, num: int) -> list[dict]:
    """Our fastest line beside every variant; a variant that ran only some weights is scaled to all of them."""
    if peer.missing:
        return [without(best, peer)]
    lines = []
    for variant, facts in peer.facts.items():
        factor = num / len(facts["rows"])
        for times in (peer.seconds, peer.cpu_seconds):
            times[variant] = [factor * s for s in times[variant]]
        ours = np.mean([best["psnrs"][row] for row in facts["rows"]])
        theirs = float(np.mean(facts["psnrs"]))
        extra = {"peer_weights_run": len(facts["rows"]), "quality_on_these_weights": float(ours)}
        as_good = bool(ours >= theirs - SAME_PSNR)
        lines.append(against(best, peer, variant, theirs, ours_is_as_good=as_good, **extra))
    return lines


def main() -> None:
    args = parser(__doc__.splitlines()[0]).parse_args()
    repeats = args.repeats or (2 if args.quick else 5)
    lines = []
    for num in (16,) if args.quick else (16, 64):
        lines += one_count(num, peer_pythons(args), args.quick, repeats)
    emit(lines)


if __name__ == "__main__":
    main()
