"""Sorting against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import ordering

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1.0, -1.0, 1.0, 1e-30, -1e-30, 3e38, -3e38, 0.1, np.nan]


def values(dtype):
    r = np.random.default_rng(0)
    x = np.concatenate([SPECIAL, r.normal(size=300), r.integers(-3, 3, 40), np.exp(r.normal(0, 30, 45))])
    return r.permutation(x).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_orders_as_numpy_does(dtype):
    x = values(dtype)
    found = jax.jit(lambda x: (ordering.sort(x), ordering.argsort(x)))(jnp.asarray(x))
    np.testing.assert_array_equal(found[0], np.sort(x))
    np.testing.assert_array_equal(found[1], np.argsort(x, kind="stable"))
    assert found[0].dtype == dtype
    assert found[1].dtype == np.int32


def test_float64_is_sorted_by_all_its_digits():
    steps = np.random.default_rng(1).permutation(400) - 200
    x = jnp.asarray(-1.0 + steps * np.finfo(float).eps / 2)
    np.testing.assert_array_equal(ordering.argsort(x), np.argsort(x, kind="stable"))


def test_works_where_64_bits_are_switched_off_and_in_batches():
    x = np.random.default_rng(2).normal(size=(3, 50)).astype(np.float32)
    with jax.enable_x64(False):
        order = jax.jit(jax.vmap(ordering.argsort))(x)
        again = jax.jit(lambda x: jax.lax.map(ordering.argsort, x))(x)
    np.testing.assert_array_equal(order, np.argsort(x, axis=1, kind="stable"))
    np.testing.assert_array_equal(again, order)


def test_derivatives_of_the_sorted_array_are_permutations():
    x = jnp.asarray(np.random.default_rng(3).permutation(20) / 7.0)
    jacobian = jax.jacfwd(ordering.sort)(x)
    np.testing.assert_array_equal(jacobian @ x, np.sort(x))
    np.testing.assert_array_equal(jax.jacrev(ordering.sort)(x), jacobian)
    weights = jnp.arange(20.0)
    second = jax.hessian(lambda x: jnp.vdot(weights, ordering.sort(x) ** 2))(x)
    np.testing.assert_allclose(second, 2 * np.diag(np.asarray(jacobian.T @ weights)), rtol=1e-14)


def test_64_bit_integers_are_for_cpus_alone():
    def program(platform):
        with jax.enable_x64(False):
            shape = jax.ShapeDtypeStruct((9,), jnp.float32)
            return jax.export.export(jax.jit(ordering.argsort), platforms=[platform])(shape).mlir_module()

    assert "9xi64>" in program("cpu")
    assert "9xi64>" not in program("tpu")
    assert "9xi64>" not in program("cuda")


@pytest.mark.parametrize("order", [ordering.sort, ordering.argsort])
@pytest.mark.parametrize("x", [jnp.arange(3), jnp.ones((2, 2)), jnp.ones(3, jnp.float16)])
def test_bad_input(order, x):
    with pytest.raises(ValueError, match="x: expected float32 or float64 of shape"):
        order(x)
