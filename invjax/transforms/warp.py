"""Warps of images by bilinear interpolation: planar projective maps (rotation, zoom, affine, change of view)."""

from __future__ import annotations

import abc
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..operators.structure import at_precision_of
from ..types import real, require
from .base import Transform
from .fourier import require_image

Boundary = Literal["zero", "circular", "reflect"]


def interpolate(x: Array, rows: Array, columns: Array, boundary: Boundary = "zero") -> Array:
    """Bilinear interpolation of ``(H, W, C)`` at ``rows`` and ``columns`` (pixels, equal shapes): ``(*shape, C)``.

    Outside the image lie zeros, its periodic continuation, or its mirror image ("reflect", the edge pixel not repeated).
    """
    total = jnp.zeros((*rows.shape, x.shape[-1]), x.dtype)
    for r, row_weight in _neighbours(rows, x.shape[0], boundary):
        for c, column_weight in _neighbours(columns, x.shape[1], boundary):
            total = total + (row_weight * column_weight)[..., None].astype(x.dtype) * x.at[r, c].get(mode="clip")
    return total


def _neighbours(coordinate: Array, n: int, boundary: Boundary) -> list[tuple[Array, Array]]:
    """Both neighbouring indices on an axis of ``n`` pixels, with their weights."""
    if boundary == "circular":
        coordinate = coordinate % n
    elif boundary == "reflect":
        coordinate = (n - 1) - jnp.abs(coordinate % (2 * n - 2) - (n - 1)) if n > 1 else 0 * coordinate
    else:
        coordinate = jnp.clip(coordinate, -1, n)
    low = jnp.floor(coordinate)
    above = coordinate - low
    index = low.astype(jnp.int32)
    pairs = [(index, 1 - above), (index + 1, above)]
    if boundary == "circular":
        return [(i % n, w) for i, w in pairs]
    return [(i, jnp.where((i >= 0) & (i < n), w, 0)) for i, w in pairs]


class Warp(Transform):
    """``(T_g x)(p) = x(M^(-1) p)``: pixels ``p`` move by the projective map ``M`` of ``g``; bilinear interpolation.

    ``M`` acts on ``(c, r, 1)``: column and row measured from the centre of the image, in units of half its larger size, the
    columns to the right and the rows downwards. A subclass defines ``backward(g) = M^(-1)``.
    """

    boundary: Boundary = eqx.field(static=True, default="zero", kw_only=True)

    def __check_init__(self):
        require_boundary(self.boundary)

    @abc.abstractmethod
    def backward(self, g: PyTree) -> Array:
        """The matrix ``(3, 3)`` from pixels of the result to points of the image."""

    def check(self, g, x):
        super().check(g, x)
        require_image(x)

    def apply(self, g, x):
        matrix = self.backward(jax.tree.map(lambda a: at_precision_of(x, a), g))
        centre = [(n - 1) / 2 for n in x.shape[:2]]
        half = max(x.shape[:2]) / 2
        r, c = ((jnp.arange(n, dtype=matrix.dtype) - m) / half for n, m in zip(x.shape, centre, strict=False))
        column, row, depth = (m[0] * c[None, :] + m[1] * r[:, None] + m[2] for m in matrix)
        visible = depth > 0  # what lies behind the camera is zero
        depth = jnp.where(visible, depth, 1)
        rows, columns = half * row / depth + centre[0], half * column / depth + centre[1]
        return jnp.where(visible[..., None], interpolate(x, rows, columns, self.boundary), 0)


def require_boundary(boundary: str) -> None:
    """Raise ``ValueError`` for another name."""
    if boundary not in get_args(Boundary):
        raise ValueError(f"boundary: expected one of {get_args(Boundary)}, got {boundary!r}")


def rotation(angle: Array) -> Array:
    """The matrix of the rotation by ``angle``, counter-clockwise as seen (the rows point downwards)."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    zero, one = jnp.zeros_like(c), jnp.ones_like(c)
    return jnp.stack([c, s, zero, -s, c, zero, zero, zero, one]).reshape(3, 3)


class Rotate(Warp):
    """Rotation by the angle ``g`` (radians, counter-clockwise) about the centre; ``sample``: in ``[-max_angle, max_angle]``."""

    max_angle: Array = eqx.field(converter=real, default=jnp.pi)

    def check(self, g, x):
        super().check(g, x)
        require(g, "g", shape=())

    def sample(self, key):
        return self.max_angle * jax.random.uniform(key, minval=-1)

    def backward(self, g):
        return rotation(-g)

    def inverse(self, g):
        return -g

    def compose(self, g, h):
        return g + h


class Scale(Warp):
    """Zoom by the factor ``g > 0`` about the centre. ``log g`` is drawn uniformly in ``[-log max_factor, log max_factor]``.

    Reduction (``g`` below one) does not blur first, so it aliases.
    """

    max_factor: Array = eqx.field(converter=real, default=1.25)

    def __check_init__(self):
        require(self.max_factor, "max_factor", at_least=1)

    def check(self, g, x):
        super().check(g, x)
        require(g, "g", shape=(), positive=True)

    def sample(self, key):
        return self.max_factor ** jax.random.uniform(key, minval=-1)

    def backward(self, g):
        return jnp.diag(jnp.stack([1 / g, 1 / g, jnp.ones_like(g)]))

    def inverse(self, g):
        return 1 / g

    def compose(self, g, h):
        return g * h
