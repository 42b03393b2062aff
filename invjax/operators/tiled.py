"""A blur with one kernel per tile of the image, computed tile by tile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..types import real
from .base import LinearOperator
from .blur import PAD_MODE, Boundary, fast_size
from .structure import at_precision_of, is_complex, structure


def partition_windows(size: int, tiles: int, overlap: int) -> np.ndarray:
    """Windows ``(tiles, size)`` along an axis that sum to one in every pixel.

    Window ``i`` rises over ``overlap`` pixels from ``i s`` and falls over ``overlap`` pixels from ``(i + 1) s``, with
    ``s = ceil((size - overlap) / tiles)``, as a squared sine; the first and the last are flat to the border. Raises
    ``ValueError`` when more than two windows would overlap, or one would be empty.
    """
    stride = tile_stride(size, tiles, overlap)
    rise = np.sin(np.pi * (np.arange(overlap) + 0.5) / (2 * overlap)) ** 2 if overlap else np.zeros(0)
    windows = np.zeros((tiles, tiles * stride + overlap))
    for i in range(tiles):
        start, end = i * stride, (i + 1) * stride
        windows[i, start : end + overlap] = 1
        if i > 0:
            windows[i, start : start + overlap] = rise
        if i < tiles - 1:
            windows[i, end : end + overlap] = 1 - rise
    return windows[:, :size]


def tile_stride(size: int, tiles: int, overlap: int) -> int:
    """Distance between the starts of neighbouring tiles: see ``partition_windows``."""
    stride = -(-(size - overlap) // tiles) if tiles > 0 else 0
    if overlap < 0 or stride < max(overlap, 1) or (tiles - 1) * stride >= size:
        raise ValueError(
            f"tiles: expected tiles at least twice the overlap wide on {size} pixels, got {tiles} with overlap {overlap}"
        )
    return stride


class TiledBlur(LinearOperator):
    """``y = sum_t h_t * (w_t x)``: one kernel per tile, blended by windows ``w_t`` that sum to one (``partition_windows``).

    ``kernels`` are ``(T1, T2, h, w)`` or ``(T1, T2, h, w, C)`` for images, ``(T1, T2, T3, d, h, w[, C])`` for volumes;
    ``overlap`` is in pixels, one or one per axis. ``boundary`` is that of ``Blur``; beyond the border the outermost tiles go
    on. Each tile is convolved on its own small grid, so memory and time do not grow with the number of tiles as long as these
    are larger than the kernel. Raises ``ValueError`` when the kernels do not fit or the tiles are too small.

    Reference: Hirsch, Sra, Schölkopf and Harmeling (2010), Efficient filter flow for space-variant multiframe blind
    deconvolution.
    """

    transfer: Array
    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    tiles: tuple[int, ...] = eqx.field(static=True)
    kernel_shape: tuple[int, ...] = eqx.field(static=True)
    overlap: tuple[int, ...] = eqx.field(static=True)
    boundary: Boundary = eqx.field(static=True)

    def __init__(
        self,
        kernels: Any,
        shape: tuple[int, ...],
        overlap: int | tuple[int, ...],
        boundary: Boundary = "valid",
        *,
        complex: bool = False,
    ):
        kernels, dims = real(kernels), len(shape) - 1
        if boundary not in get_args(Boundary):
            raise ValueError(f"boundary: expected one of {get_args(Boundary)}, got {boundary!r}")
        if kernels.ndim not in (2 * dims, 2 * dims + 1):
            raise ValueError(
                f"kernels: expected {2 * dims} or {2 * dims + 1} axes for shape {shape}, got {kernels.shape}"
            )
        kernels = kernels if kernels.ndim == 2 * dims + 1 else kernels[..., None]
        self.in_structure, self.boundary = structure(shape, complex), boundary
        self.overlap = (overlap,) * dims if isinstance(overlap, int) else tuple(overlap)
        if len(self.overlap) != dims:
            raise ValueError(f"overlap: expected an integer or {dims} of them, got {overlap}")
        self.tiles, self.kernel_shape = kernels.shape[:dims], kernels.shape[dims:-1]
        if kernels.shape[-1] not in (1, shape[-1]):
            raise ValueError(f"kernels: expected 1 or {shape[-1]} channels, got {kernels.shape[-1]}")
        if any(k > n for k, n in zip(self.kernel_shape, shape, strict=False)):
            raise ValueError(f"kernels: expected at most the image size {shape[:-1]}, got {self.kernel_shape}")
        if is_complex(kernels) and not complex:
            raise ValueError("kernels: expected real kernels for a real image (or complex=True), got complex ones")
        # (T1, T2, h, w, C) -> (T1, h, T2, w, C), the order that cutting axis by axis gives
        order = [a for d in range(dims) for a in (d, dims + d)]
        self.transfer = self._forward(jnp.transpose(kernels, (*order, 2 * dims)))

    @property
    def _strides(self) -> tuple[int, ...]:
        sizes = self.in_structure.shape[:-1]
        return tuple(tile_stride(*axis) for axis in zip(sizes, self.tiles, self.overlap, strict=True))

    @property
    def _reach(self) -> tuple[tuple[int, int], ...]:
        """Pixels by which the image is extended on both sides of each axis."""
        if self.boundary == "valid":
            return ((0, 0),) * len(self.kernel_shape)
        return tuple(((k - 1) // 2, k // 2) for k in self.kernel_shape)

    @property
    def _tile_sizes(self) -> tuple[int, ...]:
        """Size of a tile with its overlap, and with the extension that the outermost ones have."""
        axes = zip(self._strides, self.overlap, self._reach, strict=True)
        return tuple(stride + overlap + sum(reach) for stride, overlap, reach in axes)

    @property
    def _grid(self) -> tuple[int, ...]:
        """Size of the periodic grid on which a tile is convolved without wrapping."""
        return tuple(fast_size(n + k - 1) for n, k in zip(self._tile_sizes, self.kernel_shape, strict=True))

    @property
    def out_structure(self):
        if self.boundary != "valid":
            return self.in_structure
        *sizes, channels = self.in_structure.shape
        sizes = [n - k + 1 for n, k in zip(sizes, self.kernel_shape, strict=True)]
        return structure((*sizes, channels), is_complex(self.in_structure))

    def apply(self, x):
        modes = PAD_MODE | {"circular": "wrap", "valid": "constant"}
        tiles = jnp.pad(x, [*self._reach, (0, 0)], mode=modes[self.boundary])
        extended = tiles.shape
        for d, (stride, count, length) in enumerate(zip(self._strides, self.tiles, self._tile_sizes, strict=True)):
            tiles = _cut(tiles, 2 * d, stride, count, length)
            window = jnp.asarray(self._window(d), x.real.dtype).reshape(
                [n if a in (2 * d, 2 * d + 1) else 1 for a, n in enumerate(tiles.shape)]
            )
            tiles = window.astype(x.dtype) * tiles
        coefficients = self._forward(tiles)
        tiles = self._inverse(at_precision_of(x, self.transfer).astype(coefficients.dtype) * coefficients)
        return self._join(tiles, extended)

    def _window(self, d: int) -> np.ndarray:
        """The windows of axis ``d`` on their own tiles, those at the border extended over it."""
        n, count, stride, length = self.in_structure.shape[d], self.tiles[d], self._strides[d], self._tile_sizes[d]
        full = np.pad(partition_windows(n, count, self.overlap[d]), [(0, 0), self._reach[d]], mode="edge")
        full = np.pad(full, [(0, 0), (0, length)])
        return np.stack([full[i, i * stride : i * stride + length] for i in range(count)])

    def _join(self, tiles: Array, extended: tuple[int, ...]) -> Array:
        """Add the overlapping tiles up, and keep what has all its inputs inside the extended image."""
        for d in reversed(range(len(self.tiles))):
            axis, k = 2 * d, self.kernel_shape[d]
            length = self._tile_sizes[d] + k - 1
            tiles = jax.lax.slice_in_dim(tiles, 0, length, axis=axis + 1)
            tiles = _overlap_add(tiles, axis, self._strides[d], extended[d] + k - 1)
            tiles = jax.lax.slice_in_dim(tiles, k - 1, extended[d], axis=axis)
        return tiles

    def _forward(self, tiles: Array) -> Array:
        transform: Callable = jnp.fft.fftn if is_complex(self.in_structure) else jnp.fft.rfftn
        return transform(tiles, s=self._grid, axes=[2 * d + 1 for d in range(len(self.tiles))])

    def _inverse(self, coefficients: Array) -> Array:
        transform: Callable = jnp.fft.ifftn if is_complex(self.in_structure) else jnp.fft.irfftn
        return transform(coefficients, s=self._grid, axes=[2 * d + 1 for d in range(len(self.tiles))])


def _cut(x: Array, axis: int, stride: int, count: int, length: int) -> Array:
    """Pieces ``x[i stride : i stride + length]`` of an axis, which becomes two: ``(count, length)``; zeros beyond the end.

    Slices and reshapes only: a gather would become a scatter, which is slow, in the adjoint.
    """
    parts = -(-length // stride)
    blocks = count + parts - 1
    rest = [(0, blocks * stride - n if a == axis else 0) for a, n in enumerate(x.shape)]
    x = jnp.pad(x, rest).reshape(*x.shape[:axis], blocks, stride, *x.shape[axis + 1 :])
    pieces = [jax.lax.slice_in_dim(x, j, j + count, axis=axis) for j in range(parts)]
    return jax.lax.slice_in_dim(jnp.concatenate(pieces, axis + 1), 0, length, axis=axis + 1)


def _overlap_add(tiles: Array, axis: int, stride: int, size: int) -> Array:
    """The transpose of ``_cut`` for an axis of ``size`` pixels."""
    count, length = tiles.shape[axis : axis + 2]
    whole = jax.ShapeDtypeStruct((*tiles.shape[:axis], size, *tiles.shape[axis + 2 :]), tiles.dtype)
    return jax.linear_transpose(lambda x: _cut(x, axis, stride, count, length), whole)(tiles)[0]
