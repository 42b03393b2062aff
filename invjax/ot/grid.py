"""Soft minima between two grids, one axis at a time, and what else the separability of their costs gives.

For ``C_ij = sum_k C^k_{i_k j_k}`` the sum ``sum_j w_j exp(s_j - C_ij / epsilon)`` is one over j_1 of one over j_2 of ...: time
``O(N (n_1 + ... + n_d))`` for N points, memory ``O(N)`` or of a tile.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .costs import GridCost, PointCost, map_rows


def softmin_of_grid(cost: GridCost, g: Float[Array, " m"], b: Float[Array, " m"], epsilon: Array) -> Float[Array, " n"]:
    """``-epsilon log sum_j b_j exp((g_j - C_ij) / epsilon)``."""
    (total,), top = _sums(cost, (b,), g / epsilon, 1 / epsilon)
    return -epsilon * (top + jnp.log(total))


def means_of_grid(
    cost: GridCost, g: Float[Array, " m"], b: Float[Array, " m"], epsilon: Array, values: Float[Array, "m ..."]
) -> Float[Array, "n ..."]:
    """``sum_j w_ij v_j`` of the rows ``w_ij ~ b_j exp((g_j - C_ij) / epsilon)`` of sum one; columns of v one after the other."""

    def mean(v: Array) -> Array:
        (total, moment), _ = _sums(cost, (b, b * v), g / epsilon, 1 / epsilon)
        return moment / total

    columns = values.reshape(values.shape[0], -1).astype(g.dtype).T
    return jax.lax.map(mean, columns).T.reshape(-1, *values.shape[1:])


def costs_of_grid(cost: GridCost, g: Float[Array, " m"], b: Float[Array, " m"], epsilon: Array) -> Float[Array, " n"]:
    """``sum_j w_ij C_ij`` of the same rows: minus the slope of the logarithm of sums in ``1 / epsilon``, g / epsilon fixed."""
    rate = 1 / epsilon
    (total, slope) = jax.jvp(lambda rate: _sums(cost, (b,), g / epsilon, rate)[0][0], (rate,), (jnp.ones_like(rate),))
    return -slope / total


def mean_on_grid(cost: GridCost, a: Float[Array, " n"], b: Float[Array, " m"], absolute: bool) -> Float[Array, ""]:
    """``sum_ij a_i b_j C_ij`` over the product of the masses, of the absolute costs along every axis where asked for."""
    masses = a.reshape([x.shape[0] for x in cost.x_axes]), b.reshape([y.shape[0] for y in cost.y_axes])
    total = jnp.zeros((), cost.dtype)
    for k, axis in enumerate(cost.axes):
        others = tuple(i for i in range(len(cost.axes)) if i != k)
        row, column = (jnp.sum(mass, others) for mass in masses)
        per_row = map_rows(axis, lambda c, column=column: (jnp.abs(c) if absolute else c) @ column)
        total += jnp.vdot(row, per_row)
    return total / (jnp.sum(a) * jnp.sum(b))


def largest_on_grid(cost: GridCost) -> Float[Array, ""]:
    """``max |C_ij|``: that of the sum of the largest and of the sum of the smallest costs along the axes."""
    extremes = [map_rows(axis, lambda c: (jnp.max(c, 1), jnp.min(c, 1))) for axis in cost.axes]
    high = sum(jnp.max(largest) for largest, _ in extremes)
    low = sum(jnp.min(smallest) for _, smallest in extremes)
    return jnp.maximum(jnp.abs(high), jnp.abs(low))


def _sums(
    cost: GridCost, weights: tuple[Array, ...], s: Float[Array, " m"], rate: Array
) -> tuple[tuple[Array, ...], Float[Array, " n"]]:
    """Numbers W and t with ``sum_j w_j exp(s_j - rate C_ij) = W_i exp(t_i)`` for all weights w, of which the first are masses."""
    shape = [y.shape[0] for y in cost.y_axes]
    weights, s = tuple(w.reshape(shape) for w in weights), s.reshape(shape)
    # The last axis is summed and its result put first: after all of them the order is as before.
    for axis in reversed(cost.axes):
        weights, s = _along(axis, weights, s, rate)
    return tuple(w.ravel() for w in weights), s.ravel()


def _along(axis: PointCost, weights: tuple[Array, ...], s: Array, rate: Array) -> tuple[tuple[Array, ...], Array]:
    """The sums over the last axis; t is the largest exponent where there is mass."""
    counted = (weights[0] > 0) | ~jnp.any(weights[0] > 0, axis=-1, keepdims=True)  # all of a line without mass

    def of_rows(c: Array) -> tuple[tuple[Array, ...], Array]:
        z = s[None] - rate * c.reshape(c.shape[0], *(1,) * (s.ndim - 1), c.shape[1])
        top = jax.lax.stop_gradient(jnp.max(jnp.where(counted[None], z, -jnp.inf), -1))
        # Where a mass is zero z may exceed the maximum: without the bound it would be zero times infinity.
        terms = jnp.exp(jnp.minimum(z - top[..., None], 60))
        return tuple(jnp.sum(w[None] * terms, -1) for w in weights), top

    return map_rows(axis, of_rows, repeats=s.size // s.shape[-1])
