"""Wiener filters: the denoisers of the Gaussian priors that have the first two moments of a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..eager import one_program
from ..operators.covariance import Covariance, floating, from_root, full, matmul
from ..types import require
from .analytic import AnalyticPrior, Fields
from .conditioning import condition, whiten
from .gaussian import Gaussian


def fit_gaussian(data: Any) -> Gaussian:
    """``N(m, S)`` with the mean and the covariance (divisor N - 1) of a data set; its ``denoiser`` is the Wiener filter.

    ``D(x, sigma) = m + U diag(l / (l + sigma^2)) U^T (x - m)`` with ``S = U diag(l) U^T`` minimises ``E |D(x) - clean|^2``
    over all affine D, for every law with these moments, and is the posterior mean for the Gaussian one (Wiener 1949). It
    costs two products with U at any sigma; at sigma = 0 it projects on the affine hull of the data, and so returns x there.

    ``data`` is an array (N, *event), N > 1, or an iterable of such batches, of which one at a time is needed: the moments
    are merged without cancellation (Chan, Golub and LeVeque 1983). Memory and time are those of an
    eigendecomposition, O(n^2) and O(n^3) for n entries of an event. Precision is that of the data; integers become floating.
    With N <= n events S is singular: a density then needs sigma > 0.

    Raises ``ValueError`` for complex, empty, unequal or (when concrete) non-finite batches, and for fewer than two events.
    """
    (mean, scatter), count, shape = _stream(data, _merge)
    if count < 2:
        raise ValueError(f"data: expected at least two events, got {count}")
    return Gaussian(mean.reshape(shape), _covariance(scatter / (count - 1)))


def fit_stationary(data: Any) -> StationaryGaussian:
    """The law with the moments of a data set of images and of all their circular shifts and point reflections.

    Its ``denoiser`` is the best translation-invariant affine one: a filter with gain ``P / (P + sigma^2)`` at every
    frequency, ``P = mean |F(x - m)|^2`` the power spectrum, of the images and m their mean value. With channels, P is the real
    part of the matrix ``mean F_c conj(F_d)`` and m a value per channel. All by FFT: there is no matrix of n^2 entries.

    ``data`` is an array (N, *sizes, C), N > 0, or an iterable of such batches. Raises ``ValueError`` as ``fit_gaussian``.
    """
    (mean, scatter), count, shape = _stream(data, _merge_spectra)
    return _stationary(jnp.broadcast_to(mean, shape), scatter / count)


class StationaryGaussian(AnalyticPrior):
    """``N(mean, C)`` on real images (*sizes, channels), C invariant under circular shifts and point reflections.

    ``spectrum`` is (*sizes, channels, channels): a symmetric matrix, positive semi-definite, for each frequency k in the
    order of the FFT, with ``spectrum[-k] = spectrum[k]``; for one channel the power spectrum. C is diagonal in the Hartley
    basis ``Re F - Im F`` (F the orthonormal Fourier transform; Bracewell 1983) and the eigenvectors of these matrices, so
    that every view is that of a Gaussian with independent entries. A singular spectrum is as a singular C in ``Gaussian``.

    Raises ``ValueError`` for inconsistent shapes, and for a spectrum that is not even or symmetric, or is negative.
    """

    coefficients: Gaussian
    basis: Float[Array, "*sizes c c"]

    def __init__(self, mean: Any, spectrum: Any):
        mean, spectrum = floating(mean, "mean"), floating(spectrum, "spectrum")
        if mean.ndim < 2:
            raise ValueError(f"mean: expected shape (*sizes, channels), got {mean.shape}")
        require(spectrum, "spectrum", shape=(*mean.shape, mean.shape[-1]))
        _require_even(spectrum, mean.ndim - 1)
        covariance = full(spectrum, "spectrum").astype(mean.dtype)
        assert covariance.basis is not None
        self.basis = covariance.basis
        self.coefficients = Gaussian(self._forward(mean), covariance.eigenvalues)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.coefficients.shape

    @property
    def mean(self) -> Float[Array, "*n"]:
        """The mean image."""
        return self._back(self.coefficients.mean)

    def at(self, x: Any, alpha: Any, sigma: Any) -> Fields:
        x, alpha, sigma = self._arguments(x, alpha, sigma)
        # The noise has the same law in every orthonormal basis.
        f = self.coefficients.at(self._forward(x), alpha, sigma)
        return Fields(self._back(f.denoiser), self._back(f.score), f.potential, f.log_prob)

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*n"]:
        """One draw, in the dtype of the mean."""
        return self._back(self.coefficients.sample(key))

    def posterior(self, likelihood: Any) -> Gaussian:
        """The exact posterior, as in ``Gaussian.posterior``; it is not stationary. ``ValueError`` above 4096 entries."""
        data = whiten(likelihood, self.shape, self.basis.dtype)
        unit = jnp.eye(self.coefficients.mean.size, dtype=self.basis.dtype)
        rows = jax.vmap(self._back)(unit.reshape(-1, *self.shape)).reshape(unit.shape)
        covariance = Covariance(self.coefficients.covariance.eigenvalues.reshape(-1), rows.T)
        mean, root, _ = condition(self.mean, covariance, data)
        return Gaussian(mean, from_root(root))

    def _require_density(self, sigma):
        self.coefficients._require_density(sigma)

    def _forward(self, x: Array) -> Array:
        return jnp.einsum("...cd,...c->...d", self.basis.astype(x.dtype), _hartley(x), precision="highest")

    def _back(self, u: Array) -> Array:
        return _hartley(jnp.einsum("...cd,...d->...c", self.basis.astype(u.dtype), u, precision="highest"))


def _stream(data: Any, merge: Callable) -> tuple[tuple[Array, Array], int, tuple[int, ...]]:
    """Mean and scatter of all batches, the number of events, and their shape."""
    # Whole numbers in Python: a float32 count would stop at 2^24. Their fractions are arrays: no value compiles again.
    moments, count, event = None, 0, None
    for given in [data] if hasattr(data, "shape") else data:
        batch = _checked(given, event)
        new, event = batch.shape[0], batch.shape[1:]
        fractions = (jnp.asarray(f, batch.dtype) for f in (new / (count + new), count * new / (count + new)))
        moments, count = merge(moments, batch, *fractions), count + new
    if moments is None or event is None:
        raise ValueError("data: expected at least one batch, got none")
    return moments, count, event


def _checked(given: Any, event: tuple[int, ...] | None) -> Array:
    """A batch (B, *event) with B > 0, of events of the shape of those before it."""
    batch = floating(given, "data")
    if batch.ndim == 0 or batch.size == 0:
        raise ValueError(f"data: expected batches (B, *event) that are not empty, got shape {batch.shape}")
    if event not in (None, batch.shape[1:]):
        raise ValueError(f"data: expected batches of events of shape {event}, got {batch.shape[1:]}")
    if not isinstance(batch, jax.core.Tracer) and not np.isfinite(np.asarray(batch)).all():
        raise ValueError("data: expected finite values, got NaN or infinity")
    return batch


@one_program
def _merge(moments: Any, batch: Array, weight: Array, cross: Array) -> tuple[Array, Array]:
    """Mean (n,) and sum of outer products of deviations (n, n), with one batch more.

    ``weight`` is the fraction of the new events, ``cross`` their number times the fraction of the old ones.
    """
    rows = batch.reshape(batch.shape[0], -1)
    centre = rows.mean(0)
    centred = rows - centre[None]
    scatter = matmul(centred.T, centred)
    if moments is None:
        return centre, scatter
    shift = centre - moments[0]
    return moments[0] + weight * shift, moments[1] + scatter + cross * jnp.outer(shift, shift)


@one_program
def _merge_spectra(moments: Any, images: Array, weight: Array, cross: Array) -> tuple[Array, Array]:
    """The same for values of channels (C,) and sums of cross spectra (*sizes, C, C)."""
    if images.ndim < 3:
        raise ValueError(f"data: expected batches (B, *sizes, C), got shape {images.shape}")
    axes = range(1, images.ndim - 1)
    centre = images.mean((0, *axes))
    f = jnp.fft.fftn(images - jnp.broadcast_to(centre, images.shape), axes=axes, norm="ortho")
    scatter = jnp.einsum("n...c,n...d->...cd", f, jnp.conj(f), precision="highest").real
    if moments is None:
        return centre, scatter
    shift = centre - moments[0]
    pixels = images[0].size // images.shape[-1]
    # A mean is a zero frequency.
    between = jnp.zeros_like(scatter).at[(0,) * len(axes)].set(cross * pixels * jnp.outer(shift, shift))
    return moments[0] + weight * shift, moments[1] + scatter + between


# Compiled, so that nothing is refused: negative eigenvalues, which are rounding errors here, become zero.
@one_program
def _covariance(matrix: Array) -> Covariance:
    return full(matrix, "covariance of data")


@one_program
def _stationary(mean: Array, spectrum: Array) -> StationaryGaussian:
    return StationaryGaussian(mean, spectrum)


def _hartley(x: Array) -> Array:
    """The orthonormal Hartley transform of all axes but the last: its own inverse."""
    f = jnp.fft.fftn(x, axes=range(x.ndim - 1), norm="ortho")
    return f.real - f.imag


def _require_even(spectrum: Array, num_axes: int) -> None:
    if isinstance(spectrum, jax.core.Tracer):
        return
    axes, array = tuple(range(num_axes)), np.asarray(spectrum)
    gap = np.abs(array - np.roll(np.flip(array, axes), 1, axes)).max()
    if not gap <= 100 * float(jnp.finfo(spectrum.dtype).eps) * np.abs(array).max():  # NaN is refused too
        raise ValueError(f"spectrum: expected spectrum[-k] = spectrum[k], got a difference of {gap:.3g}")
