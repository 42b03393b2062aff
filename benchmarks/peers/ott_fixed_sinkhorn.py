"""ott-jax's entropic cost of two clouds and its gradient, after a fixed number of iterations."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
from common import Variant, arguments, serve

args, problem = arguments()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from ott.geometry import pointcloud  # noqa: E402
from ott.solvers import linear  # noqa: E402

iterations = int(problem["iterations"])
options = {"min_iterations": iterations, "max_iterations": iterations, "threshold": 0.0}


@jax.jit
def run(x: Any, y: Any) -> tuple[tuple[Any, Any], Any]:
    """Value with the last error of the marginals, and gradient."""

    def loss(x: Any) -> tuple[Any, Any]:
        out = linear.solve(pointcloud.PointCloud(x, y, epsilon=float(problem["epsilon"])), **options)
        return out.reg_ot_cost, out.errors[-1]

    return jax.value_and_grad(loss, has_aux=True)(x)


if __name__ == "__main__":
    x, y = jnp.asarray(problem["x"]), jnp.asarray(problem["y"])
    report = lambda out: {"value": float(out[0][0]), "error": float(np.asarray(out[0][1]))}  # noqa: E731
    variant = Variant(lambda: run(x, y), report)
    serve(
        {f"{iterations} iterations": variant}, {"ott-jax": importlib.metadata.version("ott-jax")}, jax.block_until_ready
    )
