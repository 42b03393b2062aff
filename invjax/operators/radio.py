"""Radio interferometry: visibilities of a real sky image, and the coverage of an array by the rotation of the Earth."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..types import real, require
from .nufft import NUFFT


def radio_interferometry(
    uv: Any, shape: tuple[int, ...], pixel_size: Any, weights: Any = None, *, eps: float | None = None
) -> NUFFT:
    """``V(u, v) = w sum_(l, m) I(l, m) exp(-2 pi i (u l + v m))``: visibilities ``(M, C)`` of a real image ``(H, W, C)``.

    ``uv`` ``(M, 2)`` are the baselines in wavelengths and ``pixel_size`` the side of a pixel in radians: l grows with the column,
    m with the row, both zero at index ``n // 2``. Visibilities have the unit of the image (flux per pixel) and ``V(0, 0)`` is
    the total flux; ``weights`` ``(M,)`` multiply them (inverse standard deviations whiten the noise). Small field: no w-term.
    Source: Thompson, Moran and Swenson (2017), chapter 3.
    """
    uv, pixel_size = jnp.asarray(real(uv)), real(pixel_size)
    require(uv, "uv", shape=(*jnp.shape(uv)[:1], 2))
    require(pixel_size, "pixel_size", positive=True, shape=())
    weights = jnp.ones(uv.shape[0], uv.dtype) if weights is None else jnp.asarray(real(weights))
    points = 2 * np.pi * pixel_size * uv[:, ::-1]
    return NUFFT(points, shape, float(np.sqrt(np.prod(shape[:2]))) * weights, complex=False, eps=eps)


def earth_rotation_uv(
    antennas: Any, hour_angles: Any, *, declination: Any, latitude: Any, wavelength: Any
) -> Float[Array, "m 2"]:
    """``uv`` in wavelengths of every pair of antennas at every hour angle, ``(len(hour_angles) * pairs, 2)``.

    ``antennas`` ``(n, 3)`` are positions (east, north, up) in metres at ``latitude``; angles are in radians, hour angle 0 is
    transit; ``wavelength`` is in metres. Of a baseline and its opposite, whose visibility is conjugate, one is returned.
    Source: Thompson, Moran and Swenson (2017), equation 4.1, with the axes of its section 4.1.
    """
    antennas, hours = jnp.asarray(real(antennas)), jnp.atleast_1d(jnp.asarray(real(hour_angles)))
    require(antennas, "antennas", shape=(*jnp.shape(antennas)[:1], 3))
    declination, latitude, wavelength = real(declination), real(latitude), real(wavelength)
    require(wavelength, "wavelength", positive=True)
    first, second = np.triu_indices(antennas.shape[0], 1)
    east, north, up = (antennas[second] - antennas[first]).T / wavelength
    x = jnp.cos(latitude) * up - jnp.sin(latitude) * north  # towards the meridian on the equator
    z = jnp.sin(latitude) * up + jnp.cos(latitude) * north  # towards the pole
    sin, cos = jnp.sin(hours)[:, None], jnp.cos(hours)[:, None]
    u = sin * x + cos * east
    v = jnp.sin(declination) * (sin * east - cos * x) + jnp.cos(declination) * z
    return jnp.stack([u, v], axis=-1).reshape(-1, 2)
