"""The Huber function: quadratic near zero, linear far away."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..operators.structure import scale
from ..types import real, require
from .base import Prior, as_point, safe_sqrt
from .group import group_squares


class Huber(Prior):
    """``lam sum h(|x|)``, ``h(r) = r^2 / (2 delta)`` up to ``delta`` and ``r - delta / 2`` beyond: a smooth l1 norm.

    With ``axes``, ``|x|`` is the norm of the group of entries along them, as in ``GroupL1``. prox
    ``x (1 - t / max(|x|, t + delta))`` with ``t = lam step_size``; the gradient is ``lam / delta``-Lipschitz. Real or
    complex. Raises ``ValueError`` unless ``delta > 0``. Source: Huber (1964).
    """

    lam: Array = eqx.field(converter=real, default=1.0)
    delta: Array = eqx.field(converter=real, default=0.01)
    axes: tuple[int, ...] = eqx.field(static=True, default=())
    smooth: ClassVar[bool] = True

    def __check_init__(self):
        require(self.delta, "delta", positive=True, shape=())

    def __call__(self, x: Array) -> Array:
        """``lam sum h(|x|)``."""
        x = as_point(x)
        delta, square = jnp.asarray(self.delta, x.real.dtype), group_squares(x, self.axes)
        far = square > delta**2
        values = jnp.where(far, jnp.sqrt(jnp.where(far, square, 1)) - delta / 2, square / (2 * delta))
        return self._weighted(jnp.sum(values), x)

    def prox(self, x: Array, step_size: Any) -> Array:
        """``x (1 - t / max(|x|, t + delta))``."""
        x = as_point(x)
        t, size = self._threshold(x, step_size), safe_sqrt(group_squares(x, self.axes))
        return scale(1 - t / jnp.maximum(size, t + jnp.asarray(self.delta, t.dtype)), x)

    @property
    def lipschitz(self) -> Array:
        """Lipschitz constant ``lam / delta`` of the gradient."""
        return self.lam / self.delta
