"""Group sparsity: the sum of Euclidean norms along some axes."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..operators.structure import scale
from ..types import real, require, squared
from .base import Prior, as_point, safe_sqrt


class GroupL1(Prior):
    """``g(w) = lam sum |w_group|_2``: groups are the entries along ``axes`` (``axes=()`` is the plain l1 norm).

    prox: ``w max(1 - lam step / |w_group|, 0)`` (block soft-thresholding; Yuan and Lin 2006). Isotropic TV is ``GroupL1`` of
    the differences with ``axes=(0,)``, vectorial TV with ``axes=(0, -1)``.
    """

    lam: Array = eqx.field(converter=real, default=1.0)
    axes: tuple[int, ...] = eqx.field(static=True, default=(0,))
    smooth: ClassVar[bool] = False

    def __call__(self, x: Array) -> Array:
        """``lam sum |x_group|``."""
        x = as_point(x)
        return self._weighted(jnp.sum(safe_sqrt(group_squares(x, self.axes))), x)

    def prox(self, x: Array, step_size: Any) -> Array:
        """Block soft-thresholding."""
        x = as_point(x)
        threshold = self._threshold(x, step_size)
        return scale(jnp.maximum(1 - threshold / self._norms(x), 0), x)

    def conj_prox(self, x: Array, step_size: Any) -> Array:
        """Projection of every group on the ball of radius ``lam``; ``step_size > 0`` has no effect."""
        x = as_point(x)
        require(step_size, "step_size", positive=True)
        lam = self._threshold(x, 1)
        return scale(lam / jnp.maximum(self._norms(x), lam), x)

    def _norms(self, x: Array) -> Array:
        """Group norms, never quite zero: quotients and derivatives stay finite, and one fused loop computes them."""
        return jnp.sqrt(jnp.maximum(group_squares(x, self.axes), 1e3 * float(jnp.finfo(x.dtype).tiny)))


def group_squares(x: Array, axes: tuple[int, ...]) -> Array:
    """Squared norms of the groups along ``axes``, which are kept with length one."""
    square = squared(x)
    for axis in axes:
        # Added slice by slice: on CPU a reduction over a short axis is some fifty times slower.
        parts = [jax.lax.slice_in_dim(square, i, i + 1, axis=axis) for i in range(square.shape[axis])]
        square = sum(parts[1:], parts[0])
    return square
