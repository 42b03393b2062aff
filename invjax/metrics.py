"""Measures of quality: errors, signal-to-noise ratios, structural similarity, coverage of intervals.

Every function compares one image ``x`` with ``reference`` of the same shape, real or complex, and returns a scalar at the
precision of ``x``. Nothing is clipped or rescaled. All of them work under ``jit``, ``vmap`` and ``grad``; a batch is
``jax.vmap(psnr)(batch, references)``. Integer images are refused, since ``data_range`` would be wrong for them without a word.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from .types import require


def mse(x: Inexact[Array, "*shape"], reference: Inexact[Array, "*shape"]) -> Float[Array, ""]:
    """Mean squared error ``mean |x - reference|^2``."""
    x, reference = _pair(x, reference)
    return _power(x - reference)


def nmse(x: Inexact[Array, "*shape"], reference: Inexact[Array, "*shape"]) -> Float[Array, ""]:
    """Normalised squared error ``|x - reference|^2 / |reference|^2``; infinite for a zero reference unless x is zero too."""
    x, reference = _pair(x, reference)
    return _ratio(_power(x - reference), _power(reference))


def nrmse(x: Inexact[Array, "*shape"], reference: Inexact[Array, "*shape"]) -> Float[Array, ""]:
    """Relative error ``|x - reference| / |reference|`` in Euclidean norms; its gradient at ``x = reference`` is zero."""
    x, reference = _pair(x, reference)
    return _ratio(_root(_power(x - reference)), _root(_power(reference)))


def mae(x: Inexact[Array, "*shape"], reference: Inexact[Array, "*shape"]) -> Float[Array, ""]:
    """Mean absolute error ``mean |x - reference|``."""
    x, reference = _pair(x, reference)
    return jnp.mean(jnp.abs(x - reference))


def psnr(
    x: Inexact[Array, "*shape"], reference: Inexact[Array, "*shape"], data_range: float | Array = 1.0
) -> Float[Array, ""]:
    """Peak signal-to-noise ratio ``10 log10(data_range^2 / mse)`` in dB; infinite, with zero gradient, for equal images."""
    require(data_range, "data_range", positive=True, shape=())
    x, reference = _pair(x, reference)
    error = _power(x - reference)
    return 20 * jnp.log10(jnp.asarray(data_range, error.dtype)) - _decibel(error)


def snr(x: Inexact[Array, "*shape"], reference: Inexact[Array, "*shape"]) -> Float[Array, ""]:
    """Signal-to-noise ratio ``10 log10(|reference|^2 / |x - reference|^2)`` in dB; infinite for equal images."""
    x, reference = _pair(x, reference)
    error, signal = _power(x - reference), _power(reference)
    return jnp.where(error > 0, _decibel(signal) - _decibel(error), jnp.inf)


def ssim(
    x: Float[Array, "*space C"],
    reference: Float[Array, "*space C"],
    data_range: float | Array = 1.0,
    *,
    gaussian_weights: bool = False,
    sigma: float = 1.5,
    win_size: int = 7,
    use_sample_covariance: bool = True,
) -> Float[Array, ""]:
    """Structural similarity, the mean over all full windows and channels; 1 for equal images.

    Per window, ``(2 m_x m_r + C1)(2 c_xr + C2) / ((m_x^2 + m_r^2 + C1)(v_x + v_r + C2))`` with means m, variances v,
    covariance c, C1 = (0.01 data_range)^2 and C2 = (0.03 data_range)^2 (Wang, Bovik, Sheikh and Simoncelli, IEEE Trans.
    Image Process. 13, 2004, equation 13). Values and names agree with ``skimage.metrics.structural_similarity`` with
    ``channel_axis=-1``: by default a uniform window of ``win_size`` pixels and covariances divided by N - 1; the setting
    of the paper is ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False`` (11 pixels).

    ``x`` is a real image ``(H, W, C)`` or volume ``(D, H, W, C)``. Raises ``ValueError`` for complex images (compare
    magnitudes) and for images smaller than the window.
    """
    require(data_range, "data_range", positive=True, shape=())
    x, reference = _pair(x, reference)
    if jnp.iscomplexobj(x):
        raise ValueError("x: expected real images, got complex ones; compare their magnitudes")
    window = _gaussian_window(sigma) if gaussian_weights else _uniform_window(win_size)
    if x.ndim < 2 or min(x.shape[:-1]) < len(window):
        raise ValueError(
            f"x: expected spatial axes of at least {len(window)} pixels before a channel axis, got {x.shape}"
        )
    num = len(window) ** (x.ndim - 1)
    unbias = num / (num - 1) if use_sample_covariance else 1.0
    return _ssim(x, reference, jnp.asarray(data_range, x.dtype), window, unbias)


def align_phase(x: Inexact[Array, "*shape"], reference: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """``x`` times the phase ``e^{i phi}`` (a sign, if both are real) that brings it closest to ``reference``.

    ``e^{i phi} = <x, reference> / |<x, reference>|``. Phase retrieval knows an image up to this factor: compare after alignment.
    """
    x, reference = _pair(x, reference)
    product = jnp.vdot(x, reference)
    size = _root(product.real**2 + product.imag**2)
    zero = size == 0
    return jnp.where(zero, 1, product / jnp.where(zero, 1, size)).astype(x.dtype) * x


class Coverage(NamedTuple):
    """Fraction of the values inside their intervals, and the standard error of that fraction."""

    fraction: Array
    standard_error: Array


def coverage(
    truth: Float[Array, "*space C"],
    lower: Float[Array, "*space C"],
    upper: Float[Array, "*space C"],
    *,
    tiles_per_axis: int = 8,
) -> Coverage:
    """Fraction of the values of ``truth`` in ``[lower, upper]``, with a standard error by a block jackknife.

    Neighbouring pixels err together, so the binomial standard error is far too small. Here the image is cut into
    ``tiles_per_axis`` tiles along each spatial axis (all channels of a tile together), and each tile is left out in turn
    (Kuensch, Ann. Stat. 17, 1989, with disjoint blocks). For g tiles of n_j values with fractions c_j this is, with the
    weights of Busing, Meijer and van der Leeden (Stat. Comput. 9, 1999) for unequal tiles,
    ``SE^2 = (1/g) sum_j (c_j - c)^2 n_j / (n - n_j)``. It is deterministic, and right when a tile is wider than the
    correlation of the errors; it knows nothing about the variation between images.

    Raises ``ValueError`` for unequal shapes, complex values, or fewer than two tiles.
    """
    truth, lower = _pair(truth, lower, ("truth", "lower"))
    truth, upper = _pair(truth, upper, ("truth", "upper"))
    if jnp.iscomplexobj(truth) or jnp.iscomplexobj(upper):
        raise ValueError("truth: expected real values and bounds, got complex ones")
    tiles = [min(tiles_per_axis, n) for n in truth.shape[:-1]]
    if max(tiles, default=0) < 2:
        raise ValueError(f"tiles_per_axis: expected at least two tiles of {truth.shape}, got {tiles_per_axis} per axis")
    sums = jnp.sum(((lower <= truth) & (truth <= upper)).astype(truth.dtype), axis=-1)
    counts = np.array(float(truth.shape[-1]))
    for axis, num in enumerate(tiles):
        edges = np.linspace(0, truth.shape[axis], num + 1).astype(int)
        parts = jnp.split(sums, edges[1:-1], axis)
        sums = jnp.stack([jnp.sum(part, axis) for part in parts], axis)
        counts = counts[..., None] * np.diff(edges)
    return _jackknife(sums, jnp.asarray(counts, truth.dtype))


def _jackknife(sums: Array, counts: Array) -> Coverage:
    total = jnp.sum(counts)
    fraction = jnp.sum(sums) / total
    terms = (sums / counts - fraction) ** 2 * counts / (total - counts)
    return Coverage(fraction, _root(jnp.mean(terms)))


def _pair(x: Any, reference: Any, names: tuple[str, str] = ("x", "reference")) -> tuple[Array, Array]:
    """Both images at the precision of ``x``, complex if either is; ``ValueError`` for integers or unequal shapes."""
    x, reference = jnp.asarray(x), jnp.asarray(reference)
    for image, name in ((x, names[0]), (reference, names[1])):
        if not jnp.issubdtype(image.dtype, jnp.inexact):
            raise ValueError(f"{name}: expected floating or complex values, got {image.dtype}")
    if x.shape != reference.shape or x.size == 0:
        raise ValueError(
            f"{names[1]}: expected the shape of {names[0]}, {x.shape} and not empty, got {reference.shape}"
        )
    dtype = x.dtype
    if jnp.iscomplexobj(reference) and not jnp.iscomplexobj(x):
        dtype = jnp.dtype(jnp.complex128 if x.dtype == jnp.float64 else jnp.complex64)
    return x.astype(dtype), reference.astype(dtype)


def _power(x: Array) -> Array:
    """Mean of ``|x|^2``, without the square root that has no derivative at zero."""
    return jnp.mean(x.real**2 + x.imag**2 if jnp.iscomplexobj(x) else x**2)


def _root(power: Array) -> Array:
    positive = power > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, power, 1)), 0)


def _ratio(error: Array, signal: Array) -> Array:
    positive = signal > 0
    return jnp.where(positive, error / jnp.where(positive, signal, 1), jnp.where(error > 0, jnp.inf, 0))


def _decibel(power: Array) -> Array:
    positive = power > 0
    return jnp.where(positive, 10 * jnp.log10(jnp.where(positive, power, 1)), -jnp.inf)


def _uniform_window(win_size: int) -> tuple[float, ...]:
    if win_size < 3 or win_size % 2 == 0:
        raise ValueError(f"win_size: expected an odd integer of at least 3, got {win_size}")
    return (1 / win_size,) * win_size


def _gaussian_window(sigma: float) -> tuple[float, ...]:
    """Weights out to 3.5 standard deviations, as in scikit-image."""
    require(sigma, "sigma", positive=True)
    radius = int(3.5 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return tuple((weights / weights.sum()).tolist())


@functools.partial(jax.jit, static_argnums=(3, 4))
def _ssim(x: Array, reference: Array, data_range: Array, window: tuple[float, ...], unbias: float) -> Array:
    # Variances do not change with a common offset; taking it off first keeps them accurate in float32.
    offset = jax.lax.stop_gradient(jnp.mean(reference))
    x, r = x - offset, reference - offset
    mean_x, mean_r = _local_mean(x, window), _local_mean(r, window)
    var_x = unbias * (_local_mean(x * x, window) - mean_x**2)
    var_r = unbias * (_local_mean(r * r, window) - mean_r**2)
    cov = unbias * (_local_mean(x * r, window) - mean_x * mean_r)
    mean_x, mean_r = mean_x + offset, mean_r + offset
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similar = (2 * mean_x * mean_r + c1) * (2 * cov + c2)
    return jnp.mean(similar / ((mean_x**2 + mean_r**2 + c1) * (var_x + var_r + c2)))


def _local_mean(x: Array, window: tuple[float, ...]) -> Array:
    """Weighted mean over every full window: one pass of shifted sums per spatial axis."""
    for axis in range(x.ndim - 1):
        length = x.shape[axis] - len(window) + 1
        shifted = [w * jax.lax.slice_in_dim(x, i, i + length, axis=axis) for i, w in enumerate(window)]
        x = functools.reduce(jnp.add, shifted)
    return x
