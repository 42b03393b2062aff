"""What a noise model is: a sampler and a density of the measurement ``y`` given the clean measurement ``u = A x``."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..types import grad


class NoiseModel(eqx.Module):
    """Base class. ``potential(u, y)`` is ``-log p(y | u)`` without the terms that do not depend on ``u``."""

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray, clean: Array) -> Array:
        """Draw ``y`` given the clean measurement."""

    @abc.abstractmethod
    def potential(self, u: Array, y: Array) -> Array:
        """``-log p(y | u)`` up to terms without ``u``; a scalar."""

    @abc.abstractmethod
    def log_prob(self, u: Array, y: Array) -> Array:
        """Normalised ``log p(y | u)``, for learning the noise parameters and for evidence; a scalar."""

    @abc.abstractmethod
    def prox(self, u: Array, y: Array, step_size: Any) -> Array:
        """``argmin_v step_size potential(v, y) + |v - u|^2 / 2``, pixel by pixel."""

    @abc.abstractmethod
    def lipschitz(self, y: Array) -> Array:
        """Lipschitz constant of ``grad`` in ``u`` (infinite where there is none)."""

    def grad(self, u: Array, y: Array) -> Array:
        """Gradient of ``potential`` in ``u``."""
        return grad(lambda v: self.potential(v, y), u)

    def score(self, u: Array, y: Array) -> Array:
        """``grad_u log p(y | u)``, minus ``grad``."""
        return -self.grad(u, y)


def as_parameter(value: Array, u: Array) -> Array:
    """A noise parameter at the precision of ``u``, with ``u``'s number of axes (a scalar, or an array that broadcasts)."""
    value = jnp.asarray(value, u.real.dtype)
    if value.ndim == 0:
        return value
    fits = value.ndim <= u.ndim and all(m in (1, n) for m, n in zip(value.shape[::-1], u.shape[::-1], strict=False))
    if not fits:
        raise ValueError(f"noise parameter: expected a shape that broadcasts to {u.shape}, got {value.shape}")
    return value.reshape((1,) * (u.ndim - value.ndim) + value.shape)
