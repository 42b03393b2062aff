"""The shipped denoisers against BM3D and total variation: whole photographs that were never trained on, by noise level.

    python benchmarks/denoising.py --peer-python bm3d=/path/to/python

Quality is the PSNR, nothing clipped; ``over_tv`` is what it gains over total variation with the best of 16 weights, chosen
knowing the truth. The noise is white, of standard deviation 5 to 75 in units of 1/255, and known to all.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import Peer, Stopwatch, against, emit, interleave, parser, peer_pythons, record, without
from peers.common import psnr

from invjax import metrics, nn, priors
from invjax.data import photograph

SIGMAS = (5, 15, 25, 50, 75)
HELD_OUT = ("camera", "chelsea", "coffee", "astronaut")
FACTORS = np.geomspace(0.3, 2.0, 16).astype(np.float32)  # of the weight, over sigma


def noisy_photographs(kind: str, quick: bool) -> dict[str, tuple[np.ndarray, np.ndarray, float]]:
    """Clean and noisy image and the level, by case."""
    names = [n for n in HELD_OUT if kind == "grey" or n != "camera"]
    found = {}
    for name in names[:1] if quick else names:
        clean = np.asarray(photograph(name, 128 if quick else None, grey=kind == "grey"))
        for sigma in (25,) if quick else SIGMAS:
            noise = np.random.default_rng(0).normal(size=clean.shape)
            found[f"{name}/{sigma}"] = clean, (clean + sigma / 255 * noise).astype(np.float32), sigma / 255
    return found


@jax.jit
def denoised(D: nn.Frozen, noisy: jax.Array, sigma: jax.Array) -> jax.Array:
    return D(noisy, sigma)


@jax.jit
def best_of_tv(noisy: jax.Array, clean: jax.Array, sigma: jax.Array) -> jax.Array:
    """PSNR of ``argmin_z w TV(z) + |z - noisy|^2 / 2`` with the best weight."""
    prior = priors.TV(noisy.shape)
    return jnp.max(jax.lax.map(lambda w: metrics.psnr(prior.prox(noisy, w * sigma), clean), FACTORS))


def lines_of(kind: str, python: str | None, quick: bool, repeats: int) -> list[dict]:
    """A line for every photograph and level, and the mean over the photographs of each level."""
    cases, D = noisy_photographs(kind, quick), nn.shipped_denoiser(kind)
    problem: dict[str, Any] = {f"{case}/noisy": noisy for case, (_, noisy, _) in cases.items()}
    problem |= {f"{case}/sigma": np.array(sigma) for case, (_, _, sigma) in cases.items()}
    problem |= {f"{case}/clean": clean for case, (clean, _, _) in cases.items()}
    watches = {
        case: Stopwatch(functools.partial(denoised, D, jnp.asarray(noisy), jnp.float32(sigma)))
        for case, (_, noisy, sigma) in cases.items()
    }
    peer = Peer("bm3d", "bm3d_denoising.py", python, problem, quick=quick)
    interleave(watches, [peer], repeats)
    lines = []
    for case, (clean, noisy, sigma) in cases.items():
        quality, tv = psnr(np.asarray(watches[case].result), clean), float(best_of_tv(noisy, clean, sigma))
        facts = {"tv": tv, "over_tv": quality - tv}
        line = record(
            f"denoising/{kind}/{case}", {"image": list(clean.shape)}, watches[case].times(), quality, "PSNR", **facts
        )
        if peer.missing:
            lines.append(without(line, peer))
            continue
        theirs = peer.facts[case]["quality"]
        lines.append(against(line, peer, case, theirs, ours_is_as_good=quality >= theirs, over_peer=quality - theirs))
    peer.close()
    return lines


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--kinds", nargs="+", choices=nn.SHIPPED, default=nn.SHIPPED, help="denoisers to measure")
    args = options.parse_args()
    repeats = args.repeats or 3
    emit([line for kind in args.kinds for line in lines_of(kind, peer_pythons(args).get("bm3d"), args.quick, repeats)])


if __name__ == "__main__":
    main()
