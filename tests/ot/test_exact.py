"""The exact assignment and transport on the line, against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from invjax import check, ot
from invjax.drive import SolveError, Status

from .test_sinkhorn import emd


@pytest.mark.parametrize("kind", ["uniform", "plane", "ties", "negative", "one", "equal", "far", "tiny"])
def test_assignment_is_that_of_scipy(kind):
    r = np.random.default_rng(0)
    cost = {
        "uniform": r.uniform(size=(40, 40)),
        "plane": np.sum((r.normal(size=(40, 2))[:, None] - r.normal(size=(40, 2))[None]) ** 2, -1),
        "ties": r.integers(3, size=(40, 40)).astype(float),
        "negative": -r.exponential(size=(40, 40)) * 1e3,
        "one": np.array([[2.5]]),
        "equal": np.ones((6, 6)),
        "far": r.uniform(size=(40, 40)) + 1e3 * r.normal(size=(40, 1)) + 1e3 * r.normal(size=(1, 40)),
        "tiny": 1e-200 * r.uniform(size=(40, 40)),
    }[kind]
    found = check(ot.assignment(ot.Problem(cost)))
    rows, columns = scipy.optimize.linear_sum_assignment(cost)
    n = len(cost)
    assert sorted(np.asarray(found.columns)) == list(range(n))
    np.testing.assert_allclose(found.transport_cost(), cost[rows, columns].mean(), rtol=1e-12)
    # The potentials prove it: f_i + g_j <= C_ij, with equality on the pairs.
    slack = cost - found.f[:, None] - found.g[None]
    scale = np.abs(cost).max()
    assert slack.min() > -1e-12 * scale
    np.testing.assert_allclose(slack[np.arange(n), found.columns], 0, atol=1e-12 * scale)
    assert abs(found.duality_gap) < 1e-12 * scale
    np.testing.assert_allclose(found.matrix.sum(0), 1 / n)


@pytest.mark.parametrize("scale", [1.0, 1e-30])
def test_forbidden_pairs(scale):
    """Infinite costs are avoided where that is possible; where it is not, the status says so, as for NaN."""
    r = np.random.default_rng(1)
    cost = scale * r.uniform(size=(20, 20))
    allowed = np.eye(20, dtype=bool) | (r.uniform(size=(20, 20)) < 0.2)
    rows, columns = scipy.optimize.linear_sum_assignment(np.where(allowed, cost, 1e6 * scale))
    found = check(ot.assignment(ot.Problem(np.where(allowed, cost, np.inf))))
    np.testing.assert_allclose(found.transport_cost(), cost[rows, columns].mean(), rtol=1e-12)
    for bad in (np.where(np.arange(20) == 3, np.inf, cost), np.where(cost == cost[2, 2], np.nan, cost)):
        broken = ot.assignment(ot.Problem(bad))
        assert broken.status == Status.NON_FINITE
        with pytest.raises(SolveError, match="non-finite"):
            check(broken)


def test_entropic_coupling_tends_to_the_assignment():
    """Uniform costs have one best assignment: its gap to the next is some 1e-3 here, far above epsilon log n."""
    p = ot.Problem(np.random.default_rng(2).uniform(size=(12, 12)))
    exact = check(ot.assignment(p))
    entropic = check(ot.sinkhorn_newton(p, 1e-4, num_kept=12, atol=1e-10))
    np.testing.assert_allclose(entropic.matrix, exact.matrix, atol=1e-6)


def test_derivative_of_the_assignment_is_its_matrix():
    cost = np.random.default_rng(3).uniform(size=(15, 15))
    gradient = jax.grad(lambda c: ot.assignment(ot.Problem(c)).transport_cost())(cost)
    np.testing.assert_allclose(gradient, ot.assignment(ot.Problem(cost)).matrix, atol=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ot.assignment(ot.Problem(np.ones((3, 4)))), "problem: expected as many rows as columns"),
        (lambda: ot.assignment(ot.Problem(np.ones((2, 2)), [0.4, 0.6])), "a: expected equal masses"),
        (lambda: ot.line_coupling(np.ones((3, 1)), np.ones(3)), "x: expected points of shape"),
        (lambda: ot.line_coupling(np.ones(3), np.ones(0)), "y: expected points of shape"),
        (lambda: ot.line_coupling(np.ones(2), np.ones(2), np.ones(2)), "a: expected weights of sum one"),
        (lambda: ot.line_wasserstein(np.ones(2), np.ones(2), power=0.5), "power: expected at least 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("power", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("weighted", [False, True])
def test_line_is_the_linear_programme(weighted, power):
    r = np.random.default_rng(4)
    x, y = r.normal(size=13), r.normal(size=9) + 0.5
    a, b = (r.dirichlet(np.ones(n)) if weighted else None for n in (13, 9))
    p = ot.Problem(np.abs(x[:, None] - y[None]) ** power, a, b)
    expected = emd(p)
    np.testing.assert_allclose(ot.line_wasserstein(x, y, a, b, power=power), expected, rtol=1e-10)
    coupling = ot.line_coupling(x, y, a, b)
    P = np.asarray(coupling.matrix)
    np.testing.assert_allclose(np.sum(P * p.matrix), expected, rtol=1e-10)
    np.testing.assert_allclose(P.sum(1), p.a, atol=1e-14)
    np.testing.assert_allclose(P.sum(0), p.b, atol=1e-14)
    assert np.count_nonzero(P > 1e-15) <= 13 + 9 - 1


def test_line_of_scipy_with_ties_and_zero_weights():
    r = np.random.default_rng(5)
    x, y = r.integers(4, size=30).astype(float), r.integers(5, size=20).astype(float)
    a = r.dirichlet(np.ones(30)) * (np.arange(30) % 4 > 0)
    a /= a.sum()
    expected = scipy.stats.wasserstein_distance(x, y, a)
    np.testing.assert_allclose(ot.line_wasserstein(x, y, a, power=1.0), expected, rtol=1e-12)
    np.testing.assert_allclose(ot.line_wasserstein(x, y, power=1.0), scipy.stats.wasserstein_distance(x, y), rtol=1e-12)


def test_equal_numbers_agree_with_the_general_rule():
    r = np.random.default_rng(6)
    x, y = r.normal(size=50), r.normal(size=50)
    uniform = np.full(50, 1 / 50)
    np.testing.assert_allclose(
        ot.line_wasserstein(x, y, power=1.5), ot.line_wasserstein(x, y, uniform, power=1.5), rtol=1e-12
    )
    rows, columns = (np.asarray(v) for v in (ot.line_coupling(x, y).rows, ot.line_coupling(x, y).columns))
    np.testing.assert_array_equal(np.argsort(x), rows)
    np.testing.assert_array_equal(np.argsort(y), columns)


def test_numbers_of_points_decide_the_uniform_coupling():
    """Of 6 and 4 points: levels of sixths and quarters, of which a half and one are common; no pair without mass."""
    coupling = ot.line_coupling(np.arange(6.0), np.arange(4.0))
    np.testing.assert_array_equal(coupling.rows, [0, 1, 1, 2, 3, 4, 4, 5])
    np.testing.assert_array_equal(coupling.columns, [0, 0, 1, 1, 2, 2, 3, 3])
    np.testing.assert_allclose(coupling.masses * 12, [2, 1, 1, 2, 2, 1, 1, 2], rtol=1e-14)


@pytest.mark.parametrize("weights", [None, np.full(5, 0.2)])
def test_nan_stays_nan_and_precisions_meet(weights):
    y = np.arange(5.0)
    assert np.isnan(ot.line_wasserstein(np.array([0, 1, np.nan, 2, 3]), y, weights))
    assert np.isnan(ot.sliced_wasserstein(np.full((5, 1), np.nan), y[:, None], np.ones((1, 1)), weights).distance)
    mixed = ot.line_wasserstein(np.arange(5, dtype=np.float32), y + 1, weights)
    assert mixed.dtype == np.float64
    np.testing.assert_allclose(mixed, 1, rtol=1e-14)


def test_derivative_at_equal_clouds_is_zero():
    x = jnp.asarray(np.random.default_rng(7).normal(size=8))
    for power in (1.0, 1.5, 2.0):
        gradient = jax.grad(lambda x, y, power=power: ot.line_wasserstein(x, y, power=power))(x, x)
        np.testing.assert_array_equal(gradient, 0)
