"""Proxes of the noise models against optimality, numerical minimisation and closed forms; the calculus of proxes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from invjax import types
from invjax.likelihoods import CorrelatedGaussian, Gaussian, Laplace, Poisson, PoissonGaussian, StudentT
from invjax.likelihoods.scalar import root

from ..registry import build, call
from .registry import LIKELIHOODS, NONCONVEX, SMOOTH, clean, measured

PROX = [n for n in SMOOTH if n != "poisson_gaussian_exact"]


@pytest.mark.parametrize("name", PROX)
def test_prox_is_optimal_and_firmly_non_expansive(name, key):
    """step grad f(p) + p - u = 0, and |Pu - Pv|^2 <= <u - v, Pu - Pv>, on convex potentials (small steps)."""
    noise, r, step = build(LIKELIHOODS, name), np.random.default_rng(1), 0.2
    u, v = clean(r, name), clean(r, name)
    y = eqx.filter_jit(measured)(key, noise, u)
    p, q = (call(noise, "prox", w, y, jnp.asarray(step)) for w in (u, v))
    gradient = call(noise, "grad", p, y)
    for a, b, g in zip(*(jax.tree.leaves(t) for t in (u, p, gradient)), strict=True):
        slope = step * g + b - a
        free = jnp.abs(b) > 0
        np.testing.assert_allclose(jnp.where(free, slope, jnp.minimum(slope, 0)), 0, atol=1e-9)  # p >= 0 at no count
        # Moreau: prox of the conjugate at u / step, from its own optimality: w = (u - p) / step must be grad f(p).
        np.testing.assert_allclose(jnp.where(free, (a - b) / step - g, 0), 0, atol=1e-8)
    if name not in NONCONVEX:
        moved = jax.tree.map(jnp.subtract, p, q)
        assert types.inner(moved, moved) <= types.inner(jax.tree.map(jnp.subtract, u, v), moved) + 1e-12


@pytest.mark.parametrize(
    ("noise", "u", "y"),
    [
        (Gaussian(0.3), 0.2, 0.9),
        (Poisson(0.2), 0.3, 0.8),
        (Poisson(0.2), -0.5, 0.2),
        (Poisson(0.2), -0.5, 0.0),
        (Poisson(0.2, 0.3), -0.5, 0.4),
        (PoissonGaussian(0.2, 0.3), 0.3, 1.1),
        (PoissonGaussian(0.2, 0.3), 2.0, -0.5),
        (PoissonGaussian(100.0, 40.0), 1500.0, 900.0),
    ],
    ids=str,
)
def test_prox_equals_numerical_minimisation(noise, u, y):
    step = 0.4 * float(jnp.asarray(getattr(noise, "sigma", 0.5))) ** 2
    objective = jax.jit(lambda v: step * noise.potential(v[None], jnp.array([y])) + 0.5 * (v - u) ** 2)
    background = float(getattr(noise, "background", 0.0))
    scale = max(abs(u), abs(y))
    low = -background if isinstance(noise, Poisson) else -2 * scale
    best = scipy.optimize.minimize_scalar(
        lambda v: float(objective(v)), bounds=(low, low + 4 * scale), method="bounded", options={"xatol": 1e-10 * scale}
    )
    got = noise.prox(jnp.array([u]), jnp.array([y]), step)[0]
    assert float(objective(got)) <= best.fun + 1e-9 * max(1, abs(best.fun))
    np.testing.assert_allclose(got, best.x, atol=2e-5 * scale)


def test_poisson_gaussian_prox_far_outside_the_domain_is_a_local_minimum():
    noise, u, y, step = PoissonGaussian(1.0, 0.5), jnp.array([0.0]), jnp.array([-10.0]), 0.1
    p = noise.prox(u, y, step)
    np.testing.assert_allclose(step * noise.grad(p, y) + p - u, 0, atol=1e-12)


def test_poisson_prox_closed_form():
    r = np.random.default_rng(0)
    z, y, step = r.normal(size=20), r.uniform(0, 3, 20), 0.7
    exact = 0.5 * (z - step + np.sqrt((z - step) ** 2 + 4 * step * y))
    np.testing.assert_allclose(Poisson().prox(jnp.asarray(z), jnp.asarray(y), step), exact, rtol=1e-12)


def test_poisson_prox_is_accurate_far_below_zero_in_float32():
    """The naive root cancels to 0 here."""
    u, y, step = -4000.0, 2.0, 0.5
    got = Poisson().prox(jnp.array([u], jnp.float32), jnp.array([y], jnp.float32), step)[0]
    w = np.float64(u) - step
    np.testing.assert_allclose(got, 2 * step * y / (np.sqrt(w**2 + 4 * step * y) - w), rtol=1e-5)


@pytest.mark.parametrize("u", [0.5, -0.3])
def test_gradient_of_the_poisson_prox_is_finite_without_counts(u):
    """With y = 0 and u = step the root sits at sqrt(0)."""
    slope = jax.grad(lambda v: Poisson().prox(v[None], jnp.zeros(1), 0.5)[0])(u)
    assert jnp.isfinite(slope)


@pytest.mark.parametrize("name", ["gaussian", "poisson_background", "poisson_gaussian"])
def test_derivatives_of_the_prox_equal_central_differences(name):
    noise = build(LIKELIHOODS, name)
    arrays, static = eqx.partition(noise, eqx.is_array)

    def value(t):
        moved = eqx.combine(jax.tree.map(lambda a: a * (1 + t), arrays), static)
        return moved.prox(jnp.array([0.7 + t]), jnp.array([0.9 - 2 * t]), 0.05 * (1 + t))[0]

    h = 1e-5
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(value)))(np.array([0, h, -h]))
    np.testing.assert_allclose(slopes[0], (values[1] - values[2]) / (2 * h), rtol=1e-7)


SHIFTED = ["gaussian", "correlated", "laplace", "laplace_complex", "uniform", "student_t", "huber", "ball"]


@pytest.mark.parametrize("name", SHIFTED)
def test_translation_of_the_prox(name, key):
    """potential(u + b, y + b) = potential(u, y), so prox(u + b, y + b) = prox(u, y) + b."""
    noise, r = build(LIKELIHOODS, name), np.random.default_rng(4)
    u, b = clean(r, name), clean(r, name)
    y = eqx.filter_jit(measured)(key, noise, u)
    moved = call(noise, "prox", 1.5 * u + b, y + b, jnp.asarray(0.3))
    np.testing.assert_allclose(moved - b, call(noise, "prox", 1.5 * u, y, jnp.asarray(0.3)), atol=1e-12)


SCALED = {
    "gaussian": (Gaussian(0.2), Gaussian(0.6)),
    "laplace": (Laplace(0.2), Laplace(0.6)),
    "poisson": (Poisson(0.2, 0.1), Poisson(0.6, 0.3)),
    "student_t": (StudentT(3.0, 0.2), StudentT(3.0, 0.6)),
    "correlated": (CorrelatedGaussian([[2.0, 1.0], [1.0, 3.0]]), CorrelatedGaussian([[18.0, 9.0], [9.0, 27.0]])),
}


@pytest.mark.parametrize("name", SCALED)
def test_scaling_of_the_prox(name):
    """With units three times as small, f(u) = phi(u / 3): prox_{step f}(u) = 3 prox_{(step / 9) phi}(u / 3)."""
    noise, wide = SCALED[name]
    u, y = jnp.array([0.4, 1.3]), jnp.array([0.8, 1.0])
    np.testing.assert_allclose(wide.prox(3 * u, 3 * y, 0.27), 3 * noise.prox(u, y, 0.03), rtol=1e-12)


@pytest.mark.parametrize("name", ["gaussian_complex", "correlated", "circulant", "poisson", "amplitude", "stacked"])
def test_quadratic_perturbation_of_the_prox(name, key):
    """The prox of f + rho |u - c|^2 / 2 is prox_{t f}((u + step rho c) / (1 + step rho)), t = step / (1 + step rho)."""
    noise, r, step, rho = build(LIKELIHOODS, name), np.random.default_rng(4), 0.2, 1.7
    u, c = clean(r, name), clean(r, name)
    y = eqx.filter_jit(measured)(key, noise, u)
    start = jax.tree.map(lambda a, b: (a + step * rho * b) / (1 + step * rho), u, c)
    p = call(noise, "prox", start, y, jnp.asarray(step / (1 + step * rho)))
    gradient = call(noise, "grad", p, y)
    for a, b, d, g in zip(*(jax.tree.leaves(t) for t in (u, c, p, gradient)), strict=True):
        np.testing.assert_allclose(step * (g + rho * (d - b)) + d - a, 0, atol=1e-9)


def test_the_root_stays_in_its_bracket():
    """The slope jumps over zero at 1, where a Newton step from either side ends far away."""
    found = root(lambda v: v - 2 + 3 * jnp.sign(v - 1), jnp.zeros(3), jnp.full(3, 3.0))
    np.testing.assert_allclose(found, 1, rtol=1e-12)


def test_the_root_keeps_its_derivative_at_an_end_of_the_bracket():
    slope = jax.grad(lambda a: root(lambda v: 2 * (v - a), jnp.zeros(1), a * jnp.ones(1))[0])(1.5)
    np.testing.assert_allclose(slope, 1, rtol=1e-12)
