"""Samplers of numbers: noise levels, gains, and choices from a list."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..types import real, require
from .base import Generator, default


class Uniform(Generator):
    """Uniform on ``[low, high]`` (a noise level sigma, a gain, ...); ``shape`` (default: a scalar) broadcasts with both."""

    low: Array = eqx.field(converter=real)
    high: Array = eqx.field(converter=real)
    shape: tuple[int, ...] = eqx.field(static=True, default=())

    def __call__(self, key):
        low, high = default(self.low), default(self.high)
        return low + (high - low) * jax.random.uniform(key, self.shape, low.dtype)


class LogUniform(Generator):
    """``log x`` uniform on ``[log low, log high]``: equal odds for every octave; positive bounds."""

    low: Array = eqx.field(converter=real)
    high: Array = eqx.field(converter=real)
    shape: tuple[int, ...] = eqx.field(static=True, default=())

    def __check_init__(self):
        require(self.low, "low", positive=True)
        require(self.high, "high", positive=True)

    def __call__(self, key):
        low, high = default(self.low), default(self.high)
        return low * (high / low) ** jax.random.uniform(key, self.shape, low.dtype)


class Discrete(Generator):
    """A row of ``values`` ``(n, ...)`` (noise levels, kernels of one size), with ``probabilities`` ``(n,)`` (default: equal)."""

    values: Array = eqx.field(converter=real)
    probabilities: Array | None = eqx.field(converter=real, default=None)

    def __check_init__(self):
        if isinstance(self.values, jax.Array):
            if self.values.ndim == 0:
                raise ValueError(f"values: expected at least one axis, got {self.values}")
            require(self.probabilities, "probabilities", nonnegative=True, shape=self.values.shape[:1])

    def __call__(self, key):
        values: Any = self.values
        weights = jnp.ones(values.shape[0]) if self.probabilities is None else self.probabilities
        return default(values)[jax.random.categorical(key, jnp.log(default(weights)))]
