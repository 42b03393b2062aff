"""Random Gaussian and motion kernels: moments, the law of the path, its length, and exact shares of sub-pixel positions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import generators as gen


@eqx.filter_jit
def many(method, key, count):
    """Draws of a bound method for ``count`` keys."""
    return jax.vmap(method)(jax.random.split(key, count))


def moments(kernel):
    """Sum, mean and covariance of a kernel as a density of offsets from ``floor(size / 2)``."""
    axes = [np.arange(n) - n // 2 for n in kernel.shape]
    u = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, kernel.ndim)
    p = np.asarray(kernel).ravel()
    mean = p @ u
    return p.sum(), mean, (u - mean).T @ (p[:, None] * (u - mean))


@pytest.mark.parametrize("covariance", [[[3.0, 1.0], [1.0, 2.0]], np.diag([1.5, 2.0, 3.0])])
def test_moments_of_a_gaussian_kernel(covariance):
    """A sampled Gaussian has the moments of the density up to ``exp(-2 pi^2 lambda_min)``: below 1e-11 here."""
    dims = len(covariance)
    total, mean, found = moments(gen.anisotropic_gaussian(np.asarray(covariance), (33, 32, 31)[:dims]))
    np.testing.assert_allclose(total, 1, rtol=1e-12)
    np.testing.assert_allclose(mean, 0, atol=1e-10)
    np.testing.assert_allclose(found, covariance, atol=1e-9)


def test_widths_are_uniform_and_axes_have_no_preferred_direction(key):
    count, low, high = 4000, 0.5, 3.0
    covariances = many(gen.GaussianBlur((3, 3), low, high).covariance, key, count)
    widths = np.sqrt(np.linalg.eigvalsh(covariances))
    assert widths.min() >= low * (1 - 1e-9)
    assert widths.max() <= high * (1 + 1e-9)
    error = 5 / np.sqrt(2 * count)
    np.testing.assert_allclose(widths.mean(), (low + high) / 2, atol=error * (high - low) / np.sqrt(12))
    square = (high**3 - low**3) / (3 * (high - low))  # E w^2
    np.testing.assert_allclose(
        covariances[:, 0, 0].mean(), square, atol=5 * covariances[:, 0, 0].std() / np.sqrt(count)
    )
    for entry in (covariances[:, 0, 1], covariances[:, 0, 0] - covariances[:, 1, 1]):
        assert abs(entry.mean()) <= 5 * entry.std() / np.sqrt(count)
    # the direction of the longer axis is uniform: its double angle has mean zero
    turns = np.exp(2j * np.angle(np.linalg.eigh(covariances)[1][:, :, 1] @ [1, 1j]))
    assert abs(turns.mean()) <= 5 / np.sqrt(count)
    isotropic = many(gen.GaussianBlur((3, 3), low, high, isotropic=True).covariance, key, 10)
    np.testing.assert_allclose(isotropic, isotropic[:, :1, :1] * np.eye(2), atol=1e-15)


@pytest.mark.parametrize("smoothness", [1.5, 2.5])
def test_modes_of_the_path_have_the_matern_covariance(smoothness):
    """Up to the tail beyond the last mode (order 1.5: ``(lambda / omega)^3`` = 3e-5) and the period (``k(3)``: below 1e-5)."""
    scale = 0.3
    motion = gen.MotionBlur((5, 5), 2.0, scale, smoothness)
    frequencies = np.pi / 2 * np.arange(128)
    lags = np.linspace(0, 1, 9)
    found = np.asarray(motion._powers(jnp.asarray(frequencies))) @ np.cos(np.outer(frequencies, lags))
    d = np.sqrt(2 * smoothness) * lags / scale
    exact = np.exp(-d) * (1 + d + (d**2 / 3 if smoothness == 2.5 else 0))
    np.testing.assert_allclose(found, exact, atol=1e-4)


def test_mean_length_of_the_path(key):
    """A Gaussian velocity of variance ``s^2 = -k''(0) = sigma^2 nu / ((nu - 1) l^2)`` per axis: mean ``s sqrt(pi / 2)``."""
    sigma, scale, smoothness, count = 2.0, 0.4, 2.5, 2000
    paths = many(gen.MotionBlur((5, 5), sigma, scale, smoothness).path, key, count)
    np.testing.assert_allclose(paths.mean(2), 0, atol=1e-12)
    steps = np.diff(paths, axis=2)
    lengths = np.hypot(steps[:, 0], steps[:, 1]).sum(1) * 256 / 255  # 256 points have 255 steps
    exact = sigma / scale * np.sqrt(smoothness / (smoothness - 1) * np.pi / 2)
    np.testing.assert_allclose(lengths.mean(), exact, atol=5 * lengths.std() / np.sqrt(count) + 1e-3 * exact)


def test_a_motion_kernel_has_the_moments_of_its_path(key):
    """Linear shares keep the mean and add ``f (1 - f)`` to the square of a position with the fraction ``f``."""
    motion = gen.MotionBlur((41, 40), 3.0)
    path = np.asarray(motion.path(key))
    assert np.abs(path).max() < 19  # nothing leaves the frame
    total, mean, covariance = moments(motion.kernel(jnp.asarray(path)))
    np.testing.assert_allclose(total, 1, rtol=1e-13)
    np.testing.assert_allclose(mean, 0, atol=1e-12)
    fractions = path - np.floor(path)
    exact = path @ path.T / path.shape[1] + np.diag((fractions * (1 - fractions)).mean(1))
    np.testing.assert_allclose(covariance, exact, atol=1e-11)


def test_a_camera_at_rest_does_not_blur(key):
    kernel, slope = jax.jvp(lambda sigma: gen.MotionBlur((5, 4), sigma)(key), (0.0,), (1.0,))
    assert np.all(np.isfinite(slope))
    np.testing.assert_allclose(kernel, np.eye(1, 20, 2 * 4 + 2).reshape(5, 4), atol=1e-12)


def test_a_path_that_leaves_the_frame_still_sums_to_one(key):
    kernel = gen.MotionBlur((5, 5), 8.0)(key)
    np.testing.assert_allclose(kernel.sum(), 1, rtol=1e-12)
    assert kernel.min() >= 0


ERRORS = {
    "size: expected 2 positive sizes, got (5,)": lambda: gen.MotionBlur((5,)),
    "size: expected 1 or 2 or 3 positive sizes, got (0, 3)": lambda: gen.GaussianBlur((0, 3)),
    "low: expected positive values": lambda: gen.GaussianBlur((3, 3), 0.0),
    "length_scale: expected positive values": lambda: gen.MotionBlur((3, 3), 1.0, -1.0),
    "covariance: expected shape (2, 2), got (3, 3)": lambda: gen.anisotropic_gaussian(np.eye(3), (3, 3)),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message]()
    assert message in str(error.value)
