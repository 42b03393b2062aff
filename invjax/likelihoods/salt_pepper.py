"""Salt-and-pepper noise: dead and saturated pixels."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..types import real, require
from .base import NoiseModel, as_parameter


class SaltPepper(NoiseModel):
    """A pixel is 0 with probability ``pepper``, 1 with probability ``salt``, else ``u`` unchanged.

    The law of ``y`` has atoms at 0, 1 and u; ``log_prob`` is the logarithm of the weight at ``y`` and the potential its
    negative: 0 and 1 may come from anywhere, any other value must be ``u``. ``prox`` is the exact pixelwise minimiser: ``y``, or
    ``u`` where ``y`` is an extreme and moving costs more than it gains. Raises ``ValueError`` unless the probabilities are
    non-negative with a sum below 1.
    """

    salt: Array = eqx.field(converter=real)
    pepper: Array = eqx.field(converter=real)

    def __check_init__(self):
        require(self.salt, "salt", nonnegative=True, below=1)
        require(self.pepper, "pepper", nonnegative=True, below=1)
        require(jnp.asarray(self.salt) + jnp.asarray(self.pepper), "salt + pepper", below=1)

    def _weights(self, u: Array, y: Array) -> tuple[Array, Array]:
        """Weight of the atom at y that does not depend on u, and that of an untouched pixel."""
        salt, pepper = as_parameter(self.salt, u), as_parameter(self.pepper, u)
        atom = jnp.where(y == 1, salt, 0) + jnp.where(y == 0, pepper, 0)
        return atom.astype(u.dtype), 1 - salt - pepper

    def sample(self, key, clean):
        draw = jax.random.uniform(key, clean.shape, clean.dtype)
        salt, pepper = as_parameter(self.salt, clean), as_parameter(self.pepper, clean)
        return jnp.where(draw < pepper, 0, jnp.where(draw < pepper + salt, 1, clean)).astype(clean.dtype)

    def potential(self, u, y):
        atom, kept = self._weights(u, y)
        weight = atom + jnp.where(u == y, kept, 0)
        return -jnp.sum(jnp.log(weight))

    def log_prob(self, u, y):
        return -self.potential(u, y)

    def grad(self, u, y):
        return jnp.zeros_like(u)

    def prox(self, u: Array, y: Array, step_size: Any) -> Array:
        atom, kept = self._weights(u, y)
        possible = atom > 0
        gain = as_parameter(real(step_size), u) * jnp.log1p(kept / jnp.where(possible, atom, 1))
        return jnp.where(possible & (0.5 * (u - y) ** 2 >= gain), u, y)

    def lipschitz(self, y):
        return jnp.full((), jnp.inf, y.dtype)
