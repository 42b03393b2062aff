"""Receiver coils: birdcage maps, root sum of squares, normalisation, estimation from the centre of k-space."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..types import squared
from .spectrum import Fourier
from .structure import sum_leading


def birdcage_maps(shape: tuple[int, ...], num_coils: int, *, radius: float = 1.5, dtype: Any = jnp.complex64) -> Array:
    """Maps ``(N, H, W, 1)`` (volumes ``(N, 1, H, W, 1)``) of N straight wires around the image; root sum of squares one.

    The wires, perpendicular to the image, stand on a circle of ``radius`` half-widths of the field of view. At the complex
    position z the field of a wire at z_n is proportional to ``1 / conj(z - z_n)`` (Biot and Savart: magnitude one over the
    distance, direction across it); the phase of each coil is zero at the centre. Raises ``ValueError`` for a radius within
    the image, ``sqrt(2)`` or less.
    """
    if not radius > np.sqrt(2):
        raise ValueError(f"radius: expected more than sqrt(2), outside the corners of the image, got {radius}")
    rows, columns = (2 * (np.arange(n) - n // 2) / n for n in shape[-3:-1])
    z = columns[None, :] + 1j * rows[:, None]
    wires = radius * np.exp(2j * np.pi * np.arange(num_coils) / num_coils)
    maps = np.conj(wires[:, None, None]) / np.conj(wires[:, None, None] - z)
    maps /= np.sqrt(np.sum(np.abs(maps) ** 2, axis=0))
    return jnp.asarray(maps, dtype).reshape(num_coils, *(1,) * (len(shape) - 3), *z.shape, 1)


def rss(x: Array) -> Array:
    """Root sum of squares ``sqrt(sum_n |x_n|^2)`` over the leading axis, the coils. Its gradient at zero is zero."""
    square = sum_leading(squared(x))
    zero = square == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))


def normalise_maps(maps: Array) -> Array:
    """``s_n / rss(s)``: maps of root-sum-of-squares one, zero where all are zero."""
    size = rss(maps)
    return jnp.where(size == 0, 0, maps / jnp.where(size == 0, 1, size).astype(maps.dtype))


def estimate_maps(kspace: Array, calibration: int, *, centred: bool = True) -> Array:
    """Coil maps ``(N, H, W, C)`` from the fully sampled centre of k-space: low-resolution images over their ``rss``.

    ``kspace`` is ``(N, H, W, C)``; the central ``calibration`` samples along each axis are weighted by a Hann window against
    ringing. The phase of the image stays in the maps. Volumes have one more axis. Source: McKenzie, Yeh, Ohliger, Price and
    Sodickson (2002).
    """
    axes = tuple(range(1, kspace.ndim - 1))
    for axis in axes:
        n = kspace.shape[axis]
        if not 1 <= calibration <= n:
            raise ValueError(f"calibration: expected 1 to {n} samples, got {calibration}")
        distance = np.abs(np.arange(n) - n // 2)
        window = np.where(2 * distance < calibration, np.cos(np.pi * distance / calibration) ** 2, 0)
        window = window if centred else np.fft.ifftshift(window)
        along = jnp.asarray(window, kspace.real.dtype).astype(kspace.dtype)
        kspace = kspace * along.reshape([-1 if a == axis else 1 for a in range(kspace.ndim)])
    return normalise_maps(Fourier(axes, centred).inverse(kspace))
