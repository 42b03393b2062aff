"""Rules of the algebra that no single operator owns, and the operators that build others from small ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import operators as ops
from invjax.operators.spectrum import Pixel, Spectrum

from ..registry import call


def rng(seed=0):
    return np.random.default_rng(seed)


# Precision and inputs of what was there -------------------------------------------------------------------------------


def test_pushed_spectra_keep_the_wider_precision():
    third = Spectrum(jnp.asarray(1 / 3), Pixel(), Pixel())  # float64 under float32 weights
    A = ops.ChannelMatrix(np.array([[1, 2]], np.float32), (2, 3, 2))
    B = ops.Mask(np.full((2, 3, 2), 0.5, np.float32))
    np.testing.assert_allclose(A.push_spectrum(third).values.ravel()[0], 5 / 3, rtol=1e-15)
    np.testing.assert_allclose(B.push_spectrum(third).values.ravel()[0], 1 / 12, rtol=1e-15)
    full = third.map(lambda v: jnp.full((2, 3, 2), v))
    np.testing.assert_allclose(A.push_spectrum(full).values, 5 / 3, rtol=1e-15)


def test_solves_with_an_ill_conditioned_channel_matrix():
    """Backward stable, which products with an inverse are not: the residual is of rounding size although |z| is small."""
    M = np.array([[1, 1], [1, 1 + 1e-5], [1, 1 - 1e-5]])
    A = ops.ChannelMatrix(M, (3, 4, 2))
    rhs = jnp.asarray(1 + 1e-6 * rng().normal(size=(3, 4, 2)))  # close to the largest singular vector
    z = np.asarray(call(A, "shifted_solve", rhs, 1e11))
    inside = np.eye(2) + 1e11 * M.T @ M
    size = np.linalg.norm(inside) * np.linalg.norm(z) + np.linalg.norm(rhs)
    assert np.linalg.norm(z @ inside - rhs) < 10 * np.finfo(float).eps * size


def test_integer_matrices_are_those_of_floats():
    x = jnp.asarray(rng().normal(size=(2, 3, 3)))
    B = ops.ChannelMatrix(np.array([[1.0, 2, 3]]), x.shape)
    for weights in ([[1, 2, 3]], ((1, 2, 3),), np.array([[1, 2, 3]])):
        A = ops.ChannelMatrix(weights, x.shape)
        np.testing.assert_allclose(A(x), B(x), rtol=1e-12)
        np.testing.assert_allclose((A @ ops.Mask(np.full(x.shape, 0.5))).norm(), np.sqrt(14) / 2, rtol=1e-6)
    np.testing.assert_allclose(ops.decolorise(x.shape, [1, 2, 3])(x), B(x), rtol=1e-12)


ERRORS = {
    "y: expected shape (4, 5, 2), got (4, 5, 3)": lambda: ops.ChannelMatrix(np.ones((2, 3)), (4, 5, 3)).pinv(
        jnp.ones((4, 5, 3))
    ),
    "y: expected PyTreeDef((*,)), got PyTreeDef((*, *))": lambda: ops.block_diagonal([ops.Identity((2, 2, 1))]).pinv(
        (jnp.ones((2, 2, 1)), jnp.ones((2, 2, 1)))
    ),
    "num_measurements: expected an integer >= 1, got 0": lambda: ops.GaussianSensing(jax.random.key(0), 0, (2, 2, 1)),
    "out_shape: expected 3 axes, got (4, 4)": lambda: ops.structured_random(jax.random.key(0), (4, 4, 1), (4, 4)),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message]()
    assert message in str(error.value)
