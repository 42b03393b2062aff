"""Non-uniform FFT of a 256x256 image at 180 radial spokes of 256 samples: forward, adjoint, and the normal operator.

Ours in float32 at the tolerances 1e-6 and 1e-4; the judge is the direct sum in float64 at some points and pixels, with the
points as they are in float32. FINUFFT has its plan made and its points sorted beforehand. The normal operator is ours by one
FFT of twice the size, theirs by the two halves.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from harness import Peer, Stopwatch, against, emit, interleave, parser, peer_pythons, record, without
from peers.common import direct_sum_error

from invjax.operators import NUFFT, radial_trajectory

TOLERANCES = (1e-6, 1e-4)
CASES = ("forward", "adjoint", "normal")


def problem(size: int, spokes: int, checked: int = 200) -> dict[str, np.ndarray]:
    """Points, a random image, random samples, and what the direct sum gives at ``checked`` points and pixels."""
    r = np.random.default_rng(0)
    points = np.asarray(radial_trajectory(spokes, size), np.float32)
    image = (r.normal(size=(size, size)) + 1j * r.normal(size=(size, size))).astype(np.complex64)
    samples = (r.normal(size=len(points)) + 1j * r.normal(size=len(points))).astype(np.complex64)
    k, g = points.astype(np.float64), np.arange(size) - size // 2
    at_points, pixels = r.integers(0, len(points), checked), r.integers(0, size, (checked, 2))
    rows, columns = (np.exp(-1j * k[at_points, a, None] * g) for a in range(2))
    forward = np.einsum("mh,hw,mw->m", rows, image, columns, optimize=True) / size
    all_samples = np.concatenate([_sums(chunk, image, g) for chunk in np.array_split(k, 64)]) / size
    back = np.conj(np.exp(-1j * g[pixels] @ k.T)) / size
    return {
        "points": points,
        "image": image,
        "samples": samples,
        "at_points": at_points,
        "pixels": pixels,
        "forward": forward,
        "adjoint": back @ samples,
        "normal": back @ all_samples,
    }


def _sums(points: np.ndarray, image: np.ndarray, g: np.ndarray) -> np.ndarray:
    rows, columns = (np.exp(-1j * points[:, a, None] * g) for a in range(2))
    return np.sum((rows @ image) * columns, axis=1)


def ours(given: dict[str, np.ndarray], tolerance: float) -> dict[str, Stopwatch]:
    """The three, each one compiled program that takes the operator as an argument."""
    image, samples = jnp.asarray(given["image"])[..., None], jnp.asarray(given["samples"])[:, None]
    A = NUFFT(given["points"], image.shape, eps=tolerance)
    gram = eqx.filter_jit(lambda A: A.gram)(A)
    apply = eqx.filter_jit(lambda A, x: A(x))
    calls = {"forward": (A, image), "adjoint": (A.H, samples), "normal": (gram, image)}
    return {name: Stopwatch(lambda c=call: apply(*c)) for name, call in calls.items()}


def lines_of(size: int, spokes: int, pythons: dict[str, str], quick: bool, repeats: int) -> list[dict]:
    given = problem(size, spokes)
    tolerances = TOLERANCES[:1] if quick else TOLERANCES
    watches = {(t, name): w for t in tolerances for name, w in ours(given, t).items()}
    peers = {
        t: Peer("finufft", "finufft_nufft.py", pythons.get("finufft"), given | {"eps": t}, quick=quick)
        for t in tolerances
    }
    interleave({f"{t} {name}": w for (t, name), w in watches.items()}, peers.values(), repeats)
    lines = []
    for (tolerance, name), watch in watches.items():
        error = direct_sum_error(np.asarray(watch.result), given, name)
        sizes = {"image": [size, size], "points": len(given["points"]), "tolerance": tolerance}
        line = record(f"nufft/{size}/{tolerance:g}/{name}", sizes, watch.times(), error, "relative error")
        peer = peers[tolerance]
        lines.append(line)
        if peer.missing:
            lines.append(without(line, peer))
            continue
        for variant, facts in peer.facts.items():
            if variant.startswith(name):
                # Both are asked for the same accuracy, and single precision of the points limits both to about 1e-5.
                as_good = error <= max(1.5 * facts["error"], tolerance)
                lines.append(against(line, peer, variant, facts["error"], ours_is_as_good=as_good))
    for peer in peers.values():
        peer.close()
    return lines


def main() -> None:
    args = parser(__doc__.splitlines()[0]).parse_args()
    jax.config.update("jax_enable_x64", False)
    repeats = args.repeats or (3 if args.quick else 11)
    size, spokes = (128, 90) if args.quick else (256, 180)
    emit(lines_of(size, spokes, peer_pythons(args), args.quick, repeats))


if __name__ == "__main__":
    main()
