"""Additive Gaussian noise."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..operators import Identity, Mask
from ..types import real, require, squared
from .base import NoiseModel, as_parameter


class Gaussian(NoiseModel):
    """``y = u + sigma n``; potential ``|u - y|^2 / (2 sigma^2)``.

    ``sigma > 0`` is a standard deviation, a scalar or an array that broadcasts to ``y``. For complex data it is the
    standard deviation of the real and of the imaginary part. Raises ``ValueError`` when ``sigma`` is not positive.
    """

    sigma: Array = eqx.field(converter=real)

    def __check_init__(self):
        require(self.sigma, "sigma", positive=True)

    def sample(self, key, clean):
        if not jnp.iscomplexobj(clean):
            return clean + as_parameter(self.sigma, clean) * jax.random.normal(key, clean.shape, clean.dtype)
        parts = jax.random.normal(key, (2, *clean.shape), clean.real.dtype)
        return clean + as_parameter(self.sigma, clean).astype(clean.dtype) * jax.lax.complex(parts[0], parts[1])

    def potential(self, u, y):
        return 0.5 * jnp.sum(squared(u - y) / as_parameter(self.sigma, u) ** 2)

    def log_prob(self, u, y):
        sigma = jnp.broadcast_to(as_parameter(self.sigma, u), u.shape)
        parts = 2 if jnp.iscomplexobj(u) else 1
        return -self.potential(u, y) - parts * jnp.sum(jnp.log(sigma) + 0.5 * jnp.log(2 * jnp.pi))

    def grad(self, u, y):
        return (u - y) / (as_parameter(self.sigma, u) ** 2).astype(u.dtype)

    def prox(self, u: Array, y: Array, step_size: Any) -> Array:
        weight = (as_parameter(real(step_size), u) / as_parameter(self.sigma, u) ** 2).astype(u.dtype)
        return (u + weight * y) / (1 + weight)

    def whitener(self, y):
        """``1 / sigma``."""
        if self.sigma.ndim == 0:
            return (1 / self.sigma) * Identity(y.shape, complex=jnp.iscomplexobj(y))
        return Mask(1 / jnp.broadcast_to(as_parameter(self.sigma, y), y.shape), complex=jnp.iscomplexobj(y))

    def lipschitz(self, y):
        return jnp.max(1 / as_parameter(self.sigma, y) ** 2)
