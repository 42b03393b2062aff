"""Partial and progressive partial transport: the mass asked for, the linear programme, and the semi-relaxed limit."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from invjax import check, ot

N, K = 60, 5


def costs(seed=0, n=N, k=K):
    return np.random.default_rng(seed).uniform(size=(n, k))


def partial_programme(cost, a, b, mass, exact_columns=None):
    """``min <P, C>``, ``P 1 <= a``, ``P^T 1 <= b`` (or equal), ``sum P = mass``."""
    n, m = cost.shape
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    if exact_columns is None:
        given = {"A_ub": np.vstack([rows, columns]), "b_ub": np.concatenate([a, b])}
        given |= {"A_eq": np.ones((1, n * m)), "b_eq": [mass]}
    else:
        given = {"A_ub": rows, "b_ub": a, "A_eq": columns, "b_eq": exact_columns}
    return scipy.optimize.linprog(cost.ravel(), **given).fun


@pytest.mark.parametrize("mass", [0.3, 0.8, 1.0])
def test_partial_moves_the_mass_asked_for(mass):
    """Up to the error of the marginals; no marginal is exceeded; the cost tends to that of the linear programme."""
    r = np.random.default_rng(1)
    a, b = r.dirichlet(np.ones(20)), 1.3 * r.dirichlet(np.ones(15))
    cost = r.uniform(size=(20, 15))
    exact = partial_programme(cost, a, b, mass)
    for epsilon in (0.02, 0.002):
        found = check(ot.partial(ot.Problem(cost, a, b), mass, epsilon, atol=1e-10))
        P = np.asarray(found.matrix)
        np.testing.assert_allclose(P.sum(), mass, atol=1e-9)
        assert np.max(P.sum(1) - a) < 1e-9
        assert np.max(P.sum(0) - b) < 1e-9
        # Entropies of the extended coupling, masses (20 + 1) x (15 + 1), differ by less than log of their number of rows.
        assert -1e-9 < found.transport_cost() - exact < epsilon * 2.3 * np.log(21)


def test_partial_of_clouds_is_that_of_their_matrix():
    r = np.random.default_rng(2)
    x, y = r.normal(size=(12, 4)), r.normal(size=(9, 4))
    cost = np.sum((x[:, None] - y[None]) ** 2, -1)
    points, matrix = (check(ot.partial(p, 0.6, 0.5, atol=1e-11)) for p in (ot.between(x, y), ot.Problem(cost)))
    np.testing.assert_allclose(points.matrix, matrix.matrix, atol=1e-10)


def test_outliers_stay():
    """Four fifths of a cloud moves by a shift; the rest is far from everything, and is what stays."""
    r = np.random.default_rng(3)
    x = r.normal(size=(50, 2))
    y = np.concatenate([x[:40] + 0.1, 30 + r.normal(size=(10, 2))])
    found = check(ot.partial(ot.between(x, y), 0.8, 0.05, atol=1e-4))
    np.testing.assert_allclose(np.asarray(found.matrix)[:, 40:].sum(), 0, atol=1e-6)
    np.testing.assert_allclose(np.asarray(found.matrix)[:, :40].sum(), 0.8, atol=2e-4)


def test_progressive_mass_rows_and_columns():
    """Rows are never exceeded, the mass is that asked for, and the columns share it more evenly the larger their weight."""
    cost = costs()
    spreads = []
    for weight in (0.1, 1.0, 100.0):
        found = check(ot.progressive_partial(ot.Problem(cost), 0.4, weight, 0.1, atol=1e-10, max_steps=5000))
        P = np.asarray(found.matrix)
        np.testing.assert_allclose(P.sum(), 0.4, atol=1e-8)
        assert np.max(P.sum(1)) < 1 / N + 1e-9
        spreads.append(np.ptp(P.sum(0)))
    assert spreads[0] > 4 * spreads[1] > 40 * spreads[2]
    assert spreads[2] < 2e-4


def test_progressive_of_the_whole_mass_is_semi_relaxed():
    p, epsilon, weight = ot.Problem(costs()), 0.1, 1.0
    found = check(ot.progressive_partial(p, 1.0, weight, epsilon, atol=1e-12))
    relaxed = check(ot.unbalanced(p, epsilon, None, weight, atol=1e-12))
    np.testing.assert_allclose(found.matrix, relaxed.matrix, atol=1e-12)


def test_progressive_tends_to_the_linear_programme():
    """Large weight, small epsilon: columns get ``mass / K`` each; within 1 %."""
    cost, mass = costs(), 0.4
    exact = partial_programme(cost, np.full(N, 1 / N), None, mass, np.full(K, mass / K))
    found = ot.progressive_partial(ot.Problem(cost), mass, 100.0, 0.002, atol=1e-9, max_steps=20_000)
    np.testing.assert_allclose(found.transport_cost(), exact, rtol=0.01)


def test_permutations():
    cost, r = costs(4), np.random.default_rng(5)
    i, j = r.permutation(N), r.permutation(K)
    plain, moved = (
        check(ot.progressive_partial(ot.Problem(c), 0.5, 1.0, 0.05, atol=1e-12)).matrix for c in (cost, cost[i][:, j])
    )
    np.testing.assert_allclose(moved, plain[i][:, j], atol=1e-11)


def test_growing_masses_start_from_the_last():
    p = ot.Problem(costs(6))
    last = check(ot.progressive_partial(p, 0.5, 1.0, 0.05, atol=1e-10))
    cold, warm = (
        check(ot.progressive_partial(p, 0.52, 1.0, 0.05, init=init, atol=1e-10)) for init in (None, (last.f, last.g))
    )
    assert warm.num_steps < cold.num_steps
    np.testing.assert_allclose(warm.matrix, cold.matrix, atol=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: ot.partial(p, 0.0, 0.1), "mass: expected positive"),
        (lambda p: ot.partial(p, 1.2, 0.1), "mass: expected at most the smaller sum"),
        (lambda p: ot.progressive_partial(p, 1.5, 1.0, 0.1), "mass: expected below"),
        (lambda p: ot.progressive_partial(p, 0.5, 0.0, 0.1), "relax_b: expected positive"),
        (lambda p: ot.progressive_partial(ot.Problem(costs(), jnp.ones(N)), 0.5, 1.0, 0.1), "a: expected weights"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(ot.Problem(costs()))
