"""Sinkhorn's iteration of ott-jax in the logarithmic domain, compiled, without and with momentum."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
from common import Variant, arguments, serve

args, problem = arguments()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from ott.geometry import geometry  # noqa: E402
from ott.problems.linear import linear_problem  # noqa: E402
from ott.solvers.linear import acceleration, sinkhorn  # noqa: E402

jax.config.update("jax_enable_x64", problem["cost"].dtype == np.float64)
cost, a, b = (jnp.asarray(problem[name]) for name in ("cost", "a", "b"))
options = {"threshold": float(problem["tolerance"]), "max_iterations": int(problem["cap"])}


def variant(**more: Any) -> Variant:
    """A way to call it."""
    solver = sinkhorn.Sinkhorn(**options, **more)

    @jax.jit
    def solve(cost: Any, a: Any, b: Any, epsilon: Any) -> Any:
        out = solver(linear_problem.LinearProblem(geometry.Geometry(cost, epsilon=epsilon), a, b))
        return out.f, out.g, out.n_iters, out.matrix

    def report(out: Any) -> dict:
        plan = np.asarray(out[3])
        error = np.abs(plan.sum(1) - problem["a"]).sum() + np.abs(plan.sum(0) - problem["b"]).sum()
        return {"error": float(error), "iterations": int(out[2])}

    return Variant(lambda: solve(cost, a, b, float(problem["epsilon"])), report)


if __name__ == "__main__":
    versions = {name: importlib.metadata.version(name) for name in ("ott-jax", "jax")}
    variants = {"Sinkhorn": variant(), "Sinkhorn, momentum 1.5": variant(momentum=acceleration.Momentum(value=1.5))}
    serve(variants, versions, jax.block_until_ready)
