"""Random sensing operators: their statistics, memory in blocks, unitarity; cropping against slicing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import operators as ops


def test_gaussian_sensing_has_the_marchenko_pastur_norm(key):
    n, m = 1024, 256
    A = ops.GaussianSensing(key, m, (32, 32, 1))
    np.testing.assert_allclose(A.norm() ** 2, (1 + np.sqrt(n / m)) ** 2, rtol=0.03)


@pytest.mark.parametrize("complex", [False, True])
def test_entries_have_variance_one_over_m(complex, key):
    M = np.asarray(ops.GaussianSensing(key, 100, (20, 20, 1), block=32, complex=complex).dense())
    assert M.shape == (100, 400)
    np.testing.assert_allclose(np.mean(np.abs(M) ** 2), 1 / 100, rtol=5 * np.sqrt(2 / M.size))
    assert abs(M.mean()) < 5 / np.sqrt(100 * M.size)
    assert np.linalg.matrix_rank(M) == 100  # no block is repeated
    if complex:
        np.testing.assert_allclose(np.mean(M.real**2), 1 / 200, rtol=5 * np.sqrt(2 / M.size))


def test_gaussian_sensing_is_one_operator_at_every_precision_and_its_memory_is_bounded(key):
    A = ops.GaussianSensing(key, 64, (8, 8, 1), block=4)
    x = np.random.default_rng(0).normal(size=(8, 8, 1))
    np.testing.assert_allclose(A(jnp.asarray(x, jnp.float32)), A(jnp.asarray(x)), rtol=1e-4, atol=1e-5)
    large = ops.GaussianSensing(key, 4096, (64, 64, 1), block=8)
    memory = jax.jit(lambda A, x: A.H(A(x))).lower(large, jnp.zeros((64, 64, 1))).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4096 * 4096 * 4 / 20


@pytest.mark.parametrize("transform", ["fourier", "cosine", "hadamard"])
def test_structured_random_operators_are_isometries(transform, key):
    shape = (8, 4, 2)
    square = ops.structured_random(key, shape, transform=transform, num_layers=3)
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape))
    np.testing.assert_allclose(jnp.linalg.norm(square(x)), jnp.linalg.norm(x), rtol=1e-6)
    np.testing.assert_allclose(square.H(square(x)), x, atol=1e-6)
    cropped = ops.structured_random(key, shape, (4, 4, 1), transform=transform)
    y = jnp.asarray(np.random.default_rng(1).normal(size=(4, 4, 1)))
    np.testing.assert_allclose(cropped(cropped.H(y)), y, atol=1e-6)  # the phases are float32
    padded = ops.structured_random(key, (4, 2, 2), shape, transform=transform)
    z = x[:4, :2]
    np.testing.assert_allclose(padded.H(padded(z)), z, atol=1e-6)
    other = ops.structured_random(jax.random.fold_in(key, 1), shape, transform=transform)
    assert jnp.linalg.norm(other(x) - ops.structured_random(key, shape, transform=transform)(x)) > 0.1


def test_crop_is_a_slice():
    x = jnp.arange(60.0).reshape(5, 6, 2)
    np.testing.assert_array_equal(ops.Crop((5, 6, 2), (2, 3, 1), (1, 2, 1))(x), x[1:3, 2:5, 1:2])
    np.testing.assert_array_equal(ops.Crop((5, 6, 2), (3, 2, 2))(x), x[1:4, 2:4])
    np.testing.assert_array_equal(ops.pad((5, 6, 2), (7, 9, 2))(x), np.pad(x, ((1, 1), (1, 2), (0, 0))))


ERRORS = {
    "out_shape: expected a window inside (4, 4, 1), got (5, 2, 1)": lambda: ops.Crop((4, 4, 1), (5, 2, 1)),
    "out_shape: expected a window inside (4, 4, 1), got (2, 2, 1) from (3, 0, 0)": lambda: ops.Crop(
        (4, 4, 1), (2, 2, 1), (3, 0, 0)
    ),
    "out_shape: expected 3 axes, got (4, 4)": lambda: ops.Crop((4, 4, 1), (4, 4)),
    "block: expected an integer >= 1, got 0": lambda: ops.GaussianSensing(jax.random.key(0), 3, (2, 2, 1), block=0),
    "transform: expected one of": lambda: ops.structured_random(jax.random.key(0), (2, 2, 1), transform="wavelet"),
    "out_shape: expected no axis smaller": lambda: ops.structured_random(jax.random.key(0), (2, 4, 1), (4, 2, 1)),
    "num_layers: expected an integer >= 1, got 0": lambda: ops.structured_random(
        jax.random.key(0), (2, 2, 1), num_layers=0
    ),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message]()
    assert message in str(error.value)
