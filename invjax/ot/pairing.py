"""Pairs of two minibatches by transport: what flow matching trains on in place of independent pairs."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..types import real, require
from .assignment import assignment
from .costs import SquaredEuclidean
from .low_rank import low_rank
from .problem import between
from .sinkhorn import sinkhorn

Pairs = tuple[Int[Array, " n"], Int[Array, " n"]]


class ExactPairing(eqx.Module):
    """Every point of x0 with one of x1, by the assignment of lowest cost. x0, x1: (n, d)."""

    cost_fn: Any = SquaredEuclidean()

    def __call__(self, key: PRNGKeyArray, x0: Float[Array, "n d"], x1: Float[Array, "n d"]) -> Pairs:
        """Indices ``(i, j)`` of pairs; ``key`` is not used."""
        columns = assignment(between(x0, x1, cost_fn=self.cost_fn)).columns
        return jnp.arange(len(columns)), columns


class EntropicPairing(eqx.Module):
    """n pairs drawn from the entropic coupling: for every point of x0 one of x1, by its row of the coupling.

    Points of x1 may be taken several times or never. ``epsilon`` is absolute.
    """

    epsilon: Float[Array, ""] = eqx.field(converter=real)
    cost_fn: Any = SquaredEuclidean()
    max_steps: int = eqx.field(static=True, default=200)

    def __check_init__(self):
        require(self.epsilon, "epsilon", positive=True)

    def __call__(self, key: PRNGKeyArray, x0: Float[Array, "n d"], x1: Float[Array, "m d"]) -> Pairs:
        """Indices ``(i, j)`` of n pairs."""
        coupling = sinkhorn(between(x0, x1, cost_fn=self.cost_fn), self.epsilon, max_steps=self.max_steps)
        return jnp.arange(len(x0)), coupling.sample_columns(key)


class LowRankPairing(eqx.Module):
    """n pairs drawn from a coupling of low rank: for every point of x0 one of x1. A step of its solver is linear in n.

    Points of x1 may be taken several times or never. ``atol`` and ``max_steps`` are those of ``low_rank``.
    """

    rank: int = eqx.field(static=True)
    cost_fn: Any = SquaredEuclidean()
    atol: float = eqx.field(static=True, default=1e-5)
    max_steps: int = eqx.field(static=True, default=500)

    def __call__(self, key: PRNGKeyArray, x0: Float[Array, "n d"], x1: Float[Array, "m d"]) -> Pairs:
        """Indices ``(i, j)`` of n pairs."""
        start, choice = jax.random.split(key)
        problem = between(x0, x1, cost_fn=self.cost_fn)
        coupling = low_rank(start, problem, self.rank, atol=self.atol, max_steps=self.max_steps)
        return jnp.arange(len(x0)), coupling.sample_columns(choice)
