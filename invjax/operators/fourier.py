"""Unitary Fourier transforms and single-coil Cartesian MRI."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .base import LinearOperator
from .basic import Mask
from .spectrum import Cosine, Fourier
from .structure import structure
from .transform import UnitaryTransform


class FourierTransform(UnitaryTransform):
    """Orthonormal DFT over the spatial axes of complex images ``(H, W, C)`` (volumes ``(D, H, W, C)``): ``F^H = F^(-1)``.

    ``centred=True`` (the convention of MRI) puts the zero frequency, and the origin of the image, at index ``n // 2``;
    otherwise both are at index 0. Real images are cast to complex.
    """

    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    centred: bool = eqx.field(static=True)

    def __init__(self, shape: tuple[int, ...], *, centred: bool = False):
        if len(shape) < 2:
            raise ValueError(f"shape: expected at least one spatial axis and channels, got {shape}")
        self.in_structure = structure(shape, complex=True)
        self.centred = centred

    @property
    def basis(self) -> Fourier:
        """The Fourier basis of the transform."""
        return Fourier(tuple(range(len(self.in_structure.shape) - 1)), self.centred)


class CosineTransform(UnitaryTransform):
    """Orthonormal DCT-II over the spatial axes of images ``(H, W, C)`` (volumes ``(D, H, W, C)``): ``A^H = A^(-1)``."""

    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)

    def __init__(self, shape: tuple[int, ...], *, complex: bool = False):
        if len(shape) < 2:
            raise ValueError(f"shape: expected at least one spatial axis and channels, got {shape}")
        self.in_structure = structure(shape, complex)

    @property
    def basis(self) -> Cosine:
        """The cosine basis of the transform."""
        return Cosine(tuple(range(len(self.in_structure.shape) - 1)))


def single_coil_mri(mask: Any, shape: tuple[int, ...], *, centred: bool = True) -> LinearOperator:
    """``y = M F x``: single-coil Cartesian MRI. ``mask`` broadcasts to ``shape`` and marks the k-space samples taken.

    ``|A| = 1``, ``A^+ = A^H`` and the prox is diagonal in k-space. k-space has the layout ``(H, W, C)`` with the zero
    frequency at index ``n // 2`` (``centred=False``: at index 0).
    """
    mask = jnp.asarray(mask)
    mask = mask.reshape(*mask.shape, *(1,) * (len(shape) - mask.ndim))
    return Mask(mask, shape, complex=True) @ FourierTransform(shape, centred=centred)
