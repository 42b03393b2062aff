"""Values of fidelities by their formulas, Lipschitz constants where they are attained, the estimate of a noise level."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import likelihoods as lik

from ..registry import call

R = np.random.default_rng(0)
U, Y = R.uniform(0.5, 1.5, (2, 4, 3, 2))
GAP = U - Y


def test_amplitude():
    exact = np.sum((np.sqrt(U + 0.01) - np.sqrt(Y + 0.01)) ** 2) / (2 * 0.3**2)
    np.testing.assert_allclose(lik.Amplitude(0.3, 0.01).potential(jnp.asarray(U), jnp.asarray(Y)), exact, rtol=1e-12)


@pytest.mark.parametrize("phase", [1, 1j])
def test_huber(phase):
    exact = np.where(np.abs(GAP) < 0.4, GAP**2 / 2, 0.4 * np.abs(GAP) - 0.08).sum() / 0.3**2
    got = lik.Huber(0.4, 0.3).potential(jnp.asarray(phase * U), jnp.asarray(phase * Y))
    np.testing.assert_allclose(got, exact, rtol=1e-12)


def test_itoh():
    noise, u, y = lik.Itoh(0.3, 2.0), U[..., :1], 3 * Y[..., :1]
    total = 0.0
    for axis in range(2):
        gap = np.diff(y, axis=axis)
        total += np.sum((np.diff(u, axis=axis) - (gap - 2 * np.round(gap / 2))) ** 2)
    np.testing.assert_allclose(call(noise, "potential", u, y), total / (2 * 0.3**2), rtol=1e-12)


def test_constraints_and_nothing():
    u, y = jnp.asarray(U), jnp.asarray(Y)
    assert lik.Noiseless().potential(u, u) == 0
    assert lik.Noiseless().potential(u, y) == jnp.inf
    np.testing.assert_array_equal(lik.Noiseless().prox(u, y, 0.3), y)
    assert lik.Zero().potential(u, y) == 0
    assert lik.Zero().lipschitz(y) == 0
    np.testing.assert_array_equal(lik.Zero().prox(u, y, 0.3), u)
    np.testing.assert_array_equal(lik.Zero().grad(u, y), 0 * u)


def test_complex_laplace_integrates_to_one():
    """Over the plane: the integral of 2 pi r times the density, which depends on r alone."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    r = 15 * 0.3 * (nodes + 1)  # up to thirty scales
    density = np.exp(jax.vmap(lambda v: lik.Laplace(0.3).log_prob(jnp.zeros(1, complex), v[None]))(r + 0j))
    np.testing.assert_allclose(np.sum(15 * 0.3 * weights * 2 * np.pi * r * density), 1, rtol=1e-10)


def test_salt_and_pepper():
    """The weights of the atoms; and the distance up to which an extreme attracts, sqrt(2 step log(1 + kept / atom))."""
    noise, u = lik.SaltPepper(0.2, 0.1), jnp.array([0.7])
    for y, weight in ((1.0, 0.2), (0.0, 0.1), (0.7, 0.7)):
        np.testing.assert_allclose(noise.log_prob(u, jnp.array([y])), np.log(weight), rtol=1e-12)
    for y, atom in ((1.0, 0.2), (0.0, 0.1)):
        reach = np.sqrt(2 * 0.07 * np.log1p(0.7 / atom))
        u = y + reach * jnp.array([0.99, 1.01])
        np.testing.assert_allclose(noise.prox(u, jnp.full(2, y), 0.07), [y, u[1]], rtol=1e-12)


@pytest.mark.parametrize("complex", [False, True])
def test_derivatives_where_the_residual_vanishes(complex):
    """First and second, of |v|^2 and |v| written in both parts of v: no NaN, and the Hessian of a square at its minimum."""
    parts = 2 if complex else 1

    def on_parts(noise):
        def value(v):
            u = v[:1] + 1j * v[1:] if complex else v
            return noise.potential(u, 0 * u)

        return value

    zero = jnp.zeros(parts)
    for noise in (lik.Gaussian(0.5), lik.Huber(0.1, 0.5)):
        np.testing.assert_allclose(jax.hessian(on_parts(noise))(zero), 4 * np.eye(parts), rtol=1e-12)
    assert jnp.all(jnp.abs(jax.grad(on_parts(lik.Laplace(0.5)))(zero)) <= 2)
    assert jnp.all(jnp.isfinite(jax.hessian(on_parts(lik.Laplace(0.5)))(zero)))


def test_zero_counts_are_recorded_as_one(key):
    """In the dark all counts are zero: y = log(num_photons) / mu."""
    y = lik.LogPoisson(20.0, 0.5).sample(key, jnp.full(5, 100.0))
    np.testing.assert_allclose(y, np.log(20) / 0.5, rtol=1e-12)


ATTAINED = {
    "gaussian": (lik.Gaussian(0.3), 0.4, 0.4),
    "huber": (lik.Huber(0.1, 0.3), 0.4, 0.4),
    "student_t": (lik.StudentT(3.0, 0.3), 0.4, 0.4),
    "amplitude": (lik.Amplitude(0.3, 0.01), 0.0, 0.4),
    "log_poisson": (lik.LogPoisson(30.0, 0.7), 0.0, 0.4),
    "poisson": (lik.Poisson(0.1, 0.2), 0.0, 0.4),
}


@pytest.mark.parametrize("name", ATTAINED)
def test_lipschitz_constant_is_the_largest_curvature(name):
    """Attained at the point given, for one pixel; nowhere else on u >= 0 more."""
    noise, u, y = ATTAINED[name]
    y = jnp.array([y])
    curvature = jax.jit(jax.vmap(jax.grad(lambda v: noise.grad(v[None], y)[0])))
    np.testing.assert_allclose(curvature(jnp.array([u + 1e-9]))[0], noise.lipschitz(y), rtol=1e-5)
    assert jnp.abs(curvature(jnp.linspace(1e-9, 3, 301))).max() <= noise.lipschitz(y) * (1 + 1e-12)


BOUNDED = {
    "rician": (lik.Rician(0.5), 2.0, 0.4),
    "poisson_gaussian": (lik.PoissonGaussian(1.0, 0.2), 0.0, 0.8),
    "uniform_gaussian": (lik.UniformGaussian(0.2, 0.6), 0.4, 0.4),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_lipschitz_constant_bounds_the_curvature(name):
    """Not attained, but of the order of the largest curvature: at least the fraction given of the bound."""
    noise, y, fraction = BOUNDED[name]
    y = jnp.array([y])
    curvature = jax.jit(jax.vmap(jax.grad(lambda v: noise.grad(v[None], y)[0])))(jnp.linspace(1e-6, 3, 301))
    assert fraction * noise.lipschitz(y) <= jnp.abs(curvature).max() <= noise.lipschitz(y) * (1 + 1e-12)


def test_itoh_lipschitz_is_the_norm_of_the_hessian():
    noise, y = lik.Itoh(0.3), jnp.asarray(Y[..., :1])
    hessian = jax.jit(jax.jacfwd(lambda u: noise.grad(u, y)))(0 * y).reshape(12, 12)
    np.testing.assert_allclose(np.linalg.norm(hessian, 2), noise.lipschitz(y), rtol=1e-10)


def test_noise_level_of_a_pattern_of_rows_and_columns():
    """What depends on the row or the column alone has no diagonal details. Standard error of the median: 1.17 sigma / sqrt(n)."""
    r, sigma = np.random.default_rng(1), 0.1
    image = r.normal(size=(512, 1, 1)) + r.normal(size=(1, 512, 1)) + sigma * r.normal(size=(512, 512, 1))
    np.testing.assert_allclose(lik.noise_level(jnp.asarray(image)), sigma, rtol=5 * 1.17 / 256)
    with pytest.raises(ValueError, match="y: expected a real image"):
        lik.noise_level(jnp.ones((4, 4, 1)))
