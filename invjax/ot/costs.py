"""Ground costs: a matrix, or a function of two clouds of points or two grids that is evaluated in tiles of rows."""

from __future__ import annotations

import math
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

    @property
    def points(self) -> PointCost:
        """The same."""
        return self

    def block(self, rows: Float[Array, "r d"]) -> Float[Array, "r m"]:
        """The costs of some rows."""
        return all_pairs(self.cost_fn, rows, self.y)


class GridCost(eqx.Module):
    """Costs ``C_ij = sum_k c(x^k_{i_k}, y^k_{j_k})`` between the points of two grids, never held as a matrix.

    ``x_axes`` are the coordinates (n_1,), ..., (n_d,) along the axes of the grid of the rows, ``y_axes`` those of the columns, by
    default the same. Points are numbered in C order, so the masses of an image are ``image.ravel()``. ``cost_fn`` is the cost
    along one axis, a function of two points (1,) as in ``PointCost``: squared distances by default, and ``Distance(p)`` makes
    ``sum_k |x_k - y_k|^p``. Soft minima and what follows from them take one axis at a time (``grid.py``), the rest runs in tiles.

    Raises ``ValueError`` for axes that are not one-dimensional or empty, and for grids of different dimension.
    """

    x_axes: tuple[Float[Array, " n_k"], ...]
    y_axes: tuple[Float[Array, " m_k"], ...]
    cost_fn: Any

    def __init__(self, x_axes: Any, y_axes: Any = None, cost_fn: Any = SquaredEuclidean()):
        self.x_axes = _axes(x_axes, "x_axes")
        self.y_axes = self.x_axes if y_axes is None else _axes(y_axes, "y_axes")
        self.cost_fn = cost_fn
        if len(self.x_axes) != len(self.y_axes):
            raise ValueError(f"y_axes: expected {len(self.x_axes)} axes as x_axes has, got {len(self.y_axes)}")

    @property
    def shape(self) -> tuple[int, int]:
        return math.prod(x.shape[0] for x in self.x_axes), math.prod(y.shape[0] for y in self.y_axes)

    @property
    def dtype(self) -> Any:
        return jnp.result_type(*self.x_axes, *self.y_axes)

    @property
    def T(self) -> GridCost:
        return GridCost(self.y_axes, self.x_axes, _swapped(self.cost_fn))

    @property
    def axes(self) -> tuple[PointCost, ...]:
        """The costs along every axis."""
        pairs = zip(self.x_axes, self.y_axes, strict=True)
        return tuple(PointCost(x[:, None], y[:, None], self.cost_fn) for x, y in pairs)

    @property
    def points(self) -> PointCost:
        """The same costs, as those of two clouds."""
        return PointCost(_product(self.x_axes), _product(self.y_axes), _PerAxis(self.cost_fn))

    @property
    def rows(self) -> Float[Array, "n d"]:
        """What a row of the matrix is made of."""
        return _product(self.x_axes)

    def block(self, rows: Float[Array, "r d"]) -> Float[Array, "r m"]:
        """The costs of some rows."""
        return self.points.block(rows)


Cost = MatrixCost | PointCost | GridCost


class _PerAxis(eqx.Module):
    """``sum_k c(x_k, y_k)``."""

    cost_fn: Any

    def __call__(self, x: Array, y: Array) -> Array:
        return self.all_pairs(x[None], y[None])[0, 0]

    def all_pairs(self, x: Array, y: Array) -> Array:
        parts = [all_pairs(self.cost_fn, x[:, k, None], y[:, k, None]) for k in range(x.shape[1])]
        return sum(parts[1:], parts[0])


def _axes(axes: Any, name: str) -> tuple[Array, ...]:
    made = tuple(floating(axis, name) for axis in axes)
    if not made or any(axis.ndim != 1 or axis.shape[0] == 0 for axis in made):
        raise ValueError(f"{name}: expected coordinates (n,) of one or more axes, got {[a.shape for a in made]}")
    return made


def _product(axes: tuple[Array, ...]) -> Float[Array, "n d"]:
    """The points of a grid in C order."""
    return jnp.stack([c.ravel() for c in jnp.meshgrid(*axes, indexing="ij")], 1)


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
    if isinstance(cost, GridCost):
        return cost
    if isinstance(cost, PointCost):
        return PointCost(*pair(cost.x, cost.y, 1), cost.cost_fn)
    matrix = floating(cost.matrix if isinstance(cost, MatrixCost) else cost, "cost")
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"cost: expected a matrix of shape (n, m) with n, m > 0, got {matrix.shape}")
    return MatrixCost(matrix)


def map_rows(cost: Cost, fn: Callable[..., PyTree], *rows: Array, repeats: int = 1) -> PyTree:
    """``fn(C, *rows)`` of all rows: ``fn`` takes costs ``(r, m)`` and r entries of each array, and returns r rows.

    A matrix that is there is taken whole; costs of points are made in tiles of ``2^20`` entries, whose memory is the only one
    needed, also under differentiation. The last tile is filled up by its last row, for which ``fn`` is known to be fine.
    ``repeats``: how many numbers ``fn`` makes of an entry.
    """
    n, m = cost.shape[0], cost.shape[1] * repeats
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
