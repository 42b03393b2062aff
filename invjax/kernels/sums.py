"""Kernel sums: one entry for all kernels and all methods."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..eager import one_program
from .base import RadialKernel
from .dense import dense_sum
from .plan import Plan
from .sliced import sliced_gradient, sliced_sum


class SumCheck(NamedTuple):
    """What ``checked_kernel_sum`` knows about its result."""

    error: Float[Array, " M"]
    """Half the difference of the sums over two halves of the directions. For independent directions, a standard error with one
    degree of freedom at each point; an optimised set is much better than its halves, so there it is an upper estimate."""
    outside: Bool[Array, ""]
    """True when a projection leaves the radius of the plan, or a bandwidth is smaller than the planned one: the sum is then wrong
    by more than ``error`` tells."""


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
    return _kernel_sum(*_checked(kernel, x, y, w, plan), plan)


def checked_kernel_sum(
    kernel: RadialKernel, x: Float[Array, "N d"], y: Float[Array, "M d"], w: Float[Array, " N"], *, plan: Plan
) -> tuple[Float[Array, " M"], SumCheck]:
    """``kernel_sum`` with an estimate of its error from two halves of the directions, and whether points left the radius
    (or a traced bandwidth is smaller than the planned one).
    """
    return _checked_sum(*_checked(kernel, x, y, w, plan), plan)


def kernel_sum_gradient(
    kernel: RadialKernel,
    x: Float[Array, "N d"],
    y: Float[Array, "M d"],
    w: Float[Array, " N"],
    *,
    plan: Plan | None = None,
) -> Float[Array, "M d"]:
    """``sum_n w_n grad_y K(x_n, y_m)``, at the cost of one sum: the field that moves particles y."""
    return _gradient(*_checked(kernel, x, y, w, plan), plan)[0]


def checked_kernel_sum_gradient(
    kernel: RadialKernel, x: Float[Array, "N d"], y: Float[Array, "M d"], w: Float[Array, " N"], *, plan: Plan | None
) -> tuple[Float[Array, "M d"], Bool[Array, ""]]:
    """``kernel_sum_gradient``, and whether a projection left the radius of the plan (never for a dense sum)."""
    field, inside = _gradient(*_checked(kernel, x, y, w, plan), plan)
    return field, ~inside


def _checked(
    kernel: RadialKernel, x: Array, y: Array, w: Array, plan: Plan | None
) -> tuple[RadialKernel, Array, Array, Array]:
    if plan is not None:
        plan.require(kernel)
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
    return kernel, x, y, w


@one_program
def _kernel_sum(kernel: RadialKernel, x: Array, y: Array, w: Array, plan: Plan | None) -> Array:
    if plan is None or plan.method == "dense":
        return dense_sum(kernel, x, y, w)
    return sliced_sum(kernel, x, y, w, plan, plan.weights[None])[0][0]


@one_program
def _gradient(kernel: RadialKernel, x: Array, y: Array, w: Array, plan: Plan | None) -> tuple[Array, Array]:
    if plan is None or plan.method == "dense":
        total, pull = jax.vjp(lambda points: dense_sum(kernel, x, points, w), y)
        return pull(jnp.ones_like(total))[0], jnp.asarray(True)
    return sliced_gradient(kernel, x, y, w, plan)


@one_program
def _checked_sum(kernel: RadialKernel, x: Array, y: Array, w: Array, plan: Plan) -> tuple[Array, SumCheck]:
    if plan.method == "dense":
        s = dense_sum(kernel, x, y, w)
        return s, SumCheck(jnp.zeros_like(s), jnp.asarray(False))
    shares = plan.weights[None]
    if plan.num_slices > 1:
        halves = plan.weights * (jnp.arange(plan.num_slices) % 2 == jnp.arange(2)[:, None])
        shares = jnp.concatenate([shares, halves / halves.sum(1, keepdims=True)])
    s, inside = sliced_sum(kernel, x, y, w, plan, shares)
    error = jnp.abs(s[1] - s[2]) / 2 if plan.num_slices > 1 else jnp.zeros_like(s[0])
    return s[0], SumCheck(error, ~inside)
