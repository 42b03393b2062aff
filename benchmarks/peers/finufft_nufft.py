"""FINUFFT in single precision: forward, adjoint and both, with the plan made and the points set beforehand."""

from __future__ import annotations

import importlib.metadata

import numpy as np
from common import Variant, arguments, direct_sum_error, serve

args, problem = arguments()

import finufft  # noqa: E402

image, samples = problem["image"], problem["samples"]
size = image.shape[0]
rows, columns = np.ascontiguousarray(problem["points"].T)


def variants(threads: int) -> dict[str, Variant]:
    options = {"n_trans": 1, "eps": float(problem["eps"]), "dtype": "complex64", "nthreads": threads}
    forward = finufft.Plan(2, image.shape, isign=-1, **options)
    adjoint = finufft.Plan(1, image.shape, isign=1, **options)
    for plan in (forward, adjoint):
        plan.setpts(rows, columns)
    runs = {
        "forward": lambda: forward.execute(image) / np.float32(size),
        "adjoint": lambda: adjoint.execute(samples) / np.float32(size),
        "normal": lambda: adjoint.execute(forward.execute(image)) / np.float32(size**2),
    }
    label = f"{threads} thread{'s' * (threads > 1)}"
    return {
        f"{name}, {label}": Variant(run, lambda x, n=name: {"error": direct_sum_error(x, problem, n)})
        for name, run in runs.items()
    }


if __name__ == "__main__":
    both = {name: v for threads in range(1, args.threads + 1) for name, v in variants(threads).items()}
    serve(both, {"finufft": importlib.metadata.version("finufft")})
