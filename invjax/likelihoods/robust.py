"""Fidelities that forgive outliers: Student-t noise and the Huber function."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array

from ..types import real, require, squared
from .base import Fidelity, NoiseModel, as_parameter
from .scalar import root


class StudentT(NoiseModel):
    """``y = u + scale t`` with ``t`` of ``dof`` degrees of freedom; potential ``(dof + 1) / 2 sum log(1 + r^2 / (dof scale^2))``.

    Variance ``scale^2 dof / (dof - 2)`` for ``dof > 2``. Not convex: ``prox`` is the minimiser between ``u`` and ``y``, global
    while ``step (dof + 1) / (8 dof scale^2) < 1``. Real data. Raises ``ValueError`` unless ``dof`` and ``scale`` are
    positive. Source: Lange, Little and Taylor (1989).
    """

    dof: Array = eqx.field(converter=real)
    scale: Array = eqx.field(converter=real)

    def __check_init__(self):
        require(self.dof, "dof", positive=True)
        require(self.scale, "scale", positive=True)

    def sample(self, key, clean):
        dof = jnp.broadcast_to(as_parameter(self.dof, clean), clean.shape)
        return clean + as_parameter(self.scale, clean) * jax.random.t(key, dof, clean.shape, clean.dtype)

    def _parameters(self, u: Array) -> tuple[Array, Array]:
        return as_parameter(self.dof, u), as_parameter(self.scale, u)

    def potential(self, u, y):
        dof, scale = self._parameters(u)
        return jnp.sum(0.5 * (dof + 1) * jnp.log1p(((u - y) / scale) ** 2 / dof))

    def log_prob(self, u, y):
        dof, scale = (jnp.broadcast_to(p, u.shape) for p in self._parameters(u))
        constant = gammaln((dof + 1) / 2) - gammaln(dof / 2) - 0.5 * jnp.log(jnp.pi * dof) - jnp.log(scale)
        return -self.potential(u, y) + jnp.sum(constant)

    def grad(self, u, y):
        dof, scale = self._parameters(u)
        return (dof + 1) * (u - y) / (dof * scale**2 + (u - y) ** 2)

    def prox(self, u: Array, y: Array, step_size: Any) -> Array:
        step = as_parameter(real(step_size), u)
        return root(lambda v: v - u + step * self.grad(v, y), jnp.minimum(u, y), jnp.maximum(u, y))

    def lipschitz(self, y):
        dof, scale = self._parameters(y)
        return jnp.max((dof + 1) / (dof * scale**2))


class Huber(Fidelity):
    """``sum h(|u - y|)``, ``h(r) = r^2 / (2 sigma^2)`` below ``delta`` and ``(delta r - delta^2 / 2) / sigma^2`` above.

    A fidelity without a law to draw from. prox: ``y + r max(1 / (1 + w), 1 - w delta / |r|)`` with ``r = u - y``, ``w = step /
    sigma^2``. Real or complex. Raises ``ValueError`` unless ``delta`` and ``sigma`` are positive. Source: Huber (1964).
    """

    delta: Array = eqx.field(converter=real)
    sigma: Array = eqx.field(converter=real, default=1.0)

    def __check_init__(self):
        require(self.delta, "delta", positive=True)
        require(self.sigma, "sigma", positive=True)

    def _parameters(self, u: Array) -> tuple[Array, Array]:
        return as_parameter(self.delta, u), 1 / as_parameter(self.sigma, u) ** 2

    def potential(self, u, y):
        delta, weight = self._parameters(u)
        square = squared(u - y)
        far = square > delta**2
        modulus = jnp.sqrt(jnp.where(far, square, 1))
        return jnp.sum(weight * jnp.where(far, delta * modulus - 0.5 * delta**2, 0.5 * square))

    def grad(self, u, y):
        delta, weight = self._parameters(u)
        size = jnp.abs(u - y)
        return (u - y) * (weight * jnp.where(size > delta, delta / jnp.where(size > delta, size, 1), 1)).astype(u.dtype)

    def prox(self, u: Array, y: Array, step_size: Any) -> Array:
        delta, weight = self._parameters(u)
        w = as_parameter(real(step_size), u) * weight
        size = jnp.abs(u - y)
        far = size > delta * (1 + w)
        factor = jnp.where(far, 1 - w * delta / jnp.where(far, size, 1), 1 / (1 + w))
        return y + (u - y) * factor.astype(u.dtype)

    def lipschitz(self, y):
        return jnp.max(self._parameters(y)[1])
