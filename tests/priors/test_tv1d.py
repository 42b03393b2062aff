"""Exact total variation of signals against a quadratic programme, its optimality conditions, and derivatives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import lsq_linear

from invjax import priors


def normal(shape, seed=3):
    return np.random.default_rng(seed).normal(size=shape)


def quadratic_programme(x, c):
    """x - c D'p with p from a box-constrained least-squares solver."""
    D = np.diff(np.eye(len(x)), axis=0)
    return x - c * D.T @ lsq_linear(c * D.T, x, (-1, 1), method="bvls", tol=1e-14).x


@eqx.filter_jit
def prox(g, x, step):
    return g.prox(x, step)


def test_two_and_few_pixels():
    g = priors.TV1D(0.1)
    np.testing.assert_allclose(g.prox(jnp.array([0.0, 1.0]), 1.0), [0.1, 0.9], atol=1e-15)
    np.testing.assert_array_equal(g.prox(jnp.array([3.0]), 1.0), [3.0])
    np.testing.assert_allclose(g.prox(jnp.array([0.0, 1.0, 5.0]), 100.0), 2.0, rtol=1e-15)
    assert g(jnp.array([0.0, 1.0, -1.0])) == 0.1 * 3


@pytest.mark.parametrize("kind", ["walk", "noise", "ties", "monotone"])
def test_equals_a_quadratic_programme(kind):
    x = {
        "walk": normal(24).cumsum(),
        "noise": normal(24),
        "ties": np.round(2 * normal(24)) / 2,
        "monotone": np.arange(24.0) ** 2 / 50,
    }[kind]
    c = jnp.array([0.0, 0.05, 0.5, 3.0, 100.0])
    many = jax.jit(jax.vmap(lambda s: priors.TV1D(s).prox(x, 1.0)))(c)
    for level, z in zip(c, many, strict=True):
        np.testing.assert_allclose(z, quadratic_programme(x, level), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_long_signals_meet_the_optimality_conditions(dtype):
    """u_i = sum_(j <= i) (x_j - z_j) is in [-c, c], is -c where z jumps up, c where it jumps down, and ends at 0."""
    x, c = (10 + 0.1 * normal(5000).cumsum()).astype(dtype), 0.7
    z = np.asarray(prox(priors.TV1D(c), jnp.asarray(x), 1.0))
    u, jump = np.cumsum(np.float64(x) - np.float64(z)), np.diff(z)
    # Of a piece of m entries the sum is off by at most m rounding errors of its values, here of size 10 at most.
    tol = 5000 * 10 * np.finfo(dtype).eps
    assert z.dtype == dtype
    assert 100 < np.count_nonzero(jump) < 4000
    assert np.abs(u).max() <= c + tol
    assert abs(u[-1]) <= tol
    large = np.abs(jump) > tol
    np.testing.assert_allclose(u[:-1][large], -c * np.sign(jump[large]), atol=tol)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_every_line_of_an_image(axis):
    x = normal((7, 5, 2))
    got = np.moveaxis(np.asarray(prox(priors.TV1D(0.3, axis), x, 2.0)), axis, -1).reshape(-1, x.shape[axis])
    lines = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
    np.testing.assert_allclose(got, [quadratic_programme(line, 0.6) for line in lines], atol=1e-12)
    np.testing.assert_allclose(priors.TV1D(0.3, axis)(x), 0.3 * np.abs(np.diff(x, axis=axis)).sum(), rtol=1e-13)


def test_derivatives():
    """Averaging over the pieces, in both modes; constant while the pieces stay, so of second order zero."""
    x, v, h = jnp.asarray(normal(30)), jnp.asarray(normal(30, 4)), 1e-6
    wanted_x = (prox(priors.TV1D(), x + h * v, 0.4) - prox(priors.TV1D(), x - h * v, 0.4)) / (2 * h)
    wanted_s = (prox(priors.TV1D(), x, 0.4 + h) - prox(priors.TV1D(), x, 0.4 - h)) / (2 * h)
    loss = eqx.filter_jit(jax.value_and_grad(lambda x, s: jnp.vdot(v, priors.TV1D().prox(x, s)), argnums=(0, 1)))
    _, (by_x, by_s) = loss(x, jnp.asarray(0.4))
    forward = jax.jit(lambda x, s: jax.jvp(priors.TV1D().prox, (x, 0.4), (v, s))[1])
    np.testing.assert_allclose(forward(x, 0.0), wanted_x, atol=1e-8)
    np.testing.assert_allclose(forward(x, 1.0) - forward(x, 0.0), wanted_s, atol=1e-8)
    np.testing.assert_allclose(by_x, wanted_x, atol=1e-8)  # the Jacobian of a prox is symmetric
    np.testing.assert_allclose(by_s, v @ wanted_s, atol=1e-8)
    bend = jax.jit(jax.hessian(lambda s: jnp.sum(priors.TV1D().prox(x, s) ** 2)))(0.4)
    np.testing.assert_allclose(bend, 2 * np.sum(wanted_s**2), rtol=1e-7)


def test_onset_of_smoothing():
    x = jnp.asarray(normal(9))
    onset = jax.jvp(lambda s: priors.TV1D().prox(x, s), (0.0,), (1.0,))[1]
    np.testing.assert_allclose(onset, np.append(np.sign(np.diff(x)), 0) - np.append(0, np.sign(np.diff(x))))


def test_refusals():
    with pytest.raises(ValueError, match="x: expected a real array for TV1D"):
        priors.TV1D().prox(jnp.ones(3) * 1j, 1.0)
    with pytest.raises(ValueError, match="x: expected an array with axis 1, got shape"):
        priors.TV1D(axis=1)(jnp.ones(3))
