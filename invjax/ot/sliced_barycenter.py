"""Sliced Wasserstein barycentres of clouds: points move to the fit of what they are matched with on lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..drive import Solution, solve
from ..kernels.clouds import cloud, floating, require_sum_one
from ..kernels.dense import tiles
from ..ordering import argsort, sort
from ..types import norm, real, require
from .envelope import at_optimum
from .line import uniform_pairs
from .sinkhorn import tolerance

_TOGETHER = 32  # directions projected on at once


class SlicedBarycenter(eqx.Module):
    """``positions`` of the points of the barycentre, which have equal masses, and ``value``, the objective there.

    ``residual`` is the root mean square of the last move over the spread of the clouds. ``status`` is one of ``invjax.Status``;
    ``check(barycenter)`` raises. Positions and value have implicit derivatives.
    """

    positions: Float[Array, "n d"]
    value: Float[Array, ""]
    residual: Float[Array, ""]
    status: Int[Array, ""]
    num_steps: Int[Array, ""]


class SlicedState(NamedTuple):
    """Positions of the points."""

    position: Float[Array, "n d"]


class SlicedInfo(NamedTuple):
    """``residual``: root mean square of the move over the spread of the clouds. ``objective``: that of the positions left."""

    residual: Float[Array, ""]
    objective: Float[Array, ""]


class SlicedMatching(eqx.Module):
    """``x_i <- A^{-1} mean_theta theta sum_k w_k T^k_theta(x_i)``, ``A = mean_theta theta theta^T``: least squares.

    The method behind ``sliced_barycenter``. ``T^k_theta`` matches the projections of the points with those of cloud k
    monotonically: it is the mean of the quantiles that a point takes. The cost of this matching, held fixed, is nowhere below the
    objective and equals it at the present positions; the step minimises it, so the objective never rises. Where A is I / d it is
    the gradient descent of the source with ``step_size = n d / 2``.
    """

    clouds: tuple[Float[Array, "m_k d"], ...]
    directions: Float[Array, "P d"]
    weights: Float[Array, " k"]

    def init(self, x: Float[Array, "n d"], key: Any = None) -> SlicedState:
        """Start at these positions."""
        return SlicedState(x)

    def step(self, state: SlicedState) -> tuple[SlicedState, SlicedInfo]:
        """One matching along every direction, and the fit to it."""
        x = state.position
        new, objective = self._fit(x)
        return SlicedState(new), SlicedInfo(norm(new - x) / (math.sqrt(x.shape[0]) * self._spread()), objective)

    def fixed_point(self, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """A step."""
        return self._fit(x)[0]

    def objective(self, x: Float[Array, "n d"]) -> Float[Array, ""]:
        """``sum_k w_k SW_2^2(x, Y_k)``."""
        return self._fit(x)[1]

    def centre(self) -> Float[Array, " d"]:
        """The mean of the clouds."""
        return self.weights @ jnp.stack([jnp.mean(y, 0) for y in self.clouds])

    def _spread(self) -> Array:
        """Root mean square distance from the centre; one for clouds without any."""
        centre = self.centre()[None]
        square = jnp.vdot(self.weights, jnp.stack([jnp.mean(jnp.sum((y - centre) ** 2, 1)) for y in self.clouds]))
        return jnp.sqrt(jnp.where(square == 0, 1, square))

    def _fit(self, x: Array) -> tuple[Array, Array]:
        """The positions that fit the matching at x best, and the objective at x."""

        @jax.checkpoint
        def add(carry: tuple[Array, Array], theta: Array) -> tuple[tuple[Array, Array], None]:
            targets, costs = jax.vmap(self._match, (None, 0))(x, theta)
            pull = jnp.matmul(targets.T, theta, precision="highest")
            return (carry[0] + pull, carry[1] + jnp.sum(costs)), None

        num = self.directions.shape[0]
        start = jnp.zeros_like(x), jnp.zeros((), x.dtype)
        (pull, costs), _ = jax.lax.scan(add, start, tiles(self.directions, min(num, _TOGETHER)))  # padding: all zero
        matrix = jnp.matmul(self.directions.T, self.directions, precision="highest")
        return jnp.linalg.solve(matrix, pull.T).T, costs / num

    def _match(self, x: Array, theta: Array) -> tuple[Array, Array]:
        """Along one direction, what every point is matched with, and the cost: weighted means over the clouds."""
        line = jnp.matmul(x, theta, precision="highest")
        order = argsort(line)
        sides = [matched(line[order], sort(jnp.matmul(y, theta, precision="highest"))) for y in self.clouds]
        targets, costs = (self.weights @ jnp.stack(side) for side in zip(*sides, strict=True))
        return jnp.zeros_like(line).at[order].set(targets, unique_indices=True), costs


def matched(x: Float[Array, " n"], y: Float[Array, " m"]) -> tuple[Float[Array, " n"], Float[Array, ""]]:
    """Of two sorted uniform laws on the line: the mean of y that each x is matched with, and ``W_2^2``."""
    n, m = x.shape[0], y.shape[0]
    rows, columns, masses = uniform_pairs(n, m, x.dtype)
    cost = jnp.vdot(masses, (x[rows] - y[columns]) ** 2)
    return y if n == m else n * jax.ops.segment_sum(masses * y[columns], rows, n, indices_are_sorted=True), cost


def sliced_barycenter(
    clouds: Float[Array, "k m d"] | Sequence[Float[Array, "m_k d"]],
    directions: Float[Array, "P d"],
    weights: Float[Array, " k"] | None = None,
    *,
    start: Float[Array, "n d"] | None = None,
    rtol: Any = None,
    max_steps: int = 1000,
) -> SlicedBarycenter:
    """Points that minimise ``sum_k w_k SW_2^2(x, Y_k)``, with fixed directions and uniform masses, from ``start``.

    ``clouds`` are an array (k, m, d) or a sequence of clouds of any sizes; ``start`` (n, d), the first of them by default, says
    how many points the barycentre has. The objective is not convex: what is found is stationary, and depends on the start. On
    the line it is the barycentre itself, the mean of the quantiles. Stops when a step moves the points by less than ``rtol`` of
    the spread of the clouds, the square root of the machine epsilon by default. A step sorts every projection, 32 at once.

    Raises ``ValueError`` for shapes that do not fit, weights that are negative or not of sum one, and (known) directions that do
    not span the space.
    Source: Rabin, Peyre, Delon and Bernot (2011), SSVM; Bonneel, Rabin, Peyre and Pfister (2015), J. Math. Imaging Vis. 51.
    """
    first = cloud(clouds[0], "clouds[0]", fewest=1) if len(clouds) else None
    if first is None:
        raise ValueError("clouds: expected at least one, got none")
    dtype, dim = first.dtype, first.shape[1]
    given = tuple(cloud(y, f"clouds[{k}]", dim, 1).astype(dtype) for k, y in enumerate(clouds))
    if weights is None:
        weights = jnp.full((len(given),), 1 / len(given), dtype)
    weights = floating(real(weights), "weights")
    require(weights, "weights", shape=(len(given),), nonnegative=True)
    require_sum_one(weights, "weights")
    start = first if start is None else cloud(start, "start", dim, 1).astype(dtype)
    method = SlicedMatching(given, _spanning(directions, dim).astype(dtype), weights.astype(dtype))
    return _solve(method, start, tolerance(rtol, dtype), max_steps)


@eqx.filter_jit
def _solve(method: SlicedMatching, start: Array, rtol: Array, max_steps: int) -> SlicedBarycenter:
    """Around the centre of the clouds: roundings are then those of their spread."""
    centre = method.centre()[None]
    moved = eqx.tree_at(lambda m: m.clouds, method, tuple(y - centre for y in method.clouds))
    found: Solution = solve(moved, start - centre, rtol=0.0, atol=rtol, max_steps=max_steps)
    value = at_optimum(lambda x, method: method.objective(x), found.position, moved)
    return SlicedBarycenter(found.position + centre, value, found.residual, found.status, found.num_steps)


def _spanning(directions: Any, dim: int) -> Array:
    directions = floating(directions, "directions")
    require(directions, "directions", ndim=2)
    if directions.shape[1] != dim or directions.shape[0] < dim:
        raise ValueError(f"directions: expected shape (P, {dim}) with P >= {dim}, got {directions.shape}")
    if not isinstance(directions, jax.core.Tracer) and np.linalg.matrix_rank(np.asarray(directions)) < dim:
        raise ValueError(f"directions: expected some that span {dim} dimensions, got fewer")
    return directions
