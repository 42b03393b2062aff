"""Exact line integrals through ellipses and ellipsoids: tomographic data without discretisation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .phantoms import _SHEPP_LOGAN


def ellipsoid_line_integrals(ellipsoids: Any, points: Array, directions: Array) -> Array:
    """Integrals ``(..., 1)`` of a sum of ellipses or ellipsoids over the lines ``points + t directions``, in closed form.

    ``ellipsoids`` has the rows (value, semi-axes a, b, c, centre x, y, z, degrees): the axes a and b are turned
    counter-clockwise in the x-y plane. In two dimensions c and z are ignored. ``points`` and ``directions`` are
    ``(..., 2 or 3)``, as ``XRayTransform.rays`` gives them. Memory: a few times the result, whatever the number of
    ellipsoids. Raises ``ValueError`` for other shapes.
    """
    points, directions = jnp.asarray(points), jnp.asarray(directions)
    ellipsoids = jnp.asarray(ellipsoids, points.dtype)
    if ellipsoids.ndim != 2 or ellipsoids.shape[1] != 8:
        raise ValueError(f"ellipsoids: expected shape (n, 8), got {ellipsoids.shape}")
    if points.shape != directions.shape or points.shape[-1] not in (2, 3):
        raise ValueError(f"points: expected two equal shapes (..., 2 or 3), got {points.shape} and {directions.shape}")
    lengths = jnp.linalg.norm(directions, axis=-1)

    def add(total: Array, row: Array) -> tuple[Array, None]:
        p, d = _unit_ball(row, points, row[4:7]), _unit_ball(row, directions, jnp.zeros(3, points.dtype))
        squares = jnp.sum(d**2, -1)
        half = jnp.sum(p * d, -1) ** 2 - squares * (jnp.sum(p**2, -1) - 1)  # the discriminant
        met = half > 0
        return total + jnp.where(met, 2 * row[0] * jnp.sqrt(jnp.where(met, half, 1)) / squares, 0), None

    return (jax.lax.scan(add, jnp.zeros_like(lengths), ellipsoids)[0] * lengths)[..., None]


def shepp_logan_line_integrals(points: Array, directions: Array) -> Array:
    """Integrals ``(..., 1)`` of the Shepp-Logan phantom, in two or three dimensions, in its field of view [-1, 1]^d.

    An image of ``size`` pixels has ``pixel_size=2 / size`` there. See ``ellipsoid_line_integrals``.
    """
    points = jnp.asarray(points)
    table = jnp.asarray(_SHEPP_LOGAN, points.dtype)
    height = jnp.zeros((len(table), 1), points.dtype)
    return ellipsoid_line_integrals(jnp.concatenate([table[:, :6], height, table[:, 6:]], 1), points, directions) / 10


def _unit_ball(row: Array, vectors: Array, centre: Array) -> Array:
    """Vectors in the coordinates in which the ellipsoid is the unit ball."""
    angle = jnp.deg2rad(row[7])
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    x, y, *z = (vectors[..., i] - centre[i] for i in range(vectors.shape[-1]))
    return jnp.stack([(x * cos + y * sin) / row[1], (y * cos - x * sin) / row[2], *(v / row[3] for v in z)], -1)
