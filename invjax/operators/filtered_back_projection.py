"""Analytic reconstruction: filtered back-projection for parallel and fan beams, Feldkamp's method for cone beams."""

from __future__ import annotations

from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from . import joseph
from .structure import at_precision_of, conform
from .tomography import XRayTransform, on_real_channels

Filter = Literal["ramp", "shepp-logan", "cosine", "hann", "hamming"]


@eqx.filter_jit
def filtered_back_projection(A: XRayTransform, y: Array, filter: Filter = "ramp", *, weights: Any = None) -> Array:
    """Reconstruction ``(H, W, C)`` of a parallel or fan-beam measurement, or ``(D, H, W, C)`` of a parallel or cone-beam one.

    Parallel and fan beam: Kak and Slaney (1988), chapter 3, with the band-limited ramp, zero padding and linear interpolation.
    Cone beam: Feldkamp, Davis and Kress (J. Opt. Soc. Am. A 1, 1984), exact in the plane of the source, approximate elsewhere.
    "ramp" is the sharpest filter; the others multiply it by the window of that name.

    ``weights``, an array that broadcasts to ``(angles, [rows,] detectors)``, says how much of the half turn each view stands
    for. The default ``pi / number of angles`` is right for angles that are equally spaced over one or more half turns
    (parallel) or whole turns (fan, cone). A short scan needs weights that count every ray once; a limited angle leaves artefacts.
    Raises ``ValueError`` for another filter or shape.
    """
    if filter not in get_args(Filter):
        raise ValueError(f"filter: expected one of {get_args(Filter)}, got {filter!r}")
    y = conform(y, A.out_structure, "y")
    A = jax.tree.map(lambda a: at_precision_of(y, a), A)
    counts = y.shape[1:-1]
    weights = jnp.asarray(np.pi / y.shape[0] if weights is None else weights, A.angles.dtype)
    weights = jnp.broadcast_to(weights, (y.shape[0], *counts))[..., None]
    spacing, divergence = A.virtual_detector()
    squares = sum(c**2 for c in joseph.detector_grid(counts, spacing))
    views = weights / jnp.sqrt(1 + divergence**2 * squares)[..., None]

    def reconstruct(y: Array) -> Array:
        filtered = _ramp_filter(views * y, filter) / (spacing[-1] * A.pixel_size)
        return _interpolate_back(filtered, A, spacing, divergence)

    return on_real_channels(reconstruct, y)


def _ramp_filter(y: Array, filter: str) -> Array:
    """Convolution along the last but one axis with the ramp of unit spacing, times its window."""
    num = y.shape[-2]
    length = 2 ** int(np.ceil(np.log2(2 * num)))
    lag = np.minimum(np.arange(length), length - np.arange(length))
    ramp = np.where(lag % 2 == 1, -1 / (np.pi * np.maximum(lag, 1)) ** 2, 0)
    ramp[0] = 1 / 4
    frequency = np.fft.rfftfreq(length)
    window = {
        "ramp": np.ones_like(frequency),
        "shepp-logan": np.sinc(frequency),
        "cosine": np.cos(np.pi * frequency),
        "hann": 0.5 + 0.5 * np.cos(2 * np.pi * frequency),
        "hamming": 0.54 + 0.46 * np.cos(2 * np.pi * frequency),
    }[filter]
    gain = jnp.asarray(np.fft.rfft(ramp).real * window, y.dtype)[:, None]
    spectrum = jnp.fft.rfft(y, length, axis=-2)
    return jnp.fft.irfft(spectrum * gain.astype(spectrum.dtype), length, axis=-2)[..., :num, :]


def _interpolate_back(y: Array, A: XRayTransform, spacing: Array, divergence: Array) -> Array:
    """Sum over the views of their values at the shadow of every pixel (linear interpolation) over its squared distance."""
    *depth, height, width = A.in_structure.shape[:-1]
    px, py = joseph.grid((height, width), y.dtype)
    pz = joseph.detector(depth[0], jnp.ones_like(divergence))[:, None, None] if depth else None
    counts = y.shape[1:-1]
    y = jnp.pad(y, ((0, 0), *(joseph.margin(n, n) for n in counts), (0, 0)))

    @jax.checkpoint
    def step(total: Array, view: tuple[Array, Array, Array]) -> tuple[Array, None]:
        cos, sin, image = view
        distance = 1 + (py * cos - px * sin) * divergence
        places = [(px * cos + py * sin) / distance / spacing[-1]]
        if pz is not None:
            places = [pz / distance[None] / spacing[0], places[0][None]]
        corners = [(jnp.zeros((), jnp.int32), 1 / distance**2)]
        for place, num in zip(places, counts, strict=True):
            index, fraction = joseph.cell(place, joseph.from_middle(num), num)
            corners = [
                (before * (num + 3) + index + j, weight * part)
                for before, weight in corners
                for j, part in ((0, 1 - fraction), (1, fraction))
            ]
        values = image.reshape(-1, image.shape[-1])
        return sum((w[..., None] * joseph.take(values, i) for i, w in corners), total), None

    zero = jnp.zeros((*A.in_structure.shape[:-1], y.shape[-1]), y.dtype)
    return jax.lax.scan(step, zero, (jnp.cos(A.angles), jnp.sin(A.angles), y))[0]
