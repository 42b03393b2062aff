"""Distances of measures from kernels: maximum mean discrepancy, energy distance, and the witness between two clouds."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..eager import one_program
from .base import RadialKernel
from .lines import GridLine, grid_line, line_sum
from .plan import Plan
from .radial import NegativeDistance, slicing_constant
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

    Raises ``ValueError`` for weights of another shape, and for a singular kernel in a sliced sum.
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    wx, wy = _weights(wx, x, "wx"), _weights(wy, y, "wy")
    z = jnp.concatenate([x, y])
    if kernel.singular and plan is not None and plan.method != "dense":
        raise ValueError(
            "kernel: a singular kernel has no sliced discrepancy, since points interact with themselves in it"
        )
    if not unbiased:
        signed = jnp.concatenate([wx, -wy])
        return jnp.vdot(signed, kernel_sum(kernel, z, z, signed, plan=plan))
    apart = jnp.stack([jnp.concatenate([wx, 0 * wy]), jnp.concatenate([0 * wx, wy])])
    sums = jax.vmap(lambda w: kernel_sum(kernel, z, z, w, plan=plan))(apart)
    diagonal = kernel.of_square(jnp.zeros((), z.dtype))
    within = [
        (jnp.vdot(w, s) - diagonal * jnp.sum(w**2)) / (1 - jnp.sum(w**2)) for w, s in zip(apart, sums, strict=True)
    ]
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
    distances keep their digits. ``method="sort"`` is exact on each line. Source: Szekely and Rizzo (2013), J. Stat. Plan.
    Inference 143(8); Hertrich and Gruhlke (2025), ICML.
    """
    if plan is None or plan.method == "dense":
        return mmd2(NegativeDistance(), x, y, wx=wx, wy=wy, plan=plan)
    x, y = jnp.asarray(x), jnp.asarray(y)
    signed = jnp.concatenate([_weights(wx, x, "wx"), -_weights(wy, y, "wy")])
    return _sliced_energy(jnp.concatenate([x, y]), signed, plan)


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

    A plan is one for ``((N + M, d), (n, d))``.
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    signed = jnp.concatenate([_weights(wx, x, "wx"), -_weights(wy, y, "wy")])
    return kernel_sum(kernel, jnp.concatenate([x, y]), points, signed, plan=plan)


def _weights(w: Array | None, cloud: Array, name: str) -> Array:
    if w is None:
        return jnp.full((cloud.shape[0],), 1 / cloud.shape[0], cloud.dtype)
    w = jnp.asarray(w)
    if w.shape != cloud.shape[:1]:
        raise ValueError(f"{name}: expected shape {cloud.shape[:1]}, one weight a point, got {w.shape}")
    return w.astype(cloud.dtype)


@one_program
def _sliced_energy(z: Float[Array, "n d"], signed: Float[Array, " n"], plan: Plan) -> Float[Array, ""]:
    if plan.centre is not None:
        z = z - plan.centre.astype(z.dtype)[None]

    def one(direction: Array) -> Array:
        u = jnp.matmul(z, direction.astype(z.dtype), precision="highest")
        if plan.method == "sort":
            return _square_of_sorted(u, signed)
        return _square_on_grid(u, signed, plan.radius.astype(u.dtype), plan.num_nodes)

    squares = jax.lax.map(jax.checkpoint(one), plan.directions)
    return 2 * slicing_constant(plan.dim) * jnp.vdot(plan.weights.astype(z.dtype), squares)


def _square_of_sorted(u: Array, signed: Array) -> Array:
    """``int F^2`` of the distribution function of a signed measure of mass zero."""
    order = jnp.argsort(u)
    u = u[order]
    return jnp.sum(jnp.cumsum(signed[order])[:-1] ** 2 * (u[1:] - u[:-1]))


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _square_on_grid(u: Array, signed: Array, radius: Array, num_nodes: int) -> Array:
    """The same after spreading the mass to the nodes of a grid.

    The derivative is that of the kernel sum: a point's own mass, split between two nodes, has an energy that must not move it.
    """
    spread = GridLine.spread(u, signed, radius, num_nodes)
    return jnp.sum(jnp.cumsum(spread) ** 2) * (2 * radius / (num_nodes - 1))


@_square_on_grid.defjvp
def _square_on_grid_jvp(num_nodes, primals, tangents):
    u, signed, radius = primals
    line = grid_line(lambda t: -t / 2, num_nodes, radius)  # int F^2 = -1/2 sum_ij s_i s_j |u_i - u_j|

    def by_sum(u: Array, signed: Array) -> Array:
        return jnp.vdot(signed, line_sum(line, u, u, signed))

    return _square_on_grid(u, signed, radius, num_nodes), jax.jvp(by_sum, (u, signed), tangents[:2])[1]
