"""Mirror descent: Bregman geometries against their definitions, closed forms and the O(1 / k) rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from invjax import iterate, likelihoods, priors, solvers
from invjax import operators as ops
from invjax.reducers import Every
from invjax.types import Fn

from .problems import LAM, OPERATORS, gaussian, measurement

R = np.random.default_rng(31)
POTENTIALS = {"quadratic": solvers.Quadratic(), "entropy": solvers.NegativeEntropy(), "burg": solvers.Burg()}
X = jnp.asarray(R.uniform(0.1, 2, 7))


@pytest.mark.parametrize("name", POTENTIALS)
def test_potentials(name):
    phi, u = POTENTIALS[name], jnp.asarray(R.uniform(0.1, 2, 7))
    np.testing.assert_allclose(phi.grad(X), jax.grad(phi)(X), rtol=1e-13)
    np.testing.assert_allclose(phi.inverse_grad(phi.grad(X)), X, rtol=1e-13)
    assert phi.divergence(u, X) > 0
    assert abs(phi.divergence(X, X)) < 1e-14
    closed = {
        "quadratic": jnp.sum((u - X) ** 2) / 2,
        "entropy": jnp.sum(u * jnp.log(u / X) - u + X),
        "burg": jnp.sum(u / X - jnp.log(u / X) - 1),
    }
    np.testing.assert_allclose(phi.divergence(u, X), closed[name], rtol=1e-12)


PROXES = {
    "zero": priors.Zero(),
    "nonnegative": priors.NonNegative(),
    "l1": priors.L1(0.7),
    "box": priors.Box(0.3, 0.9),
    "tikhonov": priors.Tikhonov(0.7, -0.4),
}


@pytest.mark.parametrize("prior", PROXES)
@pytest.mark.parametrize("name", ["entropy", "burg"])
def test_bregman_prox_minimises_its_definition(name, prior):
    phi, g, v = POTENTIALS[name], PROXES[prior], jnp.linspace(-3, -0.2, 5)
    if (name, prior) == ("entropy", "tikhonov"):
        with pytest.raises(
            ValueError, match="prior: expected one with a closed-form prox in the geometry of NegativeEntropy"
        ):
            phi.prox(g, v, 0.8)
        return
    low, high = (0.3, 0.9) if prior == "box" else (1e-9, 20)
    penalty = {"l1": lambda x: 0.7 * x, "tikhonov": lambda x: 0.35 * (x + 0.4) ** 2}.get(prior, lambda x: 0.0)
    value = {"entropy": lambda x: x * np.log(x) - x, "burg": lambda x: -np.log(x)}[name]
    for p, dual in zip(phi.prox(g, v, 0.8), v, strict=True):
        best = minimize_scalar(
            lambda x, d=float(dual): 0.8 * penalty(x) + value(x) - d * x,
            bounds=(low, high),
            method="bounded",
            options={"xatol": 1e-10},
        )
        assert p == pytest.approx(best.x, abs=1e-6)


def test_tikhonov_in_the_burg_geometry_takes_any_mirror_point():
    v, g = jnp.array([-50.0, 0.0, 30.0]), priors.Tikhonov(0.5, 2.0)
    u = solvers.Burg().prox(g, v, 0.2)
    assert jnp.all(u > 0)
    np.testing.assert_allclose(0.1 * (u - 2) - 1 / u, v, atol=1e-12)


def test_quadratic_geometry_is_gradient_descent_and_proximal_gradient():
    f, phi = gaussian(OPERATORS["blur"], measurement(OPERATORS["blur"])), solvers.Quadratic()
    for g, mirror, plain in (
        (priors.Tikhonov(LAM), solvers.MirrorDescent, solvers.GradientDescent),
        (priors.L1(LAM), solvers.ProximalMirrorDescent, solvers.ProximalGradient),
    ):
        a, _, _ = iterate(mirror(f, g, phi, 0.05), f.y, 5)
        b, _, _ = iterate(plain(f, g, 0.05), f.y, 5)
        np.testing.assert_array_equal(a.position, b.position)
        assert mirror(f, g, phi).step_size == plain(f, g).step_size


def test_entropy_on_the_simplex_is_the_multiplicative_update():
    """x exp(-step grad), normalised; it finds the projection-free minimiser of a linear cost, the best vertex."""
    M, y = R.normal(size=(5, 4)), R.normal(size=5)
    f = likelihoods.InverseProblem(ops.Matrix(M), likelihoods.Gaussian(1.0)).likelihood(y)
    method = solvers.ProximalMirrorDescent(f, priors.Simplex(2.0), solvers.NegativeEntropy(), 0.3)
    x = np.array([0.2, 0.5, 0.7, 0.6])
    end, _, _ = iterate(method, jnp.asarray(x), 3)
    for _ in range(3):
        x = x * np.exp(-0.3 * M.T @ (M @ x - y))
        x = 2 * x / x.sum()
    np.testing.assert_allclose(end.position, x, rtol=1e-12)


# The Burg geometry makes Poisson data smooth, without background: NoLips


def poisson_without_background(prior_weight):
    """Data y = A x that a known x fits exactly: x minimises f, and f + lam |x|_1 is minimised by x when A^T 1 and y agree."""
    A = R.uniform(size=(9, 5))
    x = R.uniform(0.2, 1, 5)
    # With y = (1 + lam / column sum) A x the gradient A^T (1 - y / (A x)) + lam vanishes at x.
    A = A / A.sum(0)
    f = likelihoods.InverseProblem(ops.Matrix(A), likelihoods.Poisson(0.5)).likelihood((1 + 0.5 * prior_weight) * A @ x)
    return f, priors.L1(prior_weight), jnp.asarray(x)


@pytest.mark.parametrize("lam", [0.0, 0.8])
def test_rate_in_the_burg_geometry(lam):
    f, g, exact = poisson_without_background(lam)
    phi, start = solvers.Burg(), jnp.ones(5)
    method = solvers.ProximalMirrorDescent(f, g, phi)
    np.testing.assert_allclose(method.step_size, 0.5 / np.sum(f.y), rtol=1e-12)
    np.testing.assert_allclose(method.fixed_point(exact), exact, rtol=1e-12)
    objective = Fn(lambda state, info, f, g: f(state.position) + g(state.position), f, g)
    _, values, status = iterate(method, start, 3000, trace=Every(1, of=objective))
    gap = np.asarray(values - f(exact) - g(exact))
    bound = phi.divergence(exact, start) / (method.step_size * np.arange(1, 3001))
    assert status == 0
    assert np.all(gap >= -1e-13)
    assert np.all(gap <= bound)
    assert np.all(np.diff(gap) <= 1e-13)
    _, _, status = iterate(solvers.ProximalMirrorDescent(f, g, phi, 40 * method.step_size), start, 50)
    assert status == 2  # left the domain: reported, not hidden


def test_gradient_of_a_smooth_prior_in_the_mirror_step():
    f, _, _ = poisson_without_background(0.0)
    g = priors.Tikhonov(0.3)
    end, _, _ = iterate(solvers.MirrorDescent(f, g, solvers.Burg(), 0.05), jnp.ones(5), 4000)
    np.testing.assert_allclose(f.grad(end.position) + g.grad(end.position), 0, atol=1e-9)
    other, _, _ = iterate(solvers.ProximalMirrorDescent(f, g, solvers.Burg(), 0.05), jnp.ones(5), 4000)
    np.testing.assert_allclose(other.position, end.position, atol=1e-9)


def test_refused():
    f = gaussian(OPERATORS["blur"], measurement(OPERATORS["blur"]))
    for phi, match in ((solvers.Burg(), "noise that is not Poisson"), (solvers.NegativeEntropy(), "NegativeEntropy")):
        with pytest.raises(ValueError, match=f"step_size: expected a value.*{match}"):
            solvers.MirrorDescent(f, priors.Zero(), phi)
    with pytest.raises(ValueError, match="step_size: expected positive"):
        solvers.ProximalMirrorDescent(f, priors.Zero(), solvers.Burg(), 0.0)
