"""Probes and scan positions for ptychography."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..types import real, require
from .propagation import fresnel


def disc_probe(shape: tuple[int, int], radius: Any) -> Float[Array, "h w 1"]:
    """1 within ``radius`` pixels of the centre ``n // 2`` and 0 outside, with an edge one pixel wide."""
    require(radius, "radius", positive=True, shape=())
    return jnp.clip(real(radius) + 0.5 - jnp.sqrt(_squared_radius(shape)), 0, 1)


def gaussian_probe(shape: tuple[int, int], width: Any) -> Float[Array, "h w 1"]:
    """``exp(-r^2 / width^2)`` with ``width`` in pixels: the waist of a Gaussian beam (intensity ``e^-2`` at ``r = width``)."""
    require(width, "width", positive=True, shape=())
    return jnp.exp(-_squared_radius(shape) / real(width) ** 2)


def defocused_probe(probe: Array, wavelength: Any, distance: Any, pixel_size: Any) -> Array:
    """The complex probe ``(h, w, C)`` after Fresnel propagation over ``distance``, which gives it a curved phase."""
    h, w, channels = probe.shape
    return fresnel((h, w, channels), wavelength, distance, pixel_size)(probe)


def _squared_radius(shape: tuple[int, int]) -> Array:
    rows, columns = (np.arange(n) - n // 2 for n in shape)
    return jnp.asarray(rows[:, None, None] ** 2 + columns[None, :, None] ** 2, jnp.result_type(float))


def raster_scan(shape: tuple[int, ...], window: tuple[int, int], step: int) -> np.ndarray:
    """Corners ``(L, 2)`` of windows every ``step`` pixels in both directions, the grid in the middle of the object.

    Its periodicity causes artefacts in ptychography: add ``jitter``. Raises ``ValueError`` when the window does not fit.
    """
    if step < 1:
        raise ValueError(f"step: expected an integer >= 1, got {step}")
    axes = [np.arange(room % step // 2, room + 1, step) for room in _room(shape, window)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def jitter(
    key: PRNGKeyArray, corners: Any, amount: int, shape: tuple[int, ...], window: tuple[int, int]
) -> Int[Array, "L 2"]:
    """Every corner moved by independent whole numbers from ``-amount`` to ``amount``, and back into the object."""
    if amount < 0:
        raise ValueError(f"amount: expected a non-negative integer, got {amount}")
    moves = jax.random.randint(key, np.shape(corners), -amount, amount + 1)
    return jnp.clip(jnp.asarray(corners) + moves, 0, np.array(_room(shape, window)))


def fermat_scan(shape: tuple[int, ...], window: tuple[int, int], step: float) -> np.ndarray:
    """Corners ``(L, 2)`` on a Fermat spiral, ``r = c sqrt(n)`` at multiples of the golden angle, rounded to pixels.

    The density is one position per ``step^2`` pixels: ``c = step / sqrt(pi)``. Only positions whose window is inside are kept.
    Raises ``ValueError`` when the window does not fit. Source: Huang and others (2014).
    """
    require(step, "step", positive=True, shape=())
    room = np.array(_room(shape, window))
    n = np.arange(int(np.pi * (room @ room) / (4 * step**2)) + 2)
    angle = n * np.pi * (3 - np.sqrt(5))
    spiral = step * np.sqrt(n / np.pi)[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    corners = np.round(room / 2 + spiral).astype(int)
    return corners[np.all((corners >= 0) & (corners <= room), axis=1)]


def _room(shape: tuple[int, ...], window: tuple[int, int]) -> tuple[int, int]:
    """Largest corner of a window inside the object."""
    if window[0] > shape[0] or window[1] > shape[1]:
        raise ValueError(f"window: expected at most the size of the object {shape}, got {window}")
    return shape[0] - window[0], shape[1] - window[1]
