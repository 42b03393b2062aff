"""Wiener filters against least squares, conditional Gaussians and dense covariances; moments, precision, refusals."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax.priors import Gaussian, StationaryGaussian, fit_gaussian, fit_stationary

from ..registry import strictly
from .analytic import condition, everything, linear_likelihood, many_samples, potential_gradient

R = np.random.default_rng(5)
SHAPE = (3, 4, 2)
N = 24
MIX = R.normal(size=(N, N)) / 4 + np.eye(N)
DATA = 0.3 + (R.normal(size=(60, N)) @ MIX).reshape(60, *SHAPE)
ROWS = DATA.reshape(60, N)
X = R.normal(size=SHAPE)


def moved(data):
    """All circular shifts of images and of their point reflections."""
    sizes = data.shape[1:-1]
    axes = tuple(range(1, len(sizes) + 1))
    both = np.concatenate([data, np.flip(data, axes)])
    return np.concatenate([np.roll(both, shift, axes) for shift in np.ndindex(*sizes)])


@functools.cache
def spectral_values():
    return np.asarray(fit_stationary(DATA).coefficients.covariance.eigenvalues)


@eqx.filter_jit
def denoised(prior, x, sigma):
    return prior.denoiser(x, sigma)


@pytest.mark.parametrize("splits", [[], [1, 7], [30]])
def test_moments_are_those_of_the_data_however_it_is_split(splits):
    prior = fit_gaussian(iter(np.split(DATA, splits)) if splits else DATA)
    assert prior.shape == SHAPE
    np.testing.assert_allclose(prior.mean, DATA.mean(0), rtol=1e-13)
    np.testing.assert_allclose(prior.covariance.dense(SHAPE), np.cov(ROWS.T), rtol=1e-11, atol=1e-13)
    spectral = fit_stationary(np.split(DATA, splits))
    np.testing.assert_allclose(spectral.coefficients.covariance.eigenvalues, spectral_values(), rtol=1e-11)
    np.testing.assert_allclose(spectral.mean, np.broadcast_to(DATA.mean((0, 1, 2)), SHAPE), rtol=1e-12)


def test_a_large_mean_cancels_nothing():
    shifted = (DATA + 1000).astype(np.float32)  # squares of 1e6 would leave a single digit
    exact = np.cov(shifted.reshape(60, N).astype(np.float64).T)
    prior = fit_gaussian(np.split(shifted, [20, 40]))
    assert prior.mean.dtype == prior.covariance.basis.dtype == jnp.float32
    np.testing.assert_allclose(prior.covariance.dense(SHAPE), exact, atol=1e-4 * np.abs(exact).max())
    values = fit_stationary(np.split(shifted, [20, 40])).coefficients.covariance.eigenvalues
    np.testing.assert_allclose(values, spectral_values(), atol=1e-4 * spectral_values().max())


@pytest.mark.parametrize("sigma", [0.05, 0.7, 20.0])
def test_wiener_is_the_best_affine_map(sigma):
    """argmin over (L, b) of ``E |L (clean + sigma n) + b - clean|^2``: least squares with ``sigma^2 |L|^2`` for the noise."""
    scale = np.sqrt(len(ROWS) - 1)
    design = np.block([[ROWS / scale, np.ones((60, 1)) / scale], [sigma * np.eye(N), np.zeros((N, 1))]])
    target = np.concatenate([ROWS / scale, np.zeros((N, N))])
    solution = np.linalg.lstsq(design, target, rcond=None)[0]
    expected = X.ravel() @ solution[:N] + solution[N]
    np.testing.assert_allclose(denoised(fit_gaussian(DATA), X, sigma).ravel(), expected, rtol=1e-8, atol=1e-9)


def test_wiener_is_the_posterior_mean_of_the_gaussian():
    prior, sigma = fit_gaussian(DATA), 0.7
    posterior = condition(prior, linear_likelihood(np.eye(N), sigma, X.ravel()))
    np.testing.assert_allclose(denoised(prior, X, sigma), posterior.mean, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fewer_images_than_pixels(dtype):
    """The covariance has rank N - 1 exactly; without noise the filter projects on the affine hull of the images."""
    few = DATA[:5].astype(dtype)
    prior = fit_gaussian(few)
    assert np.count_nonzero(prior.covariance.eigenvalues) == 4
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(denoised(prior, few[2], 0.0), few[2], atol=tolerance)
    directions = (few[1:] - few[0]).reshape(4, N).T
    gap = X.astype(dtype).ravel() - few[0].ravel()
    projected = few[0].ravel() + directions @ np.linalg.lstsq(directions, gap, rcond=None)[0]
    np.testing.assert_allclose(denoised(prior, X.astype(dtype), 0.0).ravel(), projected, atol=tolerance)
    with pytest.raises(ValueError, match="covariance is singular"):
        prior.score(X)


def test_limits_and_constant_pixels():
    data = DATA.copy()
    data[:, 1, 2, 0] = 0.25
    prior = fit_gaussian(data)
    for sigma in (0.0, 0.5, 1e8):
        assert denoised(prior, X, sigma)[1, 2, 0] == pytest.approx(0.25, abs=1e-12)
    np.testing.assert_allclose(denoised(prior, X, 1e8), data.mean(0), atol=1e-12)
    free = np.ones(SHAPE, bool)
    free[1, 2, 0] = False
    np.testing.assert_allclose(denoised(prior, X, 0.0)[free], X[free], atol=1e-10)


@pytest.fixture(scope="module")
def stationary():
    """The stationary prior, and the dense Gaussian with the moments of all shifted and reflected images."""
    rows = moved(DATA).reshape(-1, N)
    mean = rows.mean(0).reshape(SHAPE)
    return fit_stationary(DATA), Gaussian(mean, np.cov(rows.T, bias=True))


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_stationary_is_the_gaussian_of_all_shifts(stationary, sigma):
    spectral, dense = stationary
    for a, b in zip(everything(spectral, X, sigma), everything(dense, X, sigma), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    gradient = potential_gradient(jnp.asarray(X), spectral, jnp.asarray(0.5))
    np.testing.assert_allclose(everything(spectral, X, 0.5)[1], -gradient, rtol=1e-10)


def test_stationary_posterior_and_samples(stationary, key):
    spectral, dense = stationary
    likelihood = linear_likelihood(R.normal(size=(5, N)), 0.3, R.normal(size=5))
    got, expected = (condition(prior, likelihood) for prior in stationary)
    np.testing.assert_allclose(got.mean, expected.mean, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(got.covariance.dense(SHAPE), expected.covariance.dense(SHAPE), rtol=1e-8, atol=1e-10)
    num = 20000
    draws = np.asarray(many_samples(spectral, jax.random.split(key, num))).reshape(num, N)
    products = draws[:, :, None] * draws[:, None, :]
    second = dense.covariance.dense(SHAPE) + np.outer(dense.mean, dense.mean)
    for values, exact in ((draws, dense.mean.ravel()), (products, second)):
        assert (np.abs(values.mean(0) - exact) < 4.5 * values.std(0) / np.sqrt(num)).all()  # 600 entries


def test_one_channel_is_the_filter_with_the_power_spectrum():
    """Gain ``P / (P + sigma^2)``, and ``F L F^H`` of the dense Wiener filter of all shifts is diagonal."""
    data, sigma = DATA[..., :1], 0.6
    mean = data.mean()
    power = np.mean(np.abs(np.fft.fft2(data[..., 0] - mean)) ** 2, 0) / 12
    filtered = np.fft.ifft2(power / (power + sigma**2) * np.fft.fft2(X[..., 0] - mean)).real + mean
    np.testing.assert_allclose(denoised(fit_stationary(data), X[..., :1], sigma)[..., 0], filtered, rtol=1e-11)
    dense = fit_gaussian(moved(data))
    wiener = np.asarray(dense.covariance.map(lambda v: v / (v + sigma**2)).dense((3, 4, 1)))
    fourier = np.fft.fft2(np.eye(12).reshape(12, 3, 4)).reshape(12, 12) / np.sqrt(12)
    transformed = fourier @ wiener @ fourier.conj().T
    # Of the two divisors, all shifts minus one and all shifts.
    shrunk = power * (1 + 1 / (len(moved(data)) - 1))
    np.testing.assert_allclose(transformed, np.diag((shrunk / (shrunk + sigma**2)).ravel()), atol=1e-12)


def test_any_number_of_axes_and_one_image():
    volume = R.normal(size=(4, 2, 3, 2, 1))
    rows = moved(volume).reshape(-1, 12)
    dense = Gaussian(rows.mean(0).reshape(2, 3, 2, 1), np.cov(rows.T, bias=True))
    x = volume[0] + 0.1
    np.testing.assert_allclose(denoised(fit_stationary(volume), x, 0.5), denoised(dense, x, 0.5), rtol=1e-10)
    # One texture is data enough; a single pixel is its own mean.
    assert np.all(np.isfinite(denoised(fit_stationary(DATA[:1]), X, 0.5)))
    np.testing.assert_allclose(denoised(fit_stationary(np.full((2, 1, 1, 1), 0.4)), np.ones((1, 1, 1)), 0.5), 0.4)
    scalar = np.array([1.0, 2.0, 4.0])
    expected = scalar.mean() + scalar.var(ddof=1) / (scalar.var(ddof=1) + 0.25) * (3 - scalar.mean())
    np.testing.assert_allclose(denoised(fit_gaussian(scalar), jnp.asarray(3.0), 0.5), expected)


@pytest.mark.parametrize("fit", [fit_gaussian, fit_stationary])
def test_one_program_at_the_precision_of_the_input(fit):
    count = 0

    @eqx.filter_jit
    def views(prior, x, sigmas):
        nonlocal count
        count += 1
        with strictly():
            return jax.vmap(lambda s: (prior.denoiser(x, s), prior.score(x, s), prior.log_prob(x, s)))(sigmas)

    sigmas = np.array([0.3, 0.8])
    first = views(fit(DATA), X, sigmas)
    views(fit(2 * DATA), X, 2 * sigmas)
    assert count == 1
    np.testing.assert_allclose(first[0][1], denoised(fit(DATA), X, 0.8), rtol=1e-11)
    single = views(fit(DATA), X.astype(np.float32), sigmas)  # double parameters promote nothing
    assert {a.dtype for a in single} == {jnp.dtype("float32")}
    np.testing.assert_allclose(single[0], first[0], atol=1e-4)


def test_integers_become_floating_and_fits_differentiate():
    prior = fit_gaussian(np.arange(12, dtype=np.uint8).reshape(4, 3) ** 2)
    assert prior.mean.dtype == jnp.float64
    step = R.normal(size=DATA.shape)

    @jax.jit
    def slope(data, step):
        return jax.jvp(lambda d: fit_stationary(d).denoiser(X, 0.5), (data,), (step,))[1]

    ends = [denoised(fit_stationary(DATA + h * step), X, 0.5) for h in (1e-5, -1e-5)]
    np.testing.assert_allclose(slope(DATA, step), (ends[0] - ends[1]) / 2e-5, rtol=1e-6, atol=1e-8)


def test_lowers(float32):
    prior = jax.tree.map(lambda a: a.astype(jnp.float32), fit_stationary(DATA.astype(np.float32)))
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (prior, X.astype(np.float32)))
    exported = jax.export.export(jax.jit(lambda p, x: p.at(x, 1.0, 0.5)), platforms=["tpu", "cuda"])(*shapes)
    assert exported.platforms == ("tpu", "cuda")


def test_wrong_arguments_are_refused():
    for fit, shape in (
        (fit_gaussian, (0, 3, 3, 1)),
        (fit_gaussian, ()),
        (fit_stationary, (5, 3)),
        (fit_stationary, (2, 0, 3, 1)),
    ):
        with pytest.raises(ValueError, match="data: expected batches"):
            fit(np.ones(shape))
    for fit in (fit_gaussian, fit_stationary):
        with pytest.raises(ValueError, match="data: expected at least one batch"):
            fit([])
        with pytest.raises(ValueError, match="data: expected real"):
            fit(DATA * 1j)
        with pytest.raises(ValueError, match="data: expected finite"):
            fit(DATA * np.nan)
        with pytest.raises(ValueError, match=r"data: expected batches of events of shape \(3, 4, 2\)"):
            fit([DATA, DATA[:, :2]])
    with pytest.raises(ValueError, match="data: expected at least two events, got 1"):
        fit_gaussian(DATA[:1])
    even = np.ones((3, 4, 1, 1)) * np.eye(2)
    for mean, spectrum, message in [
        (X, 1.0, "spectrum: expected shape"),
        (X[0, 0], np.eye(2), "mean: expected shape"),
        (X, R.uniform(size=(3, 4, 1, 1)) * np.eye(2), "spectrum: expected spectrum"),
        (X, -even, "spectrum: expected a positive semi-definite"),
        (X, even + np.array([[0, 1], [0, 0]]), "spectrum: expected a symmetric"),
        (X * 1j, even, "mean: expected real"),
    ]:
        with pytest.raises(ValueError, match=message):
            StationaryGaussian(mean, spectrum)
    with pytest.raises(ValueError, match="covariance is singular"):
        StationaryGaussian(X, 0 * even).score(X)
    with pytest.raises(ValueError, match="x: expected a real floating"):
        StationaryGaussian(X, even).denoiser(X * 1j, 0.5)
    large = StationaryGaussian(np.zeros((65, 64, 1)), np.ones((65, 64, 1, 1)))
    with pytest.raises(ValueError, match="at most 4096"):
        large.posterior(linear_likelihood(np.ones((1, 4160)), 1.0, [1.0]))
