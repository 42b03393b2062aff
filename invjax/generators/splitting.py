"""Splits of a sampling mask in two disjoint parts, for losses that predict one part of the measurement from the other."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..types import real, require
from .base import Generator, default
from .masks import gaussian_log_odds, weighted_choice


class Split(NamedTuple):
    """``kept`` is given to the reconstruction, ``held_out`` judges it; they are disjoint and together they are the mask."""

    kept: Array
    held_out: Array


def _boolean(mask: Any) -> Any:
    return jnp.asarray(mask).astype(bool) if isinstance(mask, (jax.Array, np.ndarray)) else mask


class Splitting(Generator):
    """Keeps what a mask generator selects: ``kept = mask & s`` and ``held_out = mask & ~s`` with ``s = selection(key)``.

    With a ``BernoulliMask`` this is the random splitting of self-supervised learning; with the generator of the sampling
    masks themselves it is the multiplicative splitting of Millard and Chiew (2023). The two broadcast.
    """

    mask: Array = eqx.field(converter=_boolean)
    selection: Generator

    def __call__(self, key):
        selected = self.selection(key)
        return Split(self.mask & selected, self.mask & ~selected)


class GaussianSplitting(Generator):
    """Holds out ``round((1 - ratio) n)`` of the ``n`` sampled pixels of ``(H, W, C)``, with Gaussian odds around the centre.

    ``width`` is the standard deviation of the odds as part of each size, infinite for equal odds. The block of ``centre``
    pixels around index ``n // 2`` is always kept. Channels are split alike: a pixel is sampled when any channel is.

    Reference: Yaman et al. (2020), Self-supervised learning of physics-guided reconstruction neural networks without fully
    sampled reference data.
    """

    mask: Array = eqx.field(converter=_boolean)
    ratio: Array = eqx.field(converter=real, default=0.6)
    width: Array = eqx.field(converter=real, default=0.25)
    centre: tuple[int, int] = eqx.field(static=True, default=(4, 4))

    def __check_init__(self):
        require(self.mask, "mask", ndim=3)
        require(self.ratio, "ratio", nonnegative=True, below=1 + 1e-6, shape=())
        require(self.width, "width", positive=True, shape=())

    def __call__(self, key):
        sampled = jnp.any(self.mask, -1)
        blocks = [jnp.arange(n) - (n // 2 - c // 2) for n, c in zip(sampled.shape, self.centre, strict=True)]
        inside = [(b >= 0) & (b < c) for b, c in zip(blocks, self.centre, strict=True)]
        open_to_choice = sampled & ~(inside[0][:, None] & inside[1][None])
        odds = jnp.where(open_to_choice, gaussian_log_odds(sampled.shape, default(self.width)), -jnp.inf)
        count = jnp.round((1 - default(self.ratio)) * default(sampled.sum()))
        held_out = weighted_choice(key, odds, count)[..., None]
        return Split(self.mask & ~held_out, self.mask & held_out)


class Phase2Phase(Generator):
    """The even and the odd frames of a dynamic mask ``(T, H, W, C)``, in random order. Eldeniz et al. (2021), Phase2Phase."""

    mask: Array = eqx.field(converter=_boolean)

    def __check_init__(self):
        require(self.mask, "mask", ndim=4)

    def __call__(self, key):
        odd = (jnp.arange(self.mask.shape[0]) % 2 == 1)[:, None, None, None]
        kept = odd ^ jax.random.bernoulli(key)
        return Split(self.mask & kept, self.mask & ~kept)


class Artifact2Artifact(Generator):
    """Keeps one random block of ``length`` consecutive frames of a dynamic mask ``(T, H, W, C)``; ``length`` divides ``T``.

    Reference: Liu et al. (2020), RARE: image reconstruction using deep priors learned without ground truth.
    """

    mask: Array = eqx.field(converter=_boolean)
    length: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        require(self.mask, "mask", ndim=4)
        if isinstance(self.mask, jax.Array) and (self.length < 1 or self.mask.shape[0] % self.length):
            raise ValueError(f"length: expected a divisor of {self.mask.shape[0]} frames, got {self.length}")

    def __call__(self, key):
        frames = self.mask.shape[0]
        block = jax.random.randint(key, (), 0, frames // self.length)
        kept = (jnp.arange(frames) // self.length == block)[:, None, None, None]
        return Split(self.mask & kept, self.mask & ~kept)
