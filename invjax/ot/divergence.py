"""The Sinkhorn divergence: entropic transport without its bias towards shrunk clouds."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..drive import Status
from .costs import SquaredEuclidean
from .problem import between
from .sinkhorn import sinkhorn


def sinkhorn_divergence(
    x: Float[Array, "n d"],
    y: Float[Array, "m d"],
    epsilon: Any,
    a: Float[Array, " n"] | None = None,
    b: Float[Array, " m"] | None = None,
    *,
    cost_fn: Any = SquaredEuclidean(),
    atol: Any = None,
    max_steps: int = 1000,
) -> Float[Array, ""]:
    """``OT(x, y) - OT(x, x) / 2 - OT(y, y) / 2`` of the regularised costs, for masses of equal sums.

    Zero for equal clouds, positive otherwise for costs ``|x - y|^p``, p = 1, 2; NaN where one of the three problems was not
    solved to ``atol`` in ``max_steps``. Differentiable as ``sinkhorn``.
    Source: Genevay, Peyre and Cuturi (2018), AISTATS; Feydy et al. (2019), AISTATS, theorem 1.
    """
    value, solved = divergence_and_status(x, y, epsilon, a, b, cost_fn, atol, max_steps)
    return jnp.where(solved, value, jnp.nan)


def divergence_and_status(
    x: Array, y: Array, epsilon: Any, a: Any, b: Any, cost_fn: Any, atol: Any, max_steps: int
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """The divergence as far as it was computed, and whether its three problems were solved."""
    couplings = [
        sinkhorn(between(*pair, *masses, cost_fn=cost_fn), epsilon, atol=atol, max_steps=max_steps)
        for pair, masses in (((x, y), (a, b)), ((x, x), (a, a)), ((y, y), (b, b)))
    ]
    solved = jnp.all(jnp.stack([c.status == Status.CONVERGED for c in couplings]))
    cross, own_x, own_y = (c.value for c in couplings)
    return cross - own_x / 2 - own_y / 2, solved
