"""``joseph`` for parallel rays, whose direction is one per angle: the transpose then needs no direction per pixel and ray.

A ray is at ``coordinate * rate + slope * advance`` with the reciprocal ``rate`` of ``main`` in ``joseph.steps``. Projection and
transpose take both products from tables that are computed before their loops, which only add: their weights are then equal to
the last bit. Beside the sum, a compiler rounds a product before it or not, as it likes, and the weights of the two would differ
by 1e-5 in float32.

In a volume rays stay at one height: weights along the axis of rotation are a small matrix, and heights are channels.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .joseph import between, cell, detector, first_tap, grid, lines, places, take


def directions(angles: Array) -> tuple[Array, Array, Array]:
    """For every angle ``vertical``, ``rate`` and ``slope``: see ``joseph.steps``."""
    dx, dy = -jnp.sin(angles), jnp.cos(angles)
    vertical = jnp.abs(dy) >= jnp.abs(dx)
    main, other = jnp.where(vertical, dy, dx), jnp.where(vertical, dx, dy)
    return vertical, 1 / main, other / main


@functools.partial(jax.jit, static_argnames="num")
def project(x: Array, angles: Array, spacing: Array, num: int) -> Array:
    """Integrals ``(angles, num, C)`` of a real image ``(H, W, C)``. Memory: the image, the result, and numbers per ray."""
    *sizes, channels = x.shape
    n = max(sizes)
    vertical, rate, slope = (a[:, None] for a in directions(angles))
    middle, shift, table = places(vertical, sizes, x.dtype)
    start = detector(num, spacing)[None] * rate
    moved = slope[None] * (middle[None] - jnp.arange(n, dtype=x.dtype)[:, None, None])

    @jax.checkpoint
    def step(total: Array, line: tuple[Array, Array]) -> tuple[Array, None]:
        moved, pixels = line
        index, fraction = cell(start + moved + shift, n)
        return total + between(pixels, index + table, fraction), None

    zero = jnp.zeros((angles.size, num, channels), x.dtype)
    total, _ = jax.lax.scan(step, zero, (moved, lines(x, n)))
    return total * jnp.abs(rate)[..., None]


@functools.partial(jax.jit, static_argnames=("sizes", "taps"))
def back_project(y: Array, angles: Array, spacing: Array, sizes: Sequence[int], taps: int) -> Array:
    """Transpose of ``project``: an image ``(H, W, C)`` of ``(angles, num, C)``; no pixel is met by more than ``taps`` rays."""
    num, centre = y.shape[1], (y.shape[1] - 1) / 2
    vertical, rate, slope = directions(angles)
    y = jnp.pad(y * jnp.abs(rate)[:, None, None], ((0, 0), (taps, taps), (0, 0)))
    starts = jnp.pad(detector(num, spacing)[None] * rate[:, None], ((0, 0), (taps, taps)))
    px, py = grid(sizes, y.dtype)
    moved = slope[:, None, None] * py[None], slope[:, None, None] * -px[None]

    @jax.checkpoint
    def step(total: Array, view: tuple[Array, ...]) -> tuple[Array, None]:
        cos, sin, vertical, moved_up, moved_left, start, line = view
        first = first_tap((px * cos + py * sin) / spacing + centre, taps, num)
        moved, across = jnp.where(vertical, moved_up, moved_left), jnp.where(vertical, px, -py)
        for tap in range(taps):
            index = first + tap
            ray = index.astype(jnp.int32) + taps
            weight = jnp.maximum(0, 1 - jnp.abs(take(start, ray) + moved - across))
            total = total + weight[..., None] * take(line, ray)
        return total, None

    views = (jnp.cos(angles), jnp.sin(angles), vertical, *moved, starts, y)
    total, _ = jax.lax.scan(step, jnp.zeros((*sizes, y.shape[-1]), y.dtype), views)
    return total


def project_volume(x: Array, angles: Array, spacing: Array, counts: Sequence[int]) -> Array:
    """Integrals ``(angles, rows, columns, C)`` of a real volume ``(D, H, W, C)``."""
    stack = jnp.einsum("vd,dhwc->hwvc", weights_along(x.shape[0], spacing[0], counts[0]), x)
    y = project(stack.reshape(*x.shape[1:3], -1), angles, spacing[1], counts[1])
    return jnp.moveaxis(y.reshape(angles.size, counts[1], counts[0], -1), 2, 1)


def back_project_volume(y: Array, angles: Array, spacing: Array, sizes: Sequence[int], taps: int) -> Array:
    """Transpose of ``project_volume``."""
    stack = jnp.moveaxis(y, 1, 2).reshape(y.shape[0], y.shape[2], -1)
    x = back_project(stack, angles, spacing[1], sizes[1:], taps)
    x = x.reshape(*sizes[1:], y.shape[1], -1)
    return jnp.einsum("vd,hwvc->dhwc", weights_along(sizes[0], spacing[0], y.shape[1]), x)


def weights_along(depth: int, spacing: Array, num: int) -> Array:
    """Linear interpolation ``(num, depth)`` along the axis from voxels to detector rows."""
    distance = detector(num, spacing)[:, None] - detector(depth, jnp.ones_like(spacing))[None]
    return jnp.maximum(0, 1 - jnp.abs(distance))
