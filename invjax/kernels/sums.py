"""Kernel sums: one entry for all kernels and all methods."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..eager import one_program
from .base import RadialKernel, require_scalars
from .clouds import cloud, floating
from .dense import dense_sum
from .plan import Plan
from .sliced import sliced_gradient, sliced_sum


class SumCheck(NamedTuple):
    """What ``checked_kernel_sum`` knows about its result."""

    error: Float[Array, " M"]
    """Half the difference of the sums over two halves of the directions. For independent directions, a standard error with one
    degree of freedom at each point; an optimised set is much better than its halves, so there it is an upper estimate."""
    outside: Bool[Array, ""]
    """True when a projection leaves the radius of the plan, or a bandwidth is smaller than the planned one: why a sum is NaN."""


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
    ``O(P (N + M))``. Linear in ``w``; differentiable in both modes in points, weights and the kernel's parameters, twice on a
    grid. (``method="sort"`` has no second derivative but zero: through a flow, differentiate a grid.) Many weights are one
    ``vmap``, inside ``jit`` one program. Precision is that of the points; rounding is relative to their spread.

    NaN when a projection leaves the radius of the plan or a traced bandwidth is smaller than the planned one
    (``checked_kernel_sum`` says so).

    Raises ``ValueError`` for shapes that do not fit each other or the plan, and for values that are not float32 or float64.
    """
    return _kernel_sum(*checked_arguments(kernel, x, y, w, plan), plan)


def checked_kernel_sum(
    kernel: RadialKernel, x: Float[Array, "N d"], y: Float[Array, "M d"], w: Float[Array, " N"], *, plan: Plan | None
) -> tuple[Float[Array, " M"], SumCheck]:
    """``kernel_sum`` with an estimate of its error from two halves of the directions, and whether it is NaN because points left
    the radius or a traced bandwidth is smaller than the planned one.
    """
    return _checked_sum(*checked_arguments(kernel, x, y, w, plan), plan)


def kernel_sum_gradient(
    kernel: RadialKernel,
    x: Float[Array, "N d"],
    y: Float[Array, "M d"],
    w: Float[Array, " N"],
    *,
    plan: Plan | None = None,
) -> Float[Array, "M d"]:
    """``sum_n w_n grad_y K(x_n, y_m)``, at the cost of one sum: the field that moves particles y."""
    return _gradient(*checked_arguments(kernel, x, y, w, plan), plan)[0]


def checked_kernel_sum_gradient(
    kernel: RadialKernel, x: Float[Array, "N d"], y: Float[Array, "M d"], w: Float[Array, " N"], *, plan: Plan | None
) -> tuple[Float[Array, "M d"], Bool[Array, ""]]:
    """``kernel_sum_gradient``, and whether a projection left the radius of the plan (never for a dense sum)."""
    field, inside = _gradient(*checked_arguments(kernel, x, y, w, plan), plan)
    return field, ~inside


def checked_arguments(
    kernel: RadialKernel, x: Array, y: Array, w: Array, plan: Plan | None
) -> tuple[RadialKernel, Array, Array, Array]:
    """The arguments of a kernel sum as arrays of one dtype. Raises ``ValueError`` where they do not fit."""
    require_scalars(kernel)
    if plan is not None:
        plan.require(kernel)
    x = cloud(x, "x", None if plan is None else plan.dim)
    y, w = cloud(y, "y", x.shape[1]), floating(w, "w")
    if w.shape != x.shape[:1]:
        raise ValueError(f"w: expected shape {x.shape[:1]}, one weight a point of x, got {w.shape}")
    dtype = jnp.result_type(x, y)
    return kernel, x.astype(dtype), y.astype(dtype), w.astype(dtype)


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
def _checked_sum(kernel: RadialKernel, x: Array, y: Array, w: Array, plan: Plan | None) -> tuple[Array, SumCheck]:
    if plan is None or plan.method == "dense":
        s = dense_sum(kernel, x, y, w)
        return s, SumCheck(jnp.zeros_like(s), jnp.asarray(False))
    shares = plan.weights[None]
    if plan.num_slices > 1:
        halves = plan.weights * (jnp.arange(plan.num_slices) % 2 == jnp.arange(2)[:, None])
        shares = jnp.concatenate([shares, halves / halves.sum(1, keepdims=True)])
    s, inside = sliced_sum(kernel, x, y, w, plan, shares)
    error = jnp.abs(s[1] - s[2]) / 2 if plan.num_slices > 1 else jnp.zeros_like(s[0])
    return s[0], SumCheck(error, ~inside)
