"""The soft minimum over rows of costs, and what follows from a pair of potentials: plan and marginals.

A pair of potentials ``f`` (n,), ``g`` (m,) stands for ``P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon)``. They are finite
also where a mass is zero, and tend to those of Kantorovich as ``epsilon`` tends to zero.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .costs import Cost, GridCost, MatrixCost, map_rows
from .grid import softmin_of_grid
from .problem import Problem


def softmin(cost: Cost, g: Float[Array, " m"], b: Float[Array, " m"], epsilon: Float[Array, ""]) -> Float[Array, " n"]:
    """``-epsilon log sum_j b_j exp((g_j - C_ij) / epsilon)`` for every row: the best potential for that of the columns."""
    if isinstance(cost, GridCost):
        return softmin_of_grid(cost, g, b, epsilon)
    return map_rows(cost, lambda c: softmin_of(c, g, b, epsilon)[0])


def softmin_of(c: Float[Array, "r m"], g: Array, b: Array, epsilon: Array) -> tuple[Array, Array]:
    """The soft minimum F of some rows, and ``exp((F_i + g_j - C_ij) / epsilon)``, whose sums weighted by b are one."""
    z = (g[None] - c) / epsilon
    top = jax.lax.stop_gradient(jnp.max(jnp.where(b > 0, z, -jnp.inf), axis=1, keepdims=True))
    # Where a mass is zero z may exceed the maximum: without the bound it would be zero times infinity.
    terms = jnp.exp(jnp.minimum(z - top, 60))
    total = jnp.sum(b[None] * terms, axis=1, keepdims=True)
    return -epsilon * (top + jnp.log(total))[:, 0], terms / total


def plan_rows(c: Array, f: Array, g: Array, a: Array, b: Array, epsilon: Array) -> Array:
    """Rows of the plan of potentials."""
    return a[:, None] * b[None] * jnp.exp((f[:, None] + g[None] - c) / epsilon)


def fold_plan(problem: Problem, f: Array, g: Array, epsilon: Array, fn: Any) -> Any:
    """``fn(P, C)`` of all rows of the plan and the costs, in tiles; ``fn`` returns values for each row."""

    def of_rows(c: Array, f: Array, a: Array) -> Any:
        return fn(plan_rows(c, f, g, a, problem.b, epsilon), c)

    return map_rows(problem.cost, of_rows, f, problem.a)


def marginals(
    problem: Problem, f: Float[Array, " n"], g: Float[Array, " m"], epsilon: Float[Array, ""]
) -> tuple[Float[Array, " n"], Float[Array, " m"]]:
    """Row and column sums of the plan of potentials."""
    if isinstance(problem.cost, MatrixCost):  # one pass for both
        plan = plan_rows(problem.matrix, f, g, problem.a, problem.b, epsilon)
        return jnp.sum(plan, 1), jnp.sum(plan, 0)
    return row_sums(problem, f, g, epsilon), row_sums(problem.T, g, f, epsilon)


def row_sums(problem: Problem, f: Array, g: Array, epsilon: Array) -> Float[Array, " n"]:
    """Row sums of the plan of potentials, on grids by their soft minimum: ``a exp((f - softmin(g)) / epsilon)``."""
    if isinstance(problem.cost, GridCost):
        return problem.a * jnp.exp((f - softmin(problem.cost, g, problem.b, epsilon)) / epsilon)
    return fold_plan(problem, f, g, epsilon, lambda p, _: jnp.sum(p, 1))
