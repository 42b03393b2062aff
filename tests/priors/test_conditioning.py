"""Posteriors of analytic priors against the information form, quadrature, brute-force Bayes and sequential conditioning."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from invjax.priors import Gaussian, GaussianMixture

from .analytic import (
    COVARIANCES,
    FULL_4,
    IMAGE,
    MEAN_4,
    MEANS,
    POINTS,
    PRIORS,
    WEIGHTS,
    X,
    condition,
    everything,
    grid,
    linear_likelihood,
    many_log_probs,
)

R = np.random.default_rng(2)


def test_gaussian_posterior_against_the_information_form():
    a, y, sigma = R.normal(size=(3, 4)), R.normal(size=3), np.array([0.2, 0.5, 1.0])
    for covariance in (0.7, FULL_4):
        dense = covariance if np.ndim(covariance) else covariance * np.eye(4)
        got = condition(Gaussian(MEAN_4, covariance), linear_likelihood(a, sigma, y))
        precision = np.linalg.inv(dense) + a.T @ np.diag(sigma**-2.0) @ a
        shift = np.linalg.solve(dense, MEAN_4.ravel()) + a.T @ (y / sigma**2)
        np.testing.assert_allclose(got.covariance.dense(IMAGE), np.linalg.inv(precision), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(got.mean.ravel(), np.linalg.solve(precision, shift), rtol=1e-10)


def test_complex_and_structured_measurements_are_real_rows():
    a, b, x = R.normal(size=(2, 2)) + 1j * R.normal(size=(2, 2)), R.normal(size=(1, 2)), R.normal(size=2)
    prior = PRIORS["gaussian_full"]()
    likelihood = SimpleNamespace(
        operator=lambda u: (jnp.asarray(a) @ u, {"b": jnp.asarray(b) @ u}),
        noise=SimpleNamespace(sigma=0.3),
        y=(jnp.asarray(a @ x), {"b": jnp.asarray(b @ x)}),
    )
    rows = np.concatenate([a.real, a.imag, b])
    expected = condition(prior, linear_likelihood(rows, 0.3, rows @ x))
    got = prior.posterior(likelihood)
    np.testing.assert_allclose(got.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(got.covariance.dense((2,)), expected.covariance.dense((2,)), rtol=1e-12)


@pytest.mark.parametrize("kind", ["mixture_shared", "mixture_full"])
def test_mixture_posterior_against_grid_integration(kind):
    prior, row, sigma, y = PRIORS[kind](), np.array([[1.3, -0.6]]), 0.4, np.array([0.8])
    posterior = condition(prior, linear_likelihood(row, sigma, y))
    z, cell = grid(-9, 9, 301)
    parts = zip(WEIGHTS, MEANS, COVARIANCES[kind], strict=True)
    joint = sum(w * multivariate_normal(m, c).pdf(z) for w, m, c in parts) * np.exp(
        -((z @ row[0] - y) ** 2) / (2 * sigma**2)
    )
    at = np.linspace(30000, 60000, 12).astype(int)
    expected = np.log(joint[at] / (joint.sum() * cell))
    np.testing.assert_allclose(many_log_probs(posterior, z[at]), expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(posterior.weights @ posterior.means, joint @ z / joint.sum(), atol=1e-8)
    assert posterior.shared == prior.shared


@pytest.mark.parametrize("name", ["mixture_scalar", "mixture_diagonal", "empirical_blocked"])
def test_conditioning_twice_is_conditioning_on_both(name):
    a, sigma, y = R.normal(size=(3, 2)), np.array([0.2, 0.5, 0.1]), R.normal(size=3)
    prior = PRIORS[name]()
    once = condition(prior, linear_likelihood(a[:1], sigma[:1], y[:1]))
    twice = condition(once, linear_likelihood(a[1:], sigma[1:], y[1:]))
    both = condition(prior, linear_likelihood(a, sigma, y))
    for u, v in zip(everything(twice, X, 0.3), everything(both, X, 0.3), strict=True):
        np.testing.assert_allclose(u, v, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(twice.log_weights, both.log_weights, rtol=1e-9, atol=1e-10)


def test_a_weight_that_underflows_comes_back(float32):
    far, near = [[100.0], [0.0]], np.eye(1)
    first = condition(GaussianMixture([0.5, 0.5], far, 1.0), linear_likelihood(near, 1.0, np.zeros(1, np.float32)))
    assert first.weights[0] == 0
    second = condition(first, linear_likelihood(near, 0.01, np.full(1, 100.0, np.float32)))
    # The exact log odds of both measurements: N(0; m, 2), then N(100; m / 2, 0.5 + 1e-4), with m = 100 and m = 0.
    odds = -(100**2) / 4 - (50**2 - 100**2) / (2 * 0.5001)
    np.testing.assert_allclose(second.log_weights[0] - second.log_weights[1], odds, rtol=1e-5)
    assert second.weights[0] == 1


@pytest.mark.parametrize("name", ["empirical", "empirical_blocked"])
def test_empirical_posterior_is_bayes(name):
    a, sigma, y = R.normal(size=(3, 2)), np.array([0.5, 0.8, 1.0]), R.normal(size=3)
    posterior = condition(PRIORS[name](), linear_likelihood(a, sigma, y))
    likelihood = np.exp(-np.sum(((POINTS @ a.T - y) / sigma) ** 2, 1) / 2)
    expected = np.arange(1.0, 8.0) * likelihood
    np.testing.assert_allclose(posterior.weights, expected / expected.sum(), rtol=1e-12)
    np.testing.assert_array_equal(posterior.points, POINTS)


def test_posterior_of_small_noise_is_accurate_in_float32(float32):
    # Forming I + B^T B at noise 1e-5 would lose the null space of the operator altogether: eps / sigma^2 = 1200.
    a = np.asarray(R.normal(size=(2, 4)), np.float32)
    posterior = condition(Gaussian(jnp.zeros(4), 1.0), linear_likelihood(a, 1e-5, np.zeros(2, np.float32)))
    double = a.astype(np.float64)
    expected = np.eye(4) - double.T @ np.linalg.solve(double @ double.T + 1e-10 * np.eye(2), double)
    np.testing.assert_allclose(posterior.covariance.dense((4,)), expected, atol=2e-6)
    # Deviations near 1e-5 are accurate to a few eps of the largest, 1: about 1e-2 in relative terms.
    deviations = jnp.sort(posterior.covariance.deviations)[:2]
    exact = 1e-5 / np.linalg.svd(double, compute_uv=False)
    np.testing.assert_allclose(deviations, np.sort(exact), atol=5e-7)
    assert deviations.dtype == jnp.float32


def test_parameters_and_levels_are_differentiable():
    def loss(mean, variance, weights, sigma):
        prior = GaussianMixture(weights, mean, variance)
        likelihood = linear_likelihood(np.array([[1.0, 2.0]]), sigma, np.ones(1))
        return prior.log_prob(X, 0.0) + prior.posterior(likelihood).denoiser(X, sigma).sum()

    arguments = (jnp.asarray(MEANS), jnp.asarray(0.3 + MEANS**2), jnp.asarray(WEIGHTS), jnp.asarray(0.5))
    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(*arguments)
    value = jax.jit(loss)
    for i, gradient in enumerate(gradients):
        direction = jnp.asarray(np.random.default_rng(i).normal(size=gradient.shape))
        moved = [[a + s * 1e-5 * direction if j == i else a for j, a in enumerate(arguments)] for s in (1, -1)]
        slope = (value(*moved[0]) - value(*moved[1])) / 2e-5
        np.testing.assert_allclose(jnp.vdot(gradient, direction), slope, rtol=1e-6, atol=1e-7)
