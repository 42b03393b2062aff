"""A U-Net that is told the noise level: the general backbone of diffusion models."""

from __future__ import annotations

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .blocks import (
    Down,
    Up,
    as_dtype,
    as_image,
    at_least_float32,
    conv3,
    linear,
    noise_level,
    pad_to_multiple,
    require_counts,
)

SMALLEST = 1e-4  # noise levels well below it are not told apart
NUM_GROUPS = 8


class UNet(nnx.Module):
    """``F(x, sigma)``: residual blocks at several scales, each modulated by an embedding of ``ln sigma``.

    Made to be the network of ``EDMDenoiser``: its input and output have unit variance. A block is
    ``x + conv(act(FiLM(norm(conv(act(norm(x)))))))`` with SiLU and group normalisation; FiLM is one gain and one shift per
    channel, linear in the embedding. Skips are concatenated. The image is padded to what the scales divide (its edge
    repeated) and cropped after. Statistics of the norms are those of the whole image, so it is not a local filter.

    Args:
        channels: Channels C of an image ``(H, W, C)``.
        features: Channels at each scale, from the finest; each scale has half the resolution of the one before.
        num_blocks: Residual blocks per scale, in the encoder and in the decoder.
        attention: Whether the coarsest scale has self-attention (its cost grows with the square of the pixels there).
        dtype: That of the arithmetic inside (``jnp.bfloat16``); the result has that of x.
        rngs: Source of the initial weights.

    ``sigma`` is a scalar. ``sigma = 0`` is as about 1e-4, with a finite derivative. Raises ``ValueError`` for fewer than 2
    scales, counts that are not positive, and a wrong x or sigma.

    Sources: Ronneberger, Fischer, Brox 2015; Ho, Jain, Abbeel 2020, appendix B; FiLM: Perez et al. 2018; group
    normalisation: Wu and He 2018.
    """

    def __init__(
        self,
        channels: int,
        features: tuple[int, ...] = (64, 128, 256),
        num_blocks: int = 2,
        *,
        attention: bool = False,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        features = tuple(features)
        dtype = as_dtype(dtype)
        require_counts(channels=channels, features=features, num_blocks=num_blocks)
        if len(features) < 2:
            raise ValueError(f"features: expected at least 2 scales, got {features}")
        self.channels, self.features, self.num_blocks = channels, features, num_blocks
        self.attention, self.dtype = attention, dtype
        width = 4 * features[0]

        def stage(num_in: int, num_out: int) -> nnx.List:
            ins = (num_in, *[num_out] * (num_blocks - 1))
            return nnx.List([Block(n, num_out, width, dtype=dtype, rngs=rngs) for n in ins])

        steps = list(itertools.pairwise(features))
        self.embedding = Embedding(width, dtype=dtype, rngs=rngs)
        self.head = conv3(channels, features[0], use_bias=True, dtype=dtype, rngs=rngs)
        self.encoder = nnx.List([stage(fine, fine) for fine, _ in steps])
        self.down = nnx.List([Down(fine, coarse, dtype=dtype, rngs=rngs) for fine, coarse in steps])
        self.body = stage(features[-1], features[-1])
        self.mixing = nnx.List([Attention(features[-1], dtype=dtype, rngs=rngs)] if attention else [])
        self.up = nnx.List([Up(coarse, fine, dtype=dtype, rngs=rngs) for fine, coarse in reversed(steps)])
        self.decoder = nnx.List([stage(2 * fine, fine) for fine, _ in reversed(steps)])
        self.tail = conv3(features[0], channels, use_bias=True, gain=0.1, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "H W C"], sigma: Any) -> Float[Array, "H W C"]:
        """The network at ``x``."""
        x = as_image(x, self.channels)
        height, width, _ = x.shape
        h = pad_to_multiple(x, 2 ** len(self.down))
        code = self.embedding(sigma, x.dtype)
        h, skips = self.head(h), []
        for stage, down in zip(self.encoder, self.down, strict=True):
            h = _run(stage, h, code)
            skips.append(h)
            h = down(h)
        h = _run(self.body, h, code)
        for mix in self.mixing:
            h = mix(h)
        for up, stage in zip(self.up, self.decoder, strict=True):
            h = _run(stage, jnp.concatenate([up(h), skips.pop()], -1), code)
        return self.tail(jax.nn.silu(group_norm(h)))[:height, :width].astype(x.dtype)


class Embedding(nnx.Module):
    """Two layers over cosines and sines of ``c = ln(sigma) / 4`` at ``width / 4`` frequencies from 1 to 100."""

    def __init__(self, width: int, *, dtype: Any = None, rngs: nnx.Rngs):
        self.width = width
        self.first = linear(width // 2, width, use_bias=True, dtype=dtype, rngs=rngs)
        self.second = linear(width, width, use_bias=True, dtype=dtype, rngs=rngs)

    def __call__(self, sigma: Any, dtype: Any) -> Float[Array, " width"]:
        """The code of a noise level, for an image of that dtype."""
        wide = at_least_float32(dtype)
        level = jnp.log(jnp.hypot(noise_level(sigma, wide), SMALLEST)) / 4  # smooth, and finite at 0
        phase = level * jnp.geomspace(1, 100, self.width // 4, dtype=wide)
        code = jnp.concatenate([jnp.cos(phase), jnp.sin(phase)]).astype(dtype)
        return jax.nn.silu(self.second(jax.nn.silu(self.first(code))))


class Block(nnx.Module):
    """A residual block of two convolutions, modulated by the code of the noise level."""

    def __init__(self, num_in: int, num_out: int, width: int, *, dtype: Any = None, rngs: nnx.Rngs):
        self.first = conv3(num_in, num_out, use_bias=True, dtype=dtype, rngs=rngs)
        self.film = linear(width, 2 * num_out, use_bias=True, dtype=dtype, rngs=rngs)
        self.second = conv3(num_out, num_out, use_bias=True, gain=0.1, dtype=dtype, rngs=rngs)  # close to the identity
        self.skip = None if num_in == num_out else linear(num_in, num_out, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "H W C"], code: Float[Array, " width"]) -> Float[Array, "H W D"]:
        """The block at ``x``."""
        gain, shift = jnp.split(self.film(code)[None, None], 2, -1)
        h = self.first(jax.nn.silu(group_norm(x)))
        h = self.second(jax.nn.silu((1 + gain) * group_norm(h) + shift))
        return h + (x if self.skip is None else self.skip(x))


class Attention(nnx.Module):
    """``x`` plus self-attention between all its pixels, with heads of about 64 channels (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, features: int, *, dtype: Any = None, rngs: nnx.Rngs):
        self.heads = math.gcd(features, max(1, features // 64))
        self.project = linear(features, 3 * features, dtype=dtype, rngs=rngs)
        self.out = linear(features, features, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        """The layer at ``x``."""
        height, width, features = x.shape
        size = features // self.heads
        parts = self.project(group_norm(x)).reshape(height * width, 3, self.heads, size)
        query, key, value = parts[:, 0], parts[:, 1], parts[:, 2]
        logits = jnp.einsum("qhc,khc->hqk", query, key).astype(at_least_float32(x.dtype)) / math.sqrt(size)
        mixed = jnp.einsum("hqk,khc->qhc", jax.nn.softmax(logits).astype(x.dtype), value)
        return x + self.out(mixed.reshape(height, width, features))


def group_norm(x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
    """Mean 0 and variance 1 in each of up to 8 groups of channels, over all pixels; at least float32 inside."""
    height, width, features = x.shape
    groups = x.reshape(height, width, math.gcd(features, NUM_GROUPS), -1)
    groups = groups.astype(at_least_float32(x.dtype))
    centred = groups - jnp.mean(groups, (0, 1, 3), keepdims=True)
    variance = jnp.mean(centred**2, (0, 1, 3), keepdims=True)
    return (centred * jax.lax.rsqrt(variance + 1e-5)).reshape(x.shape).astype(x.dtype)


def _run(stage: nnx.List, x: Array, code: Array) -> Array:
    for block in stage:
        x = block(x, code)
    return x
