"""Antialiased resizing to any size, as MATLAB's ``imresize`` does it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .base import LinearOperator
from .kernels import keys_cubic, triangle
from .spectrum import Cosine, Spectrum
from .structure import structure

Interpolation = Literal["bicubic", "bilinear", "box", "lanczos"]


class Resize(LinearOperator):
    """Interpolate images ``(H, W, C)`` (volumes ``(D, H, W, C)``) on a grid of ``out_sizes`` over the same field of view.

    Output pixel ``i`` sits at ``u = (i + 1/2) / s - 1/2`` with ``s = out / in``; it is ``sum_j k(u - j) x_j / sum_j k(u - j)``.
    With ``antialias`` the kernel of an axis that shrinks is ``k(s v)``. Beyond the border the image is reflected, the edge
    pixel repeated. ``kernel``: "bicubic" (Keys 1981, a = -0.5), "bilinear", "box", "lanczos" (three lobes).

    When every axis shrinks by a whole factor, or every axis grows by one, the cosine transform diagonalises ``A A^H``
    (``A^H A``) and norm, pseudo-inverse and prox are closed form. Raises ``ValueError`` for another kernel or number of axes.
    """

    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    out_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    kernel: Interpolation = eqx.field(static=True)
    antialias: bool = eqx.field(static=True)

    def __init__(
        self,
        shape: tuple[int, ...],
        out_sizes: tuple[int, ...],
        kernel: Interpolation = "bicubic",
        *,
        antialias: bool = True,
        complex: bool = False,
    ):
        if kernel not in get_args(Interpolation):
            raise ValueError(f"kernel: expected one of {get_args(Interpolation)}, got {kernel!r}")
        if len(out_sizes) != len(shape) - 1:
            raise ValueError(f"out_sizes: expected {len(shape) - 1} sizes for shape {shape}, got {out_sizes}")
        self.in_structure = structure(shape, complex)
        self.out_structure = structure((*out_sizes, shape[-1]), complex)
        self.kernel, self.antialias = kernel, antialias

    @property
    def _sizes(self) -> tuple[tuple[int, int], ...]:
        """Sizes of every spatial axis before and after."""
        return tuple(zip(self.in_structure.shape[:-1], self.out_structure.shape[:-1], strict=True))

    def apply(self, x):
        for axis, (before, after) in enumerate(self._sizes):
            x = _along(x, axis, *_rows(before, after, self.kernel, self.antialias))
        return x

    def adjoint(self, y):
        for axis, (before, after) in enumerate(self._sizes):
            y = _along(y, axis, *_columns(before, after, self.kernel, self.antialias))
        return y

    @property
    def gram_spectrum(self):
        return self._diagonal() if all(after % before == 0 for before, after in self._sizes) else None

    @property
    def cogram_spectrum(self):
        return self._diagonal() if all(before % after == 0 for before, after in self._sizes) else None

    def _diagonal(self) -> Spectrum:
        values = jnp.ones((1,) * (len(self._sizes) + 1))
        for axis, (before, after) in enumerate(self._sizes):
            own = jnp.asarray(_cosine_values(before, after, self.kernel, self.antialias), values.dtype)
            values = values * jnp.expand_dims(own, [a for a in range(values.ndim) if a != axis])
        basis = Cosine(tuple(range(len(self._sizes))))
        return Spectrum(values, basis, basis)


def _along(x: Array, axis: int, index: np.ndarray, weights: np.ndarray) -> Array:
    """``sum_p weights[i, p] x[index[i, p]]`` along an axis: a gather of whole rows, fused with the sum."""
    x = jnp.moveaxis(x, axis, 0)
    terms = [
        jnp.asarray(weights[:, p], x.real.dtype).reshape(-1, *(1,) * (x.ndim - 1)).astype(x.dtype) * x[index[:, p]]
        for p in range(index.shape[1])
    ]
    return jnp.moveaxis(functools.reduce(jnp.add, terms), 0, axis)


@functools.lru_cache(maxsize=32)
def _rows(before: int, after: int, kernel: Interpolation, antialias: bool) -> tuple[np.ndarray, np.ndarray]:
    """For every output pixel the input pixels that it reads, and their weights: two arrays ``(after, taps)``."""
    ratio = after / before
    reach, profile = _PROFILES[kernel]
    stretch = min(ratio, 1.0) if antialias else 1.0
    centres = (np.arange(after) + 0.5) / ratio - 0.5
    taps = int(np.ceil(2 * reach / stretch)) + 1
    index = np.floor(centres - reach / stretch).astype(int)[:, None] + 1 + np.arange(-1, taps)
    weights = profile(stretch * (centres[:, None] - index))
    weights = weights / weights.sum(1, keepdims=True)
    index = index % (2 * before)
    kept = np.any(weights != 0, axis=0)
    return np.where(index < before, index, 2 * before - 1 - index)[:, kept], weights[:, kept]


@functools.lru_cache(maxsize=32)
def _columns(before: int, after: int, kernel: Interpolation, antialias: bool) -> tuple[np.ndarray, np.ndarray]:
    """For every input pixel the output pixels that read it, and the weights: the same table of the transposed matrix."""
    matrix = _matrix(before, after, kernel, antialias).T
    most = int(np.count_nonzero(matrix, axis=1).max())
    index = np.sort(np.argsort(matrix == 0, axis=1, kind="stable")[:, :most], axis=1)
    return index, np.take_along_axis(matrix, index, axis=1)


def _matrix(before: int, after: int, kernel: Interpolation, antialias: bool) -> np.ndarray:
    index, weights = _rows(before, after, kernel, antialias)
    matrix = np.zeros((after, before))
    np.add.at(matrix, (np.arange(after)[:, None], index), weights)
    return matrix


@functools.lru_cache(maxsize=32)
def _cosine_values(before: int, after: int, kernel: Interpolation, antialias: bool) -> np.ndarray:
    """Eigenvalues of ``A A^T`` or ``A^T A``, the smaller one, in the cosine basis.

    With a whole factor ``A`` is a convolution of the reflected image and a decimation (or their transpose).
    """
    matrix = _matrix(before, after, kernel, antialias)
    matrix = matrix if after <= before else matrix.T
    n = len(matrix)
    reflected = np.fft.rfft(np.concatenate([matrix, matrix[::-1]]), axis=0)[
        :n
    ]  # twice the cosine transform, up to phases
    energies = np.sum(np.abs(reflected) ** 2, axis=1) / (2 * n)
    energies[0] /= 2
    return energies


_PROFILES: dict[str, tuple[float, Callable[[np.ndarray], np.ndarray]]] = {
    "bicubic": (2.0, keys_cubic),
    "bilinear": (1.0, triangle),
    "box": (0.5, lambda u: ((u >= -0.5) & (u < 0.5)).astype(float)),
    "lanczos": (3.0, lambda u: np.where(np.abs(u) < 3, np.sinc(u) * np.sinc(u / 3), 0)),
}
