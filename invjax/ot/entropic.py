"""The coupling of a pair of potentials: what the entropic solvers return."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..drive import Solution
from ..implicit import frozen
from ..kernels.clouds import cloud
from .costs import GridCost, MatrixCost, PointCost, map_rows
from .envelope import at_optimum
from .grid import costs_of_grid, means_of_grid
from .problem import Problem
from .softmin import fold_plan, marginals, plan_rows, row_sums, softmin, softmin_of

Potentials = tuple[Float[Array, " n"], Float[Array, " m"]]


class EntropicCoupling(eqx.Module):
    """``P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon)``, kept as its potentials; methods go through it in tiles of rows.

    ``value`` is the optimal regularised cost (its dual). ``marginal_error`` is the sum of the L1 errors of both marginals, each
    over its total; of a relaxed one, of its stationarity. ``duality_gap`` is the regularised cost of P less the dual value of the
    potentials: it tends to zero with the error, from either side while P is not quite feasible. ``status`` is one of
    ``invjax.Status``; ``check(coupling)`` raises. f and g have implicit derivatives, the diagnostics none.
    """

    problem: Problem
    epsilon: Float[Array, ""]
    f: Float[Array, " n"]
    g: Float[Array, " m"]
    value: Float[Array, ""]
    marginal_error: Float[Array, ""]
    duality_gap: Float[Array, ""]
    status: Int[Array, ""]
    num_steps: Int[Array, ""]

    @property
    def matrix(self) -> Float[Array, "n m"]:
        """The coupling as a matrix."""
        p = self.problem
        return plan_rows(p.matrix, self.f, self.g, p.a, p.b, self.epsilon)

    @property
    def T(self) -> EntropicCoupling:
        """The coupling of the two sides exchanged."""
        swapped = (self.problem.T, self.g, self.f)
        return eqx.tree_at(lambda c: (c.problem, c.f, c.g), self, swapped)

    @eqx.filter_jit
    def marginals(self) -> Potentials:
        """``P 1`` and ``P^T 1``."""
        return marginals(self.problem, self.f, self.g, self.epsilon)

    @eqx.filter_jit
    def apply(self, values: Float[Array, "m ..."]) -> Float[Array, "n ..."]:
        """``P v``; the transpose is ``coupling.T.apply``. On grids axis by axis, one column of v after the other."""
        values = jnp.asarray(values)
        if isinstance(self.problem.cost, GridCost):
            sums = row_sums(self.problem, self.f, self.g, self.epsilon)
            return jax.vmap(jnp.multiply)(sums, _means(self.problem.cost, self, values))

        def times(p: Array, _: Array) -> Array:
            return jnp.tensordot(p, values, 1)

        return fold_plan(self.problem, self.f, self.g, self.epsilon, times)

    @eqx.filter_jit
    def transport_cost(self) -> Float[Array, ""]:
        """``<P, C>``, on grids axis by axis."""
        if isinstance(self.problem.cost, GridCost):
            sums = row_sums(self.problem, self.f, self.g, self.epsilon)
            return jnp.vdot(sums, costs_of_grid(self.problem.cost, self.g, self.problem.b, self.epsilon))
        return jnp.sum(fold_plan(self.problem, self.f, self.g, self.epsilon, lambda p, c: jnp.sum(p * c, 1)))

    @eqx.filter_jit
    def barycentric(self, values: Float[Array, "m k"] | None = None) -> Float[Array, "n k"]:
        """The mean destination of every source: ``sum_j P_ij v_j / sum_j P_ij``; v are the points y by default."""
        return _means(self.problem.cost, self, values)

    @eqx.filter_jit
    def transport(self, x: Float[Array, "k d"], values: Float[Array, "m k"] | None = None) -> Float[Array, "k d"]:
        """The entropic map at any points: ``sum_j w_j(x) v_j``, ``w_j ~ b_j exp((g_j - c(x, y_j)) / epsilon)``, of sum one.

        Source: Pooladian and Niles-Weed (2021), arXiv 2109.12004, equation 7. Raises ``ValueError`` for costs given as a matrix.
        """
        return _means(self._at(x), self, values)

    @eqx.filter_jit
    def potential(self, x: Float[Array, "k d"]) -> Float[Array, " k"]:
        """The potential f of any points: the soft minimum of ``c(x, y_j) - g_j``. Raises ``ValueError`` as ``transport``."""
        return softmin(self._at(x), self.g, self.problem.b, self.epsilon)

    def sample(self, key: PRNGKeyArray, num: int) -> tuple[Int[Array, " num"], Int[Array, " num"]]:
        """Indices (i, j) of ``num`` independent pairs of the law ``P / sum P``."""
        return _sample(self, key, num)

    @eqx.filter_jit
    def sample_columns(self, key: PRNGKeyArray) -> Int[Array, " n"]:
        """For every row a column, drawn by its entries."""
        return _columns(self, key, self.problem.cost)

    def _at(self, x: Any) -> PointCost:
        cost = self.problem.cost
        if isinstance(cost, MatrixCost):
            raise ValueError("problem: expected costs of points, got a matrix, which says nothing of other points")
        points = cost.points
        return PointCost(cloud(x, "x", points.y.shape[1]), points.y, points.cost_fn)


def entropic_coupling(
    problem: Problem, epsilon: Array, potentials: Potentials, relax: tuple[Any, Any], found: Solution
) -> EntropicCoupling:
    """The coupling of potentials that a solver has found, with its value and its errors."""
    f, g = potentials
    value = at_optimum(_dual, potentials, problem, epsilon, relax)
    error, gap = _errors(*frozen((potentials, problem, epsilon, relax)))
    return EntropicCoupling(problem, epsilon, f, g, value, error, gap, found.status, found.num_steps)


def _dual(potentials: Potentials, problem: Problem, epsilon: Array, relax: tuple[Any, Any]) -> Array:
    """``<a, phi(f)> + <b, phi(g)> - epsilon (sum P - sum a sum b)``; ``phi(f) = rho (1 - exp(-f / rho))``, f for a constraint."""
    (f, g), (a, b) = potentials, (problem.a, problem.b)
    mass = jnp.sum(row_sums(problem, f, g, epsilon))
    linear = jnp.vdot(a, _conjugate(f, relax[0])) + jnp.vdot(b, _conjugate(g, relax[1]))
    return linear - epsilon * (mass - jnp.sum(a) * jnp.sum(b))


def _conjugate(potential: Array, weight: Array | None) -> Array:
    if weight is None:
        return potential
    rate = 1 / weight  # zero where an infinite weight makes a constraint
    return jnp.where(rate > 0, -jnp.expm1(-potential * rate) / jnp.where(rate > 0, rate, 1), potential)


def _errors(potentials: Potentials, problem: Problem, epsilon: Array, relax: tuple[Any, Any]) -> tuple[Array, Array]:
    """Marginal error and duality gap."""
    error, gap = jnp.zeros_like(epsilon), jnp.zeros_like(epsilon)
    sides = zip(potentials, marginals(problem, *potentials, epsilon), (problem.a, problem.b), relax, strict=True)
    for potential, marginal, mass, weight in sides:
        wanted = mass if weight is None else mass * jnp.exp(-potential / weight)
        error += jnp.sum(jnp.abs(marginal - wanted)) / jnp.sum(mass)
        gap += jnp.vdot(potential, marginal) - jnp.vdot(mass, _conjugate(potential, weight))
        if weight is not None:
            ratio = jnp.where(mass > 0, marginal / jnp.where(mass > 0, mass, 1), 1)
            divergence = jax.scipy.special.xlogy(marginal, ratio) - marginal + mass
            gap += jnp.sum(jnp.where(jnp.isfinite(weight), weight, 0) * divergence)
    return error, gap


def _means(cost: Any, coupling: EntropicCoupling, values: Any) -> Array:
    """Means of values over the columns for every row of a cost to the same columns."""
    if values is None:
        if isinstance(coupling.problem.cost, MatrixCost):
            raise ValueError("values: expected values (m, k) of the columns of a cost matrix, got None")
        values = coupling.problem.cost.points.y
    values, g, b = jnp.asarray(values), coupling.g, coupling.problem.b
    if isinstance(cost, GridCost):
        return means_of_grid(cost, g, b, coupling.epsilon, values)

    def of_rows(c: Array) -> Array:
        return jnp.tensordot(softmin_of(c, g, b, coupling.epsilon)[1] * b[None], values, 1)

    return map_rows(cost, of_rows)


@eqx.filter_jit
def _sample(coupling: EntropicCoupling, key: PRNGKeyArray, num: int) -> tuple[Array, Array]:
    """Rows by their sums, columns by inversion of each row's own distribution function: memory of a tile of rows."""
    row_key, column_key = jax.random.split(key)
    cost, (sums, _) = coupling.problem.cost, coupling.marginals()
    i = jax.vmap(draw, (0, None))(jax.random.uniform(row_key, (num,), sums.dtype), sums)
    chosen = MatrixCost(cost.matrix[i]) if isinstance(cost, MatrixCost) else coupling._at(cost.rows[i])
    return i, _columns(coupling, column_key, chosen)


def _columns(coupling: EntropicCoupling, key: PRNGKeyArray, cost: Any) -> Int[Array, " k"]:
    b = coupling.problem.b
    levels = jax.random.uniform(key, (cost.shape[0],), b.dtype)

    def of_rows(c: Array, level: Array) -> Array:
        return jax.vmap(draw)(level, softmin_of(c, coupling.g, b, coupling.epsilon)[1] * b[None])

    return map_rows(cost, of_rows, levels)


def draw(level: Float[Array, ""], weights: Float[Array, " m"]) -> Int[Array, ""]:
    """The first index at which the cumulative weight exceeds a level in [0, 1) of the total: never one of weight zero.

    Of weights that are NaN it is the last, which is no draw: their coupling has a status that says so.
    """
    cumulative = jnp.cumsum(weights)
    index = jnp.searchsorted(cumulative, level * cumulative[-1], side="right").astype(jnp.int32)
    return jnp.minimum(index, weights.shape[0] - 1)
