"""Orthonormal wavelet transforms (Haar, Daubechies, symlets, coiflets), periodic, in any number of dimensions."""

from __future__ import annotations

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .structure import structure
from .transform import UnitaryTransform


@functools.lru_cache(maxsize=64)
def _filters(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Decomposition low-pass and high-pass filters, from the tables of PyWavelets."""
    import pywt

    if name not in pywt.wavelist(kind="discrete") or not pywt.Wavelet(name).orthogonal:
        raise ValueError(f"wavelet: expected an orthogonal wavelet such as 'haar', 'db4' or 'sym8', got {name!r}")
    wavelet = pywt.Wavelet(name)
    return tuple(wavelet.dec_lo), tuple(wavelet.dec_hi)


@dataclasses.dataclass(frozen=True)
class WaveletBasis:
    """Wavelet coefficients over the leading ``ndim`` axes, packed in an array of the image's shape (Mallat's layout).

    The coarsest approximation is the leading corner; details follow, level by level. Same coefficients as PyWavelets'
    ``mode="periodization"``.
    """

    name: str
    level: int
    ndim: int

    def forward(self, x: Array) -> Array:
        for j in range(self.level):
            corner = tuple(slice(0, x.shape[a] >> j) for a in range(self.ndim))
            part = x[corner]
            for axis in range(self.ndim):
                part = _analyse(part, self.name, axis)
            x = x.at[corner].set(part)
        return x

    def inverse(self, coefficients: Array) -> Array:
        x = coefficients
        for j in reversed(range(self.level)):
            corner = tuple(slice(0, x.shape[a] >> j) for a in range(self.ndim))
            part = x[corner]
            for axis in range(self.ndim):
                part = _synthesise(part, self.name, axis)
            x = x.at[corner].set(part)
        return x


def _analyse(x: Array, name: str, axis: int) -> Array:
    """One level along one axis: approximation then detail, each ``c[k] = sum_m f[m] x[2 k + L/2 - m]`` (periodic)."""
    x = jnp.moveaxis(x, axis, 0)
    even, odd = x[0::2], x[1::2]
    halves = [_polyphase(even, odd, np.asarray(f)) for f in _filters(name)]
    return jnp.moveaxis(jnp.concatenate(halves), 0, axis)


def _polyphase(even: Array, odd: Array, f: np.ndarray) -> Array:
    out = jnp.zeros_like(even)
    for m, weight in enumerate(f):
        shift = len(f) // 2 - m
        phase = even if shift % 2 == 0 else odd
        out = out + float(weight) * jnp.roll(phase, -(shift // 2), 0)
    return out


def _synthesise(c: Array, name: str, axis: int) -> Array:
    """Transpose of ``_analyse``, which is its inverse."""
    c = jnp.moveaxis(c, axis, 0)
    half = c.shape[0] // 2
    even, odd = jnp.zeros_like(c[:half]), jnp.zeros_like(c[:half])
    for part, f in zip((c[:half], c[half:]), _filters(name), strict=True):
        for m, weight in enumerate(f):
            shift = len(f) // 2 - m
            moved = float(weight) * jnp.roll(part, shift // 2, 0)
            even, odd = (even + moved, odd) if shift % 2 == 0 else (even, odd + moved)
    return jnp.moveaxis(jnp.stack([even, odd], 1).reshape(c.shape), 0, axis)


class Wavelet(UnitaryTransform):
    """Orthonormal wavelet transform ``W`` of ``(H, W, C)`` or ``(D, H, W, C)``: ``W^H W = W W^H = I``.

    ``wavelet`` is any orthogonal wavelet of PyWavelets; ``level`` defaults to the largest (up to 4) for which all sizes are
    divisible by ``2^level``. Coefficients are packed in an array of the image's shape (see ``WaveletBasis``); ``is_detail``
    marks the detail coefficients. Raises ``ValueError`` for sizes not divisible by ``2^level``.
    """

    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    wavelet: str = eqx.field(static=True)
    level: int = eqx.field(static=True)

    def __init__(
        self, shape: tuple[int, ...], wavelet: str = "db4", level: int | None = None, *, complex: bool = False
    ):
        self.in_structure = structure(shape, complex)
        self.wavelet = wavelet
        _filters(wavelet)
        sizes = shape[:-1]
        possible = max((j for j in range(64) if all(n % 2**j == 0 for n in sizes)), default=0)
        self.level = min(possible, 4) if level is None else level
        if not 1 <= self.level <= possible:
            raise ValueError(
                f"level: expected 1 to {possible} for spatial sizes {sizes} (divisible by 2^level), got {self.level}"
            )

    @property
    def basis(self) -> WaveletBasis:
        """The wavelet basis."""
        return WaveletBasis(self.wavelet, self.level, len(self.in_structure.shape) - 1)

    @property
    def is_detail(self) -> np.ndarray:
        """Boolean array of the spatial shape, with a channel axis of one: False in the coarsest approximation."""
        sizes = self.in_structure.shape[:-1]
        mask = np.ones((*sizes, 1), bool)
        mask[tuple(slice(0, n >> self.level) for n in sizes)] = False
        return mask
