"""Time of blurs, downsampling and resizing of a colour image, forward and adjoint, and whether the results agree.

Circular and valid blurs with kernels of 13x13 and 31x31, downsampling by 4 with a bicubic kernel, antialiased resizing by 4, a
space-varying blur of 8 kernels and one of 8x8 tiles. One run applies the operator 10 times. The quality is the largest
difference from the float64 result over its largest value; where it is below 1e-5 for both, results count as equal.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from harness import Peer, Stopwatch, against, emit, interleave, parser, peer_pythons, record, without

from invjax import operators as ops

TIMES, FACTOR, TILES, OVERLAP = 10, 4, 8, 16
KERNEL_SIZES = (13, 31)
ROUNDING = 1e-5


def arrays(size: int) -> dict[str, Any]:
    """The image, kernels and weights."""
    r = np.random.default_rng(0)

    def kernels(*shape: int) -> np.ndarray:
        k = r.uniform(size=shape)
        return (k / k.sum((-2, -1), keepdims=True)).astype(np.float32)

    weights = r.uniform(size=(8, size, size, 1))
    found = {
        "x": r.uniform(size=(size, size, 3)).astype(np.float32),
        "downsampling kernel": np.asarray(ops.antialias_kernel("bicubic", FACTOR), np.float32),
        "kernels": kernels(8, 31, 31),
        "weights": (weights / weights.sum(0)).astype(np.float32),
        "tile kernel": kernels(31, 31),
        "stride": -(-(size - OVERLAP) // TILES),
    }
    facts = {"times": TIMES, "factor": FACTOR, "tiles": TILES, "overlap": OVERLAP, "kernel_sizes": KERNEL_SIZES}
    return found | {f"kernel {n}": kernels(n, n) for n in KERNEL_SIZES} | facts


def operators(a: dict[str, Any]) -> dict[str, ops.LinearOperator]:
    """Every operator by the name of its case."""
    shape = a["x"].shape
    found: dict[str, ops.LinearOperator] = {}
    for n in KERNEL_SIZES:
        found[f"circular {n}"] = ops.Blur(a[f"kernel {n}"], shape)
        found[f"valid {n}"] = ops.Blur(a[f"kernel {n}"], shape, "valid")
    found["downsampling"] = ops.downsampling(shape, FACTOR, a["downsampling kernel"])
    found["resize"] = ops.Resize(shape, (shape[0] // FACTOR, shape[1] // FACTOR))
    found["space-varying"] = ops.SpaceVaryingBlur(a["kernels"], a["weights"], shape, "valid")
    tiles = np.broadcast_to(a["tile kernel"], (TILES, TILES, *a["tile kernel"].shape))
    found["tiled"] = ops.TiledBlur(tiles, shape, OVERLAP)
    return found


def references(a: dict[str, Any]) -> dict[str, np.ndarray]:
    """Results of all operators in float64; the adjoint is that of the forward result, rounded to float32."""
    found = {}
    with jax.enable_x64(True):
        wide = {k: v.astype(np.float64) if isinstance(v, np.ndarray) else v for k, v in a.items()}
        for name, A in operators(wide).items():
            forward = np.asarray(A(wide["x"]), np.float32)
            adjoint = A.H(forward.astype(np.float64))
            found |= {f"{name} forward": forward, f"{name} adjoint": np.asarray(adjoint, np.float32)}
    return found


@eqx.filter_jit
def forward(A: ops.LinearOperator, x: jax.Array) -> jax.Array:
    return A(x)


@eqx.filter_jit
def adjoint(A: ops.LinearOperator, y: jax.Array) -> jax.Array:
    return A.H(y)


def repeated(apply: Any, A: ops.LinearOperator, x: jax.Array) -> jax.Array:
    """One run."""
    for _ in range(TIMES):
        result = jax.block_until_ready(apply(A, x))
    return result


def main() -> None:
    args = parser(__doc__.splitlines()[0]).parse_args()
    size = 256 if args.quick else 512
    repeats = args.repeats or (3 if args.quick else 7)
    problem = arrays(size)
    exact = references(problem)
    ours = {}
    for name, A in operators(problem).items():
        for apply, start in ((forward, problem["x"]), (adjoint, exact[f"{name} forward"])):
            case = f"{name} {apply.__name__}"
            ours[case] = Stopwatch(lambda f=apply, A=A, x=jnp.asarray(start): repeated(f, A, x))
    peer = Peer("deepinv", "deepinv_blur.py", peer_pythons(args).get("deepinv"), problem | exact, quick=args.quick)
    interleave(ours, [peer], repeats)
    lines = []
    for case, stopwatch in ours.items():
        quality = float(np.abs(stopwatch.result - exact[case]).max() / np.abs(exact[case]).max())
        sizes = {"image": [size, size, 3], "applications": TIMES}
        lines.append(record(f"blur/{size}/{case}", sizes, stopwatch.times(), quality, "relative difference"))
    emit(lines + comparisons(lines, list(ours), peer))
    peer.close()


def comparisons(lines: list[dict], cases: list[str], peer: Peer) -> list[dict]:
    """Each of our cases beside the peer's variants of it."""
    if peer.missing:
        return [without(line, peer) for line in lines]
    found = []
    for line, case in zip(lines, cases, strict=True):
        name, direction = case.rsplit(" ", 1)
        for variant, facts in peer.facts.items():
            if variant.split(";")[0].removesuffix(f" {direction}") == name and variant.endswith(direction):
                theirs = facts["difference"]
                as_good = line["quality"] <= max(ROUNDING, theirs if theirs is not None else 0)
                found.append(against(line, peer, variant, theirs, ours_is_as_good=as_good))
    return found


if __name__ == "__main__":
    main()
