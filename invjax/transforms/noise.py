"""Random noise as a transform: a fixed noise image is added, so that it can be taken away again."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..operators.structure import at_precision_of, is_complex
from ..types import real, require
from .base import Transform


class RandomNoise(Transform):
    """``x + sigma n(key)`` for ``g = (sigma, key)``; its inverse subtracts the same noise. Not linear: there is no operator.

    ``n`` is standard normal (complex images: unit variance in total), drawn in float32 at every precision. ``sample`` draws
    ``sigma`` uniformly in ``[0, max_sigma]``.
    """

    max_sigma: Array = eqx.field(converter=real, default=0.1)

    def __check_init__(self):
        require(self.max_sigma, "max_sigma", nonnegative=True)

    def sample(self, key):
        key, subkey = jax.random.split(key)
        return self.max_sigma * jax.random.uniform(subkey), key

    def apply(self, g, x):
        sigma, key = g
        draw = jax.random.normal(key, x.shape, jnp.complex64 if is_complex(x) else jnp.float32)
        return x + at_precision_of(x, sigma).astype(x.dtype) * draw.astype(x.dtype)

    def inverse(self, g):
        return -g[0], g[1]

    def operator(self, g, shape, *, complex=False):
        raise ValueError("transform: expected a linear one, got RandomNoise")
