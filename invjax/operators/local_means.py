"""Means around every pixel, some pixels counting more than others."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Inexact

from ..types import real, require


def local_mean(x: Inexact[Array, "H W C"], width: Any, weight: Any = 1.0) -> Inexact[Array, "H W C"]:
    """The mean around each pixel: ``m_i = sum_j k_ij x_j / sum_j k_ij``, ``k_ij = weight_j exp(-|i - j|^2 / (2 width^2))``.

    ``width`` is in pixels; ``weight`` is non-negative: a scalar, ``(H, W)``, or of the shape of x up to broadcasting. With a mask
    as the weight it fills holes: ``jnp.where(mask, y, local_mean(y, 1.5, mask))``. The exponential is at least e^-30 along each
    axis, so far from all weight it is the mean of what has weight; without any weight, zero. The border has no other side: only
    pixels of the image count.

    Raises ``ValueError`` for a width that is not positive, a negative weight, and an x that is no ``(H, W, C)``.
    """
    width, weight = real(width), real(weight)
    require(width, "width", positive=True)
    require(weight, "weight", nonnegative=True)
    if jnp.ndim(x) != 3:
        raise ValueError(f"x: expected an image (H, W, C), got shape {jnp.shape(x)}")
    dtype = x.real.dtype
    weight = weight[..., None] if weight.ndim == 2 else weight
    weight = jnp.broadcast_to(weight, x.shape).astype(dtype)
    total = _sum(weight, width)
    return _sum(weight * x, width) / jnp.where(total > 0, total, 1)


def _sum(x: Array, width: Array) -> Array:
    """Along the rows and along the columns: products with matrices, small beside any network."""
    rows, columns = (_weights(n, width).astype(x.real.dtype) for n in x.shape[:2])
    return jnp.einsum("ij,jkc,kl->ilc", rows, x, columns)


def _weights(n: int, width: Array) -> Array:
    i = jnp.arange(n)
    return jnp.exp(-jnp.minimum(jnp.square((i[:, None] - i) / width) / 2, 30))
