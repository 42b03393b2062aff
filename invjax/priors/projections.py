"""Indicators of norm balls and of the simplex: their proxes are projections."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..operators.structure import scale
from ..types import norm, real, require, squared
from .base import Prior, as_point, safe_sqrt


class _Indicator(Prior):
    """0 inside a set of size ``radius``, infinite outside (with a slack of rounding); ``lam`` has no effect."""

    radius: Array = eqx.field(converter=real)
    lam: Array = eqx.field(converter=real)
    smooth: ClassVar[bool] = False

    def __init__(self, radius: Any = 1.0, lam: Any = 1.0):
        self.radius, self.lam = radius, lam

    def __check_init__(self):
        require(self.radius, "radius", positive=True, shape=())

    def _radius(self, x: Array) -> Array:
        return jnp.asarray(self.radius, x.real.dtype)

    def _indicator(self, excess: Array, x: Array) -> Array:
        slack = 4 * x.size * jnp.finfo(x.dtype).eps * self._radius(x)
        return jnp.where(excess <= slack, 0, jnp.inf).astype(x.real.dtype)


class L2Ball(_Indicator):
    """``|x|_2 <= radius``; prox ``x min(1, radius / |x|)``. Real or complex."""

    def __call__(self, x):
        x = as_point(x)
        return self._indicator(norm(x) - self._radius(x), x)

    def prox(self, x, step_size):
        x = as_point(x)
        return scale(self._radius(x) / jnp.maximum(norm(x), self._radius(x)), x)


class LInfBall(_Indicator):
    """``max |x| <= radius``; prox: every entry is projected on the disc (an interval for real x)."""

    def __call__(self, x):
        x = as_point(x)
        return self._indicator(jnp.max(safe_sqrt(squared(x))) - self._radius(x), x)

    def prox(self, x, step_size):
        x = as_point(x)
        if not jnp.iscomplexobj(x):
            return jnp.clip(x, -self._radius(x), self._radius(x))
        return scale(self._radius(x) / jnp.maximum(safe_sqrt(squared(x)), self._radius(x)), x)


class L1Ball(_Indicator):
    """``sum |x| <= radius``; prox: soft-thresholding at the level that meets the radius, found by sorting.

    Source: Duchi, Shalev-Shwartz, Singer and Chandra (2008), figure 1.
    """

    def __call__(self, x):
        x = as_point(x)
        return self._indicator(jnp.sum(safe_sqrt(squared(x))) - self._radius(x), x)

    def prox(self, x, step_size):
        x = as_point(x)
        size = safe_sqrt(squared(x))
        level = jnp.where(jnp.sum(size) > self._radius(x), _level(size, self._radius(x)), 0)
        kept = size > level
        return scale(jnp.where(kept, 1 - level / jnp.where(kept, size, 1), 0), x)


class Simplex(_Indicator):
    """``x >= 0, sum x = radius`` (real x); prox ``max(x - level, 0)`` with the level of the right sum, found by sorting.

    Raises ``ValueError`` for complex x. Source: Held, Wolfe and Crowder (1974); Duchi and others (2008).
    """

    def __call__(self, x):
        x = self._real(x)
        return self._indicator(jnp.maximum(jnp.abs(jnp.sum(x) - self._radius(x)), -jnp.min(x)), x)

    def prox(self, x, step_size):
        x = self._real(x)
        return jnp.maximum(x - _level(x, self._radius(x)), 0)

    def _real(self, x: Any) -> Array:
        x = as_point(x)
        if jnp.iscomplexobj(x):
            raise ValueError(f"x: expected a real array for Simplex, got {x.dtype}")
        return x


def _level(values: Array, total: Array) -> Array:
    """The ``level`` with ``sum max(values - level, 0) = total``."""
    ordered = jnp.sort(values.ravel())[::-1]
    count = jnp.arange(1, ordered.size + 1, dtype=ordered.dtype)
    levels = (jnp.cumsum(ordered) - total) / count
    # The entries above their own level come first: the last of them gives the answer.
    last = jnp.sum(ordered > levels) - 1
    return levels[last]
