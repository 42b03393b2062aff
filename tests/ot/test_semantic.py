"""SP2OT: its objective falls, without similarity it is PPOT, and it corrects rows by their neighbours."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import sparse

from invjax import check, iterate, ot
from invjax.reducers import Every

N, K = 30, 4


def problem(seed=0):
    r = np.random.default_rng(seed)
    features = r.normal(size=(N, 3))
    square = np.sum((features[:, None] - features[None]) ** 2, -1)
    return ot.Problem(r.uniform(size=(N, K))), np.exp(-square / 2)  # a Gaussian kernel: positive definite


def method(lam, seed=0):
    p, similarity = problem(seed)
    numbers = [jnp.asarray(v) for v in (0.6, lam, 1.0, 0.1, 1e-12)]
    return ot.SemanticPartial(p, jnp.asarray(similarity), *numbers, max_steps=3000)


def test_the_objective_falls():
    m = method(3.0)
    start = jnp.full((N, K), 0.6 / (N * K))
    state, objective, _ = iterate(m, start, 12, trace=Every(of=lambda state, info: info.objective))
    assert np.all(np.diff(objective) < 1e-9)
    assert objective[0] - objective[-1] > 1e-4
    # Against its definition, with the entropy relative to the masses, the virtual column's included.
    q, p = np.asarray(state.position), m.problem
    columns, rest = q.sum(0), 1 / N - q.sum(1)
    divergence = np.sum(columns * np.log(columns / (0.6 / K)) - columns + 0.6 / K)
    entropy = np.sum(q * np.log(q / (0.6 / (N * K)))) + np.sum(rest * np.log(rest / (0.4 / N)))
    expected = np.sum(q * p.matrix) - 3.0 * np.sum(q * (m.similarity @ q)) + divergence + 0.1 * entropy
    np.testing.assert_allclose(objective[-1], expected, atol=1e-8)


def test_no_similarity_is_progressive_partial():
    p, similarity = problem()
    found = check(ot.semantic_partial(p, similarity, 0.6, 0.0, 1.0, 0.1, atol=1e-12))
    plain = check(ot.progressive_partial(p, 0.6, 1.0, 0.1, atol=1e-12))
    np.testing.assert_allclose(found.matrix, plain.matrix, atol=1e-12)
    assert found.num_steps <= 2


def test_sparse_similarity_permutations_and_mass():
    p, similarity = problem(1)
    similarity = np.where(similarity > 0.3, similarity, 0)
    dense = check(ot.semantic_partial(p, similarity, 0.5, 2.0, 1.0, 0.1, atol=1e-11, rtol=1e-9))
    matrix = sparse.BCOO.fromdense(jnp.asarray(similarity))
    np.testing.assert_allclose(
        ot.semantic_partial(p, matrix, 0.5, 2.0, 1.0, 0.1, atol=1e-11, rtol=1e-9).matrix, dense.matrix, atol=1e-9
    )
    Q = np.asarray(dense.matrix)
    np.testing.assert_allclose(Q.sum(), 0.5, atol=1e-8)
    assert Q.sum(1).max() < 1 / N + 1e-9
    i, j = np.random.default_rng(2).permutation(N), np.random.default_rng(3).permutation(K)
    moved = ot.semantic_partial(
        ot.Problem(p.matrix[i][:, j]), similarity[i][:, i], 0.5, 2.0, 1.0, 0.1, atol=1e-11, rtol=1e-9
    )
    np.testing.assert_allclose(moved.matrix, Q[i][:, j], atol=1e-7)


def test_neighbours_correct_costs_that_are_wrong():
    """Four groups of rows, a quarter of whose costs are those of another group: their neighbours say where they belong."""
    r = np.random.default_rng(4)
    group = np.arange(40) % 4
    seen = np.where(np.arange(40) < 10, (group + 1) % 4, group)
    cost = 1.0 - 0.5 * np.eye(4)[seen] + 0.05 * r.uniform(size=(40, 4))
    similarity = (group[:, None] == group[None]) / 10.0
    labels = [
        np.asarray(ot.semantic_partial(ot.Problem(cost), similarity, 0.9, lam, 1.0, 0.02).matrix).argmax(1)
        for lam in (0.0, 20.0)
    ]
    assert np.mean(labels[0] == group) == 0.75
    assert np.mean(labels[1] == group) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, s: ot.semantic_partial(p, s[:3], 0.5, 1.0, 1.0, 0.1), "similarity: expected shape"),
        (lambda p, s: ot.semantic_partial(p, s, 0.5, -1.0, 1.0, 0.1), "lam: expected non-negative"),
        (lambda p, s: ot.semantic_partial(ot.between(s, s), s, 0.5, 1.0, 1.0, 0.1), "problem: expected a cost matrix"),
        (lambda p, s: ot.semantic_partial(p, s, 1.5, 1.0, 1.0, 0.1), "mass: expected below"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(*problem())
