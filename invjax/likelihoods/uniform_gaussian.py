"""Gaussian noise of unknown level: one standard deviation for the whole measurement, uniform between two bounds."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..types import inner, real, require
from .base import NoiseModel
from .scalar import root

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_DROP = 40.0


class UniformGaussian(NoiseModel):
    """``y = u + sigma n`` with one ``sigma`` per measurement, uniform in ``[low, high]``. Real data.

    Density: the mean over ``sigma`` of the Gaussian density, ``integral sigma^(-m) exp(-r^2 / (2 sigma^2)) d sigma`` with ``r =
    |u - y|`` and m entries, by 64 Gauss-Legendre nodes in ``log sigma`` on the part of the interval where the integrand is above
    exp(-40) of its peak: for large m that part is narrow. The gradient is ``(u - y) E[1 / sigma^2 | r]``. ``prox`` moves along
    ``u - y`` to a local minimum. Raises ``ValueError`` unless ``0 < low < high``.
    """

    low: Array = eqx.field(converter=real)
    high: Array = eqx.field(converter=real)

    def __check_init__(self):
        require(self.low, "low", positive=True, shape=())
        require(self.high, "high", positive=True, shape=())
        require(jnp.asarray(self.high) - jnp.asarray(self.low), "high - low", positive=True)

    def sample(self, key, clean):
        level_key, noise_key = jax.random.split(key)
        low, high = (jnp.asarray(v, clean.dtype) for v in (self.low, self.high))
        sigma = low + (high - low) * jax.random.uniform(level_key, (), clean.dtype)
        return clean + sigma * jax.random.normal(noise_key, clean.shape, clean.dtype)

    def _log_terms(self, square: Array, size: int) -> tuple[Array, Array, Array]:
        """Logarithms of the terms of the quadrature relative to the peak, that of the peak, and the nodes of ``1 / sigma^2``.

        In ``t = log sigma`` the integrand is ``exp((1 - m) t - r^2 exp(-2 t) / 2)``, log-concave.
        """
        low, high = (jnp.log(jnp.asarray(v, square.dtype)) for v in (self.low, self.high))
        tiny = jnp.asarray(jnp.finfo(square.dtype).tiny, square.dtype)
        peak = 0.5 * (jnp.log(jnp.maximum(square, tiny)) - jnp.log(jnp.maximum(size - 1, tiny)))
        peak = jax.lax.stop_gradient(jnp.clip(peak, low, high))
        precision = jnp.exp(-2 * peak)

        def relative(t: Array) -> Array:
            return (1 - size) * (t - peak) - 0.5 * square * precision * jnp.expm1(-2 * (t - peak))

        left = jax.lax.stop_gradient(root(lambda t: relative(t) + _DROP, low, peak))
        right = jax.lax.stop_gradient(root(lambda t: -relative(t) - _DROP, peak, high))
        begin = jnp.where(relative(low) < -_DROP, left, low)
        end = jnp.where(relative(high) < -_DROP, right, high)
        t = begin + 0.5 * (end - begin) * (1 + jnp.asarray(_NODES, square.dtype))
        weights = jnp.log(0.5 * (end - begin) * jnp.asarray(_WEIGHTS, square.dtype))
        log_peak = (1 - size) * peak - 0.5 * square * precision - jnp.log(jnp.exp(high) - jnp.exp(low))
        return weights + relative(t), log_peak, jnp.exp(-2 * t)

    def potential(self, u, y):
        terms, log_peak, _ = self._log_terms(inner(u - y, u - y), u.size)
        return -jax.scipy.special.logsumexp(terms) - log_peak

    def log_prob(self, u, y):
        return -self.potential(u, y) - 0.5 * u.size * jnp.log(2 * jnp.pi).astype(u.dtype)

    def precision(self, square: Array, size: int) -> Array:
        """``E[1 / sigma^2 | r^2]`` for ``size`` entries."""
        terms, _, precision = self._log_terms(square, size)
        return jnp.sum(jax.nn.softmax(terms) * precision)

    def grad(self, u, y):
        return (u - y) * self.precision(inner(u - y, u - y), u.size)

    def prox(self, u: Array, y: Array, step_size: Any) -> Array:
        step, gap = jnp.asarray(real(step_size), u.dtype), u - y
        square = inner(gap, gap)
        low, high = (1 / (1 + step / jnp.asarray(v, u.dtype) ** 2) for v in (self.low, self.high))
        factor = root(lambda t: t * (1 + step * self.precision(t**2 * square, u.size)) - 1, low, high)
        return y + factor * gap

    def lipschitz(self, y):
        """``1 / low^2``, which bounds the curvature from above: the Hessian is ``E[1 / sigma^2] I`` minus a positive matrix."""
        return 1 / jnp.asarray(self.low, y.dtype) ** 2
