"""The locality denoiser: a softmax average over a data set for each pixel, within the receptive field of the Wiener filter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..eager import one_program
from ..operators.covariance import floating, matmul
from ..types import real, require
from .gaussian import Gaussian
from .wiener import fit_gaussian

MIN_GAIN = 1e-6
"""The Wiener filter of a pixel with a smaller gain is not normalised (that of a constant pixel is zero)."""


class Locality(eqx.Module):
    """``D(x, sigma)[q] = sum_i w_i[q] points_i[q]``: like ``Empirical.denoiser``, but each pixel q compares its receptive field.

    The weights are ``w_i[q] ~ exp(-sum_p M[q, p] (x[p] - points_i[p])^2 / (2 sigma^2 temperature))``, with M from the Wiener
    filter ``L = S (S + sigma^2 I)^-1`` of the data: ``M[q, p]`` is one where ``|L[q, p] / L[q, q]| >= threshold * max``, the
    maximum taken over all pairs, else zero; ``threshold = 0`` keeps the real values ``L[q, p] / L[q, q]``. M is computed from
    sigma in every call, once for all x of a ``vmap``. With M all ones this is ``Empirical.denoiser``, which memorises the points;
    M is meant to generalise as a network trained on them does (Lukoianov, Yuan, Solomon and Sitzmann 2025, arXiv 2509.09672).

    Here the field of q is divided by the gain of q; in the authors' code by that of the other pixel, ``L[q, p] / L[p, p]``, which
    is the transposed mask. Both do not divide by a gain below 1e-6. On a VP path: ``paths.PathDenoiser(denoiser, paths.VP())``.

    ``points`` is (N, *event), real; ``prior`` the Gaussian with the moments of the data, ``fit_gaussian(points)`` by default;
    x has the event shape and a real dtype, which the result keeps. Points are taken in blocks of ``block_size`` (all at once
    by default), so that B images need B block_size n numbers and n^2 for M; the result does not depend on it. Only
    ``block_average=True`` is different: it averages the results of the blocks with equal weights, as the authors' code does,
    which depends on ``block_size`` and on the order of the points, and is smoother.

    Raises ``ValueError`` for no points, shapes that differ, ``threshold`` outside [0, 1), ``temperature <= 0``,
    ``block_size < 1``, ``block_average`` without ``block_size``, and a concrete ``sigma <= 0`` (a traced 0 gives NaN).
    """

    points: Array
    prior: Gaussian
    threshold: Array
    temperature: Array
    block_size: int | None = eqx.field(static=True)
    block_average: bool = eqx.field(static=True)

    def __init__(
        self,
        points: Any,
        prior: Gaussian | None = None,
        threshold: Any = 0.02,
        temperature: Any = 1.0,
        *,
        block_size: int | None = None,
        block_average: bool = False,
    ):
        self.points = floating(points, "points")
        if self.points.ndim == 0 or self.points.size == 0:
            raise ValueError(f"points: expected shape (N, *event) that is not empty, got {self.points.shape}")
        self.prior = fit_gaussian(self.points) if prior is None else prior
        self.threshold, self.temperature = real(threshold), real(temperature)
        self.block_size, self.block_average = block_size, block_average

    def __check_init__(self):
        if not isinstance(self.prior, Gaussian) or self.prior.shape != self.points.shape[1:]:
            got = getattr(self.prior, "shape", self.prior)
            raise ValueError(f"prior: expected a Gaussian on events of shape {self.points.shape[1:]}, got {got}")
        require(self.threshold, "threshold", shape=(), nonnegative=True, below=1)
        require(self.temperature, "temperature", shape=(), positive=True)
        if self.block_size is not None and self.block_size < 1:
            raise ValueError(f"block_size: expected a positive integer, got {self.block_size}")
        if self.block_average and self.block_size is None:
            raise ValueError("block_size: expected a positive integer for block_average, got None")

    @property
    def shape(self) -> tuple[int, ...]:
        """The event shape."""
        return self.prior.shape

    def __call__(self, x: Float[Array, "*n"], sigma: Any) -> Float[Array, "*n"]:
        x, _, sigma = self.prior._arguments(x, 1.0, sigma)
        require(sigma, "sigma", positive=True)
        return _denoise(self, x, sigma)

    def mask(self, sigma: Any) -> Float[Array, "n n"]:
        """``M[q, p]``, the weight of pixel p in the field of pixel q, at the precision of sigma; pixels are raveled."""
        sigma = floating(sigma, "sigma")
        require(sigma, "sigma", shape=(), positive=True)
        return _mask(self, sigma)


@one_program
def _mask(denoiser: Locality, sigma: Array) -> Float[Array, "n n"]:
    covariance = denoiser.prior.covariance.astype(sigma.dtype)
    wiener = covariance.map(lambda v: v / (v + sigma**2)).dense(denoiser.shape)
    gain = jnp.diagonal(wiener)
    fields = wiener / jnp.where(gain < MIN_GAIN, 1, gain)[:, None]
    threshold = denoiser.threshold.astype(sigma.dtype)
    inside = jnp.abs(fields) >= threshold * jnp.max(jnp.abs(fields))
    return jnp.where(threshold > 0, inside.astype(sigma.dtype), fields)


@one_program
def _denoise(denoiser: Locality, x: Array, sigma: Array) -> Array:
    mask, points = _mask(denoiser, sigma), denoiser.points.reshape(-1, x.size)
    num = points.shape[0]
    size = min(denoiser.block_size or num, num)
    scale = 2 * sigma**2 * denoiser.temperature.astype(x.dtype)

    @jax.checkpoint  # the gradient recomputes each block rather than keep them all
    def block(i: Array) -> tuple[Array, Array]:
        """Logarithm of the sum of weights, and weighted mean, of one block for every pixel."""
        # The last block starts early enough to be full; its points that are in the one before are masked.
        start = jnp.minimum(i * size, num - size)
        part = jax.lax.dynamic_slice_in_dim(points, start, size).astype(x.dtype)
        # Differences first: an expanded square would need as many products and lose digits near the points.
        logits = -matmul((x.reshape(1, -1) - part) ** 2, mask.T) / scale
        logits = jnp.where((start + jnp.arange(size) >= i * size)[:, None], logits, -jnp.inf)
        log_mass = jax.nn.logsumexp(logits, axis=0)
        return log_mass, jnp.sum(jnp.exp(logits - log_mass[None]) * part, axis=0)

    log_masses, means = jax.lax.map(block, jnp.arange(-(-num // size)))
    if denoiser.block_average:
        return means.mean(0).reshape(x.shape)
    return jnp.sum(jax.nn.softmax(log_masses, axis=0) * means, axis=0).reshape(x.shape)


def receptive_field(denoise: Callable, x: Float[Array, "*n"], sigma: Any, pixel: Any) -> Float[Array, "*n"]:
    """``d D(x, sigma)[pixel] / d x``: what one output pixel of any denoiser, a network too, depends on; the shape of x.

    One reverse-mode derivative. For a Wiener filter it is the row ``L[pixel]`` at every x. ``pixel`` holds one index per axis
    of x (an integer array may be traced); ``denoise`` is called as ``denoise(x, sigma)`` and keeps the shape of x.

    Raises ``ValueError`` for complex x, for a number of indices that is not that of the axes, for an index out of range, and
    when ``denoise`` changes the shape.
    """
    x, index = floating(x, "x"), pixel if isinstance(pixel, jax.Array) else np.asarray(pixel)
    if index.shape != (x.ndim,) or (x.ndim and not jnp.issubdtype(index.dtype, jnp.integer)):
        raise ValueError(f"pixel: expected {x.ndim} integers for x of shape {x.shape}, got {pixel}")
    if not isinstance(index, jax.core.Tracer) and any(not 0 <= i < n for i, n in zip(index, x.shape, strict=True)):
        raise ValueError(f"pixel: expected an index inside the shape {x.shape}, got {tuple(map(int, index))}")
    return _row(denoise, x, jnp.asarray(real(sigma)), jnp.asarray(index, int))


@one_program
def _row(denoise: Callable, x: Array, sigma: Array, index: Array) -> Array:
    value, pull_back = jax.vjp(lambda u: denoise(u, sigma), x)
    if value.shape != x.shape:
        raise ValueError(f"denoise: expected a result of shape {x.shape}, got {value.shape}")
    (row,) = pull_back(jnp.zeros_like(value).at[tuple(index)].set(1))
    return row
