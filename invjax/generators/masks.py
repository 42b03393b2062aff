"""Random inpainting masks: Boolean, True where a pixel is seen."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..types import real, require
from .base import Generator, default


class BernoulliMask(Generator):
    """Every entry of ``shape`` is seen with ``probability`` (a scalar, or a map that broadcasts to ``shape``), independently.

    ``shape`` ``(H, W, 1)`` masks whole pixels, ``(H, W, C)`` each channel by itself.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    probability: Array = eqx.field(converter=real, default=0.5)

    def __check_init__(self):
        require(self.probability, "probability", nonnegative=True, below=1 + 1e-6)

    def __call__(self, key):
        return jax.random.bernoulli(key, default(self.probability), self.shape)


class GaussianMask(Generator):
    """Exactly ``round(density H W)`` pixels of ``(H, W, 1)``, drawn one after the other with Gaussian odds around the centre.

    ``width`` is the standard deviation of the odds as part of each size; infinite for equal odds.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    density: Array = eqx.field(converter=real, default=0.5)
    width: Array = eqx.field(converter=real, default=0.25)

    def __check_init__(self):
        require(self.density, "density", nonnegative=True, below=1 + 1e-6, shape=())
        require(self.width, "width", positive=True, shape=())

    def __call__(self, key):
        *sizes, channels = self.shape
        odds = gaussian_log_odds(tuple(sizes), default(self.width))
        chosen = weighted_choice(key, odds, jnp.round(default(self.density) * odds.size))
        return jnp.broadcast_to(chosen[..., None], (*sizes, channels))


def gaussian_log_odds(sizes: tuple[int, ...], width: Array) -> Array:
    """``-|u|^2 / (2 width^2)`` on a grid, ``u`` the offset from index ``n // 2`` of each axis over its size ``n``."""
    axes = [(default(jnp.arange(n)) - n // 2) / n for n in sizes]
    squares = sum(a**2 for a in jnp.meshgrid(*axes, indexing="ij"))
    return -squares / (2 * width**2)


def weighted_choice(key: PRNGKeyArray, log_odds: Array, count: Array) -> Array:
    """Boolean array of ``count`` entries drawn without replacement, each time in proportion to ``exp(log_odds)``.

    Those with the largest ``log_odds`` plus Gumbel noise (Efraimidis and Spirakis 2006); entries at minus infinity are never
    chosen, so there may be fewer.
    """
    scores = (log_odds + jax.random.gumbel(key, log_odds.shape, log_odds.dtype)).ravel()
    ranks = jnp.argsort(jnp.argsort(-scores))
    return ((ranks < count.astype(ranks.dtype)) & (scores > -jnp.inf)).reshape(log_odds.shape)
