"""SigPy's ``SenseRecon``: conjugate gradients on the normal equations, in NumPy."""

from __future__ import annotations

import importlib.metadata

import numpy as np
from common import Variant, arguments, sense_quality, serve

args, problem = arguments()

from sigpy.mri.app import SenseRecon  # noqa: E402

weights = np.broadcast_to(problem["mask"], problem["y"].shape[1:]).astype(np.float32)


def run() -> np.ndarray:
    return SenseRecon(
        problem["y"],
        problem["maps"],
        lamda=float(problem["lam"]),
        weights=weights,
        max_iter=int(problem["num_steps"]),
        show_pbar=False,
    ).run()


if __name__ == "__main__":
    report = {"SenseRecon": Variant(run, lambda x: sense_quality(x, problem))}
    serve(report, {"sigpy": importlib.metadata.version("sigpy")})
