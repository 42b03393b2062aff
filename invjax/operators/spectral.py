"""Operators across channels: colour to grey, unmixing, colour filter arrays, pan-sharpening, snapshot spectral imaging."""

from __future__ import annotations

from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..types import real, squared
from .base import LinearOperator
from .basic import Mask
from .resample import downsampling
from .spectrum import Pixel, Spectrum, promoted
from .stack import stack
from .structure import at_precision_of, conform, floating, is_complex, structure

Pattern = Literal["RGGB", "BGGR", "GRBG", "GBRG"]
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luminance of ITU-R BT.601."""


class ChannelMatrix(LinearOperator):
    """``y = M x`` in every pixel: ``(H, W, C) -> (H, W, K)`` for ``M`` of shape ``(K, C)`` (linear unmixing, colour conversion).

    Norm, pseudo-inverse and prox are those of the small matrix. Raises ``ValueError`` when ``M`` is not a matrix with a
    column per channel, or is complex for real images.
    """

    matrix: Array = eqx.field(converter=real)
    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)

    def __init__(self, matrix: Any, shape: tuple[int, ...], *, complex: bool = False):
        self.matrix = floating(matrix)
        self.in_structure = structure(shape, complex)
        if jnp.ndim(self.matrix) != 2 or self.matrix.shape[1] != shape[-1]:
            raise ValueError(f"matrix: expected a matrix with {shape[-1]} columns, got shape {jnp.shape(self.matrix)}")
        if is_complex(self.matrix) and not complex:
            raise ValueError("matrix: expected a real matrix for real images (or complex=True), got a complex one")

    @property
    def out_structure(self):
        return structure((*self.in_structure.shape[:-1], self.matrix.shape[0]), is_complex(self.in_structure))

    def _at(self, x: Array) -> Array:
        return at_precision_of(x, self.matrix).astype(x.dtype)

    def apply(self, x):
        return x @ self._at(x).T

    def adjoint(self, y):
        return y @ jnp.conj(self._at(y))

    def push_spectrum(self, inner: Spectrum) -> Spectrum | None:
        if self.matrix.shape[0] == 1 and inner.left == inner.right == Pixel():
            values = jnp.broadcast_to(inner.values, self.in_structure.shape)
            weighted = jnp.matmul(*promoted(values, squared(self.matrix[0])))
            return Spectrum(weighted[..., None], Pixel(), Pixel())
        return super().push_spectrum(inner)

    @property
    def cogram_spectrum(self):
        if self.matrix.shape[0] > 1:
            return None
        return Spectrum(jnp.sum(squared(self.matrix))[None, None, None], Pixel(), Pixel())

    def norm(self):
        return jax.lax.stop_gradient(jnp.linalg.norm(self.matrix, 2))

    def pinv(self, y):
        y = conform(y, self.out_structure, "y")
        return y @ jnp.linalg.pinv(self._at(y)).T

    def shifted_solve(self, rhs, step_size):
        M = self._at(rhs)
        inside = jnp.eye(M.shape[1], dtype=M.dtype) + jnp.asarray(step_size, M.dtype) * (M.conj().T @ M)
        pixels = rhs.reshape(-1, rhs.shape[-1])
        return jnp.linalg.solve(inside, pixels.T).T.reshape(rhs.shape)


def decolorise(shape: tuple[int, ...], weights: Any = LUMINANCE) -> ChannelMatrix:
    """``y = sum_c w_c x_c``: ``(H, W, C) -> (H, W, 1)``; the default weights give ``|A|^2 = 0.447``."""
    return ChannelMatrix(floating(weights)[None], shape)


def bayer_mask(sizes: tuple[int, int], pattern: Pattern = "RGGB") -> np.ndarray:
    """Colour filter array ``(H, W, 3)``: 1 where a pixel sees that colour. Raises ``ValueError`` for another pattern."""
    if pattern not in get_args(Pattern):
        raise ValueError(f"pattern: expected one of {get_args(Pattern)}, got {pattern!r}")
    rows, columns = np.meshgrid(np.arange(sizes[0]) % 2, np.arange(sizes[1]) % 2, indexing="ij")
    colour = np.array(["RGB".index(c) for c in pattern])[2 * rows + columns]
    return (colour[..., None] == np.arange(3)).astype(np.float32)


def demosaicing(shape: tuple[int, int, int], pattern: Pattern = "RGGB", *, packed: bool = False) -> LinearOperator:
    """A colour filter array on images ``(H, W, 3)``: the two other colours of a pixel are zero.

    ``packed=True`` gives the raw image ``(H, W, 1)`` of the sensor. Either way ``A A^H`` is a projection or the identity, so
    ``|A| = 1``, ``A^+ = A^H`` and the prox is closed form. Raises ``ValueError`` unless there are three channels.
    """
    if len(shape) != 3 or shape[-1] != 3:
        raise ValueError(f"shape: expected (H, W, 3), got {shape}")
    mask = Mask(bayer_mask(shape[:2], pattern), shape)
    return ChannelMatrix(np.ones((1, 3), np.float32), shape) @ mask if packed else mask


def pansharpening(shape: tuple[int, ...], factor: int, response: Any, kernel: Any = "gaussian") -> LinearOperator:
    """``x -> (S (h * x), sum_c r_c x_c)``: a multispectral image of low resolution and a panchromatic one of full resolution.

    ``response`` holds the weight of each channel in the panchromatic image; ``kernel`` is that of ``downsampling``.
    """
    return stack([downsampling(shape, factor, kernel), decolorise(shape, response)])


class SnapshotSpectral(LinearOperator):
    """Coded-aperture snapshot spectral imaging, single disperser: ``y[h, w] = sum_c m[h, w - c] x[h, w - c, c]``.

    Channel c of ``(H, W, C)`` passes the coded aperture ``mask`` ``(H, W, 1)`` (or one per channel ``(H, W, C)``), is sheared by
    c pixels and added up on the sensor ``(H, W + C - 1, 1)``. Every voxel meets one pixel of the sensor, so ``A A^H`` is diagonal
    and the prox closed form; ``|A|^2 <= C max |m|^2``. Raises ``ValueError`` for a mask of another shape. Source: Wagadarikar,
    John, Willett and Brady (2008), equation 8.
    """

    mask: Array = eqx.field(converter=real)
    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)

    def __init__(self, mask: Any, shape: tuple[int, int, int]):
        self.in_structure = structure(shape)
        self.mask = floating(mask)
        if len(shape) != 3 or self.mask.shape not in ((*shape[:2], 1), shape):
            raise ValueError(f"mask: expected shape {(*shape[:2], 1)} or {shape}, got {self.mask.shape}")

    @property
    def out_structure(self):
        rows, columns, channels = self.in_structure.shape
        return structure((rows, columns + channels - 1, 1))

    def apply(self, x):
        return self._sheared(at_precision_of(x, self.mask) * x)

    def _sheared(self, x: Array) -> Array:
        channels = x.shape[-1]
        parts = [jnp.pad(x[..., c], ((0, 0), (c, channels - 1 - c))) for c in range(channels)]
        return sum(parts[1:], parts[0])[..., None]

    @property
    def cogram_spectrum(self):
        squares = jnp.broadcast_to(squared(self.mask), self.in_structure.shape)
        return Spectrum(self._sheared(squares), Pixel(), Pixel())
