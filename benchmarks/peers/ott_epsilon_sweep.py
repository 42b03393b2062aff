"""A loop over regularisations with ott-jax: one compiled function of epsilon, and the plain call."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any

import numpy as np
from common import Variant, arguments, serve

args, problem = arguments()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from ott.geometry import geometry  # noqa: E402
from ott.problems.linear import linear_problem  # noqa: E402
from ott.solvers.linear import sinkhorn  # noqa: E402

cost = jnp.asarray(problem["cost"])
solver = sinkhorn.Sinkhorn(threshold=float(problem["tolerance"]), max_iterations=20_000)


def solve(cost: Any, epsilon: Any) -> tuple[Any, Any]:
    """Value and coupling."""
    out = solver(linear_problem.LinearProblem(geometry.Geometry(cost, epsilon=epsilon)))
    return out.reg_ot_cost, out.matrix


def loop(solve: Callable) -> list:
    """One after the other."""
    return [jax.block_until_ready(solve(cost, epsilon)) for epsilon in problem["epsilons"]]


def report(found: list) -> dict:
    """Values, and the worst error of the marginals."""
    n, m = cost.shape
    plans = [np.asarray(plan) for _, plan in found]
    errors = [np.abs(p.sum(1) - 1 / n).sum() + np.abs(p.sum(0) - 1 / m).sum() for p in plans]
    return {"values": [float(value) for value, _ in found], "error": float(max(errors))}


if __name__ == "__main__":
    versions = {name: importlib.metadata.version(name) for name in ("ott-jax", "jax")}
    compiled = jax.jit(solve)
    variants = {
        "loop of a compiled function": Variant(lambda: loop(compiled), report),
        "loop": Variant(lambda: loop(solve), report),
    }
    serve(variants, versions)
