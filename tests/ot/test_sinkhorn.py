"""Entropic transport, balanced and not, against ott-jax, SciPy's linear programme, limits and invariances."""

import importlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from ott.geometry import geometry
from ott.problems.linear import linear_problem
from ott.solvers.linear import sinkhorn as peer

from invjax import check, ot, sweep
from invjax.drive import SolveError, Status
from invjax.ot import costs

N, M = 30, 20


def problem(seed=0, n=N, m=M):
    r = np.random.default_rng(seed)
    return ot.Problem(r.uniform(size=(n, m)), r.dirichlet(np.ones(n)), r.dirichlet(np.ones(m)))


def emd(p):
    """The value of the linear programme."""
    n, m = p.shape
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    masses = np.concatenate([p.a, p.b])
    return scipy.optimize.linprog(np.ravel(p.matrix), A_eq=np.vstack([rows, columns])[:-1], b_eq=masses[:-1]).fun


def by_ott(cost, a, b, epsilon, **options):
    given = linear_problem.LinearProblem(geometry.Geometry(jnp.asarray(cost), epsilon=epsilon), a, b, **options)
    return jax.jit(peer.Sinkhorn(threshold=1e-12, max_iterations=100_000))(given)


@pytest.mark.parametrize("epsilon", [0.1, 0.003])
def test_agrees_with_ott(epsilon):
    p = problem()
    found = check(ot.sinkhorn(p, epsilon, atol=1e-12))
    other = by_ott(p.matrix, p.a, p.b, epsilon)
    np.testing.assert_allclose(found.matrix, other.matrix, atol=1e-12)
    np.testing.assert_allclose(found.value, other.reg_ot_cost, rtol=1e-12)
    # f and g of ott carry the masses: f_ott = f + epsilon log a, up to a shift.
    difference = other.f - epsilon * jnp.log(p.a) - found.f
    np.testing.assert_allclose(difference, np.mean(difference), atol=1e-10)


@pytest.mark.parametrize(("relax_a", "relax_b"), [(0.4, 0.7), (None, 0.3), (0.2, None)])
def test_unbalanced_agrees_with_ott(relax_a, relax_b):
    """Its entropy is that of P alone, ours is relative to ``a b^T``: a cost with ``-epsilon log(a b^T)`` makes up for it."""
    p, epsilon = problem(), 0.05
    found = check(ot.unbalanced(p, epsilon, relax_a, relax_b, atol=1e-12))
    moved = p.matrix - epsilon * jnp.log(p.a[:, None] * p.b[None])
    taus = [1.0 if w is None else w / (w + epsilon) for w in (relax_a, relax_b)]
    other = by_ott(moved, p.a, p.b, epsilon, tau_a=taus[0], tau_b=taus[1])
    np.testing.assert_allclose(found.matrix, other.matrix, atol=1e-10)
    assert abs(found.duality_gap) < 1e-11


def test_weights_without_bound_constrain():
    """``relax -> infinity`` is the balanced problem, infinity itself exactly."""
    p, epsilon = problem(), 0.1
    balanced = ot.sinkhorn(p, epsilon, atol=1e-12).matrix
    infinite = check(ot.unbalanced(p, epsilon, jnp.inf, np.full(M, np.inf), atol=1e-12))
    np.testing.assert_allclose(infinite.matrix, balanced, atol=1e-12)
    errors = [jnp.abs(ot.unbalanced(p, epsilon, w, w, atol=1e-12).matrix - balanced).max() for w in (1e2, 1e3)]
    assert errors[1] < 0.15 * errors[0]  # first order in 1 / weight


@pytest.mark.parametrize("epsilon", [0.1, 0.01, 0.001])
def test_tends_to_the_linear_programme(epsilon):
    """``0 <= <P, C> - EMD <= epsilon (H(P) - H(P*)) <= epsilon min(H(a), H(b))``."""
    p = problem()
    found = check(ot.sinkhorn(p, epsilon, atol=1e-10))
    entropy = min(-float(jnp.sum(mass * jnp.log(mass))) for mass in (p.a, p.b))
    excess = float(found.transport_cost()) - emd(p)
    assert -1e-9 < excess < epsilon * entropy


def test_duality():
    """The value is the regularised cost of the coupling; the gap of stopped iterations is what it says."""
    p, epsilon = problem(), 0.02
    found = check(ot.sinkhorn(p, epsilon, atol=1e-12))
    P = np.asarray(found.matrix)
    relative = np.sum(P * np.log(P / np.outer(p.a, p.b))) - P.sum() + 1
    np.testing.assert_allclose(found.value, np.sum(P * p.matrix) + epsilon * relative, rtol=1e-12)
    assert found.marginal_error < 1e-12
    early = ot.sinkhorn(p, epsilon, max_steps=4, atol=1e-12)
    assert early.status == Status.MAX_STEPS
    assert early.marginal_error > 1e-6
    Q = np.asarray(early.matrix)
    cost = np.sum(Q * p.matrix) + epsilon * (np.sum(Q * np.log(Q / np.outer(p.a, p.b))) - Q.sum() + 1)
    np.testing.assert_allclose(early.duality_gap, cost - early.value, rtol=1e-6)
    error = np.abs(Q.sum(1) - p.a).sum() + np.abs(Q.sum(0) - p.b).sum()
    np.testing.assert_allclose(early.marginal_error, error, rtol=1e-9)
    with pytest.raises(SolveError, match="max_steps"):
        check(early)


def test_points_without_mass():
    """They change nothing for the others, and their potentials are those of the soft minimum."""
    p, epsilon = problem(), 0.05
    keep_rows, keep_columns = np.arange(N) % 5 != 0, np.arange(M) % 4 != 1
    a, b = p.a * keep_rows, p.b * keep_columns
    a, b = a / a.sum(), b / b.sum()
    found = check(ot.sinkhorn(ot.Problem(p.matrix, a, b), epsilon, atol=1e-12))
    small = ot.Problem(p.matrix[keep_rows][:, keep_columns], a[keep_rows], b[keep_columns])
    alone = check(ot.sinkhorn(small, epsilon, atol=1e-12))
    np.testing.assert_allclose(found.matrix[keep_rows][:, keep_columns], alone.matrix, atol=1e-11)
    assert jnp.all(jnp.isfinite(jnp.concatenate([found.f, found.g])))
    np.testing.assert_array_equal(found.matrix[~keep_rows], 0)
    i, j = found.sample(jax.random.key(0), 1000)
    assert keep_rows[np.asarray(i)].all()
    assert keep_columns[np.asarray(j)].all()
    # The derivative of the value in a mass that is zero is its potential: masses may grow from nothing.
    slope = jax.grad(lambda b: ot.sinkhorn(ot.Problem(p.matrix, a, b), epsilon, atol=1e-12).value)(b)
    np.testing.assert_allclose(slope - slope.mean(), found.g - found.g.mean(), atol=1e-9)


def test_float32_at_small_epsilon(float32):
    """No overflow from the start, and an error of a few roundings of ``C / epsilon``."""
    r = np.random.default_rng(0)
    for epsilon in (1e-3, 1e-4):
        p = ot.Problem(r.uniform(size=(50, 50)).astype(np.float32))
        found = ot.sinkhorn(p, epsilon, atol=0.0, max_steps=3000)
        assert found.f.dtype == jnp.float32
        assert found.marginal_error < 20 * 6e-8 / epsilon


def test_tiles_equal_the_matrix(monkeypatch):
    """Costs of points in tiles, without a kernel that is held: the same coupling, and every view of it."""
    r = np.random.default_rng(1)
    x, y = r.normal(size=(N, 4)), r.normal(size=(M, 4))
    a, b = r.dirichlet(np.ones(N)), r.dirichlet(np.ones(M))
    cost = np.sum((x[:, None] - y[None]) ** 2, -1)
    whole = check(ot.sinkhorn(ot.Problem(cost, a, b), 1.0, atol=1e-12))
    monkeypatch.setattr(costs, "_AREA", 64)
    monkeypatch.setattr(importlib.import_module("invjax.ot.sinkhorn"), "_HELD", 64)
    jax.clear_caches()
    tiled = check(ot.sinkhorn(ot.between(x, y, a, b), 1.0, atol=1e-12))
    np.testing.assert_allclose(tiled.matrix, whole.matrix, atol=1e-11)
    values = r.normal(size=(M, 3))
    for name, other in (
        ("value", whole.value),
        ("marginal_error", 0.0),
        ("duality_gap", 0.0),
        ("transport_cost", np.sum(whole.matrix * cost)),
    ):
        got = getattr(tiled, name)
        np.testing.assert_allclose(got() if callable(got) else got, other, atol=1e-10)
    np.testing.assert_allclose(tiled.apply(values), whole.matrix @ values, atol=1e-11)
    np.testing.assert_allclose(tiled.T.apply(np.ones(N)), b, atol=1e-11)
    np.testing.assert_allclose(tiled.barycentric(), (whole.matrix @ y) / a[:, None], atol=1e-9)
    gradient = jax.grad(lambda x: ot.sinkhorn(ot.between(x, y, a, b), 1.0, atol=1e-12).value)(x)
    expected = 2 * (a[:, None] * x - whole.matrix @ y)
    np.testing.assert_allclose(gradient, expected, atol=1e-9)
    jax.clear_caches()


def test_memory_of_many_points_is_that_of_tiles(float32):
    """50,000 points: no array of pairs, which would be 10 GB; the compiler says what the program needs."""
    shape = jax.ShapeDtypeStruct((50_000, 3), jnp.float32)

    def run(x, y):
        found = ot.sinkhorn(ot.between(x, y), 0.01, max_steps=50)
        return found.g, found.value, found.marginal_error

    needs = jax.jit(run).lower(shape, shape).compile().memory_analysis()
    assert needs.temp_size_in_bytes < 64e6


def test_extends_to_other_points():
    r = np.random.default_rng(2)
    x, y = r.normal(size=(N, 3)), r.normal(size=(M, 3))
    found = check(ot.sinkhorn(ot.between(x, y), 0.7, atol=1e-12))
    np.testing.assert_allclose(found.potential(x), found.f, atol=1e-10)
    np.testing.assert_allclose(found.transport(x), found.barycentric(), atol=1e-10)
    # T = x - grad f / 2 for the squared distance (Pooladian and Niles-Weed 2021, proposition 2).
    new = r.normal(size=(4, 3))
    gradient = jax.vmap(jax.grad(lambda z: found.potential(z[None])[0]))(new)
    np.testing.assert_allclose(found.transport(new), new - gradient / 2, atol=1e-10)
    with pytest.raises(ValueError, match="problem: expected costs of points"):
        ot.sinkhorn(ot.Problem(np.ones((3, 3))), 0.1).transport(new)


def test_samples_follow_the_coupling():
    """Frequencies of 20,000 pairs: chi-square of 24 pairs with 23 degrees of freedom below its 1 - 1e-6 quantile, 75."""
    r = np.random.default_rng(3)
    found = check(ot.sinkhorn(ot.Problem(r.uniform(size=(6, 4))), 0.2, atol=1e-12))
    i, j = found.sample(jax.random.key(1), 20_000)
    counts = np.zeros((6, 4))
    np.add.at(counts, (np.asarray(i), np.asarray(j)), 1)
    expected = 20_000 * np.asarray(found.matrix)
    assert np.sum((counts - expected) ** 2 / expected) < 75


def test_invariances():
    """Of the coupling: permutations, shifts of rows and columns of the cost, scales with epsilon, translations of clouds."""
    p, epsilon = problem(), 0.05
    P = ot.sinkhorn(p, epsilon, atol=1e-13).matrix
    r = np.random.default_rng(4)
    i, j = r.permutation(N), r.permutation(M)
    moved = ot.Problem(p.matrix[i][:, j], p.a[i], p.b[j])
    np.testing.assert_allclose(ot.sinkhorn(moved, epsilon, atol=1e-13).matrix, P[i][:, j], atol=1e-12)
    shifted = ot.Problem(p.matrix + r.normal(size=(N, 1)) - 3 * r.normal(size=M), p.a, p.b)
    np.testing.assert_allclose(ot.sinkhorn(shifted, epsilon, atol=1e-13).matrix, P, atol=1e-11)
    scaled = ot.Problem(1e3 * p.matrix, p.a, p.b)
    np.testing.assert_allclose(ot.sinkhorn(scaled, 1e3 * epsilon, atol=1e-13).matrix, P, atol=1e-11)
    x, y = r.normal(size=(N, 5)), r.normal(size=(M, 5))
    near, far = (ot.sinkhorn(ot.between(x + s, y + s), 1.0, atol=1e-12).matrix for s in (0.0, 1e4))
    np.testing.assert_allclose(near, far, atol=1e-9)
    np.testing.assert_allclose(ot.sinkhorn(p.T, epsilon, atol=1e-13).matrix, P.T, atol=1e-12)


def test_warm_start():
    p = problem()
    near = check(ot.sinkhorn(p, 0.011, atol=1e-10))
    cold, warm = ot.sinkhorn(p, 0.01, atol=1e-10), ot.sinkhorn(p, 0.01, init=near.g, atol=1e-10)
    assert warm.num_steps < cold.num_steps
    np.testing.assert_allclose(warm.matrix, cold.matrix, atol=1e-9)


def test_sweep_over_epsilon():
    p, epsilons = problem(), np.geomspace(0.01, 1, 5)
    values = sweep(lambda e, p: ot.sinkhorn(p, e, atol=1e-12).value, epsilons, p, batch_size=2)
    for epsilon, value in zip(epsilons, values, strict=True):
        np.testing.assert_allclose(value, ot.sinkhorn(p, epsilon, atol=1e-12).value, rtol=1e-10)


def test_second_derivatives():
    """Of the value, in costs, masses and epsilon, against differences of the gradient."""
    p = problem(n=5, m=4)
    r = np.random.default_rng(7)
    moves = r.normal(size=(5, 4)), r.normal(size=5), 0.3
    moves = moves[0], 0.05 * (moves[1] - moves[1].mean()), 0.02

    def gradient(t):
        cost, a, epsilon = (v + t * d for v, d in zip((p.matrix, p.a, 0.2), moves, strict=True))
        value = lambda *args: ot.sinkhorn(ot.Problem(*args[:2], p.b), args[2], atol=1e-13).value  # noqa: E731
        return jax.grad(value, (0, 1, 2))(cost, a, epsilon)

    h = 1e-4
    exact = jax.jvp(gradient, (0.0,), (1.0,))[1]
    differences = jax.tree.map(lambda u, v: (u - v) / (2 * h), gradient(h), gradient(-h))
    for got, expected in zip(jax.tree.leaves(exact), jax.tree.leaves(differences), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ot.Problem(np.ones(3)), "cost: expected a matrix"),
        (lambda: ot.Problem(np.ones((0, 3))), "cost: expected a matrix"),
        (lambda: ot.Problem(np.ones((2, 2)) * 1j), "cost: expected real values"),
        (lambda: ot.Problem(np.ones((2, 3)), np.ones(3) / 3), "a: expected shape"),
        (lambda: ot.Problem(np.ones((2, 2)), [1.5, -0.5]), "a: expected masses >= 0"),
        (lambda: ot.Problem(np.ones((2, 2)), None, [np.nan, 1]), "b: expected masses >= 0"),
        (lambda: ot.Problem(np.ones((2, 2)), None, [0.0, 0.0]), "b: expected masses >= 0"),
        (lambda: ot.sinkhorn(ot.Problem(np.ones((2, 2)), [1.0, 1.0]), 0.1), "expected equal sums, got 2 and 1"),
        (lambda: ot.sinkhorn(ot.Problem(np.ones((2, 2))), 0.0), "epsilon: expected positive"),
        (lambda: ot.sinkhorn(ot.Problem(np.ones((2, 2))), [0.1, 0.2]), "epsilon: expected shape"),
        (lambda: ot.sinkhorn(ot.Problem(np.ones((2, 2))), 0.1, atol=-1.0), "atol: expected non-negative"),
        (lambda: ot.sinkhorn(ot.Problem(np.ones((2, 2))), 0.1, init=np.ones(3)), "g: expected shape"),
        (lambda: ot.unbalanced(ot.Problem(np.ones((2, 2))), 0.1, -1.0, None), "relax_a: expected positive"),
        (lambda: ot.unbalanced(ot.Problem(np.ones((2, 2))), 0.1, np.ones(3), None), "relax_a: expected a scalar or"),
        (lambda: ot.between(np.ones((3, 2)), np.ones((3, 4))), "y: expected points of shape"),
        (lambda: ot.between(np.ones((0, 2)), np.ones((3, 2))), "x: expected at least 1"),
        (lambda: ot.Distance(0.0), "power: expected positive"),
        (lambda: ot.Distance(1.0, 3), "order: expected 1, 2 or inf"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("order", [1, 2, np.inf])
def test_costs_of_points(order):
    """Against NumPy; and a cost of ott-jax and a function of one's own give the same coupling as the matrix."""
    r = np.random.default_rng(0)
    x, y = r.normal(size=(6, 3)), r.normal(size=(5, 3))
    matrix = ot.between(x, y, cost_fn=ot.Distance(1.5, order)).matrix
    np.testing.assert_allclose(matrix, np.linalg.norm(x[:, None] - y[None], ord=order, axis=-1) ** 1.5, rtol=1e-12)
    for d in (2, 5):
        x, y = r.normal(size=(6, d)) + 3, r.normal(size=(5, d))
        np.testing.assert_allclose(ot.between(x, y).matrix, np.sum((x[:, None] - y[None]) ** 2, -1), rtol=1e-12)


def test_costs_that_are_not_symmetric():
    from ott.geometry import costs as theirs

    r = np.random.default_rng(0)
    x, y = r.normal(size=(6, 3)), r.normal(size=(5, 3))

    def asymmetric(u, v):
        return jnp.sum(jnp.exp(u - v))

    for cost_fn, matrix in (
        (asymmetric, np.exp(x[:, None] - y[None]).sum(-1)),
        (theirs.Cosine(), None),
    ):
        p = ot.between(x, y, cost_fn=cost_fn)
        if matrix is not None:
            np.testing.assert_allclose(p.matrix, matrix, rtol=1e-12)
        np.testing.assert_allclose(p.T.matrix, p.matrix.T, rtol=1e-12)
        np.testing.assert_allclose(p.T.T.matrix, p.matrix, rtol=1e-12)
        found = check(ot.sinkhorn(p, 0.5, atol=1e-11))
        np.testing.assert_allclose(found.matrix, ot.sinkhorn(ot.Problem(p.matrix), 0.5, atol=1e-11).matrix, atol=1e-10)
    assert eqx.tree_equal(found.T.T.matrix, found.matrix)
