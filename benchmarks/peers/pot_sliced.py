"""The sliced Wasserstein distance of POT, in NumPy and in PyTorch."""

from __future__ import annotations

import importlib.metadata

from common import Variant, arguments, serve

args, problem = arguments()

import ot  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(args.threads)
given = problem["x"], problem["y"]
directions = problem["directions"].T
in_torch = [torch.as_tensor(v) for v in given]


def distance(x: object, y: object, projections: object) -> object:
    """SW_2."""
    return ot.sliced_wasserstein_distance(x, y, projections=projections)


if __name__ == "__main__":
    report = lambda value: {"value": float(value)}  # noqa: E731
    variants = {
        "NumPy": Variant(lambda: distance(*given, directions), report),
        "PyTorch": Variant(lambda: distance(*in_torch, torch.as_tensor(directions)), report),
    }
    serve(variants, {name: importlib.metadata.version(name) for name in ("POT", "torch", "numpy")})
