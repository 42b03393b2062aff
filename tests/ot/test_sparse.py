"""Quadratic and sparsity-constrained transport against brute force, quadratic programmes, and their limits."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from invjax import check, ot
from invjax.drive import Status
from invjax.ot.sparse import _simplex

from .test_sinkhorn import emd

GAMMA = 0.1


def problem(seed=0, n=20, m=12):
    return ot.Problem(np.random.default_rng(seed).uniform(size=(n, m)))


def by_projection(p, gamma, steps=20_000):
    """The quadratic problem by its dual in both potentials and SciPy's L-BFGS: ``P = max(f + g - C, 0) / gamma``."""
    n, m = p.shape
    cost, a, b = (np.asarray(v) for v in (p.matrix, p.a, p.b))

    def loss(v):
        s = np.maximum(v[:n, None] + v[None, n:] - cost, 0)
        value = np.sum(s**2) / (2 * gamma) - a @ v[:n] - b @ v[n:]
        return value, np.concatenate([s.sum(1) / gamma - a, s.sum(0) / gamma - b])

    options = {"maxiter": steps, "maxfun": 10 * steps, "ftol": 1e-16, "gtol": 1e-12}
    v = scipy.optimize.minimize(loss, np.zeros(n + m), jac=True, method="L-BFGS-B", options=options).x
    return np.maximum(v[:n, None] + v[None, n:] - cost, 0) / gamma


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_maximiser_against_all_supports(k):
    """``max <s, t> - gamma |t|^2 / 2`` over ``|t|_0 <= k``, ``t in b simplex``: every support of six, each by bisection."""
    r = np.random.default_rng(k)
    s, gamma, b = r.normal(size=6), 0.7, 0.9

    def value_on(support):
        low, high = s[list(support)].min() - 2 * gamma * b, s[list(support)].max()
        for _ in range(200):
            level = (low + high) / 2
            t = np.maximum(s[list(support)] - level, 0) / gamma
            low, high = (level, high) if t.sum() > b else (low, level)
        return s[list(support)] @ t - gamma / 2 * t @ t

    best = max(value_on(support) for support in itertools.combinations(range(6), k))
    top, _ = jax.lax.top_k(jnp.asarray(s)[None], k)
    t = _simplex(top, jnp.asarray(gamma), jnp.asarray([b]))
    np.testing.assert_allclose(jnp.sum(t), b, rtol=1e-14)
    np.testing.assert_allclose(jnp.sum(top * t - gamma / 2 * t**2), best, atol=1e-10)


def test_the_quadratic_coupling():
    """k = n is the quadratic problem; as soon as k allows its support, every k gives it."""
    p = problem()
    whole = check(ot.sparse_transport(p, GAMMA, atol=1e-9))
    exact = by_projection(p, GAMMA)
    np.testing.assert_allclose(whole.matrix, exact, atol=1e-6)
    np.testing.assert_allclose(whole.value, np.sum(exact * p.matrix) + GAMMA / 2 * np.sum(exact**2), atol=1e-8)
    assert abs(whole.duality_gap) < 1e-8
    needed = int(np.count_nonzero(exact > 1e-9, axis=0).max())
    assert 2 <= needed < 12
    some = check(ot.sparse_transport(p, GAMMA, needed, atol=1e-9))
    np.testing.assert_allclose(some.matrix, whole.matrix, atol=1e-6)


def test_one_source_a_column_is_the_linear_programme():
    """max S_1 = EMD + gamma |b|^2 / 2; the ascent is of a function with kinks, so it ends below, by less than 1 % of gamma."""
    p = problem()
    found = ot.sparse_transport(p, GAMMA, 1, max_steps=2000)
    bound = emd(p) + GAMMA / 2 * float(jnp.sum(p.b**2))
    assert bound - 0.01 * GAMMA < found.value <= bound + 1e-12
    assert found.status != Status.CONVERGED
    assert found.marginal_error > 0.1  # twelve columns with a source each do not serve twenty rows


def test_value_falls_with_k():
    p = problem()
    values = [float(ot.sparse_transport(p, GAMMA, k, atol=1e-8, max_steps=2000).value) for k in (1, 2, 3, 4, 20)]
    assert np.all(np.diff(values) < 1e-5 * GAMMA)
    assert values[1] - values[-1] > 1e-4


@pytest.mark.parametrize("k", [1, 2, 5])
def test_columns_are_exact_at_every_potential(k):
    """Column sums and number of entries hold at any potential; the gradient of the semi-dual is a less the row sums."""
    p = problem(1)
    method = ot.SparseTransport(p, jnp.asarray(GAMMA), k)
    f = jnp.asarray(np.random.default_rng(2).normal(size=20))
    _, rows, masses = method.columns(f)
    np.testing.assert_allclose(jnp.sum(masses, 1), p.b, atol=1e-14)
    assert rows.shape == (12, k)
    assert all(len(set(row)) == k for row in np.asarray(rows))
    loss = jax.jit(lambda f: method.loss_and_gradient(f)[0])
    gradient, h = method.loss_and_gradient(f)[1], 1e-5
    differences = [(loss(f + h * e) - loss(f - h * e)) / (2 * h) for e in jnp.eye(20)]
    np.testing.assert_allclose(gradient, differences, atol=1e-6)


def test_views_of_the_coupling():
    p = problem(2)
    found = check(ot.sparse_transport(p, GAMMA, 5))
    P = np.asarray(found.matrix)
    assert np.count_nonzero(P, axis=0).max() <= 5
    values = np.random.default_rng(0).normal(size=(12, 2))
    np.testing.assert_allclose(found.apply(values), P @ values, atol=1e-12)
    np.testing.assert_allclose(found.transport_cost(), np.sum(P * p.matrix), rtol=1e-12)
    for got, expected in zip(found.marginals(), (P.sum(1), P.sum(0)), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-13)
    np.testing.assert_allclose(found.marginal_error, np.abs(P.sum(1) - p.a).sum(), atol=1e-12)


def test_columns_without_mass():
    p = problem(3)
    b = np.asarray(p.b) * (np.arange(12) % 3 > 0)
    found = check(ot.sparse_transport(ot.Problem(p.matrix, None, b / b.sum()), GAMMA, 6))
    assert np.all(np.isfinite(found.matrix))
    np.testing.assert_array_equal(found.matrix[:, ::3], 0)


def test_float32_of_small_gamma(float32):
    cost = 100 * np.random.default_rng(0).uniform(size=(20, 12)).astype(np.float32)
    found = ot.sparse_transport(ot.Problem(cost), 1e-2, 6, atol=1e-3)
    assert found.masses.dtype == jnp.float32
    np.testing.assert_allclose(found.marginals()[1], 1 / 12, rtol=1e-4)
    assert np.isfinite(found.marginal_error)


def test_no_square_of_the_rows():
    """One search for the largest, and no array over pairs of rows."""
    p = problem(n=48, m=12)
    method = ot.SparseTransport(p, jnp.asarray(GAMMA), 5)
    text = jax.jit(lambda m, f: m.loss_and_gradient(f)).lower(method, jnp.zeros(48)).as_text()
    assert text.count("top_k") + text.count("stablehlo.sort") >= 1
    assert "48x48" not in text


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ot.sparse_transport(problem(), 0.0), "gamma: expected positive"),
        (lambda: ot.sparse_transport(problem(), 1.0, 0), "k: expected an integer in"),
        (lambda: ot.sparse_transport(problem(), 1.0, 21), "k: expected an integer in"),
        (lambda: ot.sparse_transport(ot.Problem(np.ones((2, 2)), [1.0, 1.0]), 1.0), "a, b: expected equal sums"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
