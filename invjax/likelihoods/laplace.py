"""Laplace noise: the l1 fidelity."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..types import real, require
from .base import NoiseModel, as_parameter


class Laplace(NoiseModel):
    """``y = u + n`` with density ``exp(-|n| / scale) / (2 scale)``, variance ``2 scale^2``; potential ``|u - y|_1 / scale``.

    prox: ``y + soft(u - y, step / scale)``. Complex data: density ``exp(-|n| / scale) / (2 pi scale^2)``, variance
    ``3 scale^2`` of each part. Not smooth: ``grad`` is a subgradient (0 at ``u = y``), ``lipschitz`` is infinite.
    Raises ``ValueError`` when ``scale`` is not positive.
    """

    scale: Array = eqx.field(converter=real)

    def __check_init__(self):
        require(self.scale, "scale", positive=True)

    def sample(self, key, clean):
        scale = as_parameter(self.scale, clean)
        if not jnp.iscomplexobj(clean):
            return clean + scale * jax.random.laplace(key, clean.shape, clean.dtype)
        radius_key, angle_key = jax.random.split(key)
        radius = jax.random.gamma(radius_key, 2.0, clean.shape, clean.real.dtype)  # density r exp(-r)
        angle = jax.random.uniform(angle_key, clean.shape, clean.real.dtype, maxval=2 * jnp.pi)
        return clean + jax.lax.complex(scale * radius * jnp.cos(angle), scale * radius * jnp.sin(angle))

    def potential(self, u, y):
        return jnp.sum(jnp.abs(u - y) / as_parameter(self.scale, u))

    def log_prob(self, u, y):
        scale = jnp.broadcast_to(as_parameter(self.scale, u), u.shape)
        area = 2 * jnp.pi * scale**2 if jnp.iscomplexobj(u) else 2 * scale
        return -self.potential(u, y) - jnp.sum(jnp.log(area))

    def grad(self, u, y):
        return jnp.sign(u - y) / as_parameter(self.scale, u).astype(u.dtype)

    def prox(self, u: Array, y: Array, step_size: Any) -> Array:
        threshold = as_parameter(real(step_size), u) / as_parameter(self.scale, u)
        gap = u - y
        size = jnp.abs(gap)
        kept = size > threshold
        return y + gap * jnp.where(kept, 1 - threshold / jnp.where(kept, size, 1), 0).astype(u.dtype)

    def lipschitz(self, y):
        return jnp.full((), jnp.inf, y.real.dtype)
