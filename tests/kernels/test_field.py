"""Tabulated fields against the kernel sums they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import kernels as K

from .registry import cloud, kernel


@pytest.mark.parametrize("name", ["gaussian", "negative_distance", "laplace"])
def test_field_is_the_sum(name):
    """Value, gradient and second derivatives at the same directions: the same interpolation, so equal to rounding."""
    k, x, y = kernel(name), jnp.asarray(cloud(1, 9)), jnp.asarray(cloud(2, 5))
    w = jnp.linspace(-1, 1, 9)
    centre = np.array([0.1, 0.0, -0.2])
    plan = K.plan(k, ((9, 3), (5, 3)), 3.0, key=jax.random.key(0), method="grid", num_slices=6, centre=centre)
    field, t = K.tabulate_field(k, x, w, plan), jnp.ones_like(y)

    @jax.jit
    def views(k, field, y, w, plan):
        gradient = lambda y: K.kernel_sum_gradient(k, x, y, w, plan=plan)  # noqa: E731
        ours = field(y), jax.grad(lambda y: jnp.sum(field(y)))(y), *jax.jvp(field.gradient, (y,), (t,))
        exact = gradient(y)
        return ours, (K.kernel_sum(k, x, y, w, plan=plan), exact, exact, jax.jvp(gradient, (y,), (t,))[1])

    for found, expected in zip(*views(k, field, y, w, plan), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-10)
    assert not field.checked_gradient(y)[1]
    assert field.checked_gradient(9 * y)[1]


def test_field_is_linear_in_its_weights():
    """The derivative in the weights, through the table, is the field of the tangent."""
    k, x, y = kernel("gaussian"), jnp.asarray(cloud(1, 9)), jnp.asarray(cloud(2, 5))
    plan = K.plan(k, ((9, 3), (5, 3)), 3.0, key=jax.random.key(0), method="grid", num_slices=6)
    w, dw = jnp.linspace(-1, 1, 9), jnp.cos(jnp.arange(9.0))
    tangent = jax.jvp(lambda w: K.tabulate_field(k, x, w, plan)(y), (w,), (dw,))[1]
    np.testing.assert_allclose(tangent, K.tabulate_field(k, x, dw, plan)(y), atol=1e-11)


def test_field_knows_its_sources_and_its_kernel():
    """A source outside the radius spoils the field; integers are refused."""
    k, x, y = kernel("gaussian"), jnp.asarray(cloud(1, 9)), jnp.asarray(cloud(2, 5))
    plan = K.plan(k, ((9, 3), (5, 3)), 3.0, key=jax.random.key(0), method="grid", num_slices=6)
    field = K.tabulate_field(k, x.at[3].set(9.0), jnp.ones(9), plan)
    gradient, outside = field.checked_gradient(y)
    assert outside
    assert np.all(np.isnan(gradient))
    for match, call in (
        ("x: expected real", lambda: K.tabulate_field(k, np.ones((9, 3), int), np.ones(9), plan)),
        ("w: expected shape", lambda: K.tabulate_field(k, x, np.ones(4), plan)),
        ("y: expected points", lambda: field(y[:, :2])),
    ):
        with pytest.raises(ValueError, match=match):
            call()


def test_other_plans_are_refused():
    plan = K.plan(K.Gaussian(1.0), ((9, 3), (5, 3)), 3.0, method="dense")
    with pytest.raises(ValueError, match="grid"):
        K.tabulate_field(K.Gaussian(1.0), np.ones((9, 3)), np.ones(9), plan)
