"""Parameters of space-varying and tiled blurs from a generator of kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .base import Generator, default


class ProductConvolutionParameters(NamedTuple):
    """The arrays of ``operators.SpaceVaryingBlur``: ``kernels`` ``(K, h, w[, C])`` and ``weights`` ``(K, H, W, 1)``."""

    kernels: Array
    weights: Array


class ProductConvolution(Generator):
    """Kernels drawn at the nodes of a grid over the image and interpolated between them, in ``num_components`` terms.

    The first kernel is the mean of those drawn, with weight one; the others are the first principal components of what
    is left. Weights are bilinear between the nodes, which include the corners of the image of ``sizes`` ``(H, W)``. So the
    kernel of every pixel has the sum of those drawn, one, and as many components as nodes are exact. Raises ``ValueError``
    for more than that.

    Reference: Denis, Thiébaut, Soulez, Becker and Mourya (2015), Fast approximations of shift-variant blur.
    """

    kernel: Generator
    sizes: tuple[int, int] = eqx.field(static=True)
    num_components: int = eqx.field(static=True, default=10)
    grid: tuple[int, int] = eqx.field(static=True, default=(8, 8))

    def __check_init__(self):
        if min(self.grid) < 2 or min(self.sizes) < 2:
            raise ValueError(f"grid: expected at least 2 nodes and 2 pixels per axis, got {self.grid} on {self.sizes}")
        if not 1 <= self.num_components <= self.grid[0] * self.grid[1]:
            raise ValueError(
                f"num_components: expected 1 to the number of nodes {self.grid}, got {self.num_components}"
            )

    def __call__(self, key):
        nodes = self.grid[0] * self.grid[1]
        drawn = jax.vmap(self.kernel)(jax.random.split(key, nodes))
        mean = drawn.mean(0)
        left, values, right = jnp.linalg.svd((drawn - mean[None]).reshape(nodes, -1), full_matrices=False)
        # The deviations from the mean have one dimension less than the nodes.
        count = min(self.num_components - 1, values.size)
        left, components = left[:, :count] * values[None, :count], right[:count].reshape(count, *mean.shape)
        rows, columns = (_between_nodes(n, g) for n, g in zip(self.sizes, self.grid, strict=True))
        weights = jnp.einsum("ia,abk,jb->kij", rows, left.reshape(*self.grid, count), columns)
        weights = jnp.concatenate([jnp.ones((1, *self.sizes), weights.dtype), weights])
        return ProductConvolutionParameters(jnp.concatenate([mean[None], components]), weights[..., None])


def _between_nodes(size: int, nodes: int) -> Array:
    """Linear interpolation matrix ``(size, nodes)``; the first and last pixel are nodes."""
    positions = default(jnp.arange(size)) * (nodes - 1) / (size - 1)
    return jnp.maximum(1 - jnp.abs(positions[:, None] - default(jnp.arange(nodes))[None]), 0)


class TiledKernels(Generator):
    """Independent kernels ``(T1, T2, h, w[, C])``, one per tile of ``operators.TiledBlur``."""

    kernel: Generator
    tiles: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, key):
        draw: Callable = self.kernel
        for _ in self.tiles:
            draw = jax.vmap(draw)
        return draw(jax.random.split(key, self.tiles))
