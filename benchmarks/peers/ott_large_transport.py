"""Sinkhorn's iteration of ott-jax on clouds, costs in batches ("online")."""

from __future__ import annotations

import importlib.metadata
import resource

import numpy as np
from common import Variant, arguments, serve

args, problem = arguments()

import jax  # noqa: E402
from ott.geometry import pointcloud  # noqa: E402
from ott.problems.linear import linear_problem  # noqa: E402
from ott.solvers.linear import sinkhorn  # noqa: E402

solver = sinkhorn.Sinkhorn(threshold=float(problem["tolerance"]), max_iterations=1000)


@jax.jit
def solve(x: object, y: object) -> tuple:
    """Value, column marginal, number of iterations."""
    geom = pointcloud.PointCloud(x, y, epsilon=float(problem["epsilon"]), batch_size=512)
    out = solver(linear_problem.LinearProblem(geom))
    return out.reg_ot_cost, out.marginal(0), out.marginal(1), out.n_iters


def report(out: tuple) -> dict:
    """Errors, and the largest memory so far."""
    error = sum(float(np.abs(np.asarray(m) - 1 / len(m)).sum()) for m in out[1:3])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"value": float(out[0]), "error": error, "iterations": int(out[3]), "peak_bytes": peak}


if __name__ == "__main__":
    online = Variant(lambda: solve(problem["x"], problem["y"]), report)
    serve({"online": online}, {"ott-jax": importlib.metadata.version("ott-jax")}, jax.block_until_ready)
