"""Photon counts behind an absorber, in the logarithm: the noise of transmission tomography."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array

from ..types import real, require
from .base import NoiseModel, as_parameter
from .scalar import root


class LogPoisson(NoiseModel):
    """``y = -log(max(k, 1) / num_photons) / mu``, ``k`` Poisson of mean ``num_photons exp(-mu u)`` (Beer-Lambert).

    ``num_photons`` is the mean count without absorber, ``mu`` the attenuation per unit of ``u``. A zero count is recorded as
    one, so that ``y`` is finite. Variance about ``exp(mu u) / (num_photons mu^2)``, bias about ``mu / 2`` times that. Potential
    ``num_photons sum exp(-mu u) + mu u exp(-mu y)``, convex; ``log_prob`` is the probability of the counts. Raises
    ``ValueError`` unless both are positive.
    """

    num_photons: Array = eqx.field(converter=real, default=1024.0)
    mu: Array = eqx.field(converter=real, default=1.0)

    def __check_init__(self):
        require(self.num_photons, "num_photons", positive=True)
        require(self.mu, "mu", positive=True)

    def _parameters(self, u: Array) -> tuple[Array, Array]:
        return as_parameter(self.num_photons, u), as_parameter(self.mu, u)

    def sample(self, key, clean):
        photons, mu = self._parameters(clean)
        counts = jax.random.poisson(key, photons * jnp.exp(-mu * clean)).astype(clean.dtype)
        return -jnp.log(jnp.maximum(counts, 1) / photons) / mu

    def potential(self, u, y):
        photons, mu = self._parameters(u)
        return jnp.sum(photons * (jnp.exp(-mu * u) + mu * u * jnp.exp(-mu * y)))

    def log_prob(self, u, y):
        photons, mu = self._parameters(u)
        counts = photons * jnp.exp(-mu * y)
        return -self.potential(u, y) + jnp.sum(counts * jnp.log(photons) - gammaln(counts + 1))

    def grad(self, u, y):
        photons, mu = self._parameters(u)
        return photons * mu * (jnp.exp(-mu * y) - jnp.exp(-mu * u))

    def prox(self, u: Array, y: Array, step_size: Any) -> Array:
        step = as_parameter(real(step_size), u)
        # grad is increasing in its first argument and zero at y, so the zero lies between u and y.
        return root(lambda v: v - u + step * self.grad(v, y), jnp.minimum(u, y), jnp.maximum(u, y))

    def lipschitz(self, y):
        """For ``u >= 0``, as attenuations are: ``num_photons mu^2``."""
        photons, mu = self._parameters(y)
        return jnp.max(photons * mu**2)
