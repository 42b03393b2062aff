"""SK-ROCK against the closed form of its linear recursion on Gaussians, its stability bound, and its stationary variance."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial import chebyshev as cheb

import invjax
from invjax import samplers
from invjax.samplers.skrock import chebyshev

from .registry import Normal


def first_kind(s):
    return cheb.Chebyshev.basis(s)


def propagator(p, s, eta):
    """A(p) and B(p) of a step x -> A x + B n (Abdulle, Almuslimani, Vilmart 2018, equation 3.5), by NumPy's polynomials."""
    w0 = 1 + eta / s**2
    w1 = first_kind(s)(w0) / first_kind(s).deriv()(w0)
    second = first_kind(s).deriv() / s  # U_{s-1}
    a = first_kind(s)(w0 + w1 * p) / first_kind(s)(w0)
    return a, second(w0 + w1 * p) / second(w0) * (1 + w1 * p / 2)


@pytest.mark.parametrize(("s", "eta"), [(2, 0.05), (10, 0.05), (15, 0.4)])
def test_step_on_a_gaussian_is_the_closed_form(s, eta, key):
    precision = np.geomspace(0.01, 1, 50)
    h = float(samplers.max_step_size(1.0, s, min(eta, 0.1)))
    sampler = samplers.SKROCK(Normal(0.0, precision), None, h, s, eta)
    x = np.random.default_rng(0).normal(size=50)
    noise = np.sqrt(2 * h) * samplers.standard_normal(key, jnp.asarray(x))
    a, b = propagator(-h * precision, s, eta)
    state, info = sampler.step(key, sampler.init(jnp.asarray(x)))
    np.testing.assert_allclose(state.position, a * x + b * noise, atol=1e-11)
    w0 = 1 + eta / s**2
    nu = s * first_kind(s)(w0) / first_kind(s).deriv()(w0) / 2
    np.testing.assert_allclose(info.score_norm, np.linalg.norm(precision * (x + nu * noise)), rtol=1e-12)


def test_stability_bound_is_safe_and_nearly_sharp():
    for s in (2, 3, 5, 10, 15):
        for eta in (0.01, 0.05, 0.1):
            bound = float(samplers.max_step_size(2.0, s, eta)) * 2
            w0 = 1 + eta / s**2
            exact = 2 * w0 * first_kind(s).deriv()(w0) / first_kind(s)(w0)  # where |T_s(w0 + w1 p)| leaves T_s(w0)
            assert bound <= exact
            assert s < 10 or bound >= 0.85 * exact
            p = np.linspace(-bound, 0, 1000)
            assert np.all(abs(propagator(p, s, eta)[0]) <= 1 + 1e-12)
            assert abs(propagator(-1.3 * exact, s, eta)[0]) > 1


def test_coefficients_keep_their_digits_in_float32():
    exact, single = chebyshev(0.05, 15, jnp.float64), chebyshev(0.05, 15, jnp.float32)
    for a, b in zip(exact, single, strict=True):
        assert b.dtype == jnp.float32
        np.testing.assert_allclose(b, a, rtol=1e-6)
    w0, w1, t = exact
    np.testing.assert_allclose(t, [first_kind(j)(float(w0)) if j else 1.0 for j in range(16)], rtol=1e-13)
    np.testing.assert_allclose(w1, first_kind(15)(float(w0)) / first_kind(15).deriv()(float(w0)), rtol=1e-13)


def test_variance_is_the_propagated_one(key):
    """Second moments of the linear recursion, step by step from a point; s.e. of the mean square of independent lanes."""
    s, eta, steps, lanes = 6, 0.05, 8, 20000
    precision = np.array([0.05, 1.0])
    h = 0.5 * float(samplers.max_step_size(1.0, s, eta))
    sampler = samplers.SKROCK(Normal(0.0, precision[:, None]), None, h, s, eta)
    draws = invjax.sample(key, sampler, jnp.full((2, lanes), 2.0), steps).collected
    a, b = propagator(-h * precision, s, eta)
    mean, variance = np.full(2, 2.0), np.zeros(2)
    for k in range(steps):
        mean, variance = a * mean, a**2 * variance + 2 * h * b**2
        np.testing.assert_array_less(abs(draws[k].mean(1) - mean), 4 * np.sqrt(variance / lanes))
        spread = ((draws[k] - mean[:, None]) ** 2).mean(1)
        np.testing.assert_array_less(abs(spread - variance), 4 * variance * np.sqrt(2 / lanes))
    np.testing.assert_allclose(variance[1], 2 * h * b[1] ** 2 / (1 - a[1] ** 2), rtol=1e-3)  # stationary by then
