"""Sinkhorn's iteration of POT: in the logarithmic domain, and stabilised."""

from __future__ import annotations

import importlib.metadata
import warnings

import numpy as np
from common import Variant, arguments, serve

args, problem = arguments()

import ot  # noqa: E402

warnings.simplefilter("ignore")
given = problem["a"], problem["b"], problem["cost"], float(problem["epsilon"])


def variant(method: str) -> Variant:
    """A method by its name there."""

    def run() -> np.ndarray:
        options = {"stopThr": float(problem["tolerance"]), "numItermax": int(problem["cap"])}
        return ot.sinkhorn(*given, method=method, **options)

    def report(plan: np.ndarray) -> dict:
        error = np.abs(plan.sum(1) - problem["a"]).sum() + np.abs(plan.sum(0) - problem["b"]).sum()
        return {"error": float(error)}

    return Variant(run, report)


if __name__ == "__main__":
    versions = {"POT": importlib.metadata.version("POT")}
    serve({name: variant(name) for name in ("sinkhorn_log", "sinkhorn_stabilized")}, versions)
