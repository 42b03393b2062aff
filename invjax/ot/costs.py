"""Ground costs: a matrix, or a function of two clouds of points that is evaluated in tiles of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..kernels.clouds import floating, pair
from ..kernels.dense import from_differences, square_distances
from ..types import norm, real, require

_AREA = 1 << 20  # entries of a tile: 4 MB in float32
_EXACT_DIM = 3  # up to this dimension differences cost no more than the matrix product


class SquaredEuclidean(eqx.Module):
    """``c(x, y) = |x - y|^2``."""

    def __call__(self, x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
        return jnp.sum((x - y) ** 2)

    def all_pairs(self, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """The matrix of costs: from differences in few dimensions, else by a matrix product of centred points."""
        if x.shape[1] <= _EXACT_DIM:
            return from_differences(x.T, y.T)
        centre = jax.lax.stop_gradient(jnp.mean(y, 0))[None]
        return square_distances(x - centre, y - centre)


class Distance(eqx.Module):
    """``c(x, y) = |x - y|_q^p``, of the norm ``q`` (1, 2 or inf) and the power ``p > 0``. Its derivative at x = y is zero."""

    power: Float[Array, ""] = eqx.field(converter=real, default=1.0)
    order: float = eqx.field(static=True, default=2)

    def __check_init__(self):
        require(self.power, "power", positive=True)
        if self.order not in (1, 2, float("inf")):
            raise ValueError(f"order: expected 1, 2 or inf, got {self.order!r}")

    def __call__(self, x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
        difference = x - y
        if self.order == 2:
            length = norm(difference)
        else:
            sizes = jnp.abs(difference)
            length = jnp.sum(sizes) if self.order == 1 else jnp.max(sizes, initial=0)
        return power_of(length, self.power.astype(length.dtype))


def power_of(size: Array, exponent: Array) -> Array:
    """``s^p`` of sizes ``s >= 0``, whose derivatives in s and in p are zero at s = 0."""
    zero = size == 0
    return jnp.where(zero, 0, jnp.where(zero, 1, size) ** exponent)


class MatrixCost(eqx.Module):
    """Costs given as a matrix ``C`` (n, m)."""

    matrix: Float[Array, "n m"] = eqx.field(converter=real)

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape[0], self.matrix.shape[1]

    @property
    def dtype(self) -> Any:
        return self.matrix.dtype

    @property
    def T(self) -> MatrixCost:
        return MatrixCost(self.matrix.T)

    @property
    def rows(self) -> Float[Array, "n m"]:
        """What a row of the matrix is made of."""
        return self.matrix

    def block(self, rows: Float[Array, "r m"]) -> Float[Array, "r m"]:
        """The costs of some rows."""
        return rows


class PointCost(eqx.Module):
    """Costs ``C_ij = c(x_i, y_j)`` of clouds x (n, d) and y (m, d): a matrix only where a solver finds that it is small.

    ``cost_fn`` is any function of two points; one that also has ``all_pairs(x, y)``, as ours and those of ott-jax do, is
    evaluated by it.
    """

    x: Float[Array, "n d"]
    y: Float[Array, "m d"]
    cost_fn: Any = SquaredEuclidean()

    @property
    def shape(self) -> tuple[int, int]:
        return self.x.shape[0], self.y.shape[0]

    @property
    def dtype(self) -> Any:
        return jnp.result_type(self.x, self.y)

    @property
    def T(self) -> PointCost:
        return PointCost(self.y, self.x, _swapped(self.cost_fn))

    @property
    def rows(self) -> Float[Array, "n d"]:
        """What a row of the matrix is made of."""
        return self.x

    def block(self, rows: Float[Array, "r d"]) -> Float[Array, "r m"]:
        """The costs of some rows."""
        return all_pairs(self.cost_fn, rows, self.y)


Cost = MatrixCost | PointCost


class _Swapped(eqx.Module):
    """``c(y, x)`` as a function of x and y."""

    cost_fn: Any

    def __call__(self, x: Array, y: Array) -> Array:
        return self.cost_fn(y, x)

    def all_pairs(self, x: Array, y: Array) -> Array:
        return all_pairs(self.cost_fn, y, x).T


def _swapped(cost_fn: Any) -> Any:
    if isinstance(cost_fn, (SquaredEuclidean, Distance)):  # symmetric
        return cost_fn
    return cost_fn.cost_fn if isinstance(cost_fn, _Swapped) else _Swapped(cost_fn)


def all_pairs(cost_fn: Any, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """The matrix of costs of two clouds."""
    if hasattr(cost_fn, "all_pairs"):
        return cost_fn.all_pairs(x, y)
    return jax.vmap(lambda a: jax.vmap(lambda b: cost_fn(a, b))(y))(x)


def as_cost(cost: Any) -> Cost:
    """A cost as it is, or a matrix as a ``MatrixCost``. Raises ``ValueError`` for what is neither."""
    if isinstance(cost, PointCost):
        return PointCost(*pair(cost.x, cost.y, 1), cost.cost_fn)
    matrix = floating(cost.matrix if isinstance(cost, MatrixCost) else cost, "cost")
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"cost: expected a matrix of shape (n, m) with n, m > 0, got {matrix.shape}")
    return MatrixCost(matrix)


def map_rows(cost: Cost, fn: Callable[..., PyTree], *rows: Array) -> PyTree:
    """``fn(C, *rows)`` of all rows: ``fn`` takes costs ``(r, m)`` and r entries of each array, and returns r rows.

    A matrix that is there is taken whole; costs of points are made in tiles of ``2^20`` entries, whose memory is the only one
    needed, also under differentiation. The last tile is filled up by its last row, for which ``fn`` is known to be fine.
    """
    n, m = cost.shape
    if isinstance(cost, MatrixCost) or n * m <= _AREA:
        return fn(cost.block(cost.rows), *rows)
    height = max(1, _AREA // m)
    missing = -n % height
    cut = [
        jnp.concatenate([a, jnp.repeat(a[-1:], missing, 0)]).reshape(-1, height, *a.shape[1:])
        for a in (cost.rows, *rows)
    ]
    of_tile = jax.checkpoint(lambda part: fn(cost.block(part[0]), *part[1:]), prevent_cse=False)
    made = jax.lax.map(of_tile, cut)
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:n], made)
