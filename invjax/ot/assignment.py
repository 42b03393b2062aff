"""The exact assignment of equally many points, with potentials that prove it optimal."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..drive import Status
from .problem import Problem
from .sinkhorn import Sinkhorn

_SMOOTHING = 0.002  # of the mean size of centred costs: epsilon of the potentials to start from
_SMOOTH_STEPS = 8


class Assignment(eqx.Module):
    """The coupling that sends row i to ``columns[i]``, all with the same mass.

    ``f``, ``g`` are optimal potentials, ``f_i + g_j <= C_ij`` with equality on the pairs: ``duality_gap``, the cost less
    ``<a, f> + <b, g>``, is zero up to rounding, which proves that no coupling is better. ``status`` is NON_FINITE where a NaN, or
    an infinite cost that no assignment avoids, makes the cost no number.
    """

    problem: Problem
    columns: Int[Array, " n"]
    f: Float[Array, " n"]
    g: Float[Array, " n"]
    duality_gap: Float[Array, ""]
    status: Int[Array, ""]

    @property
    def matrix(self) -> Float[Array, "n n"]:
        """The coupling as a matrix."""
        n = self.columns.shape[0]
        return jnp.zeros((n, n), self.f.dtype).at[jnp.arange(n), self.columns].set(self.problem.a)

    def transport_cost(self) -> Float[Array, ""]:
        """``<P, C>``. Its derivative is that of the cost of these pairs."""
        return jnp.vdot(self.problem.a, _costs_of(self.problem.matrix, self.columns))

    def barycentric(self, values: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """The destination of every row: ``values[columns]``."""
        return jnp.asarray(values)[self.columns]


def assignment(problem: Problem) -> Assignment:
    """The permutation of lowest cost, exactly: entropic potentials match most rows, shortest augmenting paths the rest.

    O(n^3) at worst. Masses have to be uniform: the optimum over all couplings is then a permutation (Birkhoff). Memory is that
    of the matrix of costs, also of clouds. Infinite costs forbid pairs.

    Raises ``ValueError`` for unequal numbers of rows and columns, and (known) masses that are not all the same.
    Source: Jonker and Volgenant (1987), Computing 38; Crouse (2016), IEEE Trans. Aerosp. Electron. Syst. 52.
    """
    n, m = problem.shape
    if n != m:
        raise ValueError(f"problem: expected as many rows as columns, got shape {(n, m)}")
    for mass, name in ((problem.a, "a"), (problem.b, "b")):
        if isinstance(mass, jax.core.Tracer):
            continue
        least, most = (float(end(np.asarray(mass))) for end in (np.min, np.max))
        if most - least > 1e-5 * most:
            raise ValueError(f"{name}: expected equal masses, got values from {least:.6g} to {most:.6g}")
    return _assignment(problem)


class _Matching(NamedTuple):
    """Potential of the columns, and who is matched with whom; -1 for nobody."""

    g: Float[Array, " n"]
    row_of: Int[Array, " n"]
    column_of: Int[Array, " n"]


class _Tree(NamedTuple):
    """Shortest paths from a free row to the columns: lengths, the row before each, which are final, and the last one made so."""

    length: Float[Array, " n"]
    before: Int[Array, " n"]
    final: Bool[Array, " n"]
    last: Int[Array, ""]


@eqx.filter_jit
def _assignment(problem: Problem) -> Assignment:
    costs = jax.lax.stop_gradient(problem.matrix)
    n = costs.shape[0]
    finite = jnp.isfinite(costs)
    largest = jnp.max(jnp.where(finite, jnp.abs(costs), 0))
    safe = jnp.where(finite, costs, jnp.where(largest > 0, 4 * n * largest, 1))
    start = _reduced(safe, finite)
    found = jax.lax.fori_loop(0, n, lambda row, matching: _match(safe, row.astype(jnp.int32), matching), start)
    f = _costs_of(safe, found.column_of) - found.g[found.column_of]
    cost = jnp.vdot(problem.a, _costs_of(costs, found.column_of))
    gap = cost - jnp.vdot(problem.a, f) - jnp.vdot(problem.b, found.g)
    good = jnp.isfinite(cost) & ~jnp.any(jnp.isnan(costs))
    status = jnp.where(good, Status.CONVERGED, Status.NON_FINITE).astype(jnp.int32)
    return Assignment(problem, found.column_of, f, found.g, gap, status)


def _reduced(costs: Array, finite: Array) -> _Matching:
    """Start: entropic potentials made feasible, and every row takes the column of its lowest reduced cost, if nobody else does.

    What a row or a column adds to all its costs is taken out first: it would hide the scale of what decides. So would what stands
    for infinite costs, which are twice the largest finite one here.
    """
    n = costs.shape[0]
    of_columns, of_rows = (_mean(costs, finite, axis) for axis in (0, 1))
    centred = costs - of_columns[None] - (of_rows - jnp.mean(of_rows))[:, None]
    sizes = jnp.where(finite, jnp.abs(centred), 0)
    centred = jnp.where(finite, centred, 2 * jnp.max(sizes))
    tiny = jnp.finfo(costs.dtype).tiny
    method = Sinkhorn(Problem(centred), _SMOOTHING * jnp.mean(sizes) + tiny)
    start = method.init(jnp.zeros((n,), costs.dtype))
    smooth = jax.lax.fori_loop(0, _SMOOTH_STEPS, lambda _, state: method.step(state)[0], start).position
    g = jnp.where(jnp.isfinite(smooth), smooth, 0) + of_columns
    f = jnp.min(costs - g[None], 1)
    g = jnp.min(costs - f[:, None], 0)
    best = jnp.argmin(costs - g[None], 1).astype(jnp.int32)
    rows = jnp.arange(n, dtype=jnp.int32)
    row_of = jnp.full((n,), -1, jnp.int32).at[best].max(rows)
    return _Matching(g, row_of, jnp.where(row_of[best] == rows, best, -1))


def _mean(costs: Array, finite: Array, axis: int) -> Array:
    return jnp.sum(jnp.where(finite, costs, 0), axis) / jnp.maximum(jnp.sum(finite, axis), 1).astype(costs.dtype)


def _match(costs: Array, row: Array, matching: _Matching) -> _Matching:
    """Match a row, if it is free, along the shortest path in reduced costs to a free column (Dijkstra), and update potentials.

    Loops end at once where the row is matched: under ``vmap`` a branch that is not taken would run, and might never end.
    """
    g, row_of, column_of = matching
    n = costs.shape[0]
    columns = jnp.arange(n, dtype=jnp.int32)
    free = column_of[row] < 0

    def on_the_way(tree: _Tree) -> Array:
        return free & (row_of[tree.last] >= 0)

    def extend(tree: _Tree) -> _Tree:
        i = row_of[tree.last]
        through = tree.length[tree.last] + (costs[i] - g) - (costs[i, tree.last] - g[tree.last])
        better = ~tree.final & (through < tree.length)
        length = jnp.where(better, through, tree.length)
        return settle(length, jnp.where(better, i, tree.before), tree.final)

    def settle(length: Array, before: Array, final: Array) -> _Tree:
        last = jnp.argmin(jnp.where(final, jnp.inf, length)).astype(jnp.int32)
        return _Tree(length, before, final | (columns == last), last)

    start = settle(costs[row] - g, jnp.full((n,), row, jnp.int32), jnp.zeros((n,), bool))
    tree = jax.lax.while_loop(on_the_way, extend, start)
    lower = jnp.where(tree.final & free, jnp.minimum(tree.length - tree.length[tree.last], 0), 0)
    return _flip(_Matching(g + lower, row_of, column_of), tree, row, free)


def _flip(matching: _Matching, tree: _Tree, row: Array, free: Array) -> _Matching:
    """Match the rows of the path from its end to its start with the columns after them."""

    def going(carry: tuple[Array, Array, Array]) -> Array:
        return carry[0] >= 0

    def back(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        column, row_of, column_of = carry
        i = tree.before[column]
        following = jnp.where(i == row, -1, column_of[i])
        return following, row_of.at[column].set(i), column_of.at[i].set(column)

    start = (jnp.where(free, tree.last, -1), matching.row_of, matching.column_of)
    _, row_of, column_of = jax.lax.while_loop(going, back, start)
    return _Matching(matching.g, row_of, column_of)


def _costs_of(costs: Array, columns: Array) -> Array:
    return jnp.take_along_axis(costs, columns[:, None], 1)[:, 0]
