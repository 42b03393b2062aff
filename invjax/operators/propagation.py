"""Propagation of light through free space: angular spectrum, Fresnel, and the single transform to a far detector.

All lengths (wavelength, distance, pixel size) share one unit. A wave is ``exp(i k z)`` along the axis; this common phase of a
plane wave is left out everywhere: float32 could not hold it when the distance is many wavelengths.
"""

from __future__ import annotations

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..types import real, require
from .base import LinearOperator
from .fourier import FourierTransform
from .spectrum import Fourier, Pixel, Spectrum
from .structure import at_precision_of, structure


class PhaseScreen(LinearOperator):
    """``y = exp(i phase) x``: a thin lens, a phase mask, aberrations of a pupil. Unitary.

    ``phase`` (radians, real) has the shape of the image or broadcasts to it. Raises ``ValueError`` for another shape.
    """

    phase: Array = eqx.field(converter=real)
    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)

    def __init__(self, phase: Any, shape: tuple[int, ...]):
        self.phase, self.in_structure = _broadcastable(phase, shape, "phase"), structure(shape, complex=True)

    @property
    def out_structure(self):
        return self.in_structure

    def apply(self, x):
        return _cis(at_precision_of(x, self.phase)) * x

    @property
    def spectrum(self):
        return Spectrum(_cis(self.phase), Pixel(), Pixel())

    @property
    def gram_spectrum(self):
        return Spectrum(jnp.ones(()), Pixel(), Pixel())

    @property
    def cogram_spectrum(self):
        return self.gram_spectrum


class FourierFilter(LinearOperator):
    """``y = F^H diag(attenuation exp(i phase)) F x`` on complex images ``(H, W, C)``, periodic; unitary without ``attenuation``.

    ``phase`` and ``attenuation`` (real) broadcast to the image's shape, the zero frequency at index 0. Raises ``ValueError`` for
    other shapes.
    """

    phase: Array = eqx.field(converter=real)
    attenuation: Array | None = eqx.field(converter=real)
    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)

    def __init__(self, phase: Any, shape: tuple[int, ...], attenuation: Any = None):
        self.phase, self.in_structure = _broadcastable(phase, shape, "phase"), structure(shape, complex=True)
        self.attenuation = None if attenuation is None else _broadcastable(attenuation, shape, "attenuation")

    @property
    def out_structure(self):
        return self.in_structure

    @property
    def spectrum(self):
        basis = Fourier(tuple(range(len(self.in_structure.shape) - 1)))
        transfer = _cis(self.phase)
        if self.attenuation is not None:
            transfer = self.attenuation.astype(transfer.dtype) * transfer
        return Spectrum(transfer, basis, basis)

    def apply(self, x):
        return self._at(x).spectrum.apply(x)

    def adjoint(self, y):
        return self._at(y).spectrum.adjoint.apply(y)

    def _at(self, x: Array) -> FourierFilter:
        """The same filter with its arrays at the precision of ``x``: the transfer function is then as precise."""
        return jax.tree.map(lambda a: at_precision_of(x, a), self)

    @property
    def gram_spectrum(self):
        return super().gram_spectrum if self.attenuation is not None else Spectrum(jnp.ones(()), Pixel(), Pixel())

    @property
    def cogram_spectrum(self):
        return self.gram_spectrum


def angular_spectrum(
    shape: tuple[int, int, int], wavelength: Any, distance: Any, pixel_size: Any, *, band_limit: bool = True
) -> FourierFilter:
    """Exact scalar propagation over ``distance`` (negative: back): ``H = exp(i k z (sqrt(1 - s^2) - 1))``, ``s = wavelength f``.

    ``wavelength`` is a scalar or one per channel, ``pixel_size`` a scalar or one per axis. Evanescent waves (``s > 1``) decay as
    ``exp(-k |z| sqrt(s^2 - 1))``, so ``|H| <= 1``. ``band_limit`` removes the frequencies whose phase the grid does not sample
    (and, for ``z != 0``, the evanescent ones): Matsushima and Shimobaba (2009), in the exact elliptic form. Without it, and with
    concrete pixels so large that no frequency is evanescent, the operator is known to be unitary. Periodic: ``pad``
    the image against wrap-around, and build inside a function to differentiate in the lengths.
    Raises ``ValueError`` for lengths that are not positive or of another shape.
    """
    wavelength, pixel_size = _lengths(shape, wavelength, pixel_size)
    distance = real(distance)
    require(distance, "distance", shape=())
    phase, attenuation, evanescent = _exact_transfer(tuple(shape), wavelength, distance, pixel_size, band_limit)
    unitary = not band_limit and not isinstance(evanescent, jax.core.Tracer) and not bool(evanescent)
    return FourierFilter(phase, shape, None if unitary else attenuation)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _exact_transfer(
    shape: tuple[int, ...], wavelength: Array, distance: Array, pixel_size: Array, band_limit: bool
) -> tuple[Array, Array, Array]:
    """Phase and attenuation of ``angular_spectrum``, and whether a frequency is evanescent."""
    sy, sx = _direction_sines(shape, wavelength, pixel_size)
    square = sy**2 + sx**2
    inside = square < 1
    cosine = jnp.sqrt(jnp.where(inside, 1 - square, 1))
    path = 2 * jnp.pi * distance / wavelength
    phase = jnp.where(inside, -path * square / (1 + cosine), -path)
    if band_limit:
        room = jnp.sqrt(jnp.maximum(1 - square, 0))
        reach_y, reach_x = (2 * jnp.abs(distance) / (n * d) for n, d in zip(shape, pixel_size, strict=False))
        kept = (reach_y * jnp.abs(sy) <= room) & (reach_x * jnp.abs(sx) <= room)
        return phase, kept.astype(phase.dtype), jnp.any(square > 1)
    evanescent = square > 1
    decay = jnp.where(evanescent, jnp.sqrt(jnp.where(evanescent, square - 1, 1)), 0)
    return phase, jnp.exp(-jnp.abs(path) * decay), jnp.any(evanescent)


def fresnel(shape: tuple[int, int, int], wavelength: Any, distance: Any, pixel_size: Any) -> FourierFilter:
    """Paraxial propagation by its transfer function ``H = exp(-i pi wavelength z f^2)``; unitary, equal pixels on both sides.

    Sampled well for ``|z| <= N pixel_size^2 / wavelength``; beyond that, ``fresnel_transform``. Arguments and errors are those
    of ``angular_spectrum``. Source: Goodman, Introduction to Fourier Optics, chapter 4.
    """
    wavelength, pixel_size = _lengths(shape, wavelength, pixel_size)
    distance = real(distance)
    require(distance, "distance", shape=())
    return FourierFilter(_paraxial_phase(tuple(shape), wavelength, distance, pixel_size), shape)


@functools.partial(jax.jit, static_argnums=0)
def _paraxial_phase(shape: tuple[int, ...], wavelength: Array, distance: Array, pixel_size: Array) -> Array:
    sy, sx = _direction_sines(shape, wavelength, pixel_size)
    return -jnp.pi * distance / wavelength * (sy**2 + sx**2)


def fresnel_transform(shape: tuple[int, int, int], wavelength: Any, distance: Any, pixel_size: Any) -> LinearOperator:
    """Paraxial propagation by one transform: ``y = -i e^{i pi r'^2 / (wavelength z)} F (e^{i pi r^2 / (wavelength z)} x)``.

    The pixels of ``y`` have size ``object_pixel_size(wavelength, distance, pixel_size, N)``; the axis is at index ``n // 2`` of
    both images. Unitary, so that energy is the sum over pixels: the field itself is ``y`` times the root of the ratio of the
    pixel areas, old over new. Sampled well for ``z >= N pixel_size^2 / wavelength``; for even ``N`` and equality it is
    ``fresnel``. ``distance`` is positive; ``.H`` goes back. Other arguments and errors are those of ``angular_spectrum``.
    Source: Goodman, chapter 4.
    """
    distance = real(distance)
    require(distance, "distance", positive=True, shape=())
    wavelength, pixel_size = _lengths(shape, wavelength, pixel_size)
    before, after = _chirps(tuple(shape), wavelength, distance, pixel_size)
    return PhaseScreen(after, shape) @ FourierTransform(shape, centred=True) @ PhaseScreen(before, shape)


@functools.partial(jax.jit, static_argnums=0)
def _chirps(shape: tuple[int, ...], wavelength: Array, distance: Array, pixel_size: Array) -> tuple[Array, Array]:
    """Quadratic phases before and after the transform of ``fresnel_transform``."""
    rows, columns = ((jnp.arange(n) - n // 2).astype(wavelength.dtype) for n in shape[:2])
    y, x = (rows * pixel_size[0])[:, None, None], (columns * pixel_size[1])[None, :, None]
    fy, fx = y / (shape[0] * pixel_size[0] ** 2), x / (shape[1] * pixel_size[1] ** 2)
    before = jnp.pi * (y**2 + x**2) / (wavelength * distance)
    return before, jnp.pi * (fy**2 + fx**2) * (wavelength * distance) - jnp.pi / 2


def object_pixel_size(wavelength: Any, distance: Any, detector_pixel_size: Any, num_pixels: Any) -> Any:
    """``wavelength distance / (num_pixels detector_pixel_size)``: the pixel on the other side of a far-field transform."""
    return wavelength * distance / (num_pixels * detector_pixel_size)


def _cis(phase: Array) -> Array:
    return jax.lax.complex(jnp.cos(phase), jnp.sin(phase))


def _broadcastable(array: Any, shape: tuple[int, ...], name: str) -> Array:
    array = real(np.asarray(array) if isinstance(array, list) else array)
    fits = jnp.ndim(array) == len(shape) and all(m in (1, n) for m, n in zip(array.shape, shape, strict=True))
    if not fits or jnp.iscomplexobj(array):
        raise ValueError(f"{name}: expected a real array that broadcasts to {shape}, got {array.dtype}{array.shape}")
    return array


def _lengths(shape: tuple[int, ...], wavelength: Any, pixel_size: Any) -> tuple[Array, Array]:
    """Wavelengths ``(c,)`` and two pixel sizes as arrays."""
    if len(shape) != 3:
        raise ValueError(f"shape: expected (H, W, C), got {shape}")
    wavelength, pixel_size = jnp.asarray(real(wavelength)), jnp.asarray(real(pixel_size))
    require(wavelength, "wavelength", positive=True)
    require(pixel_size, "pixel_size", positive=True)
    if wavelength.shape not in ((), (1,), (shape[2],)):
        raise ValueError(f"wavelength: expected a scalar or {shape[2]} values, got shape {wavelength.shape}")
    if pixel_size.shape not in ((), (2,)):
        raise ValueError(f"pixel_size: expected a scalar or two values, got shape {pixel_size.shape}")
    return jnp.atleast_1d(wavelength), jnp.broadcast_to(pixel_size, (2,))


def _direction_sines(shape: tuple[int, ...], wavelength: Array, pixel_size: Array) -> tuple[Array, Array]:
    """``wavelength f`` along both axes, of shapes (H, 1, c) and (1, W, c)."""
    sy = wavelength * (jnp.fft.fftfreq(shape[0]) / pixel_size[0])[:, None, None]
    sx = wavelength * (jnp.fft.fftfreq(shape[1]) / pixel_size[1])[None, :, None]
    return sy, sx
