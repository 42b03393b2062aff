"""Random blur kernels: anisotropic Gaussians and motion blur."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, PRNGKeyArray

from ..types import real, require
from .base import Generator, default

_PERIOD = 4.0  # of the random path, in exposures: long enough that its ends are as good as independent
_NUM_MODES = 128
_NUM_POINTS = 256


def anisotropic_gaussian(covariance: Any, size: tuple[int, ...]) -> Array:
    """Gaussian kernel ``exp(-u^T C^(-1) u / 2)`` of ``size``, centre at ``floor(size / 2)``, sum one; ``C`` in pixels squared."""
    covariance = real(covariance)
    require(covariance, "covariance", shape=(len(size), len(size)))
    axes = [jnp.arange(n, dtype=covariance.dtype) - n // 2 for n in size]
    offsets = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1)
    exponent = jnp.sum(offsets * (offsets @ jnp.linalg.inv(covariance)), -1)
    return jax.nn.softmax(-exponent.ravel() / 2).reshape(size)


class GaussianBlur(Generator):
    """Gaussian kernels of ``size`` ``(h, w)`` or ``(d, h, w)``, standard deviations uniform in ``[low, high]`` pixels.

    ``isotropic``: one deviation for all axes; otherwise one for each, and a uniformly random rotation of the axes.
    """

    size: tuple[int, ...] = eqx.field(static=True)
    low: Array = eqx.field(converter=real, default=0.5)
    high: Array = eqx.field(converter=real, default=5.0)
    isotropic: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        _require_sizes(self.size, (1, 2, 3))
        require(self.low, "low", positive=True, shape=())
        require(self.high, "high", positive=True, shape=())

    def __call__(self, key):
        return anisotropic_gaussian(self.covariance(key), self.size)

    def covariance(self, key: PRNGKeyArray) -> Array:
        """The random covariance matrix, in pixels squared."""
        width_key, rotation_key = jax.random.split(key)
        dims, low, high = len(self.size), default(self.low), default(self.high)
        count = 1 if self.isotropic else dims
        widths = low + (high - low) * jax.random.uniform(width_key, (count,), low.dtype)
        if self.isotropic or dims == 1:
            return widths[0] ** 2 * jnp.eye(dims, dtype=low.dtype)
        # QR of a Gaussian matrix: uniform up to signs of the axes, which do not matter here.
        axes, _ = jnp.linalg.qr(jax.random.normal(rotation_key, (dims, dims), low.dtype))
        return (axes * widths[None] ** 2) @ axes.T


class MotionBlur(Generator):
    """Kernels ``(h, w)`` of a camera that moves along a random path while the shutter is open.

    Both coordinates of the path are stationary Gaussian processes with a Matérn covariance: standard deviation ``sigma``
    (pixels), ``length_scale`` (as part of the exposure: a shorter one makes a longer path) and ``smoothness`` (the order
    ``nu``, above 1 for a path of finite length). The path is centred, and every point of it is shared between its four
    nearest pixels, so the kernel is differentiable in all three. What leaves the frame is lost; sum one (NaN when
    all of it leaves).

    Reference: Schuler, Hirsch, Harmeling and Schölkopf (2016), Learning to deblur (paths from a Gaussian process);
    Boracchi and Foi (2012), Modeling the performance of image restoration from motion blur (kernel and exposure).
    """

    size: tuple[int, int] = eqx.field(static=True)
    sigma: Array = eqx.field(converter=real, default=3.0)
    length_scale: Array = eqx.field(converter=real, default=0.3)
    smoothness: Array = eqx.field(converter=real, default=2.5)

    def __check_init__(self):
        _require_sizes(self.size, (2,))
        require(self.sigma, "sigma", nonnegative=True, shape=())
        require(self.length_scale, "length_scale", positive=True, shape=())
        require(self.smoothness, "smoothness", positive=True, shape=())

    def __call__(self, key):
        return self.kernel(self.path(key))

    def path(self, key: PRNGKeyArray) -> Array:
        """Positions ``(2, points)`` in pixels at equal times of the exposure, mean zero."""
        frequencies = 2 * math.pi / _PERIOD * default(jnp.arange(_NUM_MODES))
        times = (default(jnp.arange(_NUM_POINTS)) + 0.5) / _NUM_POINTS
        draws = (
            jax.random.normal(key, (2, 2, _NUM_MODES), times.dtype) * jnp.sqrt(self._powers(frequencies))[None, None]
        )
        phases = frequencies[:, None] * times[None]
        path = default(self.sigma) * (draws[0] @ jnp.cos(phases) + draws[1] @ jnp.sin(phases))
        return path - path.mean(1, keepdims=True)

    def _powers(self, frequencies: Array) -> Array:
        """Variances of the Fourier modes for ``sigma`` one, periodic over ``_PERIOD``: the Matérn spectral density."""
        scale, order = default(self.length_scale), default(self.smoothness)
        shape = -(order + 0.5) * jnp.log1p((scale * frequencies) ** 2 / (2 * order))
        level = jnp.log(2 * math.pi**0.5 * scale) - 0.5 * jnp.log(2 * order) + gammaln(order + 0.5) - gammaln(order)
        powers = 2 / _PERIOD * jnp.exp(level + shape)
        return powers.at[0].divide(2)  # the constant has no sine to share its power with

    def kernel(self, path: Array) -> Array:
        """The kernel ``(h, w)`` of a path ``(2, points)``: the part of the exposure that is spent at each pixel."""
        down, across = (_shares(positions, n) for positions, n in zip(path, self.size, strict=True))
        counts = down @ across.T
        return counts / counts.sum()


def _shares(positions: Array, size: int) -> Array:
    """Linear shares ``(size, points)`` of the pixels at positions relative to the centre ``floor(size / 2)``."""
    pixels = jnp.arange(size, dtype=positions.dtype) - size // 2
    return jnp.maximum(1 - jnp.abs(pixels[:, None] - positions[None]), 0)


def _require_sizes(size: tuple[int, ...], dims: tuple[int, ...]) -> None:
    if len(size) not in dims or any(n < 1 for n in size):
        raise ValueError(f"size: expected {' or '.join(map(str, dims))} positive sizes, got {size}")
