"""Rician noise: the modulus of a complex signal with Gaussian noise, as in magnitude MRI."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import i0e, i1e
from jaxtyping import Array

from ..types import real, require
from .base import NoiseModel, as_parameter
from .scalar import root


class Rician(NoiseModel):
    """``y = sqrt((u + sigma n1)^2 + (sigma n2)^2)``: ``E y^2 = u^2 + 2 sigma^2``.

    Density ``y / sigma^2 exp(-(y^2 + u^2) / (2 sigma^2)) I0(y u / sigma^2)``; potential ``sum u^2 / (2 sigma^2) -
    log I0(y u / sigma^2)``, even in u, convex where ``y u`` is small. ``prox`` is a local minimiser with the sign of ``u``.
    Raises ``ValueError`` when ``sigma`` is not positive. Source: Gudbjartsson and Patz (1995), equation 1.
    """

    sigma: Array = eqx.field(converter=real)

    def __check_init__(self):
        require(self.sigma, "sigma", positive=True)

    def sample(self, key, clean):
        sigma = as_parameter(self.sigma, clean)
        n = jax.random.normal(key, (2, *clean.shape), clean.dtype)
        return jnp.hypot(clean + sigma * n[0], sigma * n[1])

    def potential(self, u, y):
        variance = as_parameter(self.sigma, u) ** 2
        z = y * u / variance
        return jnp.sum(u**2 / (2 * variance) - jnp.log(i0e(z)) - jnp.abs(z))

    def log_prob(self, u, y):
        variance = jnp.broadcast_to(as_parameter(self.sigma, u) ** 2, u.shape)
        return -self.potential(u, y) + jnp.sum(jnp.log(y) - jnp.log(variance) - y**2 / (2 * variance))

    def grad(self, u, y):
        variance = as_parameter(self.sigma, u) ** 2
        z = y * u / variance
        return (u - y * i1e(z) / i0e(z)) / variance  # the exponential scalings cancel

    def prox(self, u: Array, y: Array, step_size: Any) -> Array:
        step = as_parameter(real(step_size), u)
        weight = step / as_parameter(self.sigma, u) ** 2
        # |I1 / I0| < 1 brackets every zero; with the sign of u the one in question is not crossed.
        low = jnp.where(u >= 0, jnp.maximum(u, 0) / (1 + weight), (u - weight * y) / (1 + weight))
        high = jnp.where(u >= 0, (u + weight * y) / (1 + weight), jnp.minimum(u, 0) / (1 + weight))
        return root(lambda v: v - u + step * self.grad(v, y), low, high)

    def lipschitz(self, y):
        """``max(1, y^2 / (2 sigma^2)) / sigma^2``: curvature ``(1 - (y / sigma)^2 R') / sigma^2``, ``0 < R' <= 1/2``."""
        variance = as_parameter(self.sigma, y) ** 2
        return jnp.max(jnp.maximum(1, y**2 / (2 * variance)) / variance)
