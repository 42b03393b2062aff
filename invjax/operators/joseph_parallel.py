"""``joseph`` for parallel rays, whose direction is one per angle: the transpose then needs no direction per pixel and ray.

The ray ``k``, counted from the middle of the detector, is at ``k step + slope advance`` in the words of ``joseph.steps``. A
compiler rounds a product before a sum or not, as it likes, here so and there otherwise, and the weights of projection and
transpose would differ by 1e-5 in float32. So ``slope advance`` comes from tables, and ``step = coarse + fine``, where ``coarse``
has half the bits: ``k coarse`` is exact, and ``k fine`` is small and added last.

In a volume rays stay at one height: weights along the axis of rotation are a small matrix, and heights are channels.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .joseph import between, cell, detector, first_tap, grid, lines, places, steps, take


def directions(angles: Array, spacing: Array) -> tuple[Array, ...]:
    """For every angle ``vertical``, ``coarse``, ``fine``, ``slope``, and the length of a step."""
    zero = jnp.zeros_like(angles)
    vertical, main, slope = steps(zero, jnp.cos(angles), jnp.sin(angles), zero)
    step, kind = spacing / main, jnp.finfo(main.dtype)
    coarse = jax.lax.reduce_precision(jax.lax.stop_gradient(step), kind.nexp, kind.nmant // 2)
    return vertical, coarse, step - coarse, slope, 1 / jnp.abs(main)


@functools.partial(jax.jit, static_argnames="num")
def project(x: Array, angles: Array, spacing: Array, num: int) -> Array:
    """Integrals ``(angles, num, C)`` of a real image ``(H, W, C)``. Memory: the image, the result, and numbers per ray."""
    *sizes, channels = x.shape
    n = max(sizes)
    vertical, coarse, fine, slope, length = (a[:, None] for a in directions(angles, spacing))
    middle, shift, table = places(vertical, sizes, x.dtype)
    k = detector(num, jnp.ones_like(spacing))[None]
    moved = slope[None] * (middle[None] - jnp.arange(n, dtype=x.dtype)[:, None, None])

    @jax.checkpoint
    def step(total: Array, line: tuple[Array, Array]) -> tuple[Array, None]:
        moved, pixels = line
        index, fraction = cell(k * coarse + moved, shift, n, k * fine)
        return total + between(pixels, index + table, fraction), None

    zero = jnp.zeros((angles.size, num, channels), x.dtype)
    total, _ = jax.lax.scan(step, zero, (moved, lines(x, n)))
    return total * length[..., None]


@functools.partial(jax.jit, static_argnames=("sizes", "taps"))
def back_project(y: Array, angles: Array, spacing: Array, sizes: Sequence[int], taps: int) -> Array:
    """Transpose of ``project``: an image ``(H, W, C)`` of ``(angles, num, C)``; no pixel is met by more than ``taps`` rays."""
    num, centre = y.shape[1], (y.shape[1] - 1) / 2
    vertical, coarse, fine, slope, length = directions(angles, spacing)
    y = jnp.pad(y * length[:, None, None], ((0, 0), (taps, taps), (0, 0)))
    px, py = grid(sizes, y.dtype)
    moved = slope[:, None, None] * py[None], slope[:, None, None] * -px[None]

    @jax.checkpoint
    def step(total: Array, view: tuple[Array, ...]) -> tuple[Array, None]:
        cos, sin, vertical, coarse, fine, moved_up, moved_left, line = view
        first = first_tap(px * cos + py * sin + centre, taps, num)
        moved, across = jnp.where(vertical, moved_up, moved_left), jnp.where(vertical, px, -py)
        for tap in range(taps):
            index = first + tap
            k = index - centre
            weight = jnp.maximum(0, 1 - jnp.abs((k * coarse + moved - across) + k * fine))
            total = total + weight[..., None] * take(line, index.astype(jnp.int32) + taps)
        return total, None

    views = (jnp.cos(angles) / spacing, jnp.sin(angles) / spacing, vertical, coarse, fine, *moved, y)
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
