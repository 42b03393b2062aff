"""Blur and anti-alias kernels: arrays of sum one, differentiable in their width."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..types import real, require
from .structure import default_precision


def gaussian_kernel(sigma: Any, size: int | None = None, ndim: int = 2) -> Array:
    """Gaussian of standard deviation ``sigma`` pixels (a scalar, or one per axis), sum one.

    ``size`` defaults to ``2 ceil(4 sigma) + 1`` (needs a concrete sigma); give it to trace or differentiate in sigma.
    """
    sigma = real(sigma)
    require(sigma, "sigma", positive=True, ndim=(0, 1))
    widths = jnp.broadcast_to(sigma, (ndim,))
    if size is None:
        if isinstance(sigma, jax.core.Tracer):
            raise ValueError("size: expected an integer when sigma is traced (shapes are static), got None")
        size = 2 * int(jnp.ceil(4 * jnp.max(sigma))) + 1
    offsets = (jnp.arange(size) - size // 2).astype(widths.dtype)
    axes = [jnp.exp(-0.5 * (offsets / w) ** 2) for w in widths]
    return _separable([a / a.sum() for a in axes])


def uniform_kernel(size: int, ndim: int = 2) -> Array:
    """Box of ``size`` pixels per axis, sum one."""
    if size < 1:
        raise ValueError(f"size: expected a positive integer, got {size}")
    return jnp.full((size,) * ndim, 1.0 / size**ndim)


def antialias_kernel(name: str, factor: int, ndim: int = 2) -> Array:
    """Low-pass kernel for downsampling by ``factor``: "gaussian" (sigma = factor / 2), "bilinear", "bicubic" (a = -0.5), "sinc".

    bicubic: Keys (1981); sinc: Hann-windowed, four lobes. Sum one; even length for an even factor would shift the grid,
    so all have odd length and their centre on a kept pixel.
    """
    profiles = {
        "gaussian": (2.0, lambda u: np.exp(-2.0 * u**2)),
        "bilinear": (1.0, triangle),
        "bicubic": (2.0, keys_cubic),
        "sinc": (4.0, lambda u: np.sinc(u) * np.cos(np.pi * u / 8) ** 2),
    }
    if name not in profiles:
        raise ValueError(f"kernel: expected one of {sorted(profiles)} or an array, got {name!r}")
    if factor < 1:
        raise ValueError(f"factor: expected an integer >= 1, got {factor}")
    reach, profile = profiles[name]
    half = max(int(reach * factor), 1)
    weights = profile(np.arange(-half, half + 1) / factor)
    return _separable([jnp.asarray(weights / weights.sum(), default_precision())] * ndim)


def triangle(u: np.ndarray) -> np.ndarray:
    """Linear interpolation, ``max(1 - |u|, 0)``."""
    return np.maximum(1 - np.abs(u), 0)


def keys_cubic(u: np.ndarray) -> np.ndarray:
    """Cubic convolution with a = -0.5 (Keys 1981), zero for ``|u| >= 2``."""
    u = np.abs(u)
    near, far = 1.5 * u**3 - 2.5 * u**2 + 1, -0.5 * u**3 + 2.5 * u**2 - 4 * u + 2
    return np.where(u <= 1, near, np.where(u < 2, far, 0))


def _separable(axes: list[Array]) -> Array:
    out = axes[0]
    for a in axes[1:]:
        out = out[..., None] * a
    return out
