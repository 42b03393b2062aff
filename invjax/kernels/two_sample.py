"""The permutation two-sample test: do two clouds come from the same law?"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..eager import one_program
from .base import RadialKernel
from .clouds import pair
from .plan import Plan
from .sums import kernel_sum


class TwoSampleTest(NamedTuple):
    """Result of ``two_sample_test``."""

    statistic: Float[Array, ""]
    """The squared MMD of the two clouds (V-statistic)."""
    p_value: Float[Array, ""]
    """Fraction of relabelled clouds, the given one among them, with at least this statistic."""
    null: Float[Array, " B"]
    """The statistics of the relabelled clouds."""


def two_sample_test(
    key: PRNGKeyArray,
    kernel: RadialKernel,
    x: Float[Array, "N d"],
    y: Float[Array, "M d"],
    num_permutations: int = 199,
    *,
    plan: Plan | None = None,
    batch_size: int = 32,
) -> TwoSampleTest:
    """Test whether x and y are samples of one law, by the MMD under random relabelling of their union.

    ``P(p_value <= a) <= a`` under the hypothesis, for every sample size, kernel and number of permutations, because the given
    labelling is counted among the random ones. A sliced plan (for ``((N + M, d), (N + M, d))``) makes it another statistic, with
    the same guarantee, in near-linear time. ``batch_size`` labellings share each evaluation of the kernel.

    NaN, ``p_value`` too, for points that are not finite or outside the radius of the plan. Raises ``ValueError`` for a count
    below one and as ``mmd2``. Source: Gretton, Borgwardt, Rasch, Schoelkopf and Smola (2012), JMLR 13; Phipson
    and Smyth (2010) for the count.
    """
    if num_permutations < 1 or batch_size < 1:
        raise ValueError(f"num_permutations, batch_size: expected at least 1, got {num_permutations}, {batch_size}")
    x, y = pair(x, y, fewest=1)
    z = jnp.concatenate([x, y])
    labels = jnp.concatenate([jnp.full((len(x),), 1 / len(x), z.dtype), jnp.full((len(y),), -1 / len(y), z.dtype)])
    statistics, size = _statistics(jax.random.split(key, num_permutations), kernel, z, labels, plan, batch_size)
    statistic, null = statistics[0], statistics[1:]
    # Relabellings that only rounding tells from the given one count as equal to it.
    as_large = jnp.sum(null >= statistic - 16 * jnp.finfo(z.dtype).eps * size)
    p_value = ((1 + as_large) / (1 + num_permutations)).astype(z.dtype)
    return TwoSampleTest(statistic, jnp.where(jnp.isfinite(statistic), p_value, jnp.nan), null)


@one_program
def _statistics(
    keys: PRNGKeyArray, kernel: RadialKernel, z: Array, labels: Array, plan: Plan | None, batch_size: int
) -> tuple[Array, Array]:
    """Of the given labelling, then of the random ones; and the size of the terms that cancel in them."""

    def one(signed: Array) -> Array:
        return jnp.vdot(signed, kernel_sum(kernel, z, z, signed, plan=plan))

    def relabelled(key: PRNGKeyArray) -> Array:
        return one(jax.random.permutation(key, labels))

    null = jax.lax.map(relabelled, keys, batch_size=min(batch_size, keys.shape[0]))
    size = jnp.abs(labels) @ jnp.abs(kernel_sum(kernel, z, z, jnp.abs(labels), plan=plan))
    return jnp.concatenate([one(labels)[None], null]), size
