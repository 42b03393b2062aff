"""Noise as a transform, averages over groups, and transforms of operators."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import operators as ops
from invjax import transforms as tf
from invjax.operators import krylov

from .registry import IMAGE
from .test_mathematics import rng


def test_noise_is_standard_normal(key):
    x = np.zeros((50, 60, 2))
    n = np.asarray(tf.RandomNoise()((2.0, key), x)) / 2
    assert abs(n.mean()) < 5 / np.sqrt(n.size)
    assert abs(n.var() - 1) < 5 * np.sqrt(2 / n.size)
    z = np.asarray(tf.RandomNoise()((1.0, key), x + 0j))
    assert abs(np.mean(np.abs(z) ** 2) - 1) < 5 / np.sqrt(z.size)
    assert abs(np.mean(z.real**2) - 0.5) < 5 * np.sqrt(0.5 / z.size)


def skewed(x, sigma, weights):
    """A function without any symmetry."""
    return jnp.tanh(x * weights) + sigma * jnp.cumsum(x, 0)


def test_the_average_over_a_finite_group_is_equivariant():
    r, T = rng(), tf.dihedral()
    x, weights = r.normal(size=(4, 4, 2)), r.uniform(1, 2, size=(4, 4, 2))
    average = tf.Symmetrised(T, eqx.Partial(skewed, weights=weights))
    elements = T.elements()
    ours = jax.vmap(lambda g: average(T(g, x), 0.3))(elements)
    theirs = jax.vmap(lambda g: T(g, average(x, 0.3)))(elements)
    np.testing.assert_allclose(ours, theirs, atol=1e-13)
    assert np.abs(skewed(np.rot90(x), 0.3, weights) - np.rot90(skewed(x, 0.3, weights))).max() > 0.1
    orbit = [T.apply_inverse(g, skewed(T(g, x), 0.3, weights)) for g in zip(elements[0], elements[1], strict=True)]
    np.testing.assert_allclose(average(x, 0.3), np.mean(orbit, 0), atol=1e-13)
    np.testing.assert_allclose(tf.group_average(T, jnp.tanh, x), np.tanh(x), atol=1e-14)  # equivariant already


def test_the_random_average_is_unbiased(key):
    r, T = rng(), tf.QuarterTurns()
    x, weights = r.normal(size=(3, 3, 1)), r.uniform(1, 2, size=(3, 3, 1))
    fn = eqx.Partial(skewed, sigma=0.3, weights=weights)
    orbit = np.stack([np.rot90(fn(np.rot90(x, k)), -k) for k in range(4)])
    got = tf.random_average(key, T, fn, x, num_samples=2000)
    assert np.all(np.abs(got - orbit.mean(0)) <= 5 * orbit.std(0) / np.sqrt(2000) + 1e-12)


@pytest.mark.parametrize("T", [tf.Shift(IMAGE[:2]), tf.Reflect(), tf.FourierShift()], ids=lambda T: type(T).__name__)
def test_virtual_operators_need_no_iteration(T, key, monkeypatch):
    """``A T_g`` of a unitary ``T_g`` has the norm of A, and ``(A T)^+ = T^H A^+``: closed form if that of A is."""
    for name in ("solve_shifted", "pinv"):
        monkeypatch.setattr(krylov, name, lambda *a: pytest.fail("iterated"))
    g, y = T.sample(key), rng().normal(size=IMAGE)
    for A in (ops.Mask(rng().uniform(size=(6, 8, 1)) > 0.4, IMAGE), ops.Blur(rng().uniform(size=(3, 3)), IMAGE)):
        virtual = A @ T.operator(g, IMAGE)
        np.testing.assert_allclose(virtual.norm(), A.norm(), rtol=1e-13)
        np.testing.assert_allclose(virtual.pinv(y), T.apply_inverse(g, A.pinv(y)), atol=1e-10)
        M = np.asarray(virtual.dense())
        exact = np.linalg.solve(np.eye(M.shape[1]) + 0.5 * M.T @ M, 0.5 * M.T @ y.ravel())
        np.testing.assert_allclose(virtual.prox(0 * y, y, 0.5).ravel(), exact, atol=1e-12)


def test_permuted_masks_stay_diagonal(key):
    T = tf.Shift(IMAGE[:2])
    mask = rng().uniform(size=(6, 8, 1)) > 0.4
    A = ops.stack([ops.Mask(mask, IMAGE) @ T.operator(T.sample(k), IMAGE) for k in jax.random.split(key, 3)])
    assert A.gram_spectrum is not None
    M = np.asarray(A.dense())
    np.testing.assert_allclose(np.diag(A.gram_spectrum.values.ravel()), M.T @ M, atol=1e-13)
    B = ops.Crop(IMAGE, (3, 4, 2)) @ T.operator(T.sample(key), IMAGE) @ ops.Mask(mask, IMAGE)
    M = np.asarray(B.dense())
    np.testing.assert_allclose(np.diag(B.cogram_spectrum.values.ravel()), M @ M.T, atol=1e-13)
