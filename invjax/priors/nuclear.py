"""The nuclear norm: low rank."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..types import real
from .base import Prior, as_point


class NuclearNorm(Prior):
    """``lam`` times the sum of the singular values of the matrices ``[..., m, n]`` in the last two axes.

    prox: soft-thresholding of the singular values. For a series of images, reshape to ``(frames, pixels)`` first. The
    derivative of the prox is that of JAX's SVD: not defined where singular values coincide. Raises ``ValueError`` for fewer
    than two axes. Source: Cai, Candes and Shen (2010), theorem 2.1.
    """

    lam: Array = eqx.field(converter=real, default=1.0)
    smooth: ClassVar[bool] = False

    def __call__(self, x: Array) -> Array:
        """``lam sum sigma_i``."""
        x = _matrices(x)
        return self._weighted(jnp.sum(jnp.linalg.svd(x, compute_uv=False)), x)

    def prox(self, x: Array, step_size: Any) -> Array:
        """``U max(S - lam step_size, 0) V^H``."""
        x = _matrices(x)
        u, s, vh = jnp.linalg.svd(x, full_matrices=False)
        kept = jnp.maximum(s - self._threshold(x, step_size), 0)
        return (u * kept[..., None, :].astype(x.dtype)) @ vh


def _matrices(x: Any) -> Array:
    x = as_point(x)
    if x.ndim < 2:
        raise ValueError(f"x: expected matrices in the last two axes, got shape {x.shape}")
    return x
