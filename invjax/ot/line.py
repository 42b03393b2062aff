"""Transport on the line: the monotone rearrangement, exact for every cost that is convex in the difference."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..kernels.clouds import floating, require_sum_one
from ..types import real, require


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
    if a is None and b is None and x.shape == y.shape:
        return jnp.mean(power_of(jnp.sort(x) - jnp.sort(y), power))
    rows, columns, masses = _monotone(x, y, a, b)
    return jnp.sum(masses * power_of(x[rows] - y[columns], power))


def power_of(difference: Array, power: Array) -> Array:
    """``|d|^p``, whose derivative in d and in p is zero at d = 0."""
    size = jnp.abs(difference)
    positive = size > 0
    return jnp.where(positive, jnp.where(positive, size, 1) ** power, 0)


def _monotone(x: Array, y: Array, a: Array | None, b: Array | None) -> tuple[Array, Array, Array]:
    """Pairs and masses of the monotone coupling."""
    n, m = x.shape[0], y.shape[0]
    by_x, by_y = jnp.argsort(x), jnp.argsort(y)
    if a is None and b is None and n == m:
        return by_x, by_y, jnp.full((n,), 1 / n, x.dtype)
    ends_x = _levels(a, n, x.dtype) if a is None else jnp.cumsum(a[by_x])
    ends_y = _levels(b, m, y.dtype) if b is None else jnp.cumsum(b[by_y])
    # The levels of both in order: a level of x comes after the levels of y that are smaller, and before equal ones.
    at_x = jnp.arange(n, dtype=jnp.int32) + jnp.searchsorted(ends_y, ends_x).astype(jnp.int32)
    at_y = jnp.arange(m, dtype=jnp.int32) + jnp.searchsorted(ends_x, ends_y, side="right").astype(jnp.int32)
    size = n + m
    levels = jnp.zeros((size,), x.dtype).at[at_x].set(ends_x, unique_indices=True)
    levels = levels.at[at_y].set(ends_y, unique_indices=True)
    # Between two levels mass goes from the first x to the first y whose ends are not reached yet.
    before = jnp.zeros((size,), jnp.int32).at[at_x].set(1, unique_indices=True)
    done_x = jnp.cumsum(before) - before
    done_y = jnp.arange(size, dtype=jnp.int32) - done_x
    masses = jnp.diff(levels, prepend=0)
    return by_x[jnp.minimum(done_x, n - 1)], by_y[jnp.minimum(done_y, m - 1)], masses


def _levels(_: None, n: int, dtype: Any) -> Array:
    return jnp.arange(1, n + 1, dtype=dtype) / n


def _given(x: Any, y: Any, a: Any, b: Any) -> tuple[Array, Array, Array | None, Array | None]:
    x, y = floating(x, "x"), floating(y, "y")
    given = {}
    for name, points, mass in (("x", x, ("a", a)), ("y", y, ("b", b))):
        if points.ndim != 1 or points.shape[0] == 0:
            raise ValueError(f"{name}: expected points of shape (n,) with n > 0, got {points.shape}")
        label, weights = mass
        if weights is not None:
            weights = floating(weights, label)
            require(weights, label, shape=points.shape, nonnegative=True)
            require_sum_one(weights, label)
        given[label] = weights
    return x, y, given["a"], given["b"]
