"""Copies of one image, each multiplied by its own map: coil sensitivities, a sequence of masks, coded apertures."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..types import real, squared
from .base import LinearOperator
from .spectrum import Pixel, Spectrum
from .structure import at_precision_of, floating, is_complex, structure, sum_leading


class Modulation(LinearOperator):
    """``y_n = m_n x`` for maps ``(N, *shape)``; ``A^H A = sum_n |m_n|^2``, a pixelwise product.

    ``maps`` are bool, real, or complex for complex images; their axes after the first broadcast to ``shape`` (``(N, H, W, 1)``
    for colour). So ``|A|^2 = max sum_n |m_n|^2``, and pseudo-inverse and prox are closed form. Raises ``ValueError`` for
    maps that do not broadcast, or complex maps of real images.
    """

    maps: Array = eqx.field(converter=real)
    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)

    def __init__(self, maps: Any, shape: tuple[int, ...], *, complex: bool = False):
        self.maps = maps = floating(maps)
        self.in_structure = structure(shape, complex)
        axes = zip(maps.shape[1:], shape, strict=False)
        if maps.ndim != len(shape) + 1 or any(m not in (1, n) for m, n in axes):
            raise ValueError(f"maps: expected a shape (N, ...) that broadcasts to (N, *{shape}), got {maps.shape}")
        if is_complex(self.maps) and not complex:
            raise ValueError("maps: expected real maps for real images (or complex=True), got complex ones")

    @property
    def out_structure(self):
        return structure((self.maps.shape[0], *self.in_structure.shape), is_complex(self.in_structure))

    def _at(self, x: Array) -> Array:
        return at_precision_of(x, self.maps).astype(x.dtype)

    def apply(self, x):
        return self._at(x) * x[None]

    def adjoint(self, y):
        return sum_leading(jnp.conj(self._at(y)) * y)

    @property
    def gram_spectrum(self):
        return Spectrum(sum_leading(squared(self.maps)), Pixel(), Pixel())
