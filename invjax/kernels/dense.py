"""Kernel sums over all pairs, in tiles: exact, with memory of one tile."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_TILE = 1024  # points of each cloud in a tile: 4 MB in float32
_EXACT_DIM = 3  # up to this dimension differences cost no more than the matrix product


def dense_sum(
    kernel: Any, x: Float[Array, "N d"], y: Float[Array, "M d"], w: Float[Array, " N"], tile: int = _TILE
) -> Float[Array, " M"]:
    """``s_m = sum_n w_n K(x_n, y_m)``; time ``O(N M d)``, memory ``O(N + M)`` also under differentiation."""
    exact = kernel.singular or x.shape[1] <= _EXACT_DIM
    rows, columns, weights = tiles(y, tile), tiles(x, tile), tiles(w, tile)  # weights are padded by zeros

    def of_rows(targets: Array) -> Array:
        @partial(jax.checkpoint, prevent_cse=False)
        def add(total: Array, tile: tuple[Array, Array]) -> tuple[Array, None]:
            sources, weight = tile
            values = kernel.of_square(square_distances(targets, sources, exact))
            return total + jnp.matmul(values, weight, precision="highest"), None

        zero = jnp.zeros((targets.shape[0],), jnp.result_type(targets, weights))
        return jax.lax.scan(add, zero, (columns, weights))[0]

    return jax.lax.map(of_rows, rows).reshape(-1)[: y.shape[0]]


def square_distances(y: Float[Array, "m d"], x: Float[Array, "n d"], exact: bool) -> Float[Array, "m n"]:
    """``|y_i - x_j|^2``: from differences, or by a matrix product, with an error of a rounding of the larger square."""
    if exact:

        def add(q: Array, coordinate: tuple[Array, Array]) -> tuple[Array, None]:
            a, b = coordinate
            return q + (a[:, None] - b[None]) ** 2, None

        zero = jnp.zeros((y.shape[0], x.shape[0]), x.dtype)
        return jax.lax.scan(add, zero, (y.T, x.T), unroll=min(x.shape[1], _EXACT_DIM))[0]
    squares = jnp.sum(y**2, 1)[:, None] + jnp.sum(x**2, 1)[None]
    return jnp.maximum(squares - 2 * jnp.matmul(y, x.T, precision="highest"), 0)


def tiles(a: Array, size: int = _TILE) -> Array:
    """``(number, size, ...)``, padded by zeros; the sizes are equal, so the last is hardly padded."""
    number = max(1, -(-a.shape[0] // size))
    size = -(-a.shape[0] // number)
    padded = jnp.pad(a, [(0, number * size - a.shape[0])] + [(0, 0)] * (a.ndim - 1))
    return padded.reshape(number, size, *a.shape[1:])
