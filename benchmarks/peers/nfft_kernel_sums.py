"""simple_torch_NFFT: sliced kernel sums by non-uniform FFTs, negative distance by sorting, at given directions.

INVJAX_SIMPLE_TORCH_NFFT names a checkout. Two settings each: the library's own (1024 frequencies, range 0.3), and those of the
paper's experiments for the kernel. The number of slices in a batch and the threads are the fastest on 64 slices.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import time

from common import Variant, arguments, relative_l1, serve

args, problem = arguments()
sys.path.insert(0, os.environ["INVJAX_SIMPLE_TORCH_NFFT"])

import torch  # noqa: E402
from simple_torch_NFFT import Fastsum  # noqa: E402

torch.set_grad_enabled(False)

x, y, w, directions = (torch.from_numpy(problem[name]) for name in ("x", "y", "w", "directions"))
bandwidth = torch.tensor(float(problem["bandwidth"]))
kernels = {
    "gauss": ("Gauss", {}, (128, 0.3)),
    "matern 1.5": ("Matern", {"nu": 1.5}, (512, 0.2)),
    "laplace": ("Laplace", {}, (1024, 0.1)),
    "negative distance": ("energy", {}, None),
}
BATCHES = (1, 4, 16, 64)
MANY = 50_000  # points from which a probe is run once


def fastsum(name: str, setting: tuple[int, float], batch: int) -> Fastsum:
    kernel, parameters, _ = kernels[name]
    sizes = {"n_ft": setting[0], "x_range": setting[1], "batch_size_P": batch}
    # slicing_mode says how directions would be drawn; they are given.
    options = {"slicing_mode": "iid", "no_compile": True, "device": "cpu"}
    return Fastsum(x.shape[1], kernel=kernel, kernel_params=parameters, **sizes, **options)


def call(summation: Fastsum, name: str, xi: torch.Tensor) -> torch.Tensor:
    scale = torch.tensor(1.0) if name == "negative distance" else bandwidth
    return summation(x, y, w, scale, xi)


def fastest(name: str, setting: tuple[int, float]) -> tuple[int, int]:
    """Batch and threads."""
    probe, seconds = directions[:64], {}
    repeats = 1 if len(x) > MANY else 3
    for threads in range(1, args.threads + 1):
        torch.set_num_threads(threads)
        for batch in BATCHES:
            summation, times = fastsum(name, setting, batch), []
            call(summation, name, probe[:batch])
            for _ in range(repeats):
                start = time.perf_counter()
                call(summation, name, probe)
                times.append(time.perf_counter() - start)
            seconds[batch, threads] = min(times)
    return min(seconds, key=seconds.get)


def variant(name: str, setting: tuple[int, float], batch: int, threads: int) -> Variant:
    summation = fastsum(name, setting, batch)

    def run() -> torch.Tensor:
        torch.set_num_threads(threads)
        return call(summation, name, directions)

    facts = {"batch": batch, "threads": threads, "frequencies": setting[0], "range": setting[1]}
    return Variant(run, lambda s: {"error": relative_l1(s.numpy(), problem[f"exact {name}"]), **facts})


def variants() -> dict[str, Variant]:
    default = (1024, 0.3)
    by_fft, by_sorting = (fastest(name, default) for name in ("gauss", "negative distance"))
    found = {}
    for name, (_, _, paper) in kernels.items():
        if paper is None:
            found[f"{name}, sorting"] = variant(name, default, *by_sorting)
            continue
        found[f"{name}, {default[0]} frequencies"] = variant(name, default, *by_fft)
        more = 2 if x.shape[1] >= 100 else 1
        found[f"{name}, {more * paper[0]} frequencies, range {paper[1]}"] = variant(
            name, (more * paper[0], paper[1]), *by_fft
        )
    return found


if __name__ == "__main__":
    serve(variants(), {"torch": importlib.metadata.version("torch"), "simple_torch_NFFT": "checkout"})
