"""A transport problem: what it costs to move mass between places, how much is there and how much is wanted."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..kernels.clouds import floating
from .costs import Cost, GridCost, PointCost, SquaredEuclidean, as_cost, map_rows
from .grid import largest_on_grid, mean_on_grid


class Problem(eqx.Module):
    """``min <P, C>`` over couplings ``P >= 0`` of ``a`` (n,) and ``b`` (m,): ``P 1 = a``, ``P^T 1 = b``.

    ``cost`` is a matrix (n, m), a ``PointCost`` or a ``GridCost``. The marginals are uniform of sum one by default; entries may
    be zero. A solver that takes no marginals of different sums says so.

    Raises ``ValueError`` for shapes that do not fit, complex or half precision, and for known entries that are negative or NaN.
    """

    cost: Cost
    a: Float[Array, " n"]
    b: Float[Array, " m"]

    def __init__(self, cost: Any, a: Any = None, b: Any = None):
        self.cost = as_cost(cost)
        n, m = self.cost.shape
        self.a = _marginal(a, n, "a", self.cost.dtype)
        self.b = _marginal(b, m, "b", self.cost.dtype)

    @property
    def shape(self) -> tuple[int, int]:
        return self.cost.shape

    @property
    def dtype(self) -> Any:
        return self.cost.dtype

    @property
    def T(self) -> Problem:
        """The problem with the two sides exchanged."""
        return Problem(self.cost.T, self.b, self.a)

    @property
    def matrix(self) -> Float[Array, "n m"]:
        """The matrix of costs."""
        return self.cost.block(self.cost.rows)

    def mean_cost(self, absolute: bool = False) -> Float[Array, ""]:
        """``sum_ij a_i b_j C_ij`` (or of ``|C_ij|``) over the product of the masses: the scale to choose ``epsilon`` by.

        On grids ``absolute`` takes the absolute cost along every axis, which is the same for costs of one sign.
        """
        if isinstance(self.cost, GridCost):
            return mean_on_grid(self.cost, self.a, self.b, absolute)
        per_row = map_rows(self.cost, lambda c: (jnp.abs(c) if absolute else c) @ self.b)
        return jnp.vdot(self.a, per_row) / (jnp.sum(self.a) * jnp.sum(self.b))

    def largest_cost(self) -> Float[Array, ""]:
        """``max |C_ij|``."""
        if isinstance(self.cost, GridCost):
            return largest_on_grid(self.cost)
        return jnp.max(map_rows(self.cost, lambda c: jnp.max(jnp.abs(c), 1)))

    def require_balanced(self) -> None:
        """Raise ``ValueError`` where the sums of the marginals are known and differ by more than float32 roundings."""
        if any(isinstance(mass, jax.core.Tracer) for mass in (self.a, self.b)):
            return
        sums = [float(np.sum(np.asarray(mass, np.float64))) for mass in (self.a, self.b)]
        if not abs(sums[0] - sums[1]) <= 1e-4 * max(sums):
            raise ValueError(f"a, b: expected equal sums, got {sums[0]:.6g} and {sums[1]:.6g}; see ot.unbalanced")


def between(x: Any, y: Any, a: Any = None, b: Any = None, *, cost_fn: Any = SquaredEuclidean()) -> Problem:
    """The problem of moving the cloud x (n, d) to y (m, d): ``Problem(PointCost(x, y, cost_fn), a, b)``."""
    return Problem(PointCost(x, y, cost_fn), a, b)


def _marginal(mass: Any, size: int, name: str, dtype: Any) -> Array:
    if mass is None:
        return jnp.full((size,), 1 / size, dtype)
    mass = floating(mass, name)
    if mass.shape != (size,):
        raise ValueError(f"{name}: expected shape {(size,)}, got {mass.shape}")
    if not isinstance(mass, jax.core.Tracer):
        smallest, total = (float(v) for v in (np.min(np.asarray(mass)), np.sum(np.asarray(mass, np.float64))))
        if not smallest >= 0 or not 0 < total < np.inf:
            raise ValueError(f"{name}: expected masses >= 0 of a positive sum, got minimum {smallest}, sum {total}")
    return mass.astype(dtype)
