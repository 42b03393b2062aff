"""Couplings of low rank, whose factors are all that is held: the solver is that of ott-jax."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..drive import Status
from ..implicit import frozen
from ..types import real, require
from .costs import PointCost, SquaredEuclidean, map_rows
from .entropic import draw
from .problem import Problem


class LowRankCoupling(eqx.Module):
    """``P = Q diag(1 / g) R^T`` with Q (n, r), R (m, r) non-negative: mass goes through r places in between, g (r,) of them.

    ``marginal_error`` is the sum of the L1 errors of both marginals, each over its total. ``status`` is one of ``invjax.Status``.
    The factors have no derivatives (zero); a cost is differentiable in the costs of the problem.
    """

    problem: Problem
    q: Float[Array, "n r"]
    r: Float[Array, "m r"]
    g: Float[Array, " r"]
    marginal_error: Float[Array, ""]
    status: Int[Array, ""]
    num_steps: Int[Array, ""]

    @property
    def matrix(self) -> Float[Array, "n m"]:
        """The coupling as a matrix."""
        return (self.q / self.g[None]) @ self.r.T

    @property
    def T(self) -> LowRankCoupling:
        """The coupling of the two sides exchanged."""
        return eqx.tree_at(lambda c: (c.problem, c.q, c.r), self, (self.problem.T, self.r, self.q))

    def apply(self, values: Float[Array, "m ..."]) -> Float[Array, "n ..."]:
        """``P v``, in time ``O((n + m) r)``; the transpose is ``coupling.T.apply``."""
        return jnp.tensordot(self.q / self.g[None], jnp.tensordot(self.r.T, jnp.asarray(values), 1), 1)

    @eqx.filter_jit
    def transport_cost(self) -> Float[Array, ""]:
        """``<P, C>``."""
        weights = self.q / self.g[None]
        return jnp.sum(map_rows(self.problem.cost, lambda c, w: jnp.sum((c @ self.r) * w, 1), weights))

    @eqx.filter_jit
    def sample_columns(self, key: PRNGKeyArray) -> Int[Array, " n"]:
        """For every row a column, drawn by its entries: first a place in between, then a column. Memory ``O((n + m) r)``."""
        n, m = self.problem.shape
        first, second = jax.random.split(key)
        place = jax.vmap(draw)(jax.random.uniform(first, (n,), self.q.dtype), self.q)
        cumulative = jnp.cumsum(self.r, 0)
        levels = jax.random.uniform(second, (n,), self.q.dtype) * cumulative[-1, place]
        by_place = jax.vmap(lambda c: jnp.searchsorted(c, levels, side="right"), 1)(cumulative)
        return jnp.minimum(by_place[place, jnp.arange(n)], m - 1).astype(jnp.int32)


def low_rank(
    key: PRNGKeyArray,
    problem: Problem,
    rank: int,
    *,
    epsilon: Any = 0.0,
    gamma: Any = 100.0,
    atol: float = 1e-5,
    max_steps: int = 2000,
) -> LowRankCoupling:
    """A coupling of rank at most ``rank`` and of low ``<P, C> - epsilon (H(Q) + H(R) + H(g))``: mirror descent on its factors.

    A local minimum, from a random start: the problem is not convex, so the best of several keys, in one ``vmap``, can be
    better. ``gamma`` is the step size relative to the gradients, ``atol`` bounds the change of the factors of a step (the sum
    of their divergences over ``gamma^2``), which are feasible to about 1e-3. For ``|x - y|^2`` of points a step is ``O((n + m)
    r d)`` in time and memory, otherwise it holds the matrix of costs. Solved by ``ott.solvers.linear.sinkhorn_lr.LRSinkhorn``.

    Raises ``ValueError`` for a rank not in [2, min(n, m)], ``epsilon`` below zero, ``gamma`` not positive and marginals of
    different sums. Source: Scetbon, Cuturi and Peyre (2021), ICML, algorithm 3.
    """
    problem.require_balanced()
    if not 2 <= rank <= min(problem.shape):  # of rank one there is only the product of the marginals
        raise ValueError(f"rank: expected 2 to {min(problem.shape)}, got {rank}")
    require(epsilon, "epsilon", nonnegative=True, shape=())
    require(gamma, "gamma", positive=True, shape=())
    epsilon, gamma = (jnp.asarray(real(v), problem.dtype) for v in (epsilon, gamma))
    return _low_rank(key, problem, rank, epsilon, gamma, float(atol), int(max_steps))


@eqx.filter_jit
def _low_rank(
    key: PRNGKeyArray, problem: Problem, rank: int, epsilon: Any, gamma: Any, atol: float, max_steps: int
) -> LowRankCoupling:
    from ott.geometry import geometry, pointcloud  # seconds to import
    from ott.initializers.linear.initializers_lr import RandomInitializer
    from ott.problems.linear.linear_problem import LinearProblem
    from ott.solvers.linear.sinkhorn_lr import LRSinkhorn

    still = frozen(problem)
    cost = still.cost
    if isinstance(cost, PointCost) and isinstance(cost.cost_fn, SquaredEuclidean):
        costs: Any = pointcloud.PointCloud(cost.x, cost.y)
    else:
        costs = geometry.Geometry(still.matrix)
    solver = LRSinkhorn(
        rank=rank,
        gamma=gamma,
        epsilon=epsilon,
        initializer=RandomInitializer(rank),
        threshold=atol,
        max_iterations=max_steps,
    )
    found = frozen(solver(LinearProblem(costs, still.a, still.b), rng=key))
    q, r, g = found.q, found.r, found.g
    error = jnp.sum(jnp.abs(q @ (r.sum(0) / g) - still.a)) / jnp.sum(still.a)
    error += jnp.sum(jnp.abs(r @ (q.sum(0) / g) - still.b)) / jnp.sum(still.b)
    ended = jnp.where(found.converged, Status.CONVERGED, Status.MAX_STEPS)
    status = jnp.where(jnp.isfinite(error), ended, Status.NON_FINITE).astype(jnp.int32)
    num_steps = jnp.sum(found.errors != -1).astype(jnp.int32) * found.inner_iterations
    return LowRankCoupling(problem, q, r, g, error, status, num_steps)
