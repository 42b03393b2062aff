"""The indicator of a support."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..types import real
from .base import Prior, as_point


class Support(Prior):
    """0 where ``x = 0`` outside ``mask`` (and, with ``nonnegative``, ``x >= 0`` inside), else infinite; prox: projection.

    ``mask`` is bool, or is not zero inside, of the shape of x or broadcasting to it. ``lam`` has no effect. Raises
    ``ValueError`` for a mask that does not broadcast to x, and for complex x with ``nonnegative``.
    """

    mask: Array = eqx.field(converter=real)
    nonnegative: bool = eqx.field(static=True)
    lam: Array = eqx.field(converter=real)
    smooth: ClassVar[bool] = False

    def __init__(self, mask: Any, *, nonnegative: bool = False, lam: Any = 1.0):
        self.mask, self.nonnegative, self.lam = jnp.asarray(mask) != 0, nonnegative, lam

    def __call__(self, x):
        x = as_point(x)
        return jnp.where(jnp.all(self.prox(x, 1.0) == x), 0, jnp.inf).astype(x.real.dtype)

    def prox(self, x, step_size):
        x = as_point(x)
        if self.nonnegative and jnp.iscomplexobj(x):
            raise ValueError(f"x: expected a real array for a non-negative Support, got {x.dtype}")
        fits = self.mask.ndim == x.ndim and all(m in (1, n) for m, n in zip(self.mask.shape, x.shape, strict=True))
        if not fits:
            raise ValueError(f"x: expected a shape to which the mask {self.mask.shape} broadcasts, got {x.shape}")
        inside = self.mask & (x >= 0) if self.nonnegative else self.mask
        return jnp.where(inside, x, 0)
