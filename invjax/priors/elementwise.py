"""Priors that act on each entry alone: zero, Tikhonov, L1, elastic net, box and non-negativity."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..operators.structure import scale
from ..types import real, require, squared
from .base import Prior, as_point, safe_sqrt, shrink


class Zero(Prior):
    """``g = 0``: its prox is the identity."""

    lam: Array = eqx.field(converter=real, default=1.0)
    smooth: ClassVar[bool] = True

    def __call__(self, x):
        return jnp.zeros((), as_point(x).real.dtype)

    def prox(self, x, step_size):
        return as_point(x)


class Tikhonov(Prior):
    """``lam |x - centre|^2 / 2``, ``centre`` a scalar or an array of the shape of x; prox ``(x + t centre) / (1 + t)``."""

    lam: Array = eqx.field(converter=real, default=1.0)
    centre: Array = eqx.field(converter=real, default=0.0)
    smooth: ClassVar[bool] = True

    def __call__(self, x):
        x = as_point(x)
        return self._weighted(jnp.sum(squared(x - _spread(self.centre, x, "centre"))) / 2, x)

    def prox(self, x, step_size):
        x = as_point(x)
        t = self._threshold(x, step_size)
        return scale(1 / (1 + t), x + scale(t, _spread(self.centre, x, "centre")))

    @property
    def lipschitz(self) -> Array:
        """Lipschitz constant ``lam`` of the gradient."""
        return self.lam


class L1(Prior):
    """``lam sum |x|`` (magnitudes for complex x); prox: soft-thresholding ``x max(1 - t / |x|, 0)``, ``t = lam step_size``."""

    lam: Array = eqx.field(converter=real, default=1.0)
    smooth: ClassVar[bool] = False

    def __call__(self, x):
        x = as_point(x)
        return self._weighted(jnp.sum(safe_sqrt(squared(x))), x)

    def prox(self, x, step_size):
        x = as_point(x)
        return shrink(x, self._threshold(x, step_size))


class ElasticNet(Prior):
    """``lam sum |x| + ratio |x|^2 / 2``: sparse, and strongly convex with modulus ``lam ratio``. Real or complex.

    prox ``soft(x, t) / (1 + ratio t)``, ``t = lam step_size``. Raises ``ValueError`` for a negative ``ratio``. Source: Zou and
    Hastie (2005).
    """

    lam: Array = eqx.field(converter=real, default=1.0)
    ratio: Array = eqx.field(converter=real, default=1.0)
    smooth: ClassVar[bool] = False

    def __check_init__(self):
        require(self.ratio, "ratio", nonnegative=True, shape=())

    def __call__(self, x):
        x = as_point(x)
        square = squared(x)
        return self._weighted(jnp.sum(safe_sqrt(square) + jnp.asarray(self.ratio, square.dtype) * square / 2), x)

    def prox(self, x, step_size):
        x = as_point(x)
        t = self._threshold(x, step_size)
        return scale(1 / (1 + jnp.asarray(self.ratio, t.dtype) * t), shrink(x, t))


class Box(Prior):
    """Indicator of ``lower <= x <= upper`` (real x): 0 inside, infinite outside; prox: clipping. ``lam`` has no effect.

    The bounds are scalars or arrays of the shape of x; infinities are allowed. Raises ``ValueError`` for complex x and
    for ``lower > upper``.
    """

    lower: Array = eqx.field(converter=real)
    upper: Array = eqx.field(converter=real)
    lam: Array = eqx.field(converter=real)
    smooth: ClassVar[bool] = False

    def __init__(self, lower: Any, upper: Any, lam: Any = 1.0):
        self.lower, self.upper, self.lam = lower, upper, lam

    def __check_init__(self):
        if eqx.is_array(self.lower) and eqx.is_array(self.upper):
            require(self.upper - self.lower, "upper - lower", nonnegative=True)

    def __call__(self, x):
        x, lower, upper = self._bounded(x)
        return jnp.where(jnp.all((lower <= x) & (x <= upper)), 0, jnp.inf).astype(x.dtype)

    def prox(self, x, step_size):
        x, lower, upper = self._bounded(x)
        return jnp.clip(x, lower, upper)

    def _bounded(self, x: Any) -> tuple[Array, Array, Array]:
        x = as_point(x)
        _require_real(x, "Box")
        return x, _spread(self.lower, x, "lower"), _spread(self.upper, x, "upper")


class NonNegative(Prior):
    """Indicator of ``x >= 0`` (real x): 0 inside, infinite outside; prox ``max(x, 0)``. ``lam`` has no effect."""

    lam: Array = eqx.field(converter=real, default=1.0)
    smooth: ClassVar[bool] = False

    def __call__(self, x):
        x = as_point(x)
        _require_real(x, "NonNegative")
        return jnp.where(jnp.all(x >= 0), 0, jnp.inf).astype(x.dtype)

    def prox(self, x, step_size):
        x = as_point(x)
        _require_real(x, "NonNegative")
        return jnp.maximum(x, 0)


def _require_real(x: Array, name: str) -> None:
    if jnp.iscomplexobj(x):
        raise ValueError(f"x: expected a real array for {name}, got {x.dtype}")


def _spread(value: Any, x: Array, name: str) -> Array:
    """``value`` (scalar or of the shape of x) as an array of the shape and dtype of x."""
    value = jnp.asarray(real(value))
    require(value, name, shape=() if value.ndim == 0 else x.shape)
    if jnp.iscomplexobj(value) and not jnp.iscomplexobj(x):
        raise ValueError(f"{name}: expected a real array for real x, got {value.dtype}")
    return jnp.broadcast_to(value.astype(x.dtype), x.shape)
