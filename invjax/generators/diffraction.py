"""Point-spread functions of microscopes and telescopes: scalar diffraction at a circular pupil with Zernike aberrations."""

from __future__ import annotations

import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..types import real, require
from .base import Generator, default
from .zernike import IndexOrder, zernike, zernike_indices

ABERRATIONS = (4, 5, 6, 7, 8, 9, 10, 11)
"""Noll's indices of defocus, astigmatism, coma, trefoil and spherical aberration."""


class Diffraction(Generator):
    """``h(u) = |F[1(|rho| <= 1) exp(2 pi i sum_j a_j Z_j(rho))]|^2``, ``(h, w)``, sum one, for random aberrations.

    ``a_j`` is uniform in ``[-amplitude, amplitude]`` (waves; a scalar or one per mode); the modes are Zernike polynomials
    of ``indices`` in the ``order`` of Noll or ANSI. ``cutoff`` is ``NA / wavelength * pixel`` (cycles per pixel, at most 1/2;
    up to 1/4 the sampling obeys Shannon); the Airy disc has its first zero at ``0.61 / cutoff`` pixels. One cut-off per
    channel makes ``(h, w, C)`` with the same aberration in length, so in waves it grows with the cut-off.

    Reference: Goodman (2005), Introduction to Fourier optics, chapter 6.
    """

    size: tuple[int, int] = eqx.field(static=True)
    amplitude: Array = eqx.field(converter=real, default=0.15)
    cutoff: Array = eqx.field(converter=real, default=0.2)
    indices: tuple[int, ...] = eqx.field(static=True, default=ABERRATIONS)
    order: IndexOrder = eqx.field(static=True, default="noll")

    def __check_init__(self):
        require_optics(self, self.size, 2)
        require(self.cutoff, "cutoff", positive=True, below=0.5 + 1e-6, ndim=(0, 1))

    def __call__(self, key):
        return self.psf(draw_coefficients(key, self))

    def psf(self, coefficients: Any) -> Array:
        """The point-spread function for the given coefficients ``(modes,)`` in waves (of the first channel)."""
        coefficients, cutoff = default(coefficients), default(self.cutoff)

        def one(channel: Array) -> Array:
            waves = coefficients * channel / cutoff.ravel()[0]
            return unit_sum(intensity(self.size, waves, zernike_indices(self.indices, self.order), channel))

        return one(cutoff) if cutoff.ndim == 0 else jax.vmap(one, out_axes=-1)(cutoff)


class Diffraction3D(Generator):
    """A stack ``(d, h, w)`` of diffraction patterns through focus, sum one: plane z has the extra phase ``2 pi z k_z(rho)``.

    ``k_z = sqrt(wavenumber^2 - (cutoff |rho|)^2)``; ``wavenumber`` is ``n / wavelength * pixel`` (cycles per pixel, above the
    cut-off) and ``step`` the distance of planes in pixels. The focus is plane ``floor(d / 2)``. The rest as in ``Diffraction``.

    Reference: Hanser, Gustafsson, Agard and Sedat (2004), Phase-retrieved pupil functions in wide-field fluorescence microscopy.
    """

    size: tuple[int, int, int] = eqx.field(static=True)
    amplitude: Array = eqx.field(converter=real, default=0.15)
    cutoff: Array = eqx.field(converter=real, default=0.2)
    wavenumber: Array = eqx.field(converter=real, default=0.25)
    step: Array = eqx.field(converter=real, default=1.0)
    indices: tuple[int, ...] = eqx.field(static=True, default=ABERRATIONS)
    order: IndexOrder = eqx.field(static=True, default="noll")

    def __check_init__(self):
        require_optics(self, self.size, 3)
        require(self.cutoff, "cutoff", positive=True, below=0.5 + 1e-6, shape=())
        require(self.wavenumber, "wavenumber", positive=True, shape=())
        require(self.step, "step", positive=True, shape=())
        if isinstance(self.cutoff, jax.Array):
            require(self.cutoff / self.wavenumber, "cutoff / wavenumber", below=1)

    def __call__(self, key):
        return self.psf(draw_coefficients(key, self))

    def psf(self, coefficients: Any) -> Array:
        """The point-spread function for the given coefficients ``(modes,)`` in waves."""
        modes = zernike_indices(self.indices, self.order)
        planes = default(self.step) * offsets(self.size[0])
        return unit_sum(intensity(self.size[1:], coefficients, modes, self.cutoff, planes, self.wavenumber))


def intensity(
    size: tuple[int, ...],
    coefficients: Any,
    modes: tuple[tuple[int, int], ...],
    cutoff: Any,
    planes: Array | None = None,
    wavenumber: Any = None,
) -> Array:
    """``|mean over the pupil of exp(2 pi i (phase + z k_z + cutoff rho . u))|^2`` at the pixels ``u``: at most 1.

    The mean is a Gauss-Legendre sum over radii and an equidistant one over angles, and the transform a product of
    matrices: no pixels at the edge of the pupil, and smooth in ``cutoff``. Shape ``size``, or ``(planes, *size)``.
    """
    radius, angle, weights = (default(a) for a in _pupil_nodes(size))
    cutoff = default(cutoff)
    phase = jnp.zeros_like(radius)
    for a, nm in zip(default(coefficients), modes, strict=True):
        phase = phase + a * zernike(*nm, radius, angle)
    if planes is not None:
        k = default(wavenumber)
        # Squared sine of the cone: k_z - k = -k s / (1 + sqrt(1 - s)), without the cancellation of the difference.
        s = jnp.minimum((cutoff * radius / k) ** 2, 1)
        phase = phase[None] - planes[:, None] * (k * s / (1 + jnp.sqrt(1 - s)))[None]
    pupil = _wave(phase, jnp.broadcast_to(weights, phase.shape))
    down = _wave(cutoff * offsets(size[0])[:, None] * (radius * jnp.cos(angle))[None])
    across = _wave(cutoff * offsets(size[1])[:, None] * (radius * jnp.sin(angle))[None])
    field = jnp.einsum("an,...n,bn->...ab", down, pupil, across)
    return field.real**2 + field.imag**2


def _wave(turns: Array, amplitude: Array | float = 1.0) -> Array:
    """``amplitude exp(2 pi i turns)``."""
    return jax.lax.complex(amplitude * jnp.cos(2 * jnp.pi * turns), amplitude * jnp.sin(2 * jnp.pi * turns))


@functools.lru_cache(maxsize=16)
def _pupil_nodes(size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Radii, angles and weights of a mean over the unit disc, fine enough for the largest cut-off and pixel, and aberrations."""
    turns = 2 * math.pi * 0.5 * math.hypot(*(n / 2 for n in size))
    nodes, weights = np.polynomial.legendre.leggauss(int(turns / 3) + 24)
    count = int(turns) + 48
    radius, angle = np.meshgrid((nodes + 1) / 2, 2 * np.pi * (np.arange(count) + 0.5) / count, indexing="ij")
    weights = np.broadcast_to((weights * (nodes + 1) / 2 / count)[:, None], radius.shape)
    return radius.ravel(), angle.ravel(), weights.ravel()


def offsets(size: int) -> Array:
    """Pixels relative to the centre ``floor(size / 2)``."""
    return default(jnp.arange(size) - size // 2)


def unit_sum(x: Array) -> Array:
    """The array over its sum."""
    return x / x.sum()


def draw_coefficients(key: PRNGKeyArray, optics: Any) -> Array:
    """Uniform coefficients of the modes of a generator."""
    amplitude = default(optics.amplitude)
    return amplitude * jax.random.uniform(key, (len(optics.indices),), amplitude.dtype, -1, 1)


def require_optics(optics: Any, size: tuple[int, ...], dims: int) -> None:
    """Raise ``ValueError`` unless size, modes and amplitudes of a generator fit together."""
    if len(size) != dims or any(n < 1 for n in size):
        raise ValueError(f"size: expected {dims} positive sizes, got {size}")
    zernike_indices(optics.indices, optics.order)
    require(optics.amplitude, "amplitude", nonnegative=True)
    if isinstance(optics.amplitude, jax.Array) and optics.amplitude.shape not in ((), (len(optics.indices),)):
        raise ValueError(f"amplitude: expected a scalar or {len(optics.indices)} values, got {optics.amplitude.shape}")
