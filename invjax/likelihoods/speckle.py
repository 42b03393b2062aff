"""Speckle: multiplicative gamma noise, and the same noise in the logarithm (Fisher-Tippett)."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, xlogy
from jaxtyping import Array

from ..types import real, require
from .base import NoiseModel, as_parameter
from .scalar import root


class Gamma(NoiseModel):
    """``y = u g``, ``g`` gamma with mean 1 and ``looks`` looks: mean ``u``, variance ``u^2 / looks``, for ``u > 0``.

    Potential ``looks sum log u + y / u`` (infinite for ``u <= 0``), convex on ``u < 2 y``. ``prox`` is the global minimiser
    where it is unique on ``0 < u``, else a local one. Raises ``ValueError`` when ``looks`` is not positive.
    Source: Aubert and Aujol (2008), equation 2.9.
    """

    looks: Array = eqx.field(converter=real)

    def __check_init__(self):
        require(self.looks, "looks", positive=True)

    def sample(self, key, clean):
        looks = jnp.broadcast_to(as_parameter(self.looks, clean), clean.shape)
        return clean * jax.random.gamma(key, looks, dtype=clean.dtype) / looks

    def potential(self, u, y):
        inside, safe = u > 0, jnp.where(u > 0, u, 1)
        terms = as_parameter(self.looks, u) * (jnp.log(safe) + y / safe)
        return jnp.sum(jnp.where(inside, terms, jnp.inf))

    def log_prob(self, u, y):
        looks = jnp.broadcast_to(as_parameter(self.looks, u), u.shape)
        constant = xlogy(looks, looks) - gammaln(looks) + xlogy(looks - 1, y)
        return -self.potential(u, y) + jnp.sum(constant)

    def grad(self, u, y):
        safe = jnp.where(u > 0, u, 1)
        return as_parameter(self.looks, u) * jnp.where(u > 0, (1 - y / safe) / safe, 0)

    def prox(self, u: Array, y: Array, step_size: Any) -> Array:
        """A zero of the increasing part of ``v^3 - u v^2 + s v - s y``, ``s = step looks``, in ``(0, max(u, y)]``."""
        s = as_parameter(real(step_size), u) * as_parameter(self.looks, u)
        # slope(0) = -s y <= 0 and slope(max(u, y)) >= 0: a zero lies between.
        return root(lambda v: (v - u) * v**2 + s * (v - y), jnp.zeros_like(u), jnp.maximum(u, y))

    def lipschitz(self, y):
        return jnp.full((), jnp.inf, y.dtype)


class FisherTippett(NoiseModel):
    """``y = u + log g`` with the ``g`` of ``Gamma``: mean ``u + digamma(looks) - log looks``, variance ``trigamma(looks)``.

    The logarithm of an intensity with speckle. Potential ``looks sum u + exp(y - u)``, convex. ``prox`` solves
    ``v - u + step looks (1 - exp(y - v)) = 0``. Raises ``ValueError`` when ``looks`` is not positive. Source: Bioucas-Dias
    and Figueiredo (2010), equation 7.
    """

    looks: Array = eqx.field(converter=real)

    def __check_init__(self):
        require(self.looks, "looks", positive=True)

    def sample(self, key, clean):
        looks = jnp.broadcast_to(as_parameter(self.looks, clean), clean.shape)
        return clean + jax.random.loggamma(key, looks, dtype=clean.dtype) - jnp.log(looks)

    def potential(self, u, y):
        return jnp.sum(as_parameter(self.looks, u) * (u + jnp.exp(y - u)))

    def log_prob(self, u, y):
        looks = jnp.broadcast_to(as_parameter(self.looks, u), u.shape)
        return -self.potential(u, y) + jnp.sum(xlogy(looks, looks) - gammaln(looks) + looks * y)

    def grad(self, u, y):
        return as_parameter(self.looks, u) * (1 - jnp.exp(y - u))

    def prox(self, u: Array, y: Array, step_size: Any) -> Array:
        s = as_parameter(real(step_size), u) * as_parameter(self.looks, u)
        # At min(u, y) the slope is <= 0. At max(u, y) it is >= 0, since there both terms are.
        return root(lambda v: v - u + s * (1 - jnp.exp(y - v)), jnp.minimum(u, y), jnp.maximum(u, y))

    def lipschitz(self, y):
        return jnp.full((), jnp.inf, y.dtype)
