"""What is called eagerly is one compiled program, inside a transformation what it was; bad values are refused all the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import InverseProblem, likelihoods, operators, transforms
from invjax.eager import one_program

SHAPE = (12, 10, 1)


def test_traced_once_eagerly_and_passed_through_inside_transformations(key):
    traces = []

    @one_program
    def double(x, factor=2.0):
        traces.append(isinstance(x, jax.core.Tracer))
        return factor * x

    x = jax.random.normal(key, (3,))
    for _ in range(2):
        np.testing.assert_array_equal(double(x), 2 * x)
    np.testing.assert_array_equal(double(x, factor=3.0), 3 * x)
    assert traces == [True, True]  # one program for each value of what is no array
    jax.vmap(double)(x)
    jax.jit(lambda x: jnp.sin(double(x)))(x)
    assert len(traces) == 4
    np.testing.assert_array_equal(jax.grad(lambda x: double(x).sum())(x), 2 * jnp.ones(3))


def problem():
    A = operators.Blur(operators.gaussian_kernel(1.0), SHAPE)
    noise = likelihoods.Gaussian(0.1)
    return A, InverseProblem(A, noise).likelihood(A(jnp.ones(SHAPE)))


def test_arguments_may_be_named():
    A, f = problem()
    x = jnp.linspace(0, 1, 120).reshape(SHAPE)
    np.testing.assert_array_equal(f.grad(x=x), f.grad(x))
    np.testing.assert_array_equal(f(x=x), f(x))
    np.testing.assert_array_equal(f.prox(x=x, step_size=0.1), f.prox(x, 0.1))
    np.testing.assert_array_equal(A.prox(x=x, y=x, step_size=0.1), A.prox(x, x, 0.1))


def test_an_operator_of_a_traced_value_with_a_concrete_image():
    """The function of the operator closes over a tracer that none of its arrays shows."""

    def total(weight):
        return operators.from_function(lambda x: weight * x, (4,))(np.ones(4)).sum()

    for weight in (2.0, 3.0):
        np.testing.assert_allclose(jax.jit(total)(weight), 4 * weight)
        np.testing.assert_allclose(jax.grad(total)(weight), 4)
    np.testing.assert_allclose(jax.vmap(total)(jnp.arange(3.0)), 4 * np.arange(3.0))


REFUSED = {
    "x: expected shape": lambda A, f, x: A(x[1:]),
    "x: expected a floating array": lambda A, f, x: f.grad(jnp.ones(SHAPE, int)),
    "y: expected shape": lambda A, f, x: A.pinv(x[1:]),
    "step_size: expected non-negative values, got -1.0": lambda A, f, x: A.prox(x, x, -1.0),
    "step_size: expected non-negative values, got -2.0": lambda A, f, x: f.prox(x, -2.0),
    "g: expected positive values": lambda A, f, x: transforms.Scale()(-1.0, x),
}


@pytest.mark.parametrize("message", REFUSED)
def test_bad_values_are_refused(message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message](*problem(), jnp.ones(SHAPE))
