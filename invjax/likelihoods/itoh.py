"""Itoh's fidelity of phase unwrapping: differences of the phase equal the wrapped differences of what was measured."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..operators import FiniteDifferences
from ..types import real, require
from .base import Fidelity


class Itoh(Fidelity):
    """``|D u - wrap(D y)|^2 / (2 sigma^2)``, ``wrap(d) = d - period round(d / period)``: ``y`` is a phase modulo ``period``.

    Exact where neighbours of the true phase differ by less than half a period (Itoh's condition). ``u`` is fixed up to a
    constant. Images ``(H, W, C)``, volumes likewise; ``prox`` is closed form (cosine transform). Raises ``ValueError``
    unless ``sigma`` and ``period`` are positive scalars. Source: Itoh (1982); Ghiglia and Romero (1994).
    """

    sigma: Array = eqx.field(converter=real, default=1.0)
    period: Array = eqx.field(converter=real, default=2 * jnp.pi)

    def __check_init__(self):
        require(self.sigma, "sigma", positive=True, shape=())
        require(self.period, "period", positive=True, shape=())

    def _weight(self, u: Array) -> Array:
        return 1 / jnp.asarray(self.sigma, u.dtype) ** 2

    def differences(self, y: Array) -> Array:
        """``wrap(D y)``: the differences of the unwrapped phase, one array per axis."""
        d, period = FiniteDifferences(y.shape)(y), jnp.asarray(self.period, y.dtype)
        return d - period * jnp.round(d / period)

    def potential(self, u, y):
        return 0.5 * self._weight(u) * jnp.sum((FiniteDifferences(u.shape)(u) - self.differences(y)) ** 2)

    def grad(self, u, y):
        D = FiniteDifferences(u.shape)
        return self._weight(u) * D.H(D(u) - self.differences(y))

    def prox(self, u: Array, y: Array, step_size: Any) -> Array:
        step = jnp.asarray(real(step_size), u.dtype)
        return FiniteDifferences(u.shape).prox(u, self.differences(y), step * self._weight(u))

    def lipschitz(self, y):
        return FiniteDifferences(y.shape).norm().astype(y.dtype) ** 2 * self._weight(y)
