"""Sums and gradients by slices: project, sum on every line, put back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from .lines import Line, line_sum
from .plan import Plan

_POINTS = 1 << 16  # projections that are summed at a time: more would leave the cache
# Directions that share a matrix product with the points, where that is most of the work.
_PROJECTED, _HIGH_DIM = 64, 256
_STREAMS, _MANY = 8, 4096
_ROUNDING = 1e-5  # of the radius, which is often the largest distance of a point itself


def sliced_sum(
    kernel: Any,
    x: Float[Array, "N d"],
    y: Float[Array, "M d"],
    w: Float[Array, " N"],
    plan: Plan,
    shares: Float[Array, "R P"],
) -> tuple[Float[Array, "R M"], Bool[Array, ""]]:
    """``sum_p shares_rp s_p``, where s_p is the sum on the line of direction p; and whether the plan holds: NaN where not."""

    def collect(directions: Array, weights: Array, sums: Array) -> Array:
        return jnp.matmul(weights, sums, precision="highest")

    dtype = jnp.result_type(x, y)
    start = jnp.zeros((shares.shape[0], y.shape[0]), jnp.result_type(dtype, w))
    return _over_slices(plan.line(kernel, dtype), x, y, w, plan, shares, start, collect, plan.covers(kernel))


def sliced_gradient(
    kernel: Any, x: Float[Array, "N d"], y: Float[Array, "M d"], w: Float[Array, " N"], plan: Plan
) -> tuple[Float[Array, "M d"], Bool[Array, ""]]:
    """``sum_p weights_p xi_p sum_n w_n f'(<xi_p, y_m - x_n>)``; and whether the plan holds: NaN where not."""

    def collect(directions: Array, weights: Array, slopes: Array) -> Array:
        return jnp.matmul((weights[0][:, None] * slopes).T, directions, precision="highest")

    dtype = jnp.result_type(x, y)
    start = jnp.zeros(y.shape, jnp.result_type(dtype, w))
    line = plan.line(kernel, dtype).derivative()
    return _over_slices(line, x, y, w, plan, plan.weights[None], start, collect, plan.covers(kernel))


def sliced_own(kernel: Any, x: Float[Array, "N d"], plan: Plan) -> Float[Array, " N"]:
    """What a unit weight at each point adds to the sliced sum at that point: ``K(x, x)``, as the plan has it."""
    line, points = plan.line(kernel, x.dtype), centred(x, plan)

    def add(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        xi, weight = part
        return total + weight * line.own(jnp.matmul(points, xi, precision="highest")), None

    parts = plan.directions.astype(x.dtype), plan.weights.astype(x.dtype)
    return jax.lax.scan(add, jnp.zeros(x.shape[:1], x.dtype), parts)[0]


def holds(projections: Array, plan: Plan) -> Bool[Array, ""]:
    """Whether all projections are in the radius of the plan; sorting has none. False for NaN."""
    bound = jnp.inf if plan.method == "sort" else plan.radius.astype(projections.dtype) * (1 + _ROUNDING)
    return jnp.all(jnp.abs(jax.lax.stop_gradient(projections)) <= jax.lax.stop_gradient(bound))


def or_nan(value: Array, inside: Bool[Array, ""]) -> Array:
    """The value, or NaN (with NaN derivatives) where it would be wrong by any amount."""
    return value * jnp.where(inside, 1, jnp.nan).astype(value.dtype)


def _over_slices(
    line: Line, x: Array, y: Array, w: Array, plan: Plan, shares: Array, start: Array, collect: Callable, inside: Array
) -> tuple[Array, Array]:
    """The total of ``collect(directions, weights, sums)`` over batches of slices, one batch in memory at a time."""
    dtype = jnp.result_type(x, y)
    x, y = centred(x, plan), centred(y, plan)
    batch, group = batch_sizes(plan.num_slices, plan.dim, x.shape[0] + y.shape[0])
    xi = plan.directions.astype(dtype).reshape(-1, batch, plan.dim)
    weights = jnp.swapaxes(shares.astype(dtype).reshape(shares.shape[0], -1, batch), 0, 1)

    @partial(jax.checkpoint, prevent_cse=False)
    def add(carry: tuple[Array, Array], part: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        total, inside = carry
        directions, weights = part
        u, v = (jnp.matmul(directions, points.T, precision="highest") for points in (x, y))
        sums = in_groups(lambda uv: line_sum(line, *uv, w), (u, v), batch, group, x.shape[0] + y.shape[0])
        return (total + collect(directions, weights, sums), inside & holds(u, plan) & holds(v, plan)), None

    total, inside = jax.lax.scan(add, (start, inside), (xi, weights))[0]
    return or_nan(total, inside), inside


def centred(points: Array, plan: Plan) -> Array:
    """The points relative to the centre of the plan."""
    return points if plan.centre is None else points - plan.centre.astype(points.dtype)[None]


def in_groups(fn: Callable, lines: PyTree, num: int, group: int, num_points: int) -> Array:
    """``fn`` of each of ``num`` lines, ``group`` of them at a time."""
    if group == num:
        return _streams(fn, lines, group, num_points)
    grouped = jax.tree.map(lambda a: a.reshape(num // group, group, *a.shape[1:]), lines)
    out = jax.lax.map(lambda part: _streams(fn, part, group, num_points), grouped)
    return out.reshape(num, *out.shape[2:])


def _streams(fn: Callable, lines: PyTree, num: int, num_points: int) -> Array:
    """Many points: lines in calls that do not depend on each other, since the scatters of one batch run on one core of a CPU."""
    streams = _divisor(num, _STREAMS) if num_points >= _MANY else 1
    parts = [
        jax.tree.map(lambda a, i=i: a[i * (num // streams) : (i + 1) * (num // streams)], lines) for i in range(streams)
    ]
    return jnp.concatenate([jax.vmap(fn)(part) for part in parts]) if streams > 1 else jax.vmap(fn)(lines)


def batch_sizes(num_slices: int, dim: int, num_points: int) -> tuple[int, int]:
    """How many slices are projected at a time, and how many of these are summed at a time: divisors of the number of slices."""
    group = _divisor(num_slices, max(_STREAMS, _POINTS // max(1, num_points)))
    batch = _divisor(num_slices, max(group, _PROJECTED)) if dim >= _HIGH_DIM else group
    return batch, _divisor(batch, group)


def _divisor(number: int, most: int) -> int:
    return max(b for b in range(1, number + 1) if number % b == 0 and b <= most)
