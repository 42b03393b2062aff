"""Couplings of low rank: problems whose best one is known, their factors, sampling, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import check, ot


@pytest.fixture(scope="module")
def clusters():
    """Four groups of ten points, each to be sent to a group of six: centres move little, groups are far apart."""
    r = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0]])
    x = np.repeat(centres, 10, 0) + 0.1 * r.normal(size=(40, 2))
    y = np.repeat(centres + 0.5, 6, 0) + 0.1 * r.normal(size=(24, 2))
    problem = ot.between(x, y)
    keys = jax.random.split(jax.random.key(0), 8)  # the best of eight starts: some join two groups
    found = jax.vmap(lambda key: ot.low_rank(key, problem, 4, atol=1e-7))(keys)
    best = int(jnp.argmin(jax.vmap(ot.LowRankCoupling.transport_cost)(found)))
    return problem, keys[best], check(ot.low_rank(keys[best], problem, 4, atol=1e-7))


def test_groups_are_found(clusters):
    """Rank four: no coupling beats the one that is uniform from each group to its own, but by what the spread of 0.1 allows."""
    problem, _, found = clusters
    same = np.repeat(np.arange(4), 10)[:, None] == np.repeat(np.arange(4), 6)[None]
    by_groups = same / 240
    cost = np.sum(by_groups * np.asarray(problem.matrix))
    assert found.transport_cost() < cost * (1 + 1e-2)
    # What is wrong by mass t costs at least 16 - 8 of distance squared more.
    assert np.sum(np.asarray(found.matrix) * ~same) < 1e-2 * cost / 8


def test_factors(clusters):
    problem, _, found = clusters
    P = np.asarray(found.matrix)
    assert np.linalg.matrix_rank(P, tol=1e-10) <= 4
    errors = np.abs(P.sum(1) - problem.a).sum() + np.abs(P.sum(0) - problem.b).sum()
    np.testing.assert_allclose(found.marginal_error, errors, rtol=1e-6)
    assert found.marginal_error < 4e-3  # Dykstra's projections stop at 1e-3
    np.testing.assert_allclose(found.transport_cost(), np.sum(P * np.asarray(problem.matrix)), rtol=1e-12)
    v = np.random.default_rng(1).normal(size=(24, 3))
    np.testing.assert_allclose(found.apply(v), P @ v, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.T.matrix, P.T, rtol=1e-12)
    exact = ot.sinkhorn(problem, 0.01).transport_cost()
    assert exact < found.transport_cost() * (1 + 4e-3)


def test_costs_given_as_a_matrix_and_derivative(clusters):
    """The same factors as of points; the cost's derivative in the points is ``2 sum_j P_ij (x_i - y_j)``."""
    problem, key, found = clusters
    other = ot.low_rank(key, ot.Problem(problem.matrix), 4, atol=1e-7)
    np.testing.assert_allclose(other.q, found.q, atol=1e-8)
    x, y = problem.cost.x, problem.cost.y

    def cost(x):
        return ot.low_rank(key, ot.between(x, y), 4, atol=1e-7).transport_cost()

    P = np.asarray(found.matrix)
    np.testing.assert_allclose(jax.grad(cost)(x), 2 * (P.sum(1)[:, None] * x - P @ y), atol=1e-10)


def test_columns_are_drawn_by_the_entries(clusters):
    found = clusters[2]
    keys = jax.random.split(jax.random.key(1), 2000)
    columns = np.asarray(jax.vmap(found.sample_columns)(keys))
    P = np.asarray(found.matrix)
    rows = P / P.sum(1, keepdims=True)
    for i in (0, 17, 39):
        frequency = np.bincount(columns[:, i], minlength=24) / 2000
        assert np.all(np.abs(frequency - rows[i]) < 5 * np.sqrt(rows[i] * (1 - rows[i]) / 2000) + 1e-12)


def test_memory_is_linear(float32):
    """4000 points each: far below their 64 MB of pairs."""
    cloud = jax.ShapeDtypeStruct((4000, 3), jnp.float32)
    run = jax.jit(lambda x, y: ot.low_rank(jax.random.key(0), ot.between(x, y), 8).q)
    assert run.lower(cloud, cloud).compile().memory_analysis().temp_size_in_bytes < 16e6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: ot.low_rank(jax.random.key(0), p, 6), "rank: expected 2 to 5, got 6"),
        (lambda p: ot.low_rank(jax.random.key(0), p, 3, epsilon=-1.0), "epsilon: expected non-negative"),
        (lambda p: ot.low_rank(jax.random.key(0), p, 3, gamma=0.0), "gamma: expected positive"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(ot.Problem(np.ones((7, 5))))
