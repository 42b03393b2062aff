"""Poisson maximum likelihood against SciPy, linear reconstructions, the choice of the weight, and what raises."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import iterate, likelihoods, priors, solvers
from invjax import operators as ops
from invjax.reducers import Every

from ..registry import call
from .problems import (
    COUNTS,
    LAM,
    OPERATORS,
    SHAPE,
    SIGMA,
    TV_SHAPE,
    X0,
    compiled,
    dense_ridge,
    gaussian,
    measurement,
    poisson,
    scipy_poisson,
    solution,
    tv_problem,
)

# Poisson data


def test_poisson_deconvolution_equals_scipy():
    f = poisson(0.1)

    def make(f, g):
        return solvers.ChambollePock(f, g, 0.8, dualise=True, constraint=priors.NonNegative())

    end, _ = solution(make, f, priors.Tikhonov(0.05), np.ones(f.y.shape), 8000)
    exact = scipy_poisson(0.05, 0.1)
    assert np.sum(exact == 0) + np.sum(exact < 1e-8) > 0  # the constraint is active
    np.testing.assert_allclose(end.position, exact, atol=1e-5)


def test_maximum_likelihood_expectation_maximisation():
    f = poisson()
    trace = {"x": Every(1), "kl": Every(1, of=lambda state, info: f(state.position))}
    end, kept, _ = compiled(lambda f: iterate(solvers.MLEM(f), jnp.ones_like(f.y), 20000, trace=trace), f)
    x = np.asarray(kept["x"])
    counts = np.asarray(compiled(lambda A, x: jax.vmap(A)(x), f.operator, x[:200])).sum((1, 2, 3))
    np.testing.assert_allclose(counts, COUNTS.sum(), rtol=1e-10)
    assert np.all(x >= 0)
    kl = np.asarray(kept["kl"])
    assert np.all(np.diff(kl) <= 1e-12 * np.abs(kl[:-1]))
    exact = scipy_poisson(0.0, 0.0)
    values = [call(f, "__call__", x) for x in (end.position, np.maximum(exact, 0))]
    np.testing.assert_allclose(*values, rtol=1e-7)
    np.testing.assert_allclose(end.position, exact, atol=2e-3)  # pixels that tend to zero do so as 1 / k
    assert isinstance(solvers.richardson_lucy(f), solvers.MLEM)


# Linear reconstructions and the choice of the weight


def test_landweber_filters_the_singular_values():
    singular = np.linspace(0.05, 1.3, 40).reshape(40, 1)
    y, tau = np.random.default_rng(4).normal(size=singular.shape), 0.7
    method = solvers.GradientDescent(gaussian(ops.Mask(singular), y, 1.0), priors.Zero(), tau)
    kept = np.asarray(iterate(method, 0 * y, 50, trace=Every(1))[1])
    for k in (1, 2, 50):
        np.testing.assert_allclose(kept[k - 1], (1 - (1 - tau * singular**2) ** k) / singular * y, rtol=1e-12)


@pytest.mark.parametrize("operator", OPERATORS)
def test_ridge_equals_dense(operator):
    A = OPERATORS[operator]
    y, centre = measurement(A), np.random.default_rng(12).normal(size=SHAPE)
    f = gaussian(A, y)
    plain, centred = compiled(lambda f, c: (solvers.ridge(f, LAM), solvers.ridge(f, LAM, c)), f, centre.astype(y.dtype))
    np.testing.assert_allclose(plain, dense_ridge(A, y, LAM), atol=1e-9)
    np.testing.assert_allclose(centred, dense_ridge(A, y, LAM, centre=centre), atol=1e-9)


@pytest.mark.parametrize("operator", ["blur", "mri"])
def test_discrepancy(operator):
    A = OPERATORS[operator]
    f = gaussian(A, measurement(A))

    @jax.jit
    def fits(lams):
        xs = jax.vmap(lambda lam: solvers.ridge(f, lam))(lams)
        return jax.vmap(lambda x: solvers.discrepancy(f, x))(xs), jax.vmap(A)(xs)

    values, predicted = fits(np.array([0.1, 1.0, LAM, 10.0, 100.0]))
    reals = 64 * (2 if operator == "mri" else 1)
    exact = np.sum(np.abs(np.asarray(predicted)[2] - np.asarray(f.y)) ** 2) / (reals * SIGMA**2)
    np.testing.assert_allclose(values[2], exact, rtol=1e-12)
    assert np.all(np.diff(values) > 0)


def linear_risk(A, lam):
    """Matrix A W of the ridge reconstruction W, and the exact predicted risk E |A W y - A x|^2 / m at X0."""
    M = np.asarray(call(A, "dense"))
    P = M @ np.linalg.solve(M.T @ M / SIGMA**2 + lam * np.eye(64), M.T / SIGMA**2)
    clean = M @ np.ravel(X0)
    return P, (np.sum((P @ clean - clean) ** 2) + SIGMA**2 * np.sum(P**2)) / 64


def ridge_sure(A, f):
    key = jax.random.key(1)
    return compiled(lambda A, f: solvers.sure(key, lambda y: solvers.ridge(gaussian(A, y), LAM), f), A, f)


def test_sure_of_a_linear_reconstruction_is_exact():
    """For a diagonal A W every random sign gives the exact divergence tr(A W), so one probe suffices."""
    A = ops.Mask(np.random.default_rng(12).uniform(0.2, 1, SHAPE))
    f = gaussian(A, measurement(A))
    P, _ = linear_risk(A, LAM)
    y = np.ravel(f.y)
    exact = np.sum((P @ y - y) ** 2) / 64 - SIGMA**2 + 2 * SIGMA**2 / 64 * np.trace(P)
    value = ridge_sure(A, f)
    np.testing.assert_allclose(value, exact, rtol=1e-10)


def test_sure_of_complex_data_counts_both_parts():
    """Single-coil MRI with ridge: A W is diagonal, so one probe gives the exact divergence ``Re tr(A W)`` over 2 m reals."""
    A = OPERATORS["mri"]
    f = gaussian(A, measurement(A))
    M = np.asarray(call(A, "dense"))
    P = M @ np.linalg.solve(M.conj().T @ M / SIGMA**2 + LAM * np.eye(64), M.conj().T / SIGMA**2)
    y = np.ravel(f.y)
    exact = np.sum(np.abs(P @ y - y) ** 2) / 128 - SIGMA**2 + 2 * SIGMA**2 / 128 * 2 * np.trace(P).real
    value = ridge_sure(A, f)
    np.testing.assert_allclose(value, exact, rtol=1e-10)


def test_sure_is_unbiased(key):
    A = OPERATORS["blur"]
    clean = call(A, "__call__", X0)

    @jax.jit
    def draws(keys):
        def one(k):
            y = clean + SIGMA * jax.random.normal(jax.random.fold_in(k, 0), SHAPE)
            estimate = solvers.sure(k, lambda y: solvers.ridge(gaussian(A, y), LAM), gaussian(A, y))
            return estimate, jnp.mean((A(solvers.ridge(gaussian(A, y), LAM)) - clean) ** 2)

        return jax.lax.map(one, keys, batch_size=100)

    estimates, losses = (np.asarray(v) for v in draws(jax.random.split(key, 10000)))
    _, risk = linear_risk(A, LAM)
    for values in (estimates, losses):
        assert abs(values.mean() - risk) <= 3 * values.std(ddof=1) / 100
    assert 3 * estimates.std(ddof=1) / 100 < 0.05 * risk


@pytest.mark.parametrize("name", ["split_bregman", "fista"])
def test_sure_through_total_variation_equals_finite_differences(name, key):
    f, g = tv_problem("circular")

    def reconstruct(y):
        likelihood = gaussian(f.operator, y, 0.05)
        method = solvers.SplitBregman(likelihood, g, 100.0) if name == "split_bregman" else solvers.FISTA(likelihood, g)
        return iterate(method, jnp.zeros(TV_SHAPE), 40)[0].position

    h = 1e-6

    @jax.jit
    def both(y):
        b = jax.random.rademacher(jax.random.split(key, 1)[0], TV_SHAPE, y.dtype)
        ys = y + h * jnp.stack([b, -b, jnp.zeros_like(b)])
        return solvers.sure(key, reconstruct, f), b, jax.vmap(lambda y: f.operator(reconstruct(y)))(ys)

    value, b, (right, left, middle) = jax.tree.map(np.asarray, both(f.y))
    divergence = np.sum(b * (right - left)) / (2 * h)
    expected = np.mean((middle - np.asarray(f.y)) ** 2) - 0.05**2 + 2 * 0.05**2 / 256 * divergence
    np.testing.assert_allclose(value, expected, rtol=1e-6)


# What raises


def test_refused_settings():
    f, g = gaussian(ops.Identity(SHAPE), np.ones(SHAPE)), priors.L1(1.0)
    counts = likelihoods.InverseProblem(ops.Identity(SHAPE), likelihoods.Poisson()).likelihood(np.ones(SHAPE))
    for make in (solvers.HQS, solvers.ADMM, solvers.DouglasRachford, solvers.SDMM, solvers.ChambollePock):
        with pytest.raises(ValueError, match="step_size: expected positive values, got 0"):
            make(f, g, 0.0)
    for make in (solvers.FISTA, solvers.ProximalGradient, solvers.GradientDescent, solvers.CondatVu):
        with pytest.raises(ValueError, match="step_size: expected positive values, got -1"):
            make(f, g, -1.0)
        with pytest.raises(ValueError, match=r"step_size .default 1 / likelihood.lipschitz.: expected positive"):
            make(counts, g)
    with pytest.raises(ValueError, match=r"step_size .expected below 2 / likelihood.lipschitz.: the dual step"):
        solvers.CondatVu(f, g, 2.01 * SIGMA**2)
    with pytest.raises(ValueError, match="a: expected at least 2"):
        solvers.FISTA(f, g, a=1.9)
    with pytest.raises(ValueError, match=r"relaxation: expected below 1.618"):
        solvers.ADMM(f, g, 1.0, 1.7)
    for make in (solvers.DouglasRachford, lambda *a: solvers.SDMM(*a[:3], 1.0, a[3]), solvers.SplitBregman):
        with pytest.raises(ValueError, match="relaxation: expected below 2"):
            make(f, g, 1.0, 2.0)
    with pytest.raises(ValueError, match="rho: expected positive"):
        solvers.SDMM(f, g, 1.0, -1.0)
    with pytest.raises(ValueError, match="rho: expected positive"):
        solvers.SplitBregman(f, g, 0.0)
    with pytest.raises(ValueError, match="constraint: expected dualise=True"):
        solvers.ChambollePock(f, g, 1.0, constraint=priors.NonNegative())
    with pytest.raises(ValueError, match="grad: L1 is not smooth"):
        solvers.GradientDescent(f, g).step(solvers.GradientDescent(f, g).init(f.y))


def test_refused_noise():
    f = gaussian(ops.Identity(SHAPE), np.ones(SHAPE))
    counts = likelihoods.InverseProblem(ops.Identity(SHAPE), likelihoods.Poisson()).likelihood(np.ones(SHAPE))
    coloured = gaussian(ops.Identity(SHAPE), np.ones(SHAPE), np.full(SHAPE, 0.1))
    for likelihood in (counts, coloured):
        with pytest.raises(ValueError, match="likelihood: expected Gaussian noise with a scalar sigma"):
            solvers.SplitBregman(likelihood, priors.L1(), 1.0)
        with pytest.raises(ValueError, match="likelihood: expected Gaussian noise with a scalar sigma"):
            solvers.sure(jax.random.key(0), lambda y: y, likelihood)
    with pytest.raises(ValueError, match="num_probes: expected a positive integer, got 0"):
        solvers.sure(jax.random.key(0), lambda y: y, f, 0)
    with pytest.raises(ValueError, match="likelihood: expected Gaussian noise, got Poisson"):
        solvers.discrepancy(counts, counts.y)
    with pytest.raises(ValueError, match="likelihood: expected Gaussian noise, got Poisson"):
        solvers.ridge(counts, 1.0)
    with pytest.raises(ValueError, match="lam: expected positive"):
        solvers.ridge(f, 0.0)
    with pytest.raises(ValueError, match="likelihood: expected Poisson noise, got Gaussian"):
        solvers.MLEM(f)
    with pytest.raises(ValueError, match=r"likelihood.y: expected non-negative"):
        solvers.MLEM(eqx.tree_at(lambda c: c.y, counts, -counts.y))
    with pytest.raises(ValueError, match="x: expected non-negative"):
        solvers.MLEM(counts).init(-counts.y)
