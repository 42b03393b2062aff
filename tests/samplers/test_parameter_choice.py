"""SURE of a posterior mean against the closed form for a Gaussian prior, where the posterior mean is linear in y."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import likelihoods, operators, samplers


def linear_case(key, sigma=0.3, lam=2.0):
    """Dense operator, ridge prior: matrix W of the posterior mean, posterior covariance C."""
    A = jax.random.normal(key, (7, 5))
    precision = A.T @ A / sigma**2 + lam * jnp.eye(5)
    C = jnp.linalg.inv(precision)
    return A, C @ A.T / sigma**2, C, sigma


def test_posterior_sure_equals_the_linear_formula(key):
    A, W, C, sigma = linear_case(key)
    y = jax.random.normal(jax.random.fold_in(key, 1), (7,))
    f = likelihoods.Likelihood(operators.Matrix(A), likelihoods.Gaussian(sigma), y)
    value = samplers.posterior_sure(f, A @ W @ y, jnp.diag(A @ C @ A.T))
    exact = jnp.mean((A @ W @ y - y) ** 2) - sigma**2 + 2 * sigma**2 / 7 * jnp.trace(A @ W)
    np.testing.assert_allclose(value, exact, rtol=1e-12)


def test_posterior_sure_of_complex_data_equals_that_of_its_parts(key):
    """A complex y with a real and an imaginary part that are the two halves of a real measurement."""
    A, W, C, sigma = linear_case(key)
    y = jax.random.normal(jax.random.fold_in(key, 1), (7,))
    mean, variance = A @ W @ y, jnp.diag(A @ C @ A.T)
    real = samplers.posterior_sure(
        likelihoods.Likelihood(operators.Identity((6,)), likelihoods.Gaussian(sigma), y[:6]), mean[:6], variance[:6]
    )
    halves = likelihoods.Likelihood(
        operators.Identity((3,), complex=True), likelihoods.Gaussian(sigma), y[:3] + 1j * y[3:6]
    )
    value = samplers.posterior_sure(halves, mean[:3] + 1j * mean[3:6], variance[:3] + variance[3:6])
    np.testing.assert_allclose(value, real, rtol=1e-12)


def test_posterior_sure_is_unbiased(key):
    A, W, C, sigma = linear_case(key)
    x = jax.random.normal(jax.random.fold_in(key, 2), (5,))
    noise = sigma * jax.random.normal(jax.random.fold_in(key, 3), (20000, 7))
    variance = jnp.diag(A @ C @ A.T)

    def one(n):
        y = A @ x + n
        f = likelihoods.Likelihood(operators.Matrix(A), likelihoods.Gaussian(sigma), y)
        mean = A @ W @ y
        return samplers.posterior_sure(f, mean, variance) - jnp.mean((mean - A @ x) ** 2)

    difference = jax.vmap(one)(noise)
    assert abs(difference.mean()) <= 4 * difference.std() / np.sqrt(20000)


def test_posterior_sure_refuses_what_it_cannot_do(key):
    f = likelihoods.Likelihood(operators.Identity((3, 1)), likelihoods.Gaussian(np.ones((3, 1))), jnp.ones((3, 1)))
    with pytest.raises(ValueError, match="scalar sigma"):
        samplers.posterior_sure(f, jnp.ones((3, 1)), jnp.ones((3, 1)))
