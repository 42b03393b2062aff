"""Transport on the line: the monotone rearrangement, exact for every cost that is convex in the difference."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..kernels.clouds import floating, masses
from ..ordering import argsort, sort
from ..types import real, require
from .costs import power_of


class LineCoupling(eqx.Module):
    """The monotone coupling: ``masses[l]`` from ``x[rows[l]]`` to ``y[columns[l]]``, in n + m pairs, or n if uniform."""

    rows: Int[Array, " l"]
    columns: Int[Array, " l"]
    masses: Float[Array, " l"]
    shape: tuple[int, int] = eqx.field(static=True)

    @property
    def matrix(self) -> Float[Array, "n m"]:
        """The coupling as a matrix."""
        return jnp.zeros(self.shape, self.masses.dtype).at[self.rows, self.columns].add(self.masses)


def line_coupling(
    x: Float[Array, " n"],
    y: Float[Array, " m"],
    a: Float[Array, " n"] | None = None,
    b: Float[Array, " m"] | None = None,
) -> LineCoupling:
    """The coupling of the quantiles of two discrete laws on the line, uniform by default: time ``O((n + m) log(n + m))``.

    Optimal for ``c(x, y) = h(x - y)`` with h convex. The masses are differentiable in a and b.
    Raises ``ValueError`` for what is not one-dimensional and not empty, and weights of another shape or (known) sum than one.
    """
    x, y, a, b = _given(x, y, a, b)
    rows, columns, masses = _monotone(x, y, a, b)
    return LineCoupling(rows, columns, masses, (x.shape[0], y.shape[0]))


def line_wasserstein(
    x: Float[Array, " n"],
    y: Float[Array, " m"],
    a: Float[Array, " n"] | None = None,
    b: Float[Array, " m"] | None = None,
    *,
    power: Any = 2.0,
) -> Float[Array, ""]:
    """``W_p^p = int_0^1 |F_x^{-1}(t) - F_y^{-1}(t)|^p dt`` of two discrete laws on the line, ``p >= 1``.

    Differentiable in points, weights and p. Raises ``ValueError`` as ``line_coupling``, and for p below 1.
    """
    require(power, "power", at_least=1.0, shape=())
    x, y, a, b = _given(x, y, a, b)
    return line_cost(x, y, a, b, jnp.asarray(real(power), x.dtype))


def line_cost(x: Array, y: Array, a: Array | None, b: Array | None, power: Array) -> Float[Array, ""]:
    """``W_p^p`` of arguments that are known to be right; None stands for uniform weights."""
    if a is None and b is None:  # the sorted points are all that counts, and sorting alone is cheaper than ordering
        rows, columns, shares = uniform_pairs(x.shape[0], y.shape[0], x.dtype)
        return jnp.sum(shares * power_of(jnp.abs(sort(x)[rows] - sort(y)[columns]), power))
    rows, columns, shares = _monotone(x, y, a, b)
    return jnp.sum(shares * power_of(jnp.abs(x[rows] - y[columns]), power))


def _monotone(x: Array, y: Array, a: Array | None, b: Array | None) -> tuple[Array, Array, Array]:
    """Pairs and masses of the monotone coupling."""
    n, m = x.shape[0], y.shape[0]
    by_x, by_y = argsort(x), argsort(y)
    if a is None and b is None:
        rows, columns, shares = uniform_pairs(n, m, x.dtype)
        return by_x[rows], by_y[columns], shares
    ends_x = jnp.cumsum(jnp.full((n,), 1 / n, x.dtype) if a is None else a[by_x])
    ends_y = jnp.cumsum(jnp.full((m,), 1 / m, x.dtype) if b is None else b[by_y])
    # Between two levels mass goes from the first x to the first y whose ends are not reached yet.
    levels = jnp.concatenate([ends_x, ends_y])
    order = argsort(levels)
    of_x = (order < n).astype(jnp.int32)
    done_x = jnp.cumsum(of_x) - of_x
    done_y = jnp.arange(n + m, dtype=jnp.int32) - done_x
    shares = jnp.diff(levels[order], prepend=0)
    return by_x[jnp.minimum(done_x, n - 1)], by_y[jnp.minimum(done_y, m - 1)], shares


def uniform_pairs(n: int, m: int, dtype: Any) -> tuple[Any, Any, Array]:
    """Ranks and masses of the pairs for uniform weights: which ranks meet depends on the numbers of points alone."""
    if n == m:
        return slice(None), slice(None), jnp.full((n,), 1 / n, dtype)
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # of the levels, times n m
    before = ends - np.diff(ends, prepend=0)
    return before // m, before // n, jnp.asarray(np.diff(ends, prepend=0) / (n * m), dtype)


def _given(x: Any, y: Any, a: Any, b: Any) -> tuple[Array, Array, Array | None, Array | None]:
    x, y = floating(x, "x"), floating(y, "y")
    for name, points in (("x", x), ("y", y)):
        if points.ndim != 1 or points.shape[0] == 0:
            raise ValueError(f"{name}: expected points of shape (n,) with n > 0, got {points.shape}")
    dtype = jnp.result_type(x, y)
    x, y = x.astype(dtype), y.astype(dtype)
    return x, y, given_masses(a, x, "a"), given_masses(b, y, "b")


def given_masses(weights: Any, points: Array, name: str) -> Array | None:
    """Weights of sum one in the dtype of the points; None, which is uniform, stays."""
    if weights is None:
        return None
    weights = floating(weights, name)
    require(weights, name, nonnegative=True)
    return masses(weights, points, name)
