"""DRUNet: a residual U-Net denoiser that is told the noise level."""

from __future__ import annotations

import itertools
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .blocks import (
    Down,
    ResidualBlock,
    Up,
    activation_fn,
    as_dtype,
    as_image,
    conv3,
    noise_map,
    pad_to_multiple,
    require_counts,
    to_depth,
    to_space,
)


class DRUNet(nnx.Module):
    """``D(x, sigma)``: a U-Net of residual blocks without biases, whose input is the image and a map of its noise level.

    Without biases (and with ReLU) ``D(c x, c sigma) = c D(x, sigma)`` for ``c > 0``, so it extrapolates over noise levels. The
    image is padded to what the scales divide (its edge repeated) and cropped after.

    Args:
        channels: Channels C of an image ``(H, W, C)``.
        features: Channels at each scale, from the finest; each scale has half the resolution of the one before.
        num_blocks: Residual blocks per scale, in the encoder and in the decoder.
        activation: ``relu`` (DRUNet), ``elu`` (for a gradient-step denoiser, which needs it smooth), or another of
            ``blocks.ACTIVATIONS``.
        residual: Add the network to x, so that it learns minus the noise: faster to train (DnCNN). The paper's does not.
        patch: 2 works on squares of 2 x 2 pixels as channels (as FFDNet): a quarter of the arithmetic at the finest scale.
        dtype: That of the arithmetic inside (``jnp.bfloat16``); the result has that of x.
        rngs: Source of the initial weights.

    Raises ``ValueError`` for fewer than 2 scales, counts that are not positive, an unknown activation, and a wrong x or sigma.

    ``DRUNet(C, rngs=rngs)`` is the network of the paper; ``light_drunet`` is the small one whose weights are shipped.

    Sources: Zhang, Li, Zuo, Zhang, Van Gool, Timofte 2022, IEEE TPAMI 44(10), section 3.2; squares as channels: Zhang, Zuo,
    Zhang 2018, IEEE TIP 27(9).
    """

    def __init__(
        self,
        channels: int,
        features: tuple[int, ...] = (64, 128, 256, 512),
        num_blocks: int = 4,
        *,
        activation: str = "relu",
        residual: bool = False,
        patch: int = 1,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        features = tuple(features)
        dtype = as_dtype(dtype)
        require_counts(channels=channels, features=features, num_blocks=num_blocks, patch=patch)
        if len(features) < 2:
            raise ValueError(f"features: expected at least 2 scales, got {features}")
        activation_fn(activation)
        self.channels, self.features, self.num_blocks = channels, features, num_blocks
        self.activation, self.residual, self.patch, self.dtype = activation, residual, patch, dtype
        self.divisor = patch * 2 ** (len(features) - 1)
        depth = channels * patch**2

        def blocks(count: int) -> nnx.List:
            return nnx.List([ResidualBlock(count, activation, dtype=dtype, rngs=rngs) for _ in range(num_blocks)])

        steps = list(itertools.pairwise(features))
        self.head = conv3(depth + 1, features[0], dtype=dtype, rngs=rngs)
        self.encoder = nnx.List([blocks(fine) for fine, _ in steps])
        self.down = nnx.List([Down(fine, coarse, dtype=dtype, rngs=rngs) for fine, coarse in steps])
        self.body = blocks(features[-1])
        self.up = nnx.List([Up(coarse, fine, dtype=dtype, rngs=rngs) for fine, coarse in reversed(steps)])
        self.decoder = nnx.List([blocks(fine) for fine, _ in reversed(steps)])
        self.tail = conv3(features[0], depth, gain=0.1, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "H W C"], sigma: Any) -> Float[Array, "H W C"]:
        """The denoised image; ``sigma`` is a scalar or a map ``(H, W)`` in the unit of x."""
        x = as_image(x, self.channels)
        height, width, _ = x.shape
        stack = jnp.concatenate([x, noise_map(sigma, (height, width), x.dtype)], -1)
        stack = pad_to_multiple(stack, self.divisor)
        image, level = to_depth(stack[..., :-1], self.patch), to_depth(stack[..., -1:], self.patch)
        level = jnp.mean(level, -1, keepdims=True)
        out = to_space(self._unet(jnp.concatenate([image, level], -1)), self.patch)
        out = out[:height, :width].astype(x.dtype)
        return x + out if self.residual else out

    def _unet(self, x: Array) -> Array:
        skips = [self.head(x)]
        for blocks, down in zip(self.encoder, self.down, strict=True):
            skips.append(down(_run(blocks, skips[-1])))
        x = _run(self.body, skips[-1])
        for up, blocks in zip(self.up, self.decoder, strict=True):
            x = _run(blocks, up(x + skips.pop()))
        return self.tail(x + skips.pop())


def _run(blocks: nnx.List, x: Array) -> Array:
    for block in blocks:
        x = block(x)
    return x


def light_drunet(channels: int, *, dtype: Any = None, rngs: nnx.Rngs) -> DRUNet:
    """The small DRUNet of the shipped weights: 2.4 million weights, 0.12 MFLOP per pixel (the paper's has 33 million)."""
    return DRUNet(channels, (32, 64, 128, 128), 2, residual=True, patch=2, dtype=dtype, rngs=rngs)
