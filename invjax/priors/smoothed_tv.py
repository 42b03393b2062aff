"""Smoothed total variation: differentiable everywhere."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..operators import FiniteDifferences
from ..operators.structure import conform
from ..types import real, require
from .base import Prior, as_point
from .variation import Channels, Grouping, Kind, channels_first, differences


class SmoothedTV(Prior):
    """``lam sum sqrt(|D x|^2 + eps^2)`` over the groups of ``TV``; the gradient is ``lipschitz = lam |D|^2 / eps`` Lipschitz.

    ``kind``, ``channels`` and ``boundary`` are those of ``TV``; ``eps`` is in units of x. A constant image has potential
    ``lam eps`` times the number of groups and gradient zero. ``prox`` raises ``ValueError``: it has no closed form.
    """

    operator: FiniteDifferences
    lam: Array = eqx.field(converter=real)
    eps: Array = eqx.field(converter=real)
    grouping: Grouping = eqx.field(static=True)
    smooth: ClassVar[bool] = True

    def __init__(
        self,
        shape: tuple[int, ...],
        lam: Any = 1.0,
        eps: Any = 1e-2,
        kind: Kind = "isotropic",
        channels: Channels = "joint",
        *,
        boundary: Literal["neumann", "circular"] = "neumann",
        complex: bool = False,
    ):
        self.operator = FiniteDifferences(shape, boundary, complex=complex)
        self.lam = lam
        self.eps = eps
        self.grouping = Grouping(kind, channels)

    def __check_init__(self):
        require(self.eps, "eps", positive=True)

    def __call__(self, x):
        x = conform(as_point(x), self.operator.in_structure, "x")
        eps = jnp.asarray(self.eps).astype(x.real.dtype)
        squares = self.grouping.squares(differences(channels_first(x), self.operator.boundary))
        return self._weighted(sum(jnp.sum(jnp.sqrt(s + eps**2)) for s in squares), x)

    def prox(self, x, step_size):
        raise ValueError(
            "prox: SmoothedTV has no closed form; use grad with a gradient method, or TV, whose prox is iterative"
        )

    @property
    def lipschitz(self) -> Array:
        """Lipschitz constant ``lam |D|^2 / eps`` of the gradient."""
        return self.lam * self.operator.norm() ** 2 / self.eps
