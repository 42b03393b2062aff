"""Kernel sums over all pairs, in tiles: exact, with memory of one tile."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_TILE = 1024  # points of each cloud in a tile: 4 MB in float32
_EXACT_DIM = 3  # up to this dimension differences cost no more than the matrix product
# Differences take all columns, and as many rows as make a tile of 4 MB: XLA on CPU would compile a short inner loop without a
# matrix product into scalar code, six times slower.
_COLUMNS, _AREA, _FEWEST_ROWS = 1 << 17, 1 << 20, 8


def dense_sum(kernel: Any, x: Float[Array, "N d"], y: Float[Array, "M d"], w: Float[Array, " N"]) -> Float[Array, " M"]:
    """``s_m = sum_n w_n K(x_n, y_m)``; time ``O(N M d)``, memory ``O(N + M)`` also under differentiation."""
    exact = kernel.singular or x.shape[1] <= _EXACT_DIM
    if not exact:  # only differences matter: a shift keeps the products small
        shift = jax.lax.stop_gradient(jnp.sum(x, 0) / max(x.shape[0], 1))[None]
        x, y = x - shift, y - shift
    width = min(max(x.shape[0], 1), _COLUMNS) if exact else _TILE
    height = max(_FEWEST_ROWS, _AREA // width) if exact else _TILE
    rows, columns, weights = tiles(y, height), tiles(x, width), tiles(w, width)  # weights are padded by zeros
    distances = square_distances
    if exact:
        rows, columns, distances = jnp.swapaxes(rows, 1, 2), jnp.swapaxes(columns, 1, 2), from_differences

    def of_rows(targets: Array) -> Array:
        @partial(jax.checkpoint, prevent_cse=False)
        def add(total: Array, tile: tuple[Array, Array]) -> tuple[Array, None]:
            sources, weight = tile
            values = kernel.of_square(distances(targets, sources))
            return total + jnp.matmul(values, weight, precision="highest"), None

        zero = jnp.zeros((rows.shape[2 if exact else 1],), jnp.result_type(targets, weights))
        return jax.lax.scan(add, zero, (columns, weights))[0]

    return jax.lax.map(of_rows, rows).reshape(-1)[: y.shape[0]]


def square_distances(y: Float[Array, "m d"], x: Float[Array, "n d"]) -> Float[Array, "m n"]:
    """``|y_i - x_j|^2`` by a matrix product: off by a rounding of the larger square."""
    squares = jnp.sum(y**2, 1)[:, None] + jnp.sum(x**2, 1)[None]
    return jnp.maximum(squares - 2 * jnp.matmul(y, x.T, precision="highest"), 0)


def from_differences(y: Float[Array, "d m"], x: Float[Array, "d n"]) -> Float[Array, "m n"]:
    """The same from differences, so that coinciding points have distance zero; coordinates first, so that they are contiguous."""

    def add(q: Array, coordinate: tuple[Array, Array]) -> tuple[Array, None]:
        a, b = coordinate
        return q + (a[:, None] - b[None]) ** 2, None

    q = jnp.zeros((y.shape[1], x.shape[1]), x.dtype)
    if x.shape[0] > _EXACT_DIM:
        return jax.lax.scan(add, q, (y, x))[0]
    for coordinate in zip(y, x, strict=True):
        q, _ = add(q, coordinate)
    return q


def tiles(a: Array, size: int = _TILE) -> Array:
    """``(number, size, ...)``, padded by zeros; the sizes are equal, so the last is hardly padded."""
    number = max(1, -(-a.shape[0] // size))
    size = -(-a.shape[0] // number)
    padded = jnp.pad(a, [(0, number * size - a.shape[0])] + [(0, 0)] * (a.ndim - 1))
    return padded.reshape(number, size, *a.shape[1:])
