"""A denoiser whose residual has a certified Lipschitz constant."""

from __future__ import annotations

import itertools
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .blocks import activation_fn, as_dtype, as_image, conv3, noise_map, require_counts
from .convolution import convolve
from .symbol import convolution_bound

ONE_LIPSCHITZ = ("relu", "leaky_relu", "elu", "softplus")


class LipschitzDenoiser(nnx.Module):
    """``D(x, sigma) = x - R(x, sigma)``, where R is L-Lipschitz in x for images of every size, L = ``lipschitz``.

    ``R = L W_n act(... act(W_1 x + V sigma + b_1) ...)``: convolutions of 3 x 3 with zero padding, each divided by
    ``convolution_bound``, so of norm at most 1, and activations that are 1-Lipschitz. The map of noise levels enters the
    first layer by a convolution V of its own, which is not a function of x and needs no bound. With L < 1, D is injective and
    plug-and-play iterations converge (for forward-backward splitting and a strongly convex data term: Ryu et al., theorem 1).
    The price is quality: the bound of the product of norms is far above the constant of R at real images.

    Training keeps the constant at every step: the bound is computed again at each call. For use, fold it into the weights
    once: ``frozen(net.folded())``.

    Args:
        channels: Channels C of an image ``(H, W, C)`` of any size.
        features: Channels between two convolutions.
        num_layers: Number of convolutions, at least 2.
        lipschitz: The constant L, positive.
        activation: ``relu``, ``leaky_relu``, ``elu`` or ``softplus``.
        is_folded: Whether the weights are used as they are, as in what ``folded`` returns; ``certified_bound`` still holds.
        dtype: That of the arithmetic inside (``jnp.bfloat16``); the result has that of x.
        rngs: Source of the initial weights.

    Raises ``ValueError`` for a constant or counts that are not positive, fewer than 2 layers, another activation, and a wrong
    x or sigma (a scalar or a map ``(H, W)``).

    Source: Ryu, Liu, Wang, Chen, Wang, Yin 2019, ICML, for the condition on D; ``symbol.py`` for the bound.
    """

    def __init__(
        self,
        channels: int,
        features: int = 64,
        num_layers: int = 10,
        lipschitz: float = 0.9,
        *,
        activation: str = "leaky_relu",
        is_folded: bool = False,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        dtype = as_dtype(dtype)
        require_counts(channels=channels, features=features, num_layers=num_layers)
        if num_layers < 2:
            raise ValueError(f"num_layers: expected at least 2, got {num_layers}")
        if not 0 < lipschitz < float("inf"):
            raise ValueError(f"lipschitz: expected a positive number, got {lipschitz}")
        if activation not in ONE_LIPSCHITZ:
            raise ValueError(f"activation: expected one of {', '.join(ONE_LIPSCHITZ)}, got {activation!r}")
        self.channels, self.features, self.num_layers, self.lipschitz = channels, features, num_layers, float(lipschitz)
        self.activation, self.is_folded, self.dtype = activation, is_folded, dtype
        widths = (channels, *[features] * (num_layers - 1), channels)
        self.layers = nnx.List(conv3(a, b, use_bias=True, rngs=rngs) for a, b in itertools.pairwise(widths))
        self.level = conv3(1, features, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "H W C"], sigma: Any) -> Float[Array, "H W C"]:
        """The denoised image."""
        x = as_image(x, self.channels)
        return x - self.residual(x, sigma)

    def residual(self, x: Float[Array, "H W C"], sigma: Any) -> Float[Array, "H W C"]:
        """``R(x, sigma)``, the estimate of the noise."""
        x = as_image(x, self.channels)
        dtype = x.dtype if self.dtype is None else self.dtype
        h = _convolve(self.layers[0], x.astype(dtype), self.is_folded)
        h = h + self.level(noise_map(sigma, x.shape[:2], x.dtype)).astype(dtype)
        for layer in self.layers[1:]:
            h = _convolve(layer, activation_fn(self.activation)(h), self.is_folded)
        return self.lipschitz * h.astype(x.dtype)

    def folded(self) -> LipschitzDenoiser:
        """The same function without the work of the bound at each call: a new network whose kernels are divided once."""
        net = nnx.clone(self)
        for layer in net.layers if not self.is_folded else ():
            layer.kernel[...] = _normalised(layer.kernel[...])
        net.is_folded = True
        return net


def certified_bound(net: LipschitzDenoiser) -> Float[Array, ""]:
    """An upper bound of the Lipschitz constant of ``R = x - D(x, sigma)`` in x, for every image size and every sigma.

    ``L`` times the product of the bounds of the kernels that the network uses: equal to ``net.lipschitz`` up to rounding,
    unless a folded network was trained on. For exact arithmetic: bfloat16 inside adds its own errors.

    Raises ``ValueError`` for another kind of network.
    """
    if not isinstance(net, LipschitzDenoiser):
        raise ValueError(f"net: expected a LipschitzDenoiser, got {type(net).__name__}")
    kernels = [layer.kernel[...] for layer in net.layers]
    bounds = [convolution_bound(kernel if net.is_folded else _normalised(kernel)) for kernel in kernels]
    return net.lipschitz * jnp.prod(jnp.stack(bounds))


def _normalised(kernel: Float[Array, "3 3 C D"]) -> Float[Array, "3 3 C D"]:
    bound = convolution_bound(kernel).astype(kernel.dtype)
    return kernel / jnp.where(bound > 0, bound, 1)


def _convolve(layer: nnx.Conv, x: Float[Array, "H W C"], is_folded: bool) -> Float[Array, "H W D"]:
    kernel = layer.kernel[...] if is_folded else _normalised(layer.kernel[...])
    axes = ("NHWC", "HWIO", "NHWC")
    y = convolve(x[None], kernel.astype(x.dtype), (1, 1), "SAME", dimension_numbers=axes)[0]
    return y + layer.bias[...].astype(x.dtype)[None, None]  # type: ignore[index]
