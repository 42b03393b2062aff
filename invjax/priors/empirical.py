"""The empirical prior: a weighted point cloud, with exact fields at every positive noise level."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..operators.covariance import floating
from ..types import inner, real, require
from .analytic import AnalyticPrior, Fields
from .conditioning import noise_scale
from .mixture import log_normalised


class Empirical(AnalyticPrior):
    """``sum_j weights_j delta(points_j)``: points (N, *event), weights (N,) normalised, uniform by default.

    The denoiser is the softmax average ``sum_j w_j points_j``, ``w_j ~ weights_j exp(-|x - points_j|^2 / (2 sigma^2))``, which
    memorises the data as sigma goes to zero. Sums run over blocks of ``block_size`` points (all at once by default) with a
    running maximum, so that memory is that of one block. All levels must be positive: ``ValueError`` for a concrete
    sigma = 0, NaN for a traced one.
    """

    log_weights: Float[Array, " N"]
    points: Array
    block_size: int | None = eqx.field(static=True)

    def __init__(self, points: Any, weights: Any = None, *, block_size: int | None = None):
        self.points = floating(points, "points")
        if self.points.ndim == 0 or self.points.shape[0] == 0:
            raise ValueError(f"points: expected shape (N, *event) with N > 0, got {self.points.shape}")
        self.log_weights = log_normalised(weights, self.points.shape[0]).astype(self.points.dtype)
        if block_size is not None and block_size < 1:
            raise ValueError(f"block_size: expected a positive integer, got {block_size}")
        self.block_size = block_size

    @property
    def shape(self) -> tuple[int, ...]:
        return self.points.shape[1:]

    @property
    def weights(self) -> Float[Array, " N"]:
        """The normalised weights."""
        return jnp.exp(self.log_weights)

    def at(self, x: Any, alpha: Any, sigma: Any) -> Fields:
        x, alpha, sigma = self._arguments(x, alpha, sigma)
        self._require_density(sigma)
        size = min(self.block_size or self.points.shape[0], self.points.shape[0])
        total = _reduce(self.points, self.log_weights, x, alpha, sigma, size)
        log_sum = total.top + jnp.log(total.mass)
        log_prob = log_sum - x.size * (jnp.log(sigma) + math.log(2 * math.pi) / 2)
        return Fields(total.point / total.mass, total.shift / total.mass / sigma**2, -log_sum, log_prob)

    def _require_density(self, sigma):
        require(jnp.asarray(real(sigma)), "sigma", positive=True)

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*n"]:
        """One of the points, drawn by weight."""
        return self.points[jax.random.categorical(key, self.log_weights)]

    def posterior(self, likelihood: Any) -> Empirical:
        """The exact posterior under ``y ~ N(A x, diag(noise.sigma^2))``: the same points, weighted by their likelihood.

        No matrix is built: there is no limit on the size of events, and A need not be linear.
        """
        scale = noise_scale(likelihood)
        misfit = _misfit(likelihood.operator, self.points, likelihood.y, scale, self.block_size)
        log_weights = jax.nn.log_softmax(self.log_weights - misfit.astype(self.log_weights.dtype) / 2)
        return eqx.tree_at(lambda p: p.log_weights, self, log_weights)


class _Sums(NamedTuple):
    """Sums over points of ``exp(log weight - top)`` times one, the point, and ``alpha point - x``."""

    top: Array
    mass: Array
    point: Array
    shift: Array


@eqx.filter_jit
def _reduce(points: Array, log_weights: Array, x: Array, alpha: Array, sigma: Array, size: int) -> _Sums:
    num = points.shape[0]

    @jax.checkpoint  # the gradient recomputes each block rather than keep them all
    def add(i: Array, sums: _Sums) -> _Sums:
        # The last block starts early enough to be full; its points that were summed before are masked.
        start = jnp.minimum(i * size, num - size)
        block = jax.lax.dynamic_slice_in_dim(points, start, size).astype(x.dtype)
        weight = jax.lax.dynamic_slice_in_dim(log_weights, start, size).astype(x.dtype)
        shift = alpha * block - x[None]
        square = jnp.sum((shift / sigma) ** 2, axis=tuple(range(1, shift.ndim)))
        log = jnp.where(start + jnp.arange(size) >= i * size, weight - square / 2, -jnp.inf)
        top = jax.lax.stop_gradient(jnp.maximum(sums.top, jnp.max(log)))
        finite = jnp.where(jnp.isfinite(top), top, 0)  # all weights zero so far
        keep, new = jnp.exp(sums.top - finite), jnp.exp(log - finite)
        point, moved = (jnp.tensordot(new, a, 1, precision="highest") for a in (block, shift))
        return _Sums(top, keep * sums.mass + new.sum(), keep * sums.point + point, keep * sums.shift + moved)

    zero = jnp.zeros((), x.dtype)
    empty = _Sums(zero - jnp.inf, zero, jnp.zeros_like(x), jnp.zeros_like(x))
    return jax.lax.fori_loop(0, -(-num // size), add, empty)


@eqx.filter_jit
def _misfit(operator: Any, points: Array, y: Any, scale: Array, block_size: int | None) -> Float[Array, " N"]:
    """``|A point - y|^2 / sigma^2`` for every point."""

    def one(point: Array) -> Array:
        gaps = jax.tree.map(
            lambda a, b: (a - b) / jnp.broadcast_to(scale.astype(a.real.dtype), a.shape), operator(point), y
        )
        return inner(gaps, gaps)

    return jax.lax.map(one, points, batch_size=block_size or points.shape[0])
