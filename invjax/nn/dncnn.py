"""DnCNN: a plain stack of convolutions that learns minus the noise."""

from __future__ import annotations

import itertools
import math
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from . import blocks
from .blocks import activation_fn, as_dtype, as_image, conv3, require_counts


class DnCNN(nnx.Module):
    """``D(x, sigma) = x + N(x)``: ``num_layers`` convolutions with an activation between two of them, no batch normalisation.

    It is blind: ``sigma`` is ignored, unless ``noise_map`` appends it to the image as a channel, ``N(x, sigma)``.

    Args:
        channels: Channels C of an image ``(H, W, C)`` of any size.
        features: Channels between two convolutions.
        num_layers: Number of convolutions, at least 2.
        use_bias: Whether the convolutions have biases. Without them, ReLU makes it positively homogeneous.
        activation: ``relu``, or another of ``blocks.ACTIVATIONS``.
        noise_map: Whether N sees the noise level; ``sigma`` is then a scalar or a map ``(H, W)`` in the unit of x.
        dtype: That of the arithmetic inside (``jnp.bfloat16``); the result has that of x.
        rngs: Source of the initial weights (He et al. 2015; the last layer is small, so that D starts near the identity).

    Raises ``ValueError`` for counts that are not positive, fewer than 2 layers, an unknown activation, and a wrong x or sigma.

    Source: Zhang, Zuo, Chen, Meng, Zhang 2017, IEEE TIP 26(7), section III; without batch normalisation as in DeepInverse,
    whose weights ``load_torch`` reads. The map: Zhang, Zuo, Zhang 2018, IEEE TIP 27(9).
    """

    def __init__(
        self,
        channels: int,
        features: int = 64,
        num_layers: int = 20,
        use_bias: bool = True,
        *,
        activation: str = "relu",
        noise_map: bool = False,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        dtype = as_dtype(dtype)
        require_counts(channels=channels, features=features, num_layers=num_layers)
        if num_layers < 2:
            raise ValueError(f"num_layers: expected at least 2, got {num_layers}")
        activation_fn(activation)
        self.channels, self.features, self.num_layers, self.use_bias = channels, features, num_layers, use_bias
        self.activation, self.noise_map, self.dtype = activation, noise_map, dtype
        widths = (channels + noise_map, *[features] * (num_layers - 1), channels)
        gains = (*[math.sqrt(2)] * (num_layers - 1), 0.1)
        self.layers = nnx.List(
            conv3(a, b, use_bias=use_bias, gain=gain, dtype=dtype, rngs=rngs)
            for (a, b), gain in zip(itertools.pairwise(widths), gains, strict=True)
        )

    def __call__(self, x: Float[Array, "H W C"], sigma: Any = None) -> Float[Array, "H W C"]:
        """The denoised image."""
        x = h = as_image(x, self.channels)
        if self.noise_map:
            h = jnp.concatenate([x, blocks.noise_map(sigma, x.shape[:2], x.dtype)], -1)
        for layer in self.layers[:-1]:
            h = activation_fn(self.activation)(layer(h))
        return x + self.layers[-1](h).astype(x.dtype)
