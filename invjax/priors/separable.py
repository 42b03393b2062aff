"""Independent priors on the entries of a tuple."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..operators.structure import precision_of
from ..types import real
from .base import Prior


class Separable(Prior):
    """``g(x) = lam sum_i part_i(x_i)`` for a tuple ``x``, as of ``operators.stack``: every prox is taken part by part.

    Raises ``ValueError`` for an empty tuple or an ``x`` of another length.
    """

    parts: tuple[Prior, ...]
    lam: Array
    smooth: ClassVar[bool] = False

    def __init__(self, parts: tuple[Prior, ...], lam: Any = 1.0):
        self.parts, self.lam = parts, real(lam)

    def __check_init__(self):
        require_parts(self.parts)

    def __call__(self, x):
        values = [g(v) for g, v in zip(self._weighted_parts(x), x, strict=True)]
        return sum(values[1:], values[0])

    def prox(self, x, step_size):
        return tuple(g.prox(v, step_size) for g, v in zip(self._weighted_parts(x), x, strict=True))

    def conj_prox(self, x, step_size):
        return tuple(g.conj_prox(v, step_size) for g, v in zip(self._weighted_parts(x), x, strict=True))

    def _weighted_parts(self, x: Any) -> list[Prior]:
        lam = jnp.asarray(self.lam, precision_of(x))
        return [eqx.tree_at(lambda g: g.lam, g, lam * jnp.asarray(g.lam, lam.dtype)) for g in self.parts]


def require_parts(parts: Any) -> None:
    """Raise ``ValueError`` unless ``parts`` is a tuple of at least one prior."""
    if not isinstance(parts, tuple) or not parts or not all(isinstance(g, Prior) for g in parts):
        raise ValueError(f"parts: expected a tuple of at least one prior, got {parts!r}")
