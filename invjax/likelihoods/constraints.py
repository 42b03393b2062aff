"""Hard data constraints: exact measurements, and measurements known up to an l2 ball."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..types import norm, real, require
from .base import Fidelity, NoiseModel


class Noiseless(NoiseModel):
    """``y = u``: potential 0 at ``u = y``, else infinite; ``prox = y``. ``log_prob`` is the negative potential (one atom)."""

    def sample(self, key, clean):
        return clean

    def potential(self, u, y):
        return jnp.where(jnp.all(u == y), 0, jnp.inf).astype(u.real.dtype)

    def log_prob(self, u, y):
        return -self.potential(u, y)

    def grad(self, u, y):
        return jnp.zeros_like(u)

    def prox(self, u: Array, y: Array, step_size: Any) -> Array:
        return jnp.broadcast_to(y, u.shape).astype(u.dtype)

    def lipschitz(self, y):
        return jnp.full((), jnp.inf, y.real.dtype)


class Ball(Fidelity):
    """``|u - y|_2 <= radius``: potential 0 inside, else infinite; prox: the projection. Real or complex.

    A natural radius for Gaussian noise is ``sigma sqrt(m)``, m the number of real entries. Raises ``ValueError`` when
    ``radius`` is not a scalar > 0.
    """

    radius: Array = eqx.field(converter=real)

    def __check_init__(self):
        require(self.radius, "radius", positive=True, shape=())

    def potential(self, u, y):
        slack = 1 + 8 * jnp.finfo(u.dtype).eps  # the projection lies on the sphere up to rounding
        inside = norm(u - y) <= jnp.asarray(self.radius, u.real.dtype) * slack
        return jnp.where(inside, 0, jnp.inf).astype(u.real.dtype)

    def grad(self, u, y):
        return jnp.zeros_like(u)

    def prox(self, u: Array, y: Array, step_size: Any) -> Array:
        distance, radius = norm(u - y), jnp.asarray(self.radius, u.real.dtype)
        outside = distance > radius
        factor = jnp.where(outside, radius / jnp.where(outside, distance, 1), 1)
        return y + (u - y) * factor.astype(u.dtype)

    def lipschitz(self, y):
        return jnp.full((), jnp.inf, y.real.dtype)
