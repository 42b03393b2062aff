"""ott-jax's semi-discrete solver without regularisation on the uniform law, with rates and schedules of Adam."""

from __future__ import annotations

import functools
import importlib.metadata
from typing import Any

import numpy as np
from common import Variant, arguments, serve

args, problem = arguments()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
from ott.geometry.semidiscrete_pointcloud import SemidiscretePointCloud  # noqa: E402
from ott.problems.linear.semidiscrete_linear_problem import SemidiscreteLinearProblem  # noqa: E402
from ott.solvers.linear.semidiscrete import SemidiscreteSolver  # noqa: E402

STEPS, BATCH = int(problem["steps"]), int(problem["batch"])


def solver(rate: float, decaying: bool) -> SemidiscreteSolver:
    """Adam of a decaying rate and its last potential, or of a constant rate and an average of its potentials."""
    schedule = optax.cosine_decay_schedule(rate, STEPS) if decaying else rate
    return SemidiscreteSolver(
        num_iterations=STEPS,
        batch_size=BATCH,
        optimizer=optax.adam(schedule),
        error_eval_every=STEPS,
        error_num_repeats=1,
        threshold=0.0,  # all steps
        potential_ema=1.0 if decaying else 0.01,
    )


@functools.partial(jax.jit, static_argnames=("rate", "decaying"))
def solve(sites: Any, b: Any, rate: float, decaying: bool) -> Any:
    """The potentials."""
    given = SemidiscreteLinearProblem(SemidiscretePointCloud(jax.random.uniform, sites, epsilon=0.0), b)
    return solver(rate, decaying)(jax.random.key(0), given).g


if __name__ == "__main__":
    sites, b = jnp.asarray(problem["sites"]), jnp.asarray(problem["b"])
    variants = {
        f"Adam, rate {rate:g}, {'cosine' if decaying else 'constant, averaged'}": Variant(
            functools.partial(solve, sites, b, rate, decaying), lambda g: {"g": np.asarray(g, float).tolist()}
        )
        for rate in (1e-3, 1e-2)
        for decaying in (False, True)
    }
    serve(variants, {"ott-jax": importlib.metadata.version("ott-jax")}, jax.block_until_ready)
