"""Bounded noise: uniform noise, and the sensor that rounds and saturates."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..types import real, require
from .base import NoiseModel, as_parameter


class Uniform(NoiseModel):
    """``y = u + n``, n uniform in ``[-half_width, half_width]``: variance ``half_width^2 / 3``.

    Potential: 0 where ``|u - y| <= half_width`` everywhere, else infinite; prox: the projection (``step_size`` has no
    effect). Real data. Raises ``ValueError`` when ``half_width`` is not positive.
    """

    half_width: Array = eqx.field(converter=real)

    def __check_init__(self):
        require(self.half_width, "half_width", positive=True)

    def sample(self, key, clean):
        a = as_parameter(self.half_width, clean)
        return clean + a * jax.random.uniform(key, clean.shape, clean.dtype, -1, 1)

    def potential(self, u, y):
        return _indicator(jnp.abs(u - y) <= as_parameter(self.half_width, u), u)

    def log_prob(self, u, y):
        a = jnp.broadcast_to(as_parameter(self.half_width, u), u.shape)
        return -self.potential(u, y) - jnp.sum(jnp.log(2 * a))

    def grad(self, u, y):
        return jnp.zeros_like(u)

    def prox(self, u: Array, y: Array, step_size: Any) -> Array:
        a = as_parameter(self.half_width, u)
        return jnp.clip(u, y - a, y + a)

    def lipschitz(self, y):
        return jnp.full((), jnp.inf, y.dtype)


class Quantised(NoiseModel):
    """A sensor: ``y = clip(round(u / width) width, low, high)``. Deterministic; the measurement bounds ``u`` pixel by pixel.

    Potential: 0 where ``|u - y| <= width / 2`` (one-sided where y is saturated at ``low`` or ``high``), else infinite;
    ``log_prob`` is its negative (the probability of the level is 1 or 0); prox: the projection. Levels are the multiples of
    ``width``, so ``low`` and ``high`` should be multiples too; by default nothing saturates. Raises ``ValueError`` unless
    ``width > 0`` and ``low < high``.
    """

    width: Array = eqx.field(converter=real)
    low: Array = eqx.field(converter=real, default=-jnp.inf)
    high: Array = eqx.field(converter=real, default=jnp.inf)

    def __check_init__(self):
        require(self.width, "width", positive=True)
        traced = any(isinstance(v, jax.core.Tracer) for v in (self.low, self.high))
        if not traced and not bool(jnp.all(self.low < self.high)):
            raise ValueError(f"low: expected values below high = {self.high}, got {self.low}")

    def _ends(self, y: Array) -> tuple[Array, Array]:
        half = 0.5 * as_parameter(self.width, y)
        low = jnp.where(y <= as_parameter(self.low, y), -jnp.inf, y - half)
        return low, jnp.where(y >= as_parameter(self.high, y), jnp.inf, y + half)

    def sample(self, key, clean):
        width = as_parameter(self.width, clean)
        levels = jnp.round(clean / width) * width
        return jnp.clip(levels, as_parameter(self.low, clean), as_parameter(self.high, clean))

    def potential(self, u, y):
        low, high = self._ends(y)
        # Rounding of y and of the half width must not exclude the value that was measured.
        slack = 4 * jnp.finfo(u.dtype).eps * (jnp.abs(u) + jnp.abs(as_parameter(self.width, u)))
        return _indicator((u >= low - slack) & (u <= high + slack), u)

    def log_prob(self, u, y):
        return -self.potential(u, y)

    def grad(self, u, y):
        return jnp.zeros_like(u)

    def prox(self, u: Array, y: Array, step_size: Any) -> Array:
        return jnp.clip(u, *self._ends(y))

    def lipschitz(self, y):
        return jnp.full((), jnp.inf, y.dtype)


def _indicator(inside: Array, u: Array) -> Array:
    return jnp.where(jnp.all(inside), 0, jnp.inf).astype(u.dtype)
