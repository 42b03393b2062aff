"""The amplitude fidelity of phase retrieval: square roots of intensities are compared."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..types import real, require
from .base import Fidelity, as_parameter
from .scalar import root


class Amplitude(Fidelity):
    """``sum (sqrt(u + eps) - sqrt(y + eps))^2 / (2 sigma^2)`` of intensities ``u, y >= 0``, such as ``u = |B x|^2``.

    The variance of ``sqrt(y)`` hardly depends on the count, so this is close to the Poisson likelihood with ``sigma = sqrt(gain)
    / 2``. ``eps > 0`` keeps the gradient ``(1 - sqrt((y + eps) / (u + eps))) / (2 sigma^2)`` finite at zero. What noise made
    negative in ``y`` counts as zero. The potential is convex; ``prox`` is its minimiser over ``v >= 0``. Raises ``ValueError``
    unless ``sigma`` and ``eps`` are positive.
    """

    sigma: Array = eqx.field(converter=real, default=1.0)
    eps: Array = eqx.field(converter=real, default=1e-6)

    def __check_init__(self):
        require(self.sigma, "sigma", positive=True)
        require(self.eps, "eps", positive=True)

    def _roots(self, u: Array, y: Array) -> tuple[Array, Array, Array]:
        eps = as_parameter(self.eps, u)
        return (
            jnp.sqrt(jnp.maximum(u, 0) + eps),
            jnp.sqrt(jnp.maximum(y, 0) + eps),
            0.5 / as_parameter(self.sigma, u) ** 2,
        )

    def potential(self, u, y):
        a, b, weight = self._roots(u, y)
        return jnp.sum(weight * (a - b) ** 2)

    def grad(self, u, y):
        a, b, weight = self._roots(u, y)
        return jnp.where(u >= 0, weight * (1 - b / a), 0)

    def prox(self, u: Array, y: Array, step_size: Any) -> Array:
        step = as_parameter(real(step_size), u)

        def slope(v: Array) -> Array:
            return v - u + step * self.grad(v, y)

        zero, high = jnp.zeros_like(u), jnp.maximum(jnp.maximum(u, y), 0)
        return jnp.where(slope(zero) >= 0, 0, root(slope, zero, high))

    def lipschitz(self, y):
        """``sqrt(max y + eps) / (4 sigma^2 eps^(3/2))``, at ``u = 0``."""
        eps = as_parameter(self.eps, y)
        return jnp.max(jnp.sqrt(jnp.maximum(y, 0) + eps) / (4 * as_parameter(self.sigma, y) ** 2 * eps**1.5))
