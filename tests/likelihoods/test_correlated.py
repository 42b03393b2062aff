"""Gaussian noise with a covariance against SciPy, dense algebra and sample moments."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from invjax import InverseProblem
from invjax import operators as ops
from invjax.likelihoods import CorrelatedGaussian, Gaussian

from ..registry import call

SHAPES = {"even": (4, 6, 1), "odd": (3, 5, 2)}


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def stationary(shape, complex=False):
    kernel = np.random.default_rng(1).uniform(0.1, 0.4, (2, 3))
    return ops.Blur(kernel, shape, complex=complex).gram + 0.2 * ops.Identity(shape, complex=complex)


def models(shape):
    """The same law by an operator and by its matrix."""
    covariance = stationary(shape)
    matrix = np.asarray(covariance.dense())
    return {"operator": CorrelatedGaussian(covariance), "matrix": CorrelatedGaussian(matrix)}, matrix


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("kind", ["operator", "matrix"])
def test_every_view_equals_dense_algebra(shape, kind):
    noises, C = models(shape)
    u, y, noise = jnp.asarray(normal(shape)), jnp.asarray(normal(shape, 1)), noises[kind]
    r = np.ravel(u - y)
    white = np.linalg.solve(C, r)
    np.testing.assert_allclose(
        call(noise, "log_prob", u, y), multivariate_normal(np.zeros(r.size), C).logpdf(r), rtol=1e-12
    )
    np.testing.assert_allclose(call(noise, "potential", u, y), r @ white / 2, rtol=1e-12)
    np.testing.assert_allclose(np.ravel(call(noise, "grad", u, y)), white, atol=1e-11)
    prox = np.linalg.solve(C + 0.3 * np.eye(r.size), C @ r) + np.ravel(y)
    np.testing.assert_allclose(np.ravel(call(noise, "prox", u, y, jnp.asarray(0.3))), prox, atol=1e-12)
    np.testing.assert_allclose(noise.lipschitz(y), 1 / np.linalg.eigvalsh(C)[0], rtol=1e-10)
    W = np.asarray(noise.whitener(y).dense())
    np.testing.assert_allclose(W.T @ W, np.linalg.inv(C), atol=1e-10)


@pytest.mark.parametrize("kind", ["operator", "matrix"])
def test_samples_have_the_covariance(kind, key):
    shape = (3, 5, 1)
    noises, C = models(shape)
    draws = jax.jit(jax.vmap(lambda k: noises[kind].sample(k, jnp.ones(shape))))(jax.random.split(key, 200_000))
    draws = np.asarray(draws).reshape(-1, 15)
    np.testing.assert_allclose(draws.mean(0), 1, atol=5 * np.sqrt(C[0, 0] / 200_000))
    np.testing.assert_allclose(np.cov(draws.T), C, atol=5 * np.sqrt(2) * C[0, 0] / np.sqrt(200_000))


@pytest.mark.parametrize("complex", [False, True])
def test_white_noise_is_the_special_case(complex, key):
    shape = (4, 3, 1)
    u, y = (jnp.asarray(normal(shape, s) + (1j * normal(shape, s + 5) if complex else 0)) for s in (0, 1))
    white, plain = CorrelatedGaussian(0.09 * ops.Identity(shape, complex=complex)), Gaussian(0.3)
    for name in ("potential", "log_prob", "grad"):
        np.testing.assert_allclose(getattr(white, name)(u, y), getattr(plain, name)(u, y), rtol=1e-12)
    np.testing.assert_allclose(white.prox(u, y, 0.2), plain.prox(u, y, 0.2), rtol=1e-12)
    np.testing.assert_allclose(white.sample(key, u), plain.sample(key, u), rtol=1e-12)
    diagonal = CorrelatedGaussian(ops.Mask(np.arange(1.0, 5).reshape(4, 1, 1), shape, complex=complex))
    per_row = Gaussian(np.sqrt(np.arange(1.0, 5)).reshape(4, 1, 1))
    np.testing.assert_allclose(diagonal.log_prob(u, y), per_row.log_prob(u, y), rtol=1e-12)


@pytest.mark.parametrize("kind", ["operator", "matrix"])
def test_likelihood_prox_equals_dense_algebra(kind, key):
    shape = (4, 6, 1)
    noises, C = models(shape)
    A = ops.Blur(normal((3, 2), 3), shape)
    problem = InverseProblem(A, noises[kind])
    x, y = jnp.asarray(normal(shape)), problem.measure(key, jnp.asarray(normal(shape, 2)))
    f = problem.likelihood(y)
    M, precision = np.asarray(A.dense()), np.linalg.inv(C)
    exact = np.linalg.solve(np.eye(24) + 0.3 * M.T @ precision @ M, np.ravel(x) + 0.3 * M.T @ precision @ np.ravel(y))
    np.testing.assert_allclose(np.ravel(eqx.filter_jit(f.prox)(x, 0.3)), exact, atol=1e-9)
    np.testing.assert_allclose(np.ravel(f.grad(x)), M.T @ precision @ (M @ np.ravel(x) - np.ravel(y)), atol=1e-10)
    if kind == "operator":  # one basis for blur and noise: the solve is closed form
        assert (f.noise.whitener(f.y) @ A).gram_spectrum is not None


def test_learning_the_scale_of_a_covariance():
    """d log p / d s at C = s B: (r^T B^-1 r / s - m) / (2 s)."""
    shape = (4, 6, 1)
    B, r = stationary(shape), jnp.asarray(normal(shape))
    slope = jax.grad(lambda s: CorrelatedGaussian(s * B).log_prob(r, 0 * r))(0.7)
    square = np.ravel(r) @ np.linalg.solve(np.asarray(B.dense()), np.ravel(r))
    np.testing.assert_allclose(slope, (square / 0.7 - 24) / 1.4, rtol=1e-10)


ERRORS = {
    "covariance: expected 2 dimensions, got shape (3,)": lambda: CorrelatedGaussian(np.ones(3)),
    "covariance: expected shape (2, 2), got (2, 3)": lambda: CorrelatedGaussian(np.ones((2, 3))),
    "covariance: expected a symmetric matrix": lambda: CorrelatedGaussian([[1.0, 0.5], [0.0, 1.0]]),
    "eigenvalues of covariance: expected positive values": lambda: CorrelatedGaussian(np.ones((2, 2))),
    "covariance: expected an operator with a known Hermitian spectrum": lambda: CorrelatedGaussian(
        ops.Wavelet((4, 4, 1))
    ),
    "covariance: expected a matrix (6, 6) for shape (3, 2), got (2, 2)": lambda: CorrelatedGaussian(np.eye(2)).grad(
        jnp.ones((3, 2)), jnp.ones((3, 2))
    ),
    "covariance: expected one on shape (3, 2), got": lambda: CorrelatedGaussian(ops.Identity((2, 3))).grad(
        jnp.ones((3, 2)), jnp.ones((3, 2))
    ),
    "eigenvalues of covariance: expected positive": lambda: CorrelatedGaussian(ops.FiniteDifferences((4, 4, 1)).gram),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message]()
    assert message in str(error.value)
