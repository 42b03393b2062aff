"""Resizing against JAX's own on a reflected image, block means, and the closed forms that whole factors have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import operators as ops

from ..registry import call

SIZES = {
    "smaller": ((12, 10), (4, 5)),
    "larger": ((8, 6), (16, 18)),
    "rational": ((12, 9), (5, 12)),
}
JAX_NAME = {"bicubic": "cubic", "bilinear": "linear", "lanczos": "lanczos3"}


def image(sizes, seed=0):
    return np.random.default_rng(seed).normal(size=(*sizes, 2))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("kernel", JAX_NAME)
def test_equals_the_resizing_of_jax_on_the_reflected_image(sizes, kernel):
    before, after = SIZES[sizes]
    x = image(before)
    reflected = np.pad(x, [(n, n) for n in before] + [(0, 0)], mode="symmetric")
    for antialias in (True, False):
        whole = jax.image.resize(
            jnp.asarray(reflected), (3 * after[0], 3 * after[1], 2), JAX_NAME[kernel], antialias=antialias
        )
        exact = whole[after[0] : 2 * after[0], after[1] : 2 * after[1]]
        A = ops.Resize(x.shape, after, kernel, antialias=antialias)
        np.testing.assert_allclose(call(A, "apply", x), exact, atol=1e-12)


def test_box_of_a_whole_factor_is_the_mean_of_blocks_and_its_inverse_repeats():
    x = image((6, 8))
    small = ops.Resize(x.shape, (3, 2), "box")
    means = x.reshape(3, 2, 2, 4, 2).mean((1, 3))
    np.testing.assert_allclose(call(small, "apply", x), means, atol=1e-14)
    large = ops.Resize(means.shape, (6, 8), "box")
    np.testing.assert_array_equal(call(large, "apply", means), means.repeat(2, 0).repeat(4, 1))
    np.testing.assert_allclose(call(small, "norm"), 8**-0.5, rtol=1e-13)


def test_the_published_weights_of_halving():
    """MATLAB's bicubic halving: Keys' kernel at (j + 1/2) / 2, over its sum, eight taps."""
    u = (np.arange(-4, 4) + 0.5) / 2
    keys = np.where(abs(u) <= 1, 1.5 * abs(u) ** 3 - 2.5 * u**2 + 1, -0.5 * abs(u) ** 3 + 2.5 * u**2 - 4 * abs(u) + 2)
    x = image((24, 1))
    y = call(ops.Resize(x.shape, (12, 1)), "apply", x)
    np.testing.assert_allclose(y[6], np.tensordot(keys / keys.sum(), x[9:17], 1), atol=1e-14)


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear", "box", "lanczos"])
def test_constants_are_kept_also_where_the_kernel_is_wider_than_the_image(kernel):
    for before, after in (((5, 7), (3, 9)), ((3, 2), (1, 1)), ((1, 4), (6, 4))):
        A = ops.Resize((*before, 1), after, kernel)
        np.testing.assert_allclose(call(A, "apply", np.ones((*before, 1))), np.ones((*after, 1)), atol=1e-13)


def test_same_size_is_the_identity():
    x = image((5, 6))
    np.testing.assert_allclose(call(ops.Resize(x.shape, (5, 6)), "apply", x), x, atol=1e-14)


def test_closed_forms_are_known_exactly_for_whole_factors():
    def known(before, after):
        A = ops.Resize((*before, 1), after)
        return A.cogram_spectrum is not None, A.gram_spectrum is not None

    assert known((12, 10), (4, 5)) == (True, False)
    assert known((4, 5), (12, 10)) == (False, True)
    assert known((12, 10), (5, 5)) == known((12, 5), (6, 10)) == (False, False)


def test_float32_agrees_with_float64_and_a_large_table_stays_small(float32):
    x = image((512, 384)).astype(np.float32)
    A = ops.Resize(x.shape, (128, 96))
    y = A(jnp.asarray(x))
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(A.norm(), 1 / 4, rtol=0.05)  # a low pass of unit sum that keeps one pixel in 16
    memory = jax.jit(lambda x: A.H(A(x))).lower(x).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * x.nbytes


ERRORS = {
    "kernel: expected one of": lambda: ops.Resize((4, 4, 1), (2, 2), "cubic"),
    "out_sizes: expected 2 sizes for shape (4, 4, 1), got (2,)": lambda: ops.Resize((4, 4, 1), (2,)),
    "shape: expected positive integers": lambda: ops.Resize((4, 4, 1), (0, 2)),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message]()
    assert message in str(error.value)
