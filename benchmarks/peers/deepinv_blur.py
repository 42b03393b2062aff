"""DeepInverse's blurs, downsampling and resizing: the forward operator and its adjoint, each applied several times.

Its ``Blur`` convolves directly by default; with a valid boundary ``use_fft=True`` is run too. Its tiles have other windows, so
all tiles share one kernel here, and the result is that of ``Blur``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from common import Variant, arguments, fastest_threads, serve

args, problem = arguments()

import torch  # noqa: E402
from deepinv import physics  # noqa: E402
from deepinv_common import tensor, versions  # noqa: E402

x, times, factor = tensor(problem["x"]), int(problem["times"]), int(problem["factor"])
torch.set_grad_enabled(False)


def filters(kernels: np.ndarray) -> torch.Tensor:
    """``(1, 1, h, w)`` of a kernel ``(h, w)``, ``(1, 1, K, h, w)`` of several."""
    return torch.from_numpy(kernels)[None, None]


def operators() -> dict[str, physics.LinearPhysics]:
    """The operators of ``benchmarks/blur.py`` by their cases; a suffix after a semicolon is a variant."""
    found = {}
    for size in problem["kernel_sizes"]:
        kernel = filters(problem[f"kernel {size}"])
        found[f"circular {size}"] = physics.BlurFFT(tuple(x.shape[1:]), filter=kernel)
        found[f"valid {size}"] = physics.Blur(kernel, padding="valid")
        found[f"valid {size}; use_fft"] = physics.Blur(kernel, padding="valid", use_fft=True)
    down = {"filter": filters(problem["downsampling kernel"]), "factor": factor, "padding": "circular"}
    found["downsampling"] = physics.Downsampling(tuple(x.shape[1:]), **down)
    found["resize"] = physics.DownsamplingMatlab(factor)
    several = {"filters": filters(problem["kernels"]), "multipliers": filters(problem["weights"][..., 0])}
    found["space-varying"] = physics.SpaceVaryingBlur(**several, padding="valid")
    stride, overlap = int(problem["stride"]), int(problem["overlap"])
    kernel = filters(np.repeat(problem["tile kernel"][None], int(problem["tiles"]) ** 2, 0))
    found["tiled"] = physics.TiledSpaceVaryingBlur(filters=kernel, patch_size=stride + overlap, stride=stride)
    return found


def variant(apply: Callable, argument: torch.Tensor, reference: np.ndarray) -> Variant:
    def run() -> torch.Tensor:
        for _ in range(times):
            result = apply(argument)
        return result

    def report(result: torch.Tensor) -> dict:
        exact = tensor(reference)
        if result.shape != exact.shape:
            return {"difference": None, "shape": list(result.shape)}
        return {"difference": float((result - exact).abs().max() / exact.abs().max()), "threads": threads}

    return Variant(run, report)


if __name__ == "__main__":
    found = operators()
    blur = found["circular 13"]
    threads = fastest_threads(torch.set_num_threads, lambda: blur.A(x), args.threads)
    variants = {}
    for name, operator in found.items():
        case = name.split(";")[0]
        forward, adjoint = problem[f"{case} forward"], problem[f"{case} adjoint"]
        variants[f"{name} forward"] = variant(operator.A, x, forward)
        variants[f"{name} adjoint"] = variant(operator.A_adjoint, tensor(forward), adjoint)
    serve(variants, versions(threads))
