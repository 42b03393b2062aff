"""Projection and its adjoint: Shepp-Logan by parallel and fan beams at 256x256 and 512x512, and 128x128x128 in three dimensions.

Forward: time, and relative L2 error against the exact line integrals. Adjoint: time, and the mismatch
``|<A u, v> - <u, B v>| / |<A u, v>|`` in float64 of what float32 gave, root mean square over pairs; below 5e-6 it is rounding.
ASTRA's projectors on a CPU are two-dimensional, so the volumes have no peer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import Peer, Stopwatch, against, emit, interleave, parser, peer_pythons, record, without
from peers.common import mismatch, relative_error

from invjax.data import shepp_logan, shepp_logan_3d, shepp_logan_line_integrals
from invjax.operators import XRayTransform, cone_beam, fan_beam, parallel_beam

PAIRS = 4
ROUNDING = 5e-6


def forward(A: XRayTransform, x: jax.Array) -> jax.Array:
    return A(x)


def adjoint(A: XRayTransform, y: jax.Array) -> jax.Array:
    return A.H(y)


def planar(size: int, num: int, source: float | None) -> tuple[XRayTransform, dict[str, Any]]:
    """A parallel beam over a half turn, or a fan over a whole one, and the problem for the peers (lengths in pixels)."""
    angles = np.arange(num) * np.pi / num
    if source is None:
        A = parallel_beam(angles.astype(np.float32), (size, size, 1), size, pixel_size=2 / size)
    else:
        angles, distances = 2 * angles, {"source_distance": source, "detector_distance": source / 2}
        A = fan_beam(angles.astype(np.float32), (size, size, 1), size * 5 // 4, pixel_size=2 / size, **distances)
    r = np.random.default_rng(0)
    points, directions = (np.asarray(a) for a in A.rays())
    arrays = {
        "clean": np.asarray(shepp_logan(size, supersample=8))[..., 0],
        "angles": angles,
        "exact": np.asarray(shepp_logan_line_integrals(points, directions))[..., 0] * size / 2,
        "source_distance": np.array(0 if source is None else source * size / 2),
        "u": r.normal(size=(PAIRS, size, size)).astype(np.float32),
        "v": r.normal(size=(PAIRS, *A.out_structure.shape[:-1])).astype(np.float32),
    }
    if source is None:  # scikit-image turns about the centre of the pixel size // 2, and counts detectors from there
        u = np.stack([np.cos(angles), np.sin(angles)], -1)[:, None]
        moved = points + (np.array([1, -1]) - u) * (0.5 * (size % 2 == 0) * 2 / size)
        arrays["exact_about_pixel"] = np.asarray(shepp_logan_line_integrals(moved, directions))[..., 0] * size / 2
    return A, arrays


def memory(fn: Callable, *arguments: Any) -> float:
    """Temporary memory of the compiled program in MiB, beyond its input and output."""
    return jax.jit(fn).lower(*arguments).compile().memory_analysis().temp_size_in_bytes / 2**20


def measured(A: XRayTransform, x: jax.Array, y: jax.Array) -> tuple[dict[str, Stopwatch], dict[str, float]]:
    """Stopwatches of both directions, and their memory."""
    tasks = {"forward": (forward, x), "adjoint": (adjoint, y)}
    watches = {}
    for name, (fn, value) in tasks.items():
        compiled = jax.jit(fn)
        watches[name] = Stopwatch(lambda f=compiled, v=value: f(A, v))
    return watches, {name: memory(fn, A, value) for name, (fn, value) in tasks.items()}


def ours_mismatch(A: XRayTransform, us: np.ndarray, vs: np.ndarray) -> float:
    """Of the pairs ``us, vs``, each with a channel."""
    run = {name: jax.jit(fn) for name, fn in (("forward", forward), ("adjoint", adjoint))}
    return mismatch(lambda u: np.asarray(run["forward"](A, u)), lambda v: np.asarray(run["adjoint"](A, v)), us, vs)


def lines_of_ours(case: str, A: XRayTransform, watches: dict, temporary: dict, qualities: dict) -> list[dict]:
    """One line for each direction."""
    sizes = {"image": list(A.in_structure.shape[:-1]), "measurement": list(A.out_structure.shape[:-1])}
    names = {"forward": "relative error", "adjoint": "adjoint mismatch"}
    return [
        record(f"tomography/{case}/{k}", sizes, watches[k].times(), qualities[k], names[k], temporary_mib=temporary[k])
        for k in watches
    ]


def one_image(
    size: int, num: int, source: float | None, pythons: dict[str, str], quick: bool, repeats: int
) -> list[dict]:
    """All lines of a planar geometry."""
    A, arrays = planar(size, num, source)
    x, y = jnp.asarray(arrays["clean"])[..., None], jnp.asarray(arrays["v"][0])[..., None]
    watches, temporary = measured(A, x, y)
    names = ("astra", "skimage") if source is None else ("astra",)
    peers = [Peer(name, f"{name}_tomography.py", pythons.get(name), arrays, quick=quick) for name in names]
    interleave(watches, peers, repeats)
    qualities = {
        "forward": relative_error(np.asarray(watches["forward"].result)[..., 0] * size / 2, arrays["exact"]),
        "adjoint": ours_mismatch(A, arrays["u"][..., None], arrays["v"][..., None]),
    }
    lines = lines_of_ours(
        f"{'parallel' if source is None else 'fan'}/{size}x{size}x{num}", A, watches, temporary, qualities
    )
    for peer in peers:
        for line in lines[:2]:
            lines += lines_of_peer(line, peer)
        peer.close()
    return lines


def lines_of_peer(line: dict, peer: Peer) -> list[dict]:
    """Our direction beside every variant of a peer for it."""
    if peer.missing:
        return [without(line, peer)]
    lines = []
    for variant, facts in peer.facts.items():
        if line["case"].endswith(variant.split(",")[0]):
            as_good = line["quality"] <= max(1.1 * facts["quality"], ROUNDING)
            lines.append(against(line, peer, variant, facts["quality"], ours_is_as_good=as_good))
    return lines


def one_volume(size: int, num: int, cone: bool, repeats: int) -> list[dict]:
    """Lines of a cone or parallel beam through a volume; the first 8 views of the exact data judge the projection."""
    angles, geometry = (np.arange(num) * np.pi / num).astype(np.float32), {"pixel_size": 2 / size}
    if cone:
        distances = {"source_distance": 5.0, "detector_distance": 2.5}
        A = cone_beam(2 * angles, (size, size, size, 1), (size, size), **geometry, **distances)
    else:
        A = parallel_beam(angles, (size, size, size, 1), (size, size), **geometry)
    r = np.random.default_rng(0)
    x = shepp_logan_3d(size, supersample=2)
    u, v = (r.normal(size=(2, *s.shape)).astype(np.float32) for s in (A.in_structure, A.out_structure))
    watches, temporary = measured(A, x, jnp.asarray(v[0]))
    interleave(watches, [], repeats)
    exact = shepp_logan_line_integrals(*(a[:8] for a in A.rays()))
    qualities = {
        "forward": relative_error(np.asarray(watches["forward"].result)[:8], np.asarray(exact)),
        "adjoint": ours_mismatch(A, u, v),
    }
    return lines_of_ours(f"{'cone' if cone else 'parallel'}/{size}^3x{num}", A, watches, temporary, qualities)


def main() -> None:
    args = parser(__doc__.splitlines()[0]).parse_args()
    repeats = args.repeats or (3 if args.quick else 7)
    pythons, lines = peer_pythons(args), []
    for size, num in ((128, 90),) if args.quick else ((256, 180), (512, 360)):
        for source in (None, 5.0):
            lines += one_image(size, num, source, pythons, args.quick, repeats)
    for cone in (False, True):
        lines += one_volume(*((32, 32) if args.quick else (128, 128)), cone, min(repeats, 3))
    emit(lines)


if __name__ == "__main__":
    main()
