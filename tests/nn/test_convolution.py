"""The 3 x 3 convolution of the networks against XLA's, its derivatives, and what is computed for them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax.nn.convolution import _INPUT, _KERNEL, _OUTPUT, convolve, winograd

NUMBERS = ("NHWC", "HWIO", "NHWC")
xla = functools.partial(jax.lax.conv_general_dilated, window_strides=(1, 1), padding="SAME", dimension_numbers=NUMBERS)
ours = functools.partial(convolve, strides=(1, 1), padding="SAME", dimension_numbers=NUMBERS)


def pair(shape, num_out, dtype=np.float64, seed=0):
    r = np.random.default_rng(seed)
    return r.normal(size=shape).astype(dtype), r.normal(size=(3, 3, shape[-1], num_out)).astype(dtype)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 5, 7, 3), (1, 13, 4, 2), (3, 8, 1, 4), (0, 8, 8, 2)])
def test_winograd_is_the_convolution(shape):
    x, kernel = pair(shape, 5)
    np.testing.assert_allclose(jax.jit(winograd)(x, kernel), xla(x, kernel), rtol=1e-12, atol=1e-12)


def test_rounding_in_float32_is_that_of_the_formula():
    """Independent roundings: sqrt(n) u times the formula on absolute values, n the length of a sum (Higham and Mary 2019)."""
    x, kernel = pair((1, 32, 32, 32), 32, np.float32)
    found = jax.jit(winograd)(x, kernel)
    assert found.dtype == np.float32
    error = found - xla(x.astype(np.float64), kernel.astype(np.float64))
    padded = np.pad(np.abs(x[0]), ((1, 1), (1, 1), (0, 0)))
    taps = np.stack([padded[i : i + 29 : 4] for i in range(6)])
    mixed, filters = np.tensordot(np.abs(_INPUT), taps, 1), np.tensordot(np.abs(_KERNEL), np.abs(kernel), 1)
    products = sum(np.einsum("arwc,acd->arwd", mixed[:, :, j : j + 32], filters[:, j]) for j in range(3))
    size = np.moveaxis(np.tensordot(np.abs(_OUTPUT), products, 1), 0, 1).reshape(32, 32, 32)
    terms = 3 * 32 + len(_INPUT) + len(_KERNEL[0]) + len(_OUTPUT[0])  # products of a row, and the three transforms
    assert np.all(np.abs(error[0]) <= np.sqrt(terms) * np.finfo(np.float32).eps / 2 * size)


def test_derivatives_are_those_of_the_convolution():
    """Along the image, along the kernel, along both; and the gradients."""
    (x, kernel), (dx, dkernel) = pair((2, 6, 5, 3), 4), pair((2, 6, 5, 3), 4, seed=1)

    @jax.jit
    def all_of_them(x, kernel, dx, dkernel):
        def derivatives(conv):
            return (
                jax.jvp(lambda x: conv(x, kernel), (x,), (dx,)),
                jax.jvp(lambda k: conv(x, k), (kernel,), (dkernel,)),
                jax.jvp(conv, (x, kernel), (dx, dkernel)),
                jax.grad(lambda *a: jnp.sum(conv(*a) ** 2), (0, 1))(x, kernel),
                jax.grad(lambda k: jnp.sum(conv(x, k) ** 2))(kernel),
            )

        return derivatives(ours), derivatives(xla)

    found, expected = all_of_them(x, kernel, dx, dkernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11), found, expected)


def test_what_is_held_fixed_costs_no_convolution():
    x, kernel = pair((1, 8, 8, 2), 2)

    def count(function, *primals):
        text = jax.jit(lambda p, t: jax.jvp(function, p, t)).lower(primals, primals).as_text()
        return text.count("stablehlo.convolution")

    assert count(lambda x: ours(x, kernel), x) == 1
    assert count(lambda k: ours(x, k), kernel) == 1
    assert count(ours, x, kernel) == 2


def test_half_precision_is_left_to_xla():
    x, kernel = (jnp.asarray(a, jnp.bfloat16) for a in pair((1, 8, 8, 2), 2))
    np.testing.assert_array_equal(jax.jit(ours)(x, kernel), jax.jit(xla)(x, kernel))
