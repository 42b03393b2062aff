"""CG-SENSE: 8 coils, 256x256, a Shepp-Logan phantom with a smooth phase, equispaced lines, R = 4, and 8 % of all in the centre.

``min |A x - y|^2 / 2 + lam |x|^2 / 2`` by conjugate gradients on the normal equations from zero, the same number of steps in
float32 for all; and ours to the tolerance of ``A.prox``. The judge, in float64, is the residual of the normal equations.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from harness import Peer, Stopwatch, against, emit, interleave, parser, peer_pythons, record, without
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array
from peers.common import sense_quality

from invjax.data import shepp_logan
from invjax.generators import EquispacedLines
from invjax.operators import LinearOperator, birdcage_maps, multi_coil_mri

COILS, SIGMA, LAM = 8, 0.001, 1e-4


def problem(size: int) -> tuple[LinearOperator, Array, dict[str, Any]]:
    """The operator, the measurement, and the same as NumPy arrays without channels."""
    shape = (size, size, 1)
    x = shepp_logan(size) * jnp.exp(1j * jnp.linspace(-1, 1, size))[:, None, None]
    maps = birdcage_maps(shape, COILS)
    mask = EquispacedLines(shape, 4)(jax.random.key(0))
    A = multi_coil_mri(mask, maps, shape)
    r = np.random.default_rng(0)
    noise = (r.normal(size=(COILS, *shape)) + 1j * r.normal(size=(COILS, *shape))).astype(np.complex64)
    y = A(x) + SIGMA * mask * noise
    arrays = {"clean": x[..., 0], "maps": maps[..., 0], "mask": mask[..., 0], "y": y[..., 0], "lam": LAM}
    return A, y, {k: np.asarray(v) for k, v in arrays.items()}


@eqx.filter_jit
def conjugate_gradients(A: LinearOperator, y: Array, num_steps: int) -> Array:
    """Exactly ``num_steps`` steps."""
    gram = A.gram
    return cg(lambda x: gram(x) + LAM * x, A.H(y), tol=0, maxiter=num_steps)[0]


def lines_of(size: int, num_steps: int, pythons: dict[str, str], quick: bool, repeats: int) -> list[dict]:
    A, y, arrays = problem(size)
    zero = jnp.zeros(A.in_structure.shape, y.dtype)
    ours = {
        "steps": Stopwatch(lambda: conjugate_gradients(A, y, num_steps)),
        "A.prox": Stopwatch(lambda: A.prox(zero, y, 1 / LAM)),
    }
    peer = Peer("sigpy", "sigpy_sense.py", pythons.get("sigpy"), arrays | {"num_steps": num_steps}, quick=quick)
    interleave(ours, [peer], repeats)
    lines = []
    for name, watch in ours.items():
        found = sense_quality(np.asarray(watch.result), arrays)
        sizes = {"image": [size, size], "coils": COILS} | ({"steps": num_steps} if name == "steps" else {})
        facts = {"image_error": found["image_error"]}
        lines.append(
            record(f"sense/{size}/{name}", sizes, watch.times(), found["residual"], "relative residual", **facts)
        )
    best = lines[0]
    if peer.missing:
        lines.append(without(best, peer))
    for variant, facts in ({} if peer.missing else peer.facts).items():
        # The same steps of the same iteration: residuals differ by rounding only.
        as_good = best["quality"] <= 1.05 * facts["residual"]
        extra = {"peer_image_error": facts["image_error"]}
        lines.append(against(best, peer, variant, facts["residual"], ours_is_as_good=as_good, **extra))
    peer.close()
    return lines


def main() -> None:
    args = parser(__doc__.splitlines()[0]).parse_args()
    repeats = args.repeats or (3 if args.quick else 7)
    emit(lines_of(128 if args.quick else 256, 30, peer_pythons(args), args.quick, repeats))


if __name__ == "__main__":
    main()
