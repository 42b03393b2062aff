"""Homographies and their subgroups: Euclidean, similarity, affine, and what a turning camera sees."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..types import real, require
from .warp import Boundary, Warp, rotation


class Homography(Warp):
    """Projective maps: ``g`` is a matrix ``(3, 3)``, up to scale, in the coordinates of ``Warp``; it moves pixels forwards.

    ``sample`` draws ``g = shift * view(pan, tilt) * rotation * zoom * stretch * skew`` with every parameter uniform in its range
    (zoom and stretch: their logarithms). Ranges: ``max_angle``, ``max_pan``, ``max_tilt`` in radians, ``max_shift`` and ``focal``
    length in halves of the larger size, factors ``max_zoom`` and ``max_stretch`` (one axis against the other) at least one.
    The defaults draw the identity; ``euclidean``, ``similarity``, ``affine`` and ``pan_tilt_rotate`` set those of a subgroup.
    """

    max_angle: Array = eqx.field(converter=real, default=0.0, kw_only=True)
    max_shift: Array = eqx.field(converter=real, default=0.0, kw_only=True)
    max_zoom: Array = eqx.field(converter=real, default=1.0, kw_only=True)
    max_stretch: Array = eqx.field(converter=real, default=1.0, kw_only=True)
    max_skew: Array = eqx.field(converter=real, default=0.0, kw_only=True)
    max_pan: Array = eqx.field(converter=real, default=0.0, kw_only=True)
    max_tilt: Array = eqx.field(converter=real, default=0.0, kw_only=True)
    focal: Array = eqx.field(converter=real, default=2.0, kw_only=True)

    def __check_init__(self):
        require(self.max_zoom, "max_zoom", at_least=1)
        require(self.max_stretch, "max_stretch", at_least=1)
        require(self.focal, "focal", positive=True)

    def check(self, g, x):
        super().check(g, x)
        require(g, "g", shape=(3, 3))

    def sample(self, key):
        angle, pan, tilt, zoom, stretch, skew, *shift = jax.random.uniform(key, (8,), minval=-1)
        factor, ratio = self.max_zoom**zoom, self.max_stretch ** (stretch / 2)
        linear = _matrix(
            [[factor * ratio, factor * ratio * self.max_skew * skew, 0], [0, factor / ratio, 0], [0, 0, 1]]
        )
        moved = _matrix([[1, 0, self.max_shift * shift[0]], [0, 1, self.max_shift * shift[1]], [0, 0, 1]])
        view = camera_view(self.max_pan * pan, self.max_tilt * tilt, self.focal)
        return moved @ view @ rotation(self.max_angle * angle) @ linear

    def backward(self, g):
        return inverse(g)

    def inverse(self, g):
        return inverse(g)

    def compose(self, g, h):
        return g @ h


def camera_view(pan: Any, tilt: Any, focal: Any = 2.0) -> Array:
    """The homography of a camera that turns by ``pan`` about the vertical and ``tilt`` about the horizontal axis (radians).

    ``K R_x(tilt) R_y(pan) K^(-1)`` with ``K = diag(focal, focal, 1)``.
    """
    c, s = jnp.cos(pan), jnp.sin(pan)
    about_vertical = _matrix([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    c, s = jnp.cos(tilt), jnp.sin(tilt)
    about_horizontal = _matrix([[1, 0, 0], [0, c, -s], [0, s, c]])
    units = _matrix([[1, 1, focal], [1, 1, focal], [1 / focal, 1 / focal, 1]])
    return units * (about_horizontal @ about_vertical)


def inverse(matrix: Array) -> Array:
    """Inverse of a matrix ``(3, 3)``: the cross products of its rows, over its determinant."""
    a, b, c = matrix
    columns = jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)], axis=-1)
    return columns / jnp.dot(a, columns[:, 0])


def _matrix(rows: list[list]) -> Array:
    return jnp.stack([jnp.stack([jnp.asarray(a, float) for a in row]) for row in rows])


def euclidean(max_angle: Any = jnp.pi, max_shift: Any = 0.2, *, boundary: Boundary = "zero") -> Homography:
    """Random rotations and shifts."""
    return Homography(max_angle=max_angle, max_shift=max_shift, boundary=boundary)


def similarity(
    max_angle: Any = jnp.pi, max_shift: Any = 0.2, max_zoom: Any = 1.25, *, boundary: Boundary = "zero"
) -> Homography:
    """Random rotations, shifts and zooms."""
    return Homography(max_angle=max_angle, max_shift=max_shift, max_zoom=max_zoom, boundary=boundary)


def affine(
    max_angle: Any = jnp.pi,
    max_shift: Any = 0.2,
    max_zoom: Any = 1.25,
    max_stretch: Any = 1.25,
    max_skew: Any = 0.2,
    *,
    boundary: Boundary = "zero",
) -> Homography:
    """Random affine maps: rotations, shifts, zooms, stretched and skewed."""
    return Homography(
        max_angle=max_angle,
        max_shift=max_shift,
        max_zoom=max_zoom,
        max_stretch=max_stretch,
        max_skew=max_skew,
        boundary=boundary,
    )


def pan_tilt_rotate(
    max_pan: Any = 0.3, max_tilt: Any = 0.3, max_angle: Any = jnp.pi, *, focal: Any = 2.0, boundary: Boundary = "zero"
) -> Homography:
    """Random turns of a camera about its centre: pan, tilt and roll (Wang and Davies 2024)."""
    return Homography(max_pan=max_pan, max_tilt=max_tilt, max_angle=max_angle, focal=focal, boundary=boundary)
