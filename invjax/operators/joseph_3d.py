"""Line integrals through a voxel grid along the rays of a cone beam, and their exact transpose, both as gathers.

As ``joseph``, with a second linear interpolation along the axis of rotation: a ray steps from one vertical plane of voxels to
the next, and there the matrix is the product of the weights across and along the axis. The ray of the detector coordinates
``(h, l)`` crosses ``l u + h z`` in the direction ``e + divergence (l u + h z)``.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .joseph import (
    between,
    cell,
    detector,
    first_tap,
    from_middle,
    grid,
    lines,
    margin,
    places,
    position,
    shadow,
    steps,
    take,
)


@functools.partial(jax.jit, static_argnames="counts")
def project(x: Array, angles: Array, spacing: Array, divergence: Array, counts: Sequence[int]) -> Array:
    """Integrals ``(angles, rows, columns, C)`` of a real volume ``(D, H, W, C)``; ``spacing`` and ``counts`` of rows, columns."""
    depth, *sizes, channels = x.shape
    n = max(sizes)
    height, coordinate = (detector(num, spacing[i]) for i, num in enumerate(counts))
    cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
    vertical, main, slope = steps(coordinate[None], cos, sin, divergence)
    middle, shift, table = places(vertical, sizes, x.dtype)

    @jax.checkpoint
    def step(total: Array, plane: tuple[Array, Array]) -> tuple[Array, None]:
        i, voxels = plane
        index, fraction = cell(position(coordinate[None], main, slope, middle - i), shift, n)
        widening = widened(coordinate[None], cos, sin, vertical, main, middle - i, divergence)
        level, above = cell(height[None, :, None] * widening[:, None], from_middle(depth), depth)
        first = level * (2 * (n + 3)) + (index + table)[:, None]
        low, high = (between(voxels, first + j, fraction[:, None]) for j in (0, 2 * (n + 3)))
        return total + (low + above[..., None] * (high - low)), None

    planes = lines(jnp.pad(x, (margin(depth, depth), (0, 0), (0, 0), (0, 0))), n).reshape(n, -1, channels)
    zero = jnp.zeros((angles.size, *counts, channels), x.dtype)
    total, _ = jax.lax.scan(step, zero, (jnp.arange(n, dtype=x.dtype), planes))
    return total * lengths(height, coordinate, main, divergence)[..., None]


def widened(
    coordinate: Array, cos: Array, sin: Array, vertical: Array, main: Array, advance: Array, divergence: Array
) -> Array:
    """How much farther from the source than at the origin a ray is in its step, as a ratio."""
    depth = jnp.where(vertical, advance - coordinate * sin, -advance - coordinate * cos) / main
    return 1 + depth * divergence


def lengths(height: Array, coordinate: Array, main: Array, divergence: Array) -> Array:
    """Length ``(angles, rows, columns)`` of a ray's step."""
    squares = (height**2)[:, None] + (coordinate**2)[None]
    return jnp.sqrt(1 + squares * divergence**2)[None] / jnp.abs(main)[:, None]


@functools.partial(jax.jit, static_argnames=("sizes", "taps"))
def back_project(
    y: Array,
    angles: Array,
    spacing: Array,
    divergence: Array,
    sizes: Sequence[int],
    taps: Sequence[int],
) -> Array:
    """Transpose of ``project``: a volume ``(D, H, W, C)``; at most ``taps`` (rows, columns) of the detector meet a voxel."""
    counts, channels = y.shape[1:3], y.shape[3]
    height, coordinate = (detector(num, spacing[i]) for i, num in enumerate(counts))
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    _, main, _ = steps(coordinate[None], cos[:, None], sin[:, None], divergence)
    y = y * lengths(height, coordinate, main, divergence)[..., None]
    y = jnp.pad(y, ((0, 0), *((t, t) for t in taps), (0, 0)))
    width = y.shape[2]
    px, py = grid(sizes[1:], y.dtype)
    pz = detector(sizes[0], jnp.ones((), y.dtype))[:, None, None]
    row_centre, column_centre = ((num - 1) / 2 for num in counts)

    @jax.checkpoint
    def step(total: Array, view: tuple[Array, Array, Array]) -> tuple[Array, None]:
        cos, sin, image = view
        first = first_tap(shadow(px, py, cos, sin, divergence) / spacing[1] + column_centre, taps[1], counts[1])
        for tap in range(taps[1]):
            column = first + tap
            along = (column - column_centre) * spacing[1]
            vertical, main, slope = steps(along, cos, sin, divergence)
            advance, across = jnp.where(vertical, py, -px), jnp.where(vertical, px, -py)
            beside = jnp.maximum(0, 1 - jnp.abs(position(along, main, slope, advance) - across))[None]
            widening = widened(along, cos, sin, vertical, main, advance, divergence)[None]
            first_row = first_tap(pz / (widening * spacing[0]) + row_centre, taps[0], counts[0])
            for row_tap in range(taps[0]):
                row = first_row + row_tap
                over = jnp.maximum(0, 1 - jnp.abs((row - row_centre) * spacing[0] * widening - pz))
                index = (row.astype(jnp.int32) + taps[0]) * width + (column.astype(jnp.int32) + taps[1])[None]
                total = total + (beside * over)[..., None] * take(image, index)
        return total, None

    views = y.reshape(angles.size, -1, channels)
    total, _ = jax.lax.scan(step, jnp.zeros((*sizes, channels), y.dtype), (cos, sin, views))
    return total
