"""Cartesian magnetic resonance imaging: one coil, several coils, dynamic and sequential acquisitions.

All are products of ``Mask``, ``FourierTransform`` and ``Modulation``. k-space has the layout of the image, with the zero
frequency at index ``n // 2`` (``centred=False``: at index 0); coils are a leading axis, frames the first of a dynamic image.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from .base import LinearOperator
from .basic import Mask
from .fourier import FourierTransform
from .modulation import Modulation


def single_coil_mri(mask: Any, shape: tuple[int, ...], *, centred: bool = True) -> LinearOperator:
    """``y = M F x``: single-coil Cartesian MRI of images ``(H, W, C)`` or volumes ``(D, H, W, C)``.

    ``mask`` broadcasts to ``shape`` and marks the k-space samples taken; trailing axes may be left out. ``|A| = 1``,
    ``A^+ = A^H`` and the prox is diagonal in k-space.
    """
    return Mask(_with_axes(mask, len(shape)), shape, complex=True) @ FourierTransform(shape, centred=centred)


def multi_coil_mri(mask: Any, coil_maps: Any, shape: tuple[int, ...], *, centred: bool = True) -> LinearOperator:
    """``y_n = M F (s_n x)``: parallel Cartesian MRI, measurement ``(N, H, W, C)`` (volumes ``(N, D, H, W, C)``).

    ``mask`` broadcasts to ``shape`` (None: all of k-space), the complex ``coil_maps`` ``(N, H, W, 1)`` to ``(N, *shape)``.
    ``A^H A = sum_n conj(s_n) F^H M F s_n`` and ``|A|^2 <= max sum_n |s_n|^2``, with equality for a full mask; maps of
    root-sum-of-squares one then give ``A^H A = I``. With ``mask=None`` that spectrum is known: norm, prox and
    pseudo-inverse are closed form. Source: Pruessmann, Weiger, Scheidegger and Boesiger (1999).
    """
    return _coils(mask, coil_maps, shape, tuple(range(len(shape) - 1)), centred)


def dynamic_mri(mask: Any, shape: tuple[int, ...], coil_maps: Any = None, *, centred: bool = True) -> LinearOperator:
    """``y_t = M_t F x_t``: an image sequence ``(T, H, W, C)`` with a mask per frame, ``(T, H, W, 1)`` or broadcasting.

    ``coil_maps`` ``(N, H, W, 1)``, the same in all frames, gives ``(N, T, H, W, C)``. Volumes have one more axis. One coil:
    ``|A| = 1``, ``A^+ = A^H`` and the prox is diagonal.
    """
    axes = tuple(range(1, len(shape) - 1))
    if coil_maps is not None:
        maps = _with_axes(coil_maps, len(shape))
        return _coils(mask, maps[:, None], shape, axes, centred)
    transform = FourierTransform(shape, centred=centred, axes=axes)
    return Mask(_with_axes(mask, len(shape)), shape, complex=True) @ transform


def sequential_mri(masks: Any, shape: tuple[int, ...], *, centred: bool = True) -> LinearOperator:
    """``y_t = M_t F x``: a static image ``(H, W, C)`` whose k-space is acquired in T parts, measurement ``(T, H, W, C)``.

    ``masks`` broadcast to ``(T, *shape)``. ``A^H A = F^H (sum_t M_t) F``, so the prox is diagonal in k-space and the
    pseudo-inverse averages what was sampled more than once.
    """
    maps = _with_axes(masks, len(shape) + 1)
    return Modulation(maps, shape, complex=True) @ FourierTransform(shape, centred=centred)


def _coils(mask: Any, maps: Any, shape: tuple[int, ...], axes: tuple[int, ...], centred: bool) -> LinearOperator:
    maps = _with_axes(maps, len(shape) + 1)
    several = (maps.shape[0], *shape)
    transform = FourierTransform(several, centred=centred, axes=tuple(a + 1 for a in axes))
    spread = Modulation(maps, shape, complex=True)
    if mask is None:
        return transform @ spread
    return Mask(_with_axes(mask, len(shape))[None], several, complex=True) @ transform @ spread


def _with_axes(array: Any, ndim: int) -> Array:
    """The array with axes of size one at its end, up to ``ndim`` axes."""
    array = jnp.asarray(array)
    return array.reshape(*array.shape, *(1,) * (ndim - array.ndim))
