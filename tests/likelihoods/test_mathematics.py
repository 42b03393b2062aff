"""Moments, normalisation, score identities and Lipschitz constants of Gaussian and Poisson noise."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from invjax import types
from invjax.likelihoods import Gaussian, Poisson, PoissonGaussian

from ..registry import build, call
from .registry import LIKELIHOODS, SHAPE, clean

DRAWS = 250_000
Z = 0.8

# Noise, mean and variance of y given u = 0.8, and the Fisher information.
SCALAR = {
    "gaussian": (Gaussian(0.4), Z, 0.4**2, 1 / 0.4**2),
    "poisson": (Poisson(0.1), Z, 0.1 * Z, 1 / (0.1 * Z)),
    "poisson_background": (Poisson(0.1, 0.3), Z + 0.3, 0.1 * (Z + 0.3), 1 / (0.1 * (Z + 0.3))),
    "poisson_gaussian": (PoissonGaussian(0.1, 0.2), Z, 0.1 * Z + 0.2**2, None),
    "exact_series": (PoissonGaussian(0.2, 0.15, num_terms=40), Z, 0.2 * Z + 0.15**2, None),
}


@eqx.filter_jit
def sample_score_and_curvature(noise, key, z):
    y = noise.sample(key, z)
    curvature = jax.jvp(lambda v: noise.grad(v, y), (z,), (jnp.ones_like(z),))[1]
    return y, noise.score(z, y), curvature


@functools.cache
def draws(name):
    number = 100_000 if name == "exact_series" else DRAWS
    out = sample_score_and_curvature(SCALAR[name][0], jax.random.key(0), np.full(number, Z))
    return tuple(np.asarray(a) for a in out)


def has_mean_zero(a):
    """Within five standard errors."""
    return abs(a.mean()) < 5 * a.std() / np.sqrt(a.size)


@pytest.mark.parametrize("name", SCALAR)
def test_moments_of_many_samples(name):
    """Five standard errors of the variance are about ``5 sqrt(2 / DRAWS)``, 0.014."""
    _, mean, variance, _ = SCALAR[name]
    y = draws(name)[0]
    np.testing.assert_allclose(y.mean(), mean, rtol=0.01)
    np.testing.assert_allclose(y.var(), variance, rtol=0.02)


def test_moments_of_complex_gaussian_noise(key):
    """sigma is that of each part, and the parts are independent."""
    y = np.asarray(call(Gaussian(0.4), "sample", key, np.full(DRAWS, 0.3 + 0.2j))) - (0.3 + 0.2j)
    np.testing.assert_allclose([y.real.var(), y.imag.var()], 0.16, rtol=0.02)
    assert abs(np.mean(y.real * y.imag)) < 5 * 0.16 / np.sqrt(DRAWS)
    assert abs(y.mean()) < 5 * 0.4 * np.sqrt(2) / np.sqrt(DRAWS)


@pytest.mark.parametrize("name", ["gaussian", "poisson", "poisson_background", "poisson_gaussian"])
def test_score_has_mean_zero_and_variance_fisher(name):
    """E[score] = 0 and Var[score] = Fisher information, within 5 Monte Carlo standard errors."""
    fisher, (_, score, curvature) = SCALAR[name][3], draws(name)
    assert has_mean_zero(score)
    if fisher is None:  # the heteroscedastic Gaussian: same mean and variance, so the mean of the score is exactly zero
        v = 0.1 * Z + 0.04
        np.testing.assert_allclose(curvature.mean(), 1 / v + 0.01 / (2 * v**2), rtol=0.01)
    else:
        np.testing.assert_allclose(score.var(), fisher, atol=5 * (score**2).std() / np.sqrt(DRAWS))


def test_exact_series_has_the_score_identities():
    _, score, curvature = draws("exact_series")
    assert has_mean_zero(score)
    assert has_mean_zero(score**2 - curvature)


@pytest.mark.parametrize(
    "noise", [Gaussian(0.3), PoissonGaussian(0.2, 0.3), PoissonGaussian(0.2, 0.15, num_terms=80)], ids=str
)
def test_continuous_log_prob_integrates_to_one(noise):
    y = jnp.linspace(-4, 8, 20_001)
    density = jnp.exp(jax.vmap(lambda v: noise.log_prob(jnp.array([0.7]), v[None]))(y))
    np.testing.assert_allclose(np.trapezoid(density, y), 1, rtol=1e-9)


def test_complex_log_prob_integrates_to_one():
    axis = jnp.linspace(-3, 3, 301)
    y = axis[:, None] + 1j * axis
    density = jnp.exp(jax.vmap(lambda v: Gaussian(0.3).log_prob(jnp.array([0.2 + 0.1j]), v[None]))(y.ravel()))
    np.testing.assert_allclose(density.sum() * (axis[1] - axis[0]) ** 2, 1, rtol=1e-9)


@pytest.mark.parametrize("background", [0.0, 0.4])
def test_poisson_log_prob_is_the_probability_of_the_counts(background):
    noise, counts = Poisson(0.2, background), np.arange(60)
    got = jax.vmap(lambda k: noise.log_prob(jnp.array([0.7]), k[None]))(jnp.asarray(0.2 * counts))
    np.testing.assert_allclose(got, scipy.stats.poisson.logpmf(counts, (0.7 + background) / 0.2), rtol=1e-10)


def test_series_equals_summation_with_scipy():
    noise, u, y = PoissonGaussian(0.2, 0.15, num_terms=60), 0.7, np.array([-0.2, 0.1, 0.75, 2.0])
    k = np.arange(60)[:, None]
    exact = np.log(np.sum(scipy.stats.poisson.pmf(k, u / 0.2) * scipy.stats.norm.pdf(y, 0.2 * k, 0.15), axis=0))
    got = jax.vmap(lambda v: noise.log_prob(jnp.array([u]), v[None]))(jnp.asarray(y))
    np.testing.assert_allclose(got, exact, rtol=1e-12)


@pytest.mark.parametrize(("counts", "bound"), [(10, 0.14), (100, 0.04), (1000, 0.011)])
def test_error_of_the_heteroscedastic_approximation(counts, bound):
    """The numbers of the docstring: gain = sigma, within two standard deviations; tight, and of order 1 / sqrt(counts)."""
    gain = 0.1
    u, width = counts * gain, np.sqrt(gain * counts * gain + gain**2)
    y = jnp.linspace(u - 2 * width, u + 2 * width, 41)
    models = PoissonGaussian(gain, gain), PoissonGaussian(gain, gain, num_terms=int(counts + 12 * counts**0.5 + 20))
    logs = [jax.jit(jax.vmap(lambda v, m=m: m.log_prob(jnp.array([u]), v[None])))(y) for m in models]
    error = jnp.abs(logs[0] - logs[1]).max()
    assert 0.8 * bound < error <= bound


@pytest.mark.parametrize("name", ["gaussian_per_pixel", "gaussian_complex", "poisson_background", "poisson_gaussian"])
def test_lipschitz_bounds_the_gradient(name, key):
    noise, r = build(LIKELIHOODS, name), np.random.default_rng(2)
    shape = (500, *SHAPE)
    us, vs = (clean(r, name, shape) * jnp.asarray(r.uniform(0, 1, (500, 1, 1, 1))) for _ in range(2))
    y = call(noise, "sample", key, us[0])
    ratio = jax.jit(jax.vmap(lambda a, b: types.norm(noise.grad(a, y) - noise.grad(b, y)) / types.norm(a - b)))(us, vs)
    assert ratio.max() <= noise.lipschitz(y) * (1 + 1e-12)
    assert Poisson(0.1).lipschitz(y.real) == jnp.inf
    if name == "poisson_background":  # tight at u = 0
        h = 1e-6 * jnp.ones(SHAPE)
        steepest = jnp.max(jnp.abs(noise.grad(h, y) - noise.grad(0 * h, y))) / 1e-6
        np.testing.assert_allclose(steepest, noise.lipschitz(y), rtol=1e-4)


def test_known_value_of_the_gaussian_potential():
    assert Gaussian(0.5).potential(jnp.zeros(4), jnp.ones(4)) == 8


def test_poisson_potential_at_the_border():
    p = Poisson()
    assert p.potential(jnp.zeros(1), jnp.zeros(1)) == 0
    assert p.potential(jnp.zeros(1), jnp.ones(1)) == jnp.inf
    assert p.potential(-jnp.ones(1), jnp.zeros(1)) == jnp.inf
    assert jnp.isfinite(p.grad(jnp.zeros(1), jnp.ones(1))).all()
