"""Plug-and-play with the shipped denoiser: PnP-HQS and PnP-ULA on one image, on 8 images, and for 16 parameters of one image.

A Gaussian blur of 1.6 pixels with circular boundary and noise of 0.02; grey photographs that the denoiser was not trained on.
PnP-HQS is DPIR: 8 steps with an exact prox in Fourier space. PnP-ULA takes 30 steps of the projected chain from ``A^H y``
and averages the last 24: a comparison of speed, too short for a posterior. The peers run the same network with the same
weights in PyTorch: DeepInverse's own loops, and loops written for this comparison. Ours is one program per case, on one CPU
device and on two (one per core), over which the images or parameters are spread, or the rows of the one image. The quality
is the mean PSNR of the restored images or of the means; ``difference`` is the largest between our images and the peer's.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from harness import Peer, Stopwatch, against, emit, interleave, parser, peer_pythons, record, without
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array
from peers.common import psnr
from problems import SIGMA

from invjax import InverseProblem, iterate, sample, sweep
from invjax.data import photograph
from invjax.likelihoods import Gaussian
from invjax.nn import shipped_denoiser
from invjax.operators import Blur
from invjax.operators.kernels import gaussian_kernel
from invjax.priors import RED
from invjax.reducers import Moments
from invjax.samplers import PnPULA
from invjax.solvers import DPIR, dpir_sigmas

DEVICES = 2
jax.config.update("jax_num_cpu_devices", DEVICES)
LAM, LEVEL, STEP_SIZE = 0.23, 10 / 255, 2e-4
NUM_STEPS, BURN_IN = 30, 6
NAMES = ("camera", "chelsea", "coffee", "astronaut")
"""Photographs held out from the training of the denoiser."""
TARGETS = {"single": 1.0, "batch": 1.5, "sweep": 1.5}
"""The speed to reach, in that of the fastest peer."""
SAME_PSNR = {"PnP-HQS": lambda side: 0.01, "PnP-ULA": lambda side: 20 / side}
"""Equal quality, in dB, for an image of that side: the PSNR of one such chain has a standard deviation of 7 / side over seeds,
and two chains may differ by twice that of their difference."""


def photographs(size: int) -> Array:
    """Eight images ``(8, size, size, 1)``: each photograph, and the middle of it at twice the resolution."""
    whole = [photograph(name, size, grey=True) for name in NAMES]
    inside = slice(size // 2, size // 2 + size)
    return jnp.stack(whole + [photograph(name, 2 * size, grey=True)[inside, inside] for name in NAMES])


class Split(eqx.Module):
    """A denoiser with the rows of its image spread over the devices: XLA exchanges what the filters need beyond the seam."""

    denoiser: Any
    mesh: Mesh = eqx.field(static=True)

    def __call__(self, x: Array, sigma: Any) -> Array:
        rows, whole = (NamedSharding(self.mesh, spec) for spec in (PartitionSpec("device"), PartitionSpec()))
        x = jax.lax.with_sharding_constraint(x, rows)
        return jax.lax.with_sharding_constraint(self.denoiser(x, sigma), whole)


def hqs(point: tuple[Array, Array, Array], problem: InverseProblem, denoiser: Any) -> Array:
    """The restored image for a measurement and a weight."""
    y, lam, _ = point
    method = DPIR(problem.likelihood(y), denoiser, dpir_sigmas(SIGMA), lam)
    return iterate(method, problem.operator.H(y), method.num_steps)[0].position


def ula(point: tuple[Array, Array, Array], problem: InverseProblem, denoiser: Any) -> Array:
    """The mean of a chain for a measurement, a weight of the prior and a seed."""
    y, alpha, seed = point
    method = PnPULA(
        problem.likelihood(y),
        RED(denoiser, LEVEL, alpha),
        residual_lipschitz=1.0,
        step_size=STEP_SIZE,
        box=(0, 1),
        projected=True,
        allow_unstable=True,
    )
    key = jax.random.key(seed)
    start = problem.operator.H(y)
    return sample(key, method, start, NUM_STEPS - BURN_IN, burn_in=BURN_IN, collect=Moments()).collected.mean


ALGORITHMS = {
    "PnP-HQS": (hqs, 8, LAM, jnp.geomspace(0.06, 0.9, 16)),
    "PnP-ULA": (ula, NUM_STEPS, 1.0, jnp.geomspace(0.3, 3, 16)),
}
"""Function, number of steps, usual parameter and the parameters of the sweep."""
LAYOUTS = {"PnP-HQS": ((DEVICES, 1), (DEVICES, 2), (1, 1)), "PnP-ULA": ((DEVICES, 1),)}
"""Devices and images at once on each of them, in batch and sweep; ``--quick`` takes the first."""
alone = eqx.filter_jit(lambda fn, point, problem, denoiser: fn(point, problem, denoiser))


def mesh() -> Mesh:
    return Mesh(np.array(jax.devices()[:DEVICES]), ("device",))


def points(algorithm: str, case: str, ys: Array) -> tuple[Array, Array, Array]:
    """Measurements, parameters and seeds of a case; one image is a batch of one."""
    _, _, usual, parameters = ALGORITHMS[algorithm]
    count = {"single": 1, "batch": len(ys), "sweep": len(parameters)}[case]
    ys = jnp.broadcast_to(ys[:1], (count, *ys.shape[1:])) if case == "sweep" else ys[:count]
    return ys, parameters if case == "sweep" else jnp.full(count, usual), jnp.arange(count)


def stopwatches(algorithm: str, case: str, ys: Array, args: tuple, quick: bool) -> dict[tuple[int, int], Stopwatch]:
    """Ours for every (devices, images at once)."""
    grid = points(algorithm, case, ys)
    fn, (problem, denoiser) = ALGORITHMS[algorithm][0], args
    if case == "single":
        point = jax.tree.map(lambda a: a[0], grid)
        everywhere = jax.device_put(denoiser, NamedSharding(mesh(), PartitionSpec()))
        networks = {1: denoiser, DEVICES: Split(everywhere, mesh())}
        return {(d, 1): Stopwatch(lambda net=net: alone(fn, point, problem, net)[None]) for d, net in networks.items()}
    return {
        (devices, at_once): Stopwatch(
            lambda b=at_once, m=mesh() if devices > 1 else None: sweep(fn, grid, *args, batch_size=b, mesh=m)
        )
        for devices, at_once in LAYOUTS[algorithm][: 1 if quick else None]
    }


def problem_of(size: int) -> tuple[InverseProblem, Any, Array, dict[str, Any]]:
    """The problem, the denoiser, the measurements ``(8, size, size, 1)``, and all of it as arrays for the peers."""
    clean, kernel, denoiser = photographs(size), gaussian_kernel(1.6, 13), shipped_denoiser("grey")
    problem = InverseProblem(Blur(kernel, clean.shape[1:]), Gaussian(SIGMA))
    ys = jax.vmap(problem.measure)(jax.random.split(jax.random.key(0), len(clean)), clean)
    arrays = {"clean": clean[..., 0], "y": ys[..., 0], "kernel": kernel, "sigma": SIGMA, "sigmas": dpir_sigmas(SIGMA)}
    arrays |= {"level": LEVEL, "step_size": STEP_SIZE, "num_steps": NUM_STEPS, "burn_in": BURN_IN}
    for path, weight in jax.tree_util.tree_leaves_with_path(denoiser.weights):
        arrays["weights." + jax.tree_util.keystr(path, simple=True, separator=".")] = weight
    return problem, denoiser, ys, arrays


def line_of(name: tuple, stopwatch: Stopwatch, clean: np.ndarray) -> dict:
    """One line without a peer."""
    algorithm, case, devices, at_once = name
    steps, count = ALGORITHMS[algorithm][1], len(stopwatch.result)
    sizes = {
        "image": list(clean.shape[1:]),
        "images": count,
        "steps": steps,
        "devices": devices,
        "images at once": at_once,
    }
    times = stopwatch.times()
    # the images of a sweep are all of the first photograph
    quality = np.mean([psnr(x, clean[i if case == "batch" else 0]) for i, x in enumerate(np.asarray(stopwatch.result))])
    title = f"{algorithm}/{case}/{devices} device{'s' * (devices > 1)}/{at_once} at once"
    rate = {"iterations_per_second": steps * count / times["seconds"], "target": TARGETS[case]}
    return record(title, sizes, times, float(quality), "mean PSNR", **rate)


def beside(line: dict, peer: Peer, variant: str) -> dict:
    """The line with the peer's run of the same case."""
    facts, sizes = peer.facts[variant], line["sizes"]
    rate = sizes["steps"] * sizes["images"] / min(peer.seconds[variant])
    extra = {key: facts[key] for key in ("difference", "settings")} | {"peer_iterations_per_second": rate}
    as_good = line["quality"] >= facts["psnr"] - SAME_PSNR[variant.split("/")[0]](sizes["image"][0])
    return against(line, peer, variant, facts["psnr"], ours_is_as_good=as_good, **extra)


def main() -> None:
    args = parser(__doc__.splitlines()[0]).parse_args()
    repeats = args.repeats or (1 if args.quick else 3)
    problem, denoiser, ys, arrays = problem_of(64 if args.quick else 256)
    ours, expected = {}, {}
    for algorithm in ALGORITHMS:
        expected |= {
            f"{algorithm}/usual": ALGORITHMS[algorithm][2],
            f"{algorithm}/parameters": ALGORITHMS[algorithm][3],
        }
        for case in TARGETS:
            found = stopwatches(algorithm, case, ys, (problem, denoiser), args.quick)
            ours |= {(algorithm, case, *layout): stopwatch for layout, stopwatch in found.items()}
            expected[f"{algorithm}/{case}"] = found[DEVICES, 1].result[..., 0]
    python = peer_pythons(args).get("deepinv")
    peer = Peer("deepinv", "deepinv_plug_and_play.py", python, arrays | expected, quick=args.quick)
    interleave(ours, [peer], repeats)
    lines = []
    for name, stopwatch in ours.items():
        line = line_of(name, stopwatch, np.asarray(arrays["clean"]))
        variants = [v for v in peer.facts if v.startswith(f"{name[0]}/{name[1]}/")]
        lines += [without(line, peer)] if peer.missing else [beside(line, peer, v) for v in variants]
    peer.close()
    emit(lines)


if __name__ == "__main__":
    main()
