"""Poisson (photon-counting) noise."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, xlogy
from jaxtyping import Array

from ..types import real, require
from .base import NoiseModel, as_parameter


class Poisson(NoiseModel):
    """``y = gain P((u + background) / gain)``: mean ``u + background``, variance ``gain (u + background)``.

    Potential ``sum (u + b)/gain - (y/gain) log(u + b)``: the Kullback-Leibler divergence up to terms in ``y``; infinite where
    ``u + b < 0``, or ``= 0`` with counts. ``gain > 0`` is the value of one count, ``background >= 0`` in the units of ``y``.
    ``log_prob`` is the probability of the counts ``y / gain``. The gradient clips ``u + b`` below at ``1e-6 gain``, where it
    is finite; with ``background = 0`` it has no Lipschitz constant (``lipschitz`` is infinite): use the prox.
    """

    gain: Array = eqx.field(converter=real, default=1.0)
    background: Array = eqx.field(converter=real, default=0.0)

    def __check_init__(self):
        require(self.gain, "gain", positive=True)
        require(self.background, "background", nonnegative=True)

    def _shifted(self, u: Array) -> tuple[Array, Array]:
        gain = as_parameter(self.gain, u)
        return (u + as_parameter(self.background, u)) / gain, gain

    def sample(self, key, clean):
        rate, gain = self._shifted(clean)
        return gain * jax.random.poisson(key, jnp.maximum(rate, 0)).astype(clean.dtype)

    def potential(self, u, y):
        rate, gain = self._shifted(u)
        safe = jnp.where(rate > 0, rate, 1)
        inside = rate - xlogy(y / gain, safe * gain)
        at_zero = jnp.where((rate == 0) & (y == 0), 0.0, jnp.inf).astype(u.dtype)
        return jnp.sum(jnp.where(rate > 0, inside, at_zero))

    def log_prob(self, u, y):
        gain = as_parameter(self.gain, u)
        counts = y / gain
        return -self.potential(u, y) - jnp.sum(gammaln(counts + 1) + counts * jnp.log(gain))

    def grad(self, u, y):
        rate, gain = self._shifted(u)
        return (1 - y / (gain * jnp.maximum(rate, 1e-6))) / gain

    def prox(self, u: Array, y: Array, step_size: Any) -> Array:
        gain, background = as_parameter(self.gain, u), as_parameter(self.background, u)
        step = as_parameter(real(step_size), u) / gain
        w = u + background - step
        square = w**2 + 4 * step * y
        root = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
        # The two equal forms of the positive root: the second avoids cancellation when w is negative.
        value = jnp.where(w >= 0, 0.5 * (w + root), 2 * step * y / jnp.where(w >= 0, 1, root - w))
        return value - background

    def lipschitz(self, y):
        gain, background = as_parameter(self.gain, y), as_parameter(self.background, y)
        safe = jnp.where(background > 0, background, 1)
        return jnp.max(jnp.where(background > 0, jnp.max(y) / (gain * safe**2), jnp.inf))
