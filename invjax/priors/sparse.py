"""Sparsity beyond the l1 norm, entry by entry: l0, and penalties that flatten so that large entries are not shrunk.

None is convex. Each prox is a global minimiser: the best of the candidates that the pieces of the penalty offer.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..operators.structure import scale
from ..types import real, require, squared
from .base import Prior, as_point, safe_sqrt


class _Magnitude(Prior):
    """``lam sum p(|x|)`` for a penalty p of the magnitude, real or complex; a subclass defines p and the candidates."""

    lam: Array = eqx.field(converter=real, default=1.0)
    smooth: ClassVar[bool] = False

    @abc.abstractmethod
    def _penalty(self, size: Array) -> Array:
        """``p`` of magnitudes."""

    @abc.abstractmethod
    def _candidates(self, size: Array, t: Array) -> tuple[Array, ...]:
        """Possible minimisers of ``t p(v) + (v - size)^2 / 2`` apart from 0."""

    def __call__(self, x):
        x = as_point(x)
        return self._weighted(jnp.sum(self._penalty(safe_sqrt(squared(x)))), x)

    def prox(self, x, step_size):
        x = as_point(x)
        t, size = self._threshold(x, step_size), safe_sqrt(squared(x))
        best = jnp.zeros_like(size)
        lowest = t * self._penalty(best) + size**2 / 2
        for v in self._candidates(size, t):
            value = t * self._penalty(v) + (v - size) ** 2 / 2
            best, lowest = jnp.where(value < lowest, v, best), jnp.minimum(value, lowest)
        positive = size > 0
        return scale(jnp.where(positive, best / jnp.where(positive, size, 1), 0), x)


class L0(_Magnitude):
    """``lam`` times the number of entries that are not zero; prox: hard thresholding at ``sqrt(2 t)``, ``t = lam step_size``."""

    def _penalty(self, size):
        return (size > 0).astype(size.dtype)

    def _candidates(self, size, t):
        return (size,)


class MCP(_Magnitude):
    """Minimax concave penalty: ``p(r) = r - r^2 / (2 width)`` up to ``width``, ``width / 2`` beyond.

    prox for ``t = lam step_size < width``: 0 up to t, ``(|x| - t) / (1 - t / width)`` up to ``width``, x beyond. Raises
    ``ValueError`` unless ``width > 0``. Source: Zhang (2010).
    """

    width: Array = eqx.field(converter=real, default=1.0)

    def __check_init__(self):
        require(self.width, "width", positive=True, shape=())

    def _penalty(self, size):
        width = jnp.asarray(self.width, size.dtype)
        near = jnp.minimum(size, width)
        return near - near**2 / (2 * width)

    def _candidates(self, size, t):
        width = jnp.asarray(self.width, size.dtype)
        convex = t < width
        inner = (size - t) / jnp.where(convex, 1 - t / width, 1)
        return jnp.where(convex, jnp.clip(inner, 0, width), 0), jnp.maximum(size, width)


class SCAD(_Magnitude):
    """Smoothly clipped absolute deviation: slope 1 up to ``width``, falling to 0 at ``a width``, constant beyond.

    ``p(r) = r``; ``(2 a w r - r^2 - w^2) / (2 (a - 1) w)``; ``(a + 1) w / 2``. Raises ``ValueError`` unless ``width > 0`` and
    ``a > 2``. Source: Fan and Li (2001).
    """

    width: Array = eqx.field(converter=real, default=1.0)
    a: Array = eqx.field(converter=real, default=3.7)

    def __check_init__(self):
        require(self.width, "width", positive=True, shape=())
        require(jnp.asarray(self.a) - 2, "a - 2", positive=True, shape=())

    def _corners(self, size: Array) -> tuple[Array, Array]:
        return jnp.asarray(self.width, size.dtype), jnp.asarray(self.a, size.dtype)

    def _penalty(self, size):
        w, a = self._corners(size)
        middle = (2 * a * w * size - size**2 - w**2) / (2 * (a - 1) * w)
        return jnp.where(size <= w, size, jnp.where(size <= a * w, middle, (a + 1) * w / 2))

    def _candidates(self, size, t):
        w, a = self._corners(size)
        convex = t < (a - 1) * w
        middle = ((a - 1) * w * size - a * w * t) / jnp.where(convex, (a - 1) * w - t, 1)
        middle = jnp.where(convex, jnp.clip(middle, w, a * w), a * w)
        return jnp.clip(size - t, 0, w), middle, jnp.maximum(size, a * w)


class LogSum(_Magnitude):
    """``lam sum log(1 + |x| / eps)``; prox: 0 or the larger root of ``v + t / (eps + v) = |x|``.

    Raises ``ValueError`` unless ``eps > 0``. Source: Candes, Wakin and Boyd (2008).
    """

    eps: Array = eqx.field(converter=real, default=0.1)

    def __check_init__(self):
        require(self.eps, "eps", positive=True, shape=())

    def _penalty(self, size):
        return jnp.log1p(size / jnp.asarray(self.eps, size.dtype))

    def _candidates(self, size, t):
        eps = jnp.asarray(self.eps, size.dtype)
        square = (size + eps) ** 2 - 4 * t
        real_root = square > 0
        root = (size - eps + jnp.sqrt(jnp.where(real_root, square, 1))) / 2
        return (jnp.where(real_root, jnp.maximum(root, 0), 0),)


class L1MinusL2(Prior):
    """``lam (|x|_1 - ratio |x|_2)``: sparser than l1, zero on 1-sparse vectors for ``ratio = 1``. Real or complex.

    prox, with ``t = lam step_size``, ``z = soft(x, t)``: ``z (1 + ratio t / |z|)`` where ``max |x| > t``; else the largest entry
    alone, shortened by ``(1 - ratio) t``, or zero. Raises ``ValueError`` unless ``0 <= ratio <= 1``. Source: Lou and Yan
    (2018), lemma 1.
    """

    lam: Array = eqx.field(converter=real, default=1.0)
    ratio: Array = eqx.field(converter=real, default=1.0)
    smooth: ClassVar[bool] = False

    def __check_init__(self):
        require(self.ratio, "ratio", nonnegative=True, shape=())
        require(1 - jnp.asarray(self.ratio), "1 - ratio", nonnegative=True)

    def __call__(self, x):
        x = as_point(x)
        square = squared(x)
        value = jnp.sum(safe_sqrt(square)) - jnp.asarray(self.ratio, square.dtype) * safe_sqrt(jnp.sum(square))
        return self._weighted(value, x)

    def prox(self, x: Any, step_size: Any) -> Array:
        x = as_point(x)
        t, size = self._threshold(x, step_size), safe_sqrt(squared(x))
        ratio, largest = jnp.asarray(self.ratio, size.dtype), jnp.max(size)
        soft = jnp.maximum(size - t, 0)
        length = safe_sqrt(jnp.sum(soft**2))
        many = soft * (1 + ratio * t / jnp.where(length > 0, length, 1))
        first = jnp.arange(size.size).reshape(size.shape) == jnp.argmax(size)
        one = jnp.where(first, jnp.maximum(largest - (1 - ratio) * t, 0), 0)
        new = jnp.where(largest > t, many, one)
        positive = size > 0
        return scale(jnp.where(positive, new / jnp.where(positive, size, 1), 0), x)
