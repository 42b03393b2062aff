"""Differences of an image and their grouped magnitudes: what total variation, smoothed or not, is made of.

Work arrays are channels first, ``[C, *spatial]``, and a field of differences is a tuple with one such array per spatial
axis: measured on CPU, XLA fuses this four to seven times better than one stacked, channels-last array. Both boundaries and
both maps agree with ``operators.FiniteDifferences``.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..operators import FiniteDifferences
from ..operators.structure import scale
from ..types import squared
from .base import safe_sqrt

Kind = Literal["isotropic", "anisotropic"]
Channels = Literal["joint", "separate"]
Field = tuple[Array, ...]


@dataclasses.dataclass(frozen=True)
class Grouping:
    """Which differences share one Euclidean norm: the directions of a pixel ("isotropic"), its channels ("joint")."""

    kind: Kind
    channels: Channels

    def __post_init__(self):
        if self.kind not in ("isotropic", "anisotropic"):
            raise ValueError(f"kind: expected 'isotropic' or 'anisotropic', got {self.kind!r}")
        if self.channels not in ("joint", "separate"):
            raise ValueError(f"channels: expected 'joint' or 'separate', got {self.channels!r}")

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of ``operators.FiniteDifferences``' output that make up a group."""
        directions = (0,) if self.kind == "isotropic" else ()
        return directions + ((-1,) if self.channels == "joint" else ())

    def gather(self, field: Field) -> Field:
        """Sums over the groups: one array for isotropic variation, one per direction for anisotropic."""
        sums = (sum(field[1:], field[0]),) if self.kind == "isotropic" else field
        if self.channels == "joint" and field[0].shape[0] > 1:
            # A product with ones: on CPU three times as fast as a sum over the leading axis.
            sums = tuple(jnp.tensordot(jnp.ones((1, s.shape[0]), s.dtype), s, 1, precision="highest") for s in sums)
        return sums

    def squares(self, field: Field) -> Field:
        """Squared norms of the groups."""
        return self.gather(tuple(squared(v) for v in field))

    def spread(self, groups: Field, field: Field) -> Field:
        """One value per group, repeated for every member of the group."""
        groups = groups * len(field) if self.kind == "isotropic" else groups
        return tuple(jnp.broadcast_to(g, v.shape) for g, v in zip(groups, field, strict=True))

    def norms(self, field: Field) -> Field:
        """Norms of the groups; the gradient of a vanishing norm is zero."""
        return tuple(safe_sqrt(s) for s in self.squares(field))

    def project(self, field: Field) -> Field:
        """Projection of every group on the unit ball."""
        scales = tuple(jax.lax.rsqrt(jnp.maximum(s, 1)) for s in self.squares(field))
        return tuple(scale(s, v) for v, s in zip(field, self.spread(scales, field), strict=True))


def channels_first(x: Array) -> Array:
    """``[*spatial, C] -> [C, *spatial]``."""
    return jnp.moveaxis(x, -1, 0)


def channels_last(x: Array) -> Array:
    """``[C, *spatial] -> [*spatial, C]``."""
    return jnp.moveaxis(x, 0, -1)


def differences(x: Array, boundary: str) -> Field:
    """Forward differences of ``[C, *spatial]`` along every spatial axis."""
    return tuple(difference(x, axis, boundary) for axis in range(1, x.ndim))


def adjoint(field: Field, boundary: str) -> Array:
    """Adjoint of ``differences``, minus the divergence."""
    parts = [difference_adjoint(v, axis, boundary) for axis, v in enumerate(field, 1)]
    return sum(parts[1:], parts[0])


def difference(x: Array, axis: int, boundary: str) -> Array:
    """Forward difference along one axis."""
    if boundary == "circular":
        return jnp.roll(x, -1, axis) - x
    return _pad(jnp.diff(x, axis=axis), axis, 0, 1)


def difference_adjoint(v: Array, axis: int, boundary: str) -> Array:
    """Adjoint of ``difference``."""
    if boundary == "circular":
        return jnp.roll(v, 1, axis) - v
    kept = jax.lax.slice_in_dim(v, 0, v.shape[axis] - 1, axis=axis)
    return _pad(kept, axis, 1, 0) - _pad(kept, axis, 0, 1)


def _pad(x: Array, axis: int, before: int, after: int) -> Array:
    return jnp.pad(x, [(before, after) if a == axis else (0, 0) for a in range(x.ndim)])


def squared_norm(operator: FiniteDifferences) -> int:
    """Upper bound 4 d of ``|D|^2``, d the number of spatial axes longer than one."""
    return 4 * max(1, sum(n > 1 for n in operator.in_structure.shape[:-1]))
