"""The preconditioning of diffusion models, which makes any network a denoiser at every noise level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .blocks import as_image, noise_map


class EDMDenoiser(nnx.Module):
    """``D(x, sigma) = m + c_skip (x - m) + c_out F(c_in (x - m), sigma)``: input and target of the network F have variance 1.

    With ``s = sigma_data``: ``c_skip = s^2 / (sigma^2 + s^2)``, ``c_out = sigma s / sqrt(sigma^2 + s^2)`` and
    ``c_in = 1 / sqrt(sigma^2 + s^2)``. ``D(x, 0) = x`` exactly, and ``D -> m + s F`` as sigma grows; with F = 0, D is the
    posterior mean of white Gaussian data N(m, s^2).

    Images are in [0, 1] here, so their mean m is subtracted; Karras et al. take images u = 2 x - 1 in [-1, 1] without a mean.
    In that unit ``sigma`` and ``sigma_data`` are twice as large: their 0.5 is the 0.25 here. F is given sigma and makes of it
    what it needs: ``UNet`` embeds ``ln(sigma) / 4``, which is their ``c_noise``.

    Args:
        net: The network F: ``net(x, sigma)``, of the shape of x.
        sigma_data: Standard deviation s of the data around m, positive (``ValueError``).
        mean: Mean m of the data.

    Source: Karras, Aittala, Aila, Laine 2022, NeurIPS, equation 7 and table 1.
    """

    def __init__(self, net: Callable[[Array, Any], Array], sigma_data: float = 0.25, mean: float = 0.5):
        if not sigma_data > 0:
            raise ValueError(f"sigma_data: expected a positive number, got {sigma_data}")
        self.net, self.sigma_data, self.mean = net, float(sigma_data), float(mean)

    def __call__(self, x: Float[Array, "H W C"], sigma: Any) -> Float[Array, "H W C"]:
        """The denoised image. ``sigma`` is a scalar, or a map ``(H, W)`` where ``net`` takes one, in the unit of x."""
        x = as_image(x)
        level = noise_map(sigma, x.shape[:2], x.dtype)
        total = jnp.hypot(level, self.sigma_data)
        ratio = level / total  # both stay finite where sigma^2 would overflow
        centred = x - self.mean
        out = self.net(centred / total, sigma)
        return x - ratio**2 * centred + ratio * self.sigma_data * out  # 1 - c_skip = ratio^2: exact at sigma = 0
