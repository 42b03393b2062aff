"""Samplers of numbers, joint draws and mixtures, and the arrays of space-varying blurs."""

import equinox as eqx
import jax
import numpy as np
import pytest

from invjax import generators as gen
from invjax import operators as ops

from ..registry import call

COUNT = 4000


@eqx.filter_jit
def many(generator, key, count):
    return jax.vmap(generator)(jax.random.split(key, count))


def draws(generator, key, count=COUNT):
    return jax.tree.map(np.asarray, many(generator, key, count))


def test_laws_of_the_samplers_of_numbers(key):
    low, high = 0.01, 0.5
    uniform = draws(gen.Uniform(low, high), key)
    ranks = (uniform - low) / (high - low)
    logarithmic = np.log(draws(gen.LogUniform(low, high), key) / low) / np.log(high / low)
    for u in (ranks, logarithmic):
        assert 0 <= u.min() < 0.01
        assert 0.99 < u.max() <= 1
        assert abs(u.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / COUNT)
        assert abs(np.mean(u**2) - 1 / 3) < 5 * np.sqrt(4 / 45 / COUNT)
    values, odds = np.array([0.1, 0.2, 0.4]), np.array([1.0, 2.0, 1.0])
    chosen = draws(gen.Discrete(values, odds), key)
    for value, p in zip(values, odds / 4, strict=True):
        assert abs(np.mean(chosen == value) - p) < 5 * np.sqrt(p * (1 - p) / COUNT)
    assert set(draws(gen.Discrete(values), key, 100).tolist()) == set(values.tolist())


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def test_parts_of_a_joint_draw_are_independent(key):
    """Equal generators at their defaults: with one key for both the correlation would be one."""
    out = draws(
        gen.Joint({"sigma": gen.Uniform(0, 1), "gain": gen.Uniform(0, 1), "more": (gen.LogUniform(1, 2),)}), key
    )
    assert set(out) == {"sigma", "gain", "more"}
    for a, b in (("sigma", "gain"), ("sigma", "more"), ("gain", "more")):
        u, v = (o[0] if isinstance(o, tuple) else o for o in (out[a], out[b]))
        assert abs(correlation(u, v)) < 5 / np.sqrt(COUNT)
    blur = gen.MotionBlur((5, 5))
    pair = draws(gen.Joint((blur, blur)), key, 500)
    for pixel in ((2, 2), (1, 3)):
        assert abs(correlation(pair[0][:, *pixel], pair[1][:, *pixel])) < 5 / np.sqrt(500)


def test_a_mixture_chooses_with_its_probabilities_and_independently_of_the_draw(key):
    mixture = gen.Mixture([gen.Uniform(0, 1), gen.Uniform(2, 3)], np.array([0.3, 0.7]))
    out = draws(mixture, key)
    second = out >= 2
    assert abs(second.mean() - 0.7) < 5 * np.sqrt(0.21 / COUNT)
    assert abs(out[second].mean() - 2.5) < 5 * np.sqrt(1 / 12 / second.sum())
    assert abs(correlation(out - 2 * second, second.astype(float))) < 5 / np.sqrt(COUNT)
    assert abs(draws(gen.Mixture([gen.Constant(0.0), gen.Constant(1.0)]), key).mean() - 0.5) < 5 * 0.5 / np.sqrt(COUNT)


def test_a_mixture_of_generators_of_other_outputs_is_refused():
    with pytest.raises(ValueError, match="generators: expected equal outputs"):
        gen.Mixture([gen.Uniform(0, 1), gen.Uniform(0, 1, (2,))])
    with pytest.raises(ValueError, match="generators: expected at least one generator, got none"):
        gen.Mixture([])
    with pytest.raises(ValueError, match="probabilities: expected shape"):
        gen.Mixture([gen.Uniform(0, 1)], np.ones(2))
    with pytest.raises(ValueError, match="low: expected positive"):
        gen.LogUniform(0.0, 1.0)


KERNEL = gen.GaussianBlur((5, 7), 0.5, 2.0)


def of_pixel(parameters, row, column):
    return np.einsum("k,kab->ab", parameters.weights[:, row, column, 0], parameters.kernels)


def test_as_many_components_as_nodes_interpolate_the_drawn_kernels(key):
    generator = gen.ProductConvolution(KERNEL, (7, 9), 6, (2, 3))
    parameters = jax.tree.map(np.asarray, call(generator, "__call__", key))
    drawn = draws(KERNEL, key, 6).reshape(2, 3, 5, 7)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(of_pixel(parameters, 6 * i, 4 * j), drawn[i, j], atol=1e-13)
    np.testing.assert_allclose(
        of_pixel(parameters, 3, 6), drawn[:, 1:].mean((0, 1)), atol=1e-13
    )  # half way between four


def test_few_components_are_the_best_of_their_number_and_every_kernel_sums_to_one(key):
    """Eckart and Young: the squared error at the nodes is the sum of the squares of what is left out."""
    drawn = draws(KERNEL, key, 6)
    values = np.linalg.svd((drawn - drawn.mean(0)).reshape(6, -1), compute_uv=False)
    for count in (1, 3):
        generator = gen.ProductConvolution(KERNEL, (7, 9), count, (2, 3))
        parameters = jax.tree.map(np.asarray, call(generator, "__call__", key))
        assert parameters.kernels.shape == (count, 5, 7)
        sums = np.einsum("kijc,kab->ij", parameters.weights, parameters.kernels)
        np.testing.assert_allclose(sums, 1, atol=1e-13)
        errors = [np.sum((of_pixel(parameters, 6 * i, 4 * j) - drawn[3 * i + j]) ** 2) for i, j in np.ndindex(2, 3)]
        np.testing.assert_allclose(sum(errors), np.sum(values[count - 1 :] ** 2), rtol=1e-10)


def test_the_arrays_fit_the_operators(key):
    parameters = call(gen.ProductConvolution(KERNEL, (8, 9), 3, (2, 3)), "__call__", key)
    A = ops.SpaceVaryingBlur(*parameters, (8, 9, 2), "replicate", order="convolution_product")
    np.testing.assert_allclose(call(A, "apply", np.ones((8, 9, 2))), 1, atol=1e-13)
    kernels = call(gen.TiledKernels(KERNEL, (2, 1)), "__call__", key)
    np.testing.assert_allclose(kernels[1, 0], call(KERNEL, "__call__", jax.random.split(key, (2, 1))[1, 0]), atol=1e-14)
    B = ops.TiledBlur(np.broadcast_to(kernels[:1], kernels.shape), (12, 9, 2), 2)
    np.testing.assert_allclose(call(B, "apply", np.ones((12, 9, 2))), np.ones((8, 3, 2)), atol=1e-13)


ERRORS = {
    "num_components: expected 1 to the number of nodes (2, 3), got 7": lambda: gen.ProductConvolution(
        KERNEL, (7, 9), 7, (2, 3)
    ),
    "grid: expected at least 2 nodes": lambda: gen.ProductConvolution(KERNEL, (7, 9), 1, (1, 3)),
    "values: expected at least one axis": lambda: gen.Discrete(1.0),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message]()
    assert message in str(error.value)
