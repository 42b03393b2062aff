"""Kernel sums: one entry for all kernels and all methods."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..eager import one_program
from .base import RadialKernel
from .dense import dense_sum
from .lines import line_sum
from .plan import Plan

_POINTS = 1 << 16  # of a batch of slices: larger ones leave the cache


class SumCheck(NamedTuple):
    """What ``checked_kernel_sum`` knows about its result."""

    error: Float[Array, " M"]
    """Half the difference of the sums over two halves of the directions. For independent directions, a standard error with one
    degree of freedom at each point; an optimised set is much better than its halves, so there it is an upper estimate."""
    outside: Bool[Array, ""]
    """True when a projection leaves the radius of the plan: the sum is then wrong by more than ``error`` tells."""


def kernel_sum(
    kernel: RadialKernel,
    x: Float[Array, "N d"],
    y: Float[Array, "M d"],
    w: Float[Array, " N"],
    *,
    plan: Plan | None = None,
) -> Float[Array, " M"]:
    """``s_m = sum_n w_n K(x_n, y_m)``.

    Without a plan over all pairs, exactly, in ``O(N M)`` time and ``O(N + M)`` memory; with one (``kernels.plan``) by slices, in
    ``O(P (N + M))``. Linear in ``w``; differentiable in both modes in points, weights and the kernel's parameters (twice on a
    grid). Many weights are one ``vmap``. Precision is that of the points.

    Raises ``ValueError`` for shapes that do not fit each other or the plan, and for values that are not real.
    """
    return _kernel_sum(kernel, *_checked(x, y, w, plan), plan)


def checked_kernel_sum(
    kernel: RadialKernel, x: Float[Array, "N d"], y: Float[Array, "M d"], w: Float[Array, " N"], *, plan: Plan
) -> tuple[Float[Array, " M"], SumCheck]:
    """``kernel_sum`` with an estimate of its error from two halves of the directions, and whether points left the radius."""
    return _checked_sum(kernel, *_checked(x, y, w, plan), plan)


def kernel_sum_gradient(
    kernel: RadialKernel,
    x: Float[Array, "N d"],
    y: Float[Array, "M d"],
    w: Float[Array, " N"],
    *,
    plan: Plan | None = None,
) -> Float[Array, "M d"]:
    """``sum_n w_n grad_y K(x_n, y_m)``, at the cost of one sum: the field that moves particles y."""
    x, y, w = _checked(x, y, w, plan)
    total, pull = jax.vjp(lambda points: _kernel_sum(kernel, x, points, w, plan), y)
    return pull(jnp.ones_like(total))[0]


def _checked(x: Array, y: Array, w: Array, plan: Plan | None) -> tuple[Array, Array, Array]:
    x, y, w = jnp.asarray(x), jnp.asarray(y), jnp.asarray(w)
    dim = x.shape[-1] if plan is None else plan.dim
    for name, cloud in (("x", x), ("y", y)):
        if cloud.ndim != 2 or cloud.shape[1] != dim:
            raise ValueError(f"{name}: expected points of shape (n, {dim}), got {cloud.shape}")
    if w.shape != x.shape[:1]:
        raise ValueError(f"w: expected shape {x.shape[:1]}, one weight a point of x, got {w.shape}")
    for name, array in (("x", x), ("y", y), ("w", w)):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{name}: expected real floating values, got {array.dtype}")
    return x, y, w


@one_program
def _kernel_sum(kernel: RadialKernel, x: Array, y: Array, w: Array, plan: Plan | None) -> Array:
    if plan is None or plan.method == "dense":
        return dense_sum(kernel, x, y, w)
    return _sliced(kernel, x, y, w, plan, plan.weights[None])[0][0]


@one_program
def _checked_sum(kernel: RadialKernel, x: Array, y: Array, w: Array, plan: Plan) -> tuple[Array, SumCheck]:
    if plan.method == "dense":
        s = dense_sum(kernel, x, y, w)
        return s, SumCheck(jnp.zeros_like(s), jnp.asarray(False))
    num = plan.num_slices
    if num < 2:
        s, inside = _sliced(kernel, x, y, w, plan, plan.weights[None])
        error = jnp.zeros_like(s[0])
    else:
        parts = plan.weights * (jnp.arange(num) % 2 == jnp.arange(2)[:, None])
        s, inside = _sliced(
            kernel, x, y, w, plan, jnp.concatenate([plan.weights[None], parts / parts.sum(1, keepdims=True)])
        )
        error = jnp.abs(s[1] - s[2]) / 2
    return s[0], SumCheck(error, ~inside)


def _sliced(
    kernel: RadialKernel, x: Array, y: Array, w: Array, plan: Plan, shares: Float[Array, "R P"]
) -> tuple[Float[Array, "R M"], Array]:
    """``sum_p shares_p s_p``, where s_p is the sum on the line of direction p; and whether all projections are inside."""
    dtype = jnp.result_type(x, y)
    line = plan.line(kernel, dtype)
    if plan.centre is not None:
        centre = plan.centre.astype(dtype)
        x, y = x - centre[None], y - centre[None]
    batch = _batch_size(plan.num_slices, x.shape[0] + y.shape[0])
    xi = plan.directions.astype(dtype).reshape(-1, batch, plan.dim)
    shares = jnp.swapaxes(shares.astype(dtype).reshape(shares.shape[0], -1, batch), 0, 1)

    radius = jax.lax.stop_gradient(plan.radius).astype(dtype)

    @partial(jax.checkpoint, prevent_cse=False)
    def add(carry: tuple[Array, Array], part: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        total, inside = carry
        directions, weights = part
        u, v = (jnp.matmul(directions, points.T, precision="highest") for points in (x, y))
        sums = jax.vmap(line_sum, in_axes=(None, 0, 0, None))(line, u, v, w)
        for a in (u, v):
            inside &= jnp.all(jnp.abs(jax.lax.stop_gradient(a)) <= radius)  # false for NaN too
        return (total + jnp.matmul(weights, sums, precision="highest"), inside), None

    start = jnp.zeros((shares.shape[1], y.shape[0]), jnp.result_type(dtype, w)), jnp.asarray(True)
    return jax.lax.scan(add, start, (xi, shares))[0]


def _batch_size(num_slices: int, num_points: int) -> int:
    """The largest divisor of the number of slices with at most ``_POINTS`` projections in a batch."""
    most = max(1, _POINTS // max(1, num_points))
    return max(b for b in range(1, num_slices + 1) if num_slices % b == 0 and b <= most)
