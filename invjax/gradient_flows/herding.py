"""Kernel herding: a few points of a cloud that stand for all of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..eager import one_program
from ..kernels import Plan, RadialKernel, kernel_sum
from ..kernels.clouds import cloud, masses


def kernel_herding(
    kernel: RadialKernel,
    candidates: Float[Array, "n d"],
    target: Float[Array, "m d"],
    num: int,
    *,
    weights: Float[Array, " m"] | None = None,
    plan: Plan | None = None,
) -> Int[Array, " num"]:
    """Indices of ``num`` candidates, one after another, whose mean embedding follows that of the weighted ``target``.

    Step t takes ``argmax_x E K(Y, x) - (1 / (t + 1)) sum_{s <= t} K(x_s, x)``: a Frank-Wolfe step for the MMD, which falls as
    ``O(1/num)`` where the target lies inside the hull of the candidates' embeddings, and as ``num^(-1/2)`` at least. A
    candidate may be taken again. Time ``O(n (m + num))``, or near-linear in m with a ``plan`` for ``((m, d), (n, d))``; memory
    ``O(n + m)``.

    Raises ``ValueError`` for a count below one and for weights that do not fit. Source: Chen, Welling and Smola (2010), UAI.
    """
    if num < 1:
        raise ValueError(f"num: expected at least 1, got {num}")
    target = cloud(target, "target", fewest=1)
    candidates = cloud(candidates, "candidates", target.shape[1], 1)
    return _herd(kernel, candidates, target, masses(weights, target, "weights"), num, plan)


@one_program
def _herd(
    kernel: RadialKernel, candidates: Array, target: Array, weights: Array, num: int, plan: Plan | None
) -> Int[Array, " num"]:
    embedding = kernel_sum(kernel, target, candidates, weights, plan=plan)

    def take(chosen: Array, t: Array) -> tuple[Array, Array]:
        index = jnp.argmax(embedding - chosen / (t + 1))
        row = kernel.of_square(jnp.sum((candidates - candidates[index][None]) ** 2, 1))
        return chosen + row, index

    return jax.lax.scan(take, jnp.zeros_like(embedding), jnp.arange(num, dtype=embedding.dtype))[1]
