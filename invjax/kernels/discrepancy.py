"""Distances of measures from kernels: maximum mean discrepancy, energy distance, and the witness between two clouds."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..eager import one_program
from ..ordering import argsort
from .base import RadialKernel
from .clouds import cloud, masses, pair
from .lines import GridLine, Line, SortedLine, grid_line, line_sum
from .plan import Plan
from .radial import NegativeDistance, slicing_constant
from .sliced import centred, holds, or_nan, sliced_own
from .sums import kernel_sum


def mmd2(
    kernel: RadialKernel,
    x: Float[Array, "N d"],
    y: Float[Array, "M d"],
    *,
    wx: Float[Array, " N"] | None = None,
    wy: Float[Array, " M"] | None = None,
    unbiased: bool = False,
    plan: Plan | None = None,
) -> Float[Array, ""]:
    """Squared maximum mean discrepancy ``E K(X, X') + E K(Y, Y') - 2 E K(X, Y)`` of two weighted clouds.

    The V-statistic (all pairs, the distance of the two discrete measures) or, ``unbiased``, the U-statistic without the pairs of
    a point with itself, whose mean over samples is the squared distance of their laws. Weights have sum one, uniform by default.
    A plan is one for ``((N + M, d), (N + M, d))``; one kernel sum is computed, of the signed measure.

    NaN where ``kernel_sum`` is: outside the radius of the plan. Raises ``ValueError`` for empty clouds, a single point where
    ``unbiased``, weights of another shape or (known) sum, and a singular kernel in a sliced sum.
    """
    x, y = pair(x, y, fewest=1)
    wx, wy = masses(wx, x, "wx"), masses(wy, y, "wy")
    if kernel.singular and plan is not None and plan.method != "dense":
        raise ValueError(
            "kernel: a singular kernel has no sliced discrepancy, since points interact with themselves in it"
        )
    if unbiased and min(len(x), len(y)) < 2:
        raise ValueError(f"unbiased: expected at least two points of each cloud, got {len(x)} and {len(y)}")
    return _mmd2(kernel, x, y, wx, wy, unbiased, plan)


@one_program
def _mmd2(
    kernel: RadialKernel, x: Array, y: Array, wx: Array, wy: Array, unbiased: bool, plan: Plan | None
) -> Float[Array, ""]:
    z = jnp.concatenate([x, y])
    if not unbiased:
        signed = jnp.concatenate([wx, -wy])
        return jnp.vdot(signed, kernel_sum(kernel, z, z, signed, plan=plan))
    apart = jnp.stack([jnp.concatenate([wx, 0 * wy]), jnp.concatenate([0 * wx, wy])])
    sums = jax.vmap(lambda w: kernel_sum(kernel, z, z, w, plan=plan))(apart)
    if plan is None or plan.method == "dense":
        own = kernel.of_square(jnp.zeros(z.shape[:1], z.dtype))
    else:
        own = sliced_own(kernel, z, plan)
    within = [(jnp.vdot(w, s) - jnp.vdot(w**2, own)) / (1 - jnp.sum(w**2)) for w, s in zip(apart, sums, strict=True)]
    return within[0] + within[1] - 2 * jnp.vdot(apart[0], sums[1])


def energy_distance(
    x: Float[Array, "N d"],
    y: Float[Array, "M d"],
    *,
    wx: Float[Array, " N"] | None = None,
    wy: Float[Array, " M"] | None = None,
    plan: Plan | None = None,
) -> Float[Array, ""]:
    """``2 E|X - Y| - E|X - X'| - E|Y - Y'|``: the squared MMD of the negative distance (some authors take half of it).

    With a sliced plan of ``NegativeDistance`` (directions are all that is used of it, and the nodes of a grid),
    ``2 c_d mean_p int (F_x - F_y)^2 dt`` with the distribution functions of the projections: a sum of squares, so that small
    distances keep their digits. ``method="sort"`` is exact on each line; frequencies ("fourier") are summed as for ``mmd2``. NaN
    and errors as there. Source: Szekely and Rizzo (2013), J. Stat. Plan.
    Inference 143(8); Hertrich and Gruhlke (2025), ICML.
    """
    kernel = NegativeDistance()
    if plan is None or plan.method in ("dense", "fourier"):
        return mmd2(kernel, x, y, wx=wx, wy=wy, plan=plan)
    plan.require(kernel)
    x, y = pair(x, y, fewest=1)
    cloud(x, "x", plan.dim)
    z, signed = _signed(x, y, wx, wy)
    return _sliced_energy(z, signed, plan)


def witness(
    kernel: RadialKernel,
    x: Float[Array, "N d"],
    y: Float[Array, "M d"],
    points: Float[Array, "n d"],
    *,
    wx: Float[Array, " N"] | None = None,
    wy: Float[Array, " M"] | None = None,
    plan: Plan | None = None,
) -> Float[Array, " n"]:
    """``E K(X, .) - E K(Y, .)`` at ``points``: positive where x has more mass, seen at the scale of the kernel.

    A plan is one for ``((N + M, d), (n, d))``. NaN and errors as for ``mmd2``.
    """
    z, signed = _signed(*pair(x, y, fewest=1), wx, wy)
    return kernel_sum(kernel, z, points, signed, plan=plan)


def _signed(x: Array, y: Array, wx: Any, wy: Any) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
    """The difference of the two measures, as one cloud with signed weights."""
    z = jnp.concatenate([x, y])
    return z, jnp.concatenate([masses(wx, x, "wx"), -masses(wy, y, "wy")]).astype(z.dtype)


@one_program
def _sliced_energy(z: Float[Array, "n d"], signed: Float[Array, " n"], plan: Plan) -> Float[Array, ""]:
    z = centred(z, plan)

    def one(direction: Array) -> tuple[Array, Array]:
        u = jnp.matmul(z, direction.astype(z.dtype), precision="highest")
        num_nodes = plan.num_nodes if plan.method == "grid" else None
        return _square_integral(u, signed, plan.radius.astype(u.dtype), num_nodes), holds(u, plan)

    squares, inside = jax.lax.map(jax.checkpoint(one), plan.directions)
    total = jnp.vdot(plan.weights.astype(z.dtype), squares)
    return or_nan(2 * slicing_constant(plan.dim) * total, jnp.all(inside))


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _square_integral(u: Array, signed: Array, radius: Array, num_nodes: int | None) -> Array:
    """``int F^2`` of the distribution function of a signed measure of mass zero, after sorting or spread to the nodes of a grid.

    The derivative is that of the kernel sum. On a grid a point's own mass, split between two nodes, has an energy that must not
    move it; points at one place must not be told apart by the order in which they were sorted.
    """
    if num_nodes is not None:
        spread = GridLine.spread(u, signed, radius, num_nodes)
        return jnp.sum(jnp.cumsum(spread) ** 2) * (2 * radius / (num_nodes - 1))
    order = argsort(u)
    u = u[order]
    return jnp.sum(jnp.cumsum(signed[order])[:-1] ** 2 * (u[1:] - u[:-1]))


@_square_integral.defjvp
def _square_integral_jvp(num_nodes, primals, tangents):
    u, signed, radius = primals
    # int F^2 = -1/2 sum_ij s_i s_j |u_i - u_j|
    if num_nodes is None:
        line: Line = SortedLine(jnp.full((), -0.5, u.dtype))
    else:
        line = grid_line(lambda t: -t / 2, num_nodes, radius)

    def by_sum(u: Array, signed: Array) -> Array:
        return jnp.vdot(signed, line_sum(line, u, u, signed))

    value = _square_integral(u, signed, radius, num_nodes)
    return value, jax.jvp(by_sum, (u, signed), tangents[:2])[1]
