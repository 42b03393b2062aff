"""Unitary transforms: Fourier and cosine."""

from __future__ import annotations

import equinox as eqx
import jax

from .spectrum import Cosine, Fourier
from .structure import structure
from .transform import UnitaryTransform


class FourierTransform(UnitaryTransform):
    """Orthonormal DFT over the spatial axes of complex images ``(H, W, C)`` (volumes ``(D, H, W, C)``): ``F^H = F^(-1)``.

    ``centred=True`` (the convention of MRI) puts the zero frequency, and the origin of the image, at index ``n // 2``;
    otherwise both are at index 0. ``axes`` are the transformed axes (default: all but the last); the others (coils, frames)
    are independent images. Real images are cast to complex. Raises ``ValueError`` for axes that are not in the image.
    """

    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    centred: bool = eqx.field(static=True)
    axes: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, shape: tuple[int, ...], *, centred: bool = False, axes: tuple[int, ...] | None = None):
        if len(shape) < 2:
            raise ValueError(f"shape: expected at least one spatial axis and channels, got {shape}")
        self.in_structure = structure(shape, complex=True)
        self.centred = centred
        self.axes = tuple(range(len(shape) - 1)) if axes is None else tuple(axes)
        if len(set(self.axes)) != len(self.axes) or any(a not in range(len(shape) - 1) for a in self.axes):
            raise ValueError(f"axes: expected distinct axes from 0 to {len(shape) - 2}, got {axes}")

    @property
    def basis(self) -> Fourier:
        """The Fourier basis of the transform."""
        return Fourier(self.axes, self.centred)


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
