"""Langevin sampling of the TV-deblurring posterior: iterations per second, effective samples per second, posterior mean.

Target ``exp(-|A x - y|^2 / (2 sigma^2) - 10 TV(x))`` with the Moreau envelope of TV at smoothing 0.03^2, step size 2.49e-4: the
deblurring problem of ``tv_deblurring.py`` and the settings of DeepInverse's ULA with its TV denoiser. The same chain lengths,
burn-in (a fifth) and thinning (5) for all; SK-ROCK takes a tenth of the steps, with ten scores in each. The quality is the
relative error of the posterior standard deviation (mean over pixels), against a longer MYULA chain with the same step size;
the PSNR of the posterior mean stands beside it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import Peer, Stopwatch, against, emit, interleave, parser, peer_pythons, record, without
from jaxtyping import Array
from peers.common import psnr
from problems import deblurring

from invjax import sample
from invjax.priors import TV
from invjax.reducers import Every, Moments
from invjax.samplers import MYULA, SKROCK, Moreau, ess, max_step_size
from invjax.types import Fn

LAM, SMOOTHING, STEP_SIZE, THINNING, STAGES = 10.0, 0.03**2, 2.49e-4, 5, 10
STRIDE = 16
"""Every 16th pixel in both directions is kept for the effective sample size."""
TOLERANCE = 0.02
"""Relative errors of the standard deviation closer than that are equal within the Monte Carlo error of these chains."""


def samplers(f: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    """The methods; all carry the dual variables of TV from step to step."""
    g = TV(shape, LAM)
    lipschitz = f.lipschitz + 1 / SMOOTHING
    long_step = 0.1 * max_step_size(lipschitz, STAGES)
    return {
        "MYULA, 5 inner": MYULA(f, g, STEP_SIZE, SMOOTHING, num_inner=5),
        "MYULA, 10 inner": MYULA(f, g, STEP_SIZE, SMOOTHING, num_inner=10),
        "SKROCK, 5 inner": SKROCK(f, Moreau(g, SMOOTHING, 5), long_step, STAGES),
    }


def _pixels(state: Any, info: Any) -> Array:
    return state.position[::STRIDE, ::STRIDE, 0]


def chain(method: Any, start: Array, num_steps: int) -> tuple[Array, Array]:
    """Posterior mean, and the kept pixels ``(draws, n, n)``, of one chain; a fifth is burn-in."""
    num_steps, thinning = (num_steps // STAGES, 1) if isinstance(method, SKROCK) else (num_steps, THINNING)
    burn_in = num_steps // 5
    collect = {"moments": Moments(), "pixels": Every(1, of=Fn(_pixels))}
    out = sample(
        jax.random.key(0),
        method,
        start,
        (num_steps - burn_in) // thinning,
        burn_in=burn_in,
        thinning=thinning,
        collect=collect,
    )
    return out.collected["moments"].mean, out.collected["pixels"]


def median_ess(pixels: Any) -> float:
    """Median effective sample size over the kept pixels of one chain."""
    return float(jnp.median(ess(jnp.asarray(pixels)[None])))


def deviation(pixels: Any) -> float:
    """Mean over the kept pixels of the standard deviation along the chain."""
    return float(np.asarray(pixels).std(0).mean())


def one_size(size: int, num_steps: int, long: int, pythons: dict[str, str], quick: bool, repeats: int) -> list[dict]:
    """All lines for one image size."""
    f, arrays = deblurring(size)
    start = jnp.asarray(arrays["start"])[..., None]
    settings = {"lam": LAM, "smoothing": SMOOTHING, "step_size": STEP_SIZE, "thinning": THINNING, "stride": STRIDE}
    peer = Peer(
        "deepinv",
        "deepinv_langevin.py",
        pythons.get("deepinv"),
        arrays | settings | {"num_steps": num_steps},
        quick=quick,
    )
    ours = {
        name: Stopwatch(lambda m=method: chain(m, start, num_steps))
        for name, method in samplers(f, start.shape).items()
    }
    interleave(ours, [peer], repeats, budget=30.0)
    _, pixels = chain(samplers(f, start.shape)["MYULA, 10 inner"], start, long)
    exact = deviation(pixels)
    lines = []
    for name, stopwatch in ours.items():
        line = line_of(name, stopwatch, size, num_steps, arrays["clean"], exact)
        lines += [without(line, peer)] if peer.missing else [beside(line, peer, variant) for variant in peer.facts]
    peer.close()
    return lines


def line_of(name: str, stopwatch: Stopwatch, size: int, num_steps: int, clean: np.ndarray, exact: float) -> dict:
    """One line without a peer."""
    mean, pixels = stopwatch.result
    times = stopwatch.times()
    steps = num_steps // STAGES if name.startswith("SKROCK") else num_steps
    rates = {
        "iterations_per_second": steps / times["seconds"],
        "scores_per_second": num_steps / times["seconds"],
        "ess": median_ess(pixels),
        "psnr": psnr(np.asarray(mean), clean),
        "reference_std": exact,
    }
    rates["ess_per_second"] = rates["ess"] / times["seconds"]
    sizes = {"image": [size, size], "steps": steps}
    error = abs(deviation(pixels) / exact - 1)
    return record(f"langevin/{size}/{name}", sizes, times, error, "relative error of the standard deviation", **rates)


def beside(line: dict, peer: Peer, variant: str) -> dict:
    """The line with the peer's chain: as many scores, so ``ratio`` compares scores per second."""
    facts, seconds = peer.facts[variant], min(peer.seconds[variant])
    pixels = np.asarray(facts["pixels"], np.float32)
    peer_ess, error = median_ess(pixels), abs(deviation(pixels) / line["reference_std"] - 1)
    as_good = line["quality"] <= error + TOLERANCE
    extra = {
        "peer_psnr": facts["psnr"],
        "peer_iterations_per_second": facts["steps"] / seconds,
        "peer_ess": peer_ess,
        "peer_ess_per_second": peer_ess / seconds,
        "ess_ratio": line["ess_per_second"] * seconds / peer_ess,
    }
    return against(line, peer, variant, error, ours_is_as_good=as_good, **extra)


def main() -> None:
    args = parser(__doc__.splitlines()[0]).parse_args()
    repeats = args.repeats or (2 if args.quick else 5)
    lines = []
    for size, num_steps, long in ((128, 200, 1000),) if args.quick else ((256, 1500, 6000), (512, 400, 1500)):
        lines += one_size(size, num_steps, long, peer_pythons(args), args.quick, repeats)
    emit(lines)


if __name__ == "__main__":
    main()
