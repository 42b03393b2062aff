"""No data term at all."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..operators.structure import precision_of
from .base import Fidelity


class Zero(Fidelity):
    """Potential 0 whatever ``y``: minimisers and samples are those of the prior alone. ``prox`` is the identity."""

    def potential(self, u, y):
        return jnp.zeros((), precision_of(u))

    def grad(self, u, y):
        return jax.tree.map(jnp.zeros_like, u)

    def prox(self, u: PyTree, y: PyTree, step_size: Any) -> PyTree:
        return u

    def lipschitz(self, y):
        return jnp.zeros((), precision_of(y))
