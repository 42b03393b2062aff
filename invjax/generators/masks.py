"""Random masks: those of inpainting (Boolean, True where a pixel is seen) and of coded diffraction (complex)."""

from __future__ import annotations

from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..operators.structure import default_precision
from ..types import real, require
from .base import Generator, default

Pattern = Literal["octanary", "phase"]


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


class CodedMasks(Generator):
    """K complex masks ``(K, H, W, 1)`` of ``E |m|^2 = 1``, the same in all channels, for ``operators.coded_diffraction``.

    "octanary": ``m = b c`` with b uniform on {1, -1, i, -i} and c = sqrt(1/2) with probability 4/5, else sqrt(3); "phase": a
    uniform phase, for which ``A^H A = K I``. Raises ``ValueError`` for another pattern. Source: Candes, Li and Soltanolkotabi
    (2015), "Phase retrieval from coded diffraction patterns".
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    num_masks: int = eqx.field(static=True, default=6)
    pattern: Pattern = eqx.field(static=True, default="octanary")

    def __check_init__(self):
        if self.pattern not in get_args(Pattern):
            raise ValueError(f"pattern: expected one of {get_args(Pattern)}, got {self.pattern!r}")
        if self.num_masks < 1:
            raise ValueError(f"num_masks: expected an integer >= 1, got {self.num_masks}")

    def __call__(self, key):
        sizes, precision = (self.num_masks, *self.shape[:-1], 1), default_precision()
        angle_key, size_key = jax.random.split(key)
        if self.pattern == "phase":
            angle = jax.random.uniform(angle_key, sizes, precision, maxval=2 * jnp.pi)
            return jax.lax.complex(jnp.cos(angle), jnp.sin(angle))
        quarter = jax.random.randint(angle_key, sizes, 0, 4)
        size = jnp.where(jax.random.bernoulli(size_key, 0.8, sizes), default(0.5**0.5), default(3**0.5))
        sides = default(jnp.array([1, 0, -1, 0]))
        return jax.lax.complex(size * sides[quarter], size * sides[quarter - 1])


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
