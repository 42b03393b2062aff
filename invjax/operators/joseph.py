"""Line integrals through a pixel grid by Joseph's interpolation, and their exact transpose, both as gathers.

Joseph (IEEE Trans. Med. Imaging 1, 1982): a ray of direction ``d`` steps along the axis in which it advances fastest, from
one row (or column) of pixels to the next, and interpolates linearly across it. With ``m = max(|d_x|, |d_y|)`` the matrix is

    A[ray, pixel] = |d| / m * max(0, 1 - |cross| / m),    cross = (pixel - point on the ray) x d.

The projection gathers in every row the two pixels beside each ray. The transpose gathers at every pixel the few rays that
pass it. Nothing is scattered, which is slow on CPU.

Lengths are in pixels. The ray of detector coordinate ``l`` at an angle crosses ``l u`` in the direction ``e + l divergence u``,
with ``u = (cos, sin)`` along the detector and ``e = (-sin, cos)``; ``divergence`` is 1 / (distance of source and origin). For
parallel rays ``joseph_parallel`` is faster. Coordinates are equally spaced and centred: those of a detector through the origin.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def detector(num: int, spacing: Array) -> Array:
    """Centred coordinates of ``num`` detectors."""
    return (jnp.arange(num, dtype=spacing.dtype) - (num - 1) / 2) * spacing


def detector_grid(counts: tuple[int, ...], spacing: Array) -> list[Array]:
    """Coordinates ``(1, *counts)`` of all detectors, one array per axis of the detector; ``spacing`` has one entry for each."""
    axes = (detector(num, spacing[i]) for i, num in enumerate(counts))
    return [a[None] for a in jnp.meshgrid(*axes, indexing="ij")]


def direction(coordinate: Array, cos: Array, sin: Array, divergence: Array) -> tuple[Array, Array]:
    """Components ``(d_x, d_y)`` of the rays at a detector coordinate."""
    slope = coordinate * divergence
    return slope * cos - sin, slope * sin + cos


def steps(coordinate: Array, cos: Array, sin: Array, divergence: Array) -> tuple[Array, Array, Array]:
    """How rays step: ``vertical`` (from row to row, not from column to column), ``main`` and ``slope``.

    With ``main`` the component of ``d`` in which they advance and ``slope`` the ratio of the other to it, a ray is at
    ``position(coordinate, main, slope, advance)``: with vertical steps at this x where y is ``advance``, else at this -y where
    -x is ``advance``. Projection and transpose use the same expression, for equal weights to the last bits.
    """
    dx, dy = direction(coordinate, cos, sin, divergence)
    vertical = jnp.abs(dy) >= jnp.abs(dx)
    main, other = jnp.where(vertical, dy, dx), jnp.where(vertical, dx, dy)
    return vertical, main, other / main


def position(coordinate: Array, main: Array, slope: Array, advance: Array) -> Array:
    """Where a ray crosses a line of pixels; see ``steps``."""
    return coordinate / main + slope * advance


def lines(x: Array, n: int) -> Array:
    """What the steps meet: rows beside columns ``(n, ..., 2 (n + 3), C)`` of ``(..., H, W, C)`` in a border of zeros."""

    def bordered(x: Array) -> Array:
        *depth, height, width, _ = x.shape
        border = [(0, 0)] * len(depth) + [(0, n - height), margin(width, n), (0, 0)]
        return jnp.moveaxis(jnp.pad(x, border), -3, 0)

    return jnp.concatenate([bordered(x), bordered(jnp.swapaxes(x, -2, -3))], axis=-2)


def margin(size: int, n: int) -> tuple[int, int]:
    """Zeros around an axis that bring it to ``n + 3`` entries and its entry ``size // 2`` to ``n // 2 + 1``."""
    before = n // 2 - size // 2 + 1
    return before, n + 3 - size - before


def cell(position: Array, shift: Array | float, n: int, rest: Array | float = 0.0) -> tuple[Array, Array]:
    """Index of the entry at or below a position in a bordered axis, and the fraction above it, in [0, 1].

    ``position + shift + rest`` is relative to entry ``size // 2``, because float32 resolves small numbers best; ``rest`` is
    small. The fraction subtracts the entry's own position, as the transpose does, before it adds the rest: what is summed
    first has the largest rounding errors, and these are then the same.
    """
    first, last = -(n // 2) - 1, n - n // 2
    whole = position + shift + rest
    below = jnp.floor(jnp.clip(whole, first, last))
    fraction = jnp.where((whole > first) & (whole < last), (position - (below - shift)) + rest, 0)
    early = fraction < 0  # the sum was rounded up to the next entry
    index = below.astype(jnp.int32) + (n // 2 + 1)
    return jnp.where(early, index - 1, index), jnp.where(early, fraction + 1, fraction)


def places(vertical: Array, sizes: Sequence[int], dtype: Any) -> tuple[Array, Array, Array]:
    """Per ray: number of the line in the middle, position of the middle for ``cell``, and where its part of ``lines`` begins."""
    (height, width), n = sizes, max(sizes)
    middle = jnp.where(vertical, (height - 1) / 2, (width - 1) / 2).astype(dtype)
    shift = jnp.where(vertical, from_middle(width), from_middle(height)).astype(dtype)
    return middle, shift, jnp.where(vertical, 0, n + 3).astype(jnp.int32)


def between(pixels: Array, index: Array, fraction: Array) -> Array:
    """Linear interpolation between an entry of the first axis and the next."""
    low, high = take(pixels, index), take(pixels, index + 1)
    return low + fraction[..., None] * (high - low)


def from_middle(size: int) -> float:
    """Position of the middle of an axis relative to its entry ``size // 2``."""
    return (size - 1) / 2 - size // 2


def take(table: Array, index: Array) -> Array:
    """Entries of the first axis at indices that are known to be inside."""
    return table.at[index].get(mode="promise_in_bounds")


@functools.partial(jax.jit, static_argnames="num")
def project(x: Array, angles: Array, spacing: Array, divergence: Array, num: int) -> Array:
    """Integrals ``(angles, num, C)`` of a real image ``(H, W, C)``. Memory: the image, the result, and numbers per ray."""
    *sizes, channels = x.shape
    n = max(sizes)
    coordinate = detector(num, spacing)[None]
    vertical, main, slope = steps(coordinate, jnp.cos(angles)[:, None], jnp.sin(angles)[:, None], divergence)
    middle, shift, table = places(vertical, sizes, x.dtype)

    @jax.checkpoint
    def step(total: Array, line: tuple[Array, Array]) -> tuple[Array, None]:
        i, pixels = line
        index, fraction = cell(position(coordinate, main, slope, middle - i), shift, n)
        return total + between(pixels, index + table, fraction), None

    zero = jnp.zeros((angles.size, num, channels), x.dtype)
    total, _ = jax.lax.scan(step, zero, (jnp.arange(n, dtype=x.dtype), lines(x, n)))
    return total * lengths(coordinate, main, divergence)[..., None]


def lengths(coordinate: Array, main: Array, divergence: Array) -> Array:
    """Length of a ray's step."""
    return jnp.sqrt(1 + (coordinate * divergence) ** 2) / jnp.abs(main)


def grid(sizes: Sequence[int], dtype: Any) -> tuple[Array, Array]:
    """Coordinates ``x (1, W)`` to the right and ``y (H, 1)`` upwards of the pixel centres, from the centre of the image."""
    height, width = sizes
    x, y = jnp.arange(width, dtype=dtype) - (width - 1) / 2, (height - 1) / 2 - jnp.arange(height, dtype=dtype)
    return x[None], y[:, None]


def first_tap(position: Array, taps: int, num: int) -> Array:
    """First of the ``taps`` integers within ``taps / 2`` of a position; where none is in ``[0, num)``, one with none either."""
    return jnp.clip(jnp.floor(position - taps / 2) + 1, -taps, num)


@functools.partial(jax.jit, static_argnames=("sizes", "taps"))
def back_project(y: Array, angles: Array, spacing: Array, divergence: Array, sizes: Sequence[int], taps: int) -> Array:
    """Transpose of ``project``: an image ``(H, W, C)`` of ``(angles, num, C)``; no pixel is met by more than ``taps`` rays."""
    num, centre = y.shape[1], (y.shape[1] - 1) / 2
    cos, sin, coordinate = jnp.cos(angles), jnp.sin(angles), detector(num, spacing)[None]
    _, main, _ = steps(coordinate, cos[:, None], sin[:, None], divergence)
    y = jnp.pad(y * lengths(coordinate, main, divergence)[..., None], ((0, 0), (taps, taps), (0, 0)))
    px, py = grid(sizes, y.dtype)

    @jax.checkpoint
    def step(total: Array, view: tuple[Array, Array, Array]) -> tuple[Array, None]:
        cos, sin, line = view
        first = first_tap(shadow(px, py, cos, sin, divergence) / spacing + centre, taps, num)
        for tap in range(taps):
            index = first + tap
            along = (index - centre) * spacing
            vertical, main, slope = steps(along, cos, sin, divergence)
            advance, across = jnp.where(vertical, py, -px), jnp.where(vertical, px, -py)
            weight = jnp.maximum(0, 1 - jnp.abs(position(along, main, slope, advance) - across))
            total = total + weight[..., None] * take(line, index.astype(jnp.int32) + taps)
        return total, None

    total, _ = jax.lax.scan(step, jnp.zeros((*sizes, y.shape[-1]), y.dtype), (cos, sin, y))
    return total


def shadow(px: Array, py: Array, cos: Array, sin: Array, divergence: Array) -> Array:
    """Detector coordinate of the ray through a pixel."""
    return (px * cos + py * sin) / (1 + (py * cos - px * sin) * divergence)
