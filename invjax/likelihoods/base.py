"""What a fidelity is: a potential of the clean measurement ``u = A x`` given ``y``; and a noise model, which also has a law."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..operators import LinearOperator
from ..types import grad


class Fidelity(eqx.Module):
    """Base class of what compares ``u`` with ``y``. ``potential(u, y)`` is a real scalar."""

    @abc.abstractmethod
    def potential(self, u: PyTree, y: PyTree) -> Array:
        """The data term."""

    @abc.abstractmethod
    def prox(self, u: PyTree, y: PyTree, step_size: Any) -> PyTree:
        """``argmin_v step_size potential(v, y) + |v - u|^2 / 2``."""

    @abc.abstractmethod
    def lipschitz(self, y: PyTree) -> Array:
        """Lipschitz constant of ``grad`` in ``u`` (infinite where there is none)."""

    def whitener(self, y: PyTree) -> LinearOperator | None:
        """``W`` with ``potential(u, y) = |W (u - y)|^2 / 2`` on the structure of ``y``, for Gaussian laws; else None."""
        return None

    def grad(self, u: PyTree, y: PyTree) -> PyTree:
        """Gradient of ``potential`` in ``u``."""
        return grad(lambda v: self.potential(v, y), u)

    def score(self, u: PyTree, y: PyTree) -> PyTree:
        """Minus ``grad``."""
        return jax.tree.map(jnp.negative, self.grad(u, y))


class NoiseModel(Fidelity):
    """A law of ``y`` given ``u``. ``potential(u, y)`` is ``-log p(y | u)`` without the terms that do not depend on ``u``."""

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray, clean: PyTree) -> PyTree:
        """Draw ``y`` given the clean measurement."""

    @abc.abstractmethod
    def log_prob(self, u: PyTree, y: PyTree) -> Array:
        """Normalised ``log p(y | u)``, for learning the noise parameters and for evidence; a scalar."""


def as_parameter(value: Array, u: Array) -> Array:
    """A noise parameter at the precision of ``u``, with ``u``'s number of axes (a scalar, or an array that broadcasts)."""
    value = jnp.asarray(value, u.real.dtype)
    if value.ndim == 0:
        return value
    fits = value.ndim <= u.ndim and all(m in (1, n) for m, n in zip(value.shape[::-1], u.shape[::-1], strict=False))
    if not fits:
        raise ValueError(f"noise parameter: expected a shape that broadcasts to {u.shape}, got {value.shape}")
    return value.reshape((1,) * (u.ndim - value.ndim) + value.shape)
