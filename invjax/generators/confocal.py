"""The point-spread function of a confocal laser-scanning microscope."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..types import real, require
from .base import Generator, default
from .diffraction import ABERRATIONS, draw_coefficients, intensity, offsets, require_optics, unit_sum
from .zernike import IndexOrder, zernike_indices


class Confocal(Generator):
    """``h = h_ex (h_em * pinhole)``, ``(d, h, w)``, sum one: excitation times detection, each a ``Diffraction3D``.

    Lengths (wavelengths, ``pixel``, ``step``) share a unit, by default nanometres; ``pinhole`` is its radius in Airy units
    ``0.61 emission / NA``, zero for a point. One random aberration acts on both: ``amplitude`` is in waves of the emission, and
    grows by ``emission / excitation`` for the excitation.

    Reference: Zhang, Zerubia and Olivo-Marin (2007), Gaussian approximations of fluorescence microscope point-spread
    function models.
    """

    size: tuple[int, int, int] = eqx.field(static=True)
    amplitude: Array = eqx.field(converter=real, default=0.1)
    numerical_aperture: Array = eqx.field(converter=real, default=1.37)
    refractive_index: Array = eqx.field(converter=real, default=1.51)
    excitation: Array = eqx.field(converter=real, default=488.0)
    emission: Array = eqx.field(converter=real, default=520.0)
    pixel: Array = eqx.field(converter=real, default=50.0)
    step: Array = eqx.field(converter=real, default=100.0)
    pinhole: Array = eqx.field(converter=real, default=1.0)
    indices: tuple[int, ...] = eqx.field(static=True, default=ABERRATIONS)
    order: IndexOrder = eqx.field(static=True, default="noll")

    def __check_init__(self):
        require_optics(self, self.size, 3)
        for name in ("numerical_aperture", "refractive_index", "excitation", "emission", "pixel", "step"):
            require(getattr(self, name), name, positive=True, shape=())
        require(self.pinhole, "pinhole", nonnegative=True, shape=())
        if isinstance(self.numerical_aperture, jax.Array):
            sine = self.numerical_aperture / self.refractive_index
            require(sine, "numerical_aperture / refractive_index", below=1)
            require(self.numerical_aperture / self.excitation * self.pixel, "NA pixel / excitation", below=0.5 + 1e-6)
            require(self.numerical_aperture / self.emission * self.pixel, "NA pixel / emission", below=0.5 + 1e-6)

    def __call__(self, key):
        return self.psf(draw_coefficients(key, self))

    def psf(self, coefficients: Any) -> Array:
        """The point-spread function for the given coefficients ``(modes,)`` in waves of the emission."""
        coefficients = default(coefficients)
        _, *lateral = self.size
        shorter = default(self.emission / self.excitation)
        illumination = self._stack((lateral[0], lateral[1]), coefficients * shorter, self.excitation)
        # Light from outside the frame reaches its pinhole too, hence twice the size.
        detection = self._stack((2 * lateral[0], 2 * lateral[1]), coefficients, self.emission)
        radius = 0.61 * self.pinhole * self.emission / (self.numerical_aperture * self.pixel)
        detection = jnp.maximum(averaged_over_disc(detection, radius), 0)
        starts = [n - n // 2 for n in lateral]
        detection = detection[:, starts[0] : starts[0] + lateral[0], starts[1] : starts[1] + lateral[1]]
        return unit_sum(illumination * detection)

    def _stack(self, size: tuple[int, int], coefficients: Array, wavelength: Array) -> Array:
        cutoff = self.numerical_aperture / wavelength * self.pixel
        planes = default(self.step / self.pixel) * offsets(self.size[0])
        wavenumber = self.refractive_index / wavelength * self.pixel
        modes = zernike_indices(self.indices, self.order)
        return intensity(size, coefficients, modes, cutoff, planes, wavenumber)


def averaged_over_disc(planes: Array, radius: Any) -> Array:
    """Means of band-limited periodic images ``(..., h, w)`` over discs of ``radius`` pixels: exact, smooth in the radius."""
    down, across = (default(f) for f in (np.fft.fftfreq(planes.shape[-2]), np.fft.rfftfreq(planes.shape[-1])))
    argument = 2 * jnp.pi * default(radius) * jnp.hypot(down[:, None], across[None])
    # 2 J_1(x) / x = 4 / pi int_0^1 sqrt(1 - t^2) cos(x t) dt, by the Gauss-Chebyshev rule of the second kind.
    angles = np.pi * np.arange(1, 33) / 65
    weights = 4 / 65 * np.sin(angles) ** 2
    transfer = sum(w * jnp.cos(c * argument) for w, c in zip(weights.tolist(), np.cos(angles).tolist(), strict=True))
    spectrum = jnp.fft.rfft2(planes)
    return jnp.fft.irfft2(
        jnp.broadcast_to(transfer, spectrum.shape).astype(spectrum.dtype) * spectrum, s=planes.shape[-2:]
    )
