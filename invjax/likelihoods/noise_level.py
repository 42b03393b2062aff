"""Noise level of a single image from its finest wavelet details."""

import jax.numpy as jnp
from jaxtyping import Array

from ..operators import Wavelet


def noise_level(y: Array, wavelet: str = "db2") -> Array:
    """Standard deviation of white Gaussian noise in a real image ``(H, W, C)``: ``median |d| / 0.6745``.

    ``d`` are the diagonal details of the finest level of an orthonormal wavelet transform, where a photograph, above all a
    blurred one, has little energy. Biased upwards by fine texture. Source: Donoho and Johnstone (1994).
    Raises ``ValueError`` for complex images or sides below 8 pixels.
    """
    if y.ndim != 3 or jnp.iscomplexobj(y) or min(y.shape[:2]) < 8:
        raise ValueError(f"y: expected a real image (H, W, C) with sides of at least 8, got {y.dtype} {y.shape}")
    even = y[: y.shape[0] // 2 * 2, : y.shape[1] // 2 * 2]
    details = Wavelet(even.shape, wavelet, 1)(even)[even.shape[0] // 2 :, even.shape[1] // 2 :]
    return jnp.median(jnp.abs(details)) / 0.6745
