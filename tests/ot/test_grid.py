"""Costs of grids, axis by axis, against the same costs as a matrix and as those of points."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import check, ot
from invjax.drive import Status
from invjax.ot import costs
from invjax.ot.softmin import softmin

EPSILON = 0.1


def axes(shape, seed=0):
    r = np.random.default_rng(seed)
    return tuple(np.sort(r.uniform(size=size)) for size in shape)


def masses(size, seed=0):
    """With zeros: lines of the grid without mass, and points on others."""
    r = np.random.default_rng(seed)
    mass = r.dirichlet(np.ones(size)) * (np.arange(size) % 4 > 0)
    mass[: size // 3] = 0
    return mass / mass.sum()


def by_hand(x_axes, y_axes, cost_fn):
    x, y = (np.stack([c.ravel() for c in np.meshgrid(*side, indexing="ij")], 1) for side in (x_axes, y_axes))
    return sum(cost_fn(x[:, None, k], y[None, :, k]) for k in range(len(x_axes)))


def asymmetric(x, y):
    """Of both signs."""
    return jnp.sum(x * jnp.sin(3 * y) - 0.9)


@pytest.mark.parametrize(
    ("shapes", "cost_fn", "exact"),
    [
        (((5,), (7,)), ot.SquaredEuclidean(), lambda x, y: (x - y) ** 2),
        (((4, 5), (3, 6)), ot.Distance(1.5), lambda x, y: np.abs(x - y) ** 1.5),
        (((2, 3, 4), (3, 1, 5)), asymmetric, lambda x, y: x * np.sin(3 * y) - 0.9),
    ],
)
def test_matrix_soft_minimum_and_scales(shapes, cost_fn, exact):
    """On one, two and three axes, against the dense matrix."""
    x, y = (axes(shape, seed) for seed, shape in enumerate(shapes))
    matrix = by_hand(x, y, exact)
    n, m = matrix.shape
    grid, dense = (ot.Problem(c, masses(n), masses(m, 1)) for c in (ot.GridCost(x, y, cost_fn), matrix))
    np.testing.assert_allclose(grid.matrix, matrix, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(grid.T.matrix, matrix.T, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(grid.T.T.matrix, matrix, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(grid.mean_cost(), dense.mean_cost(), rtol=1e-12)
    np.testing.assert_allclose(grid.largest_cost(), np.abs(matrix).max(), rtol=1e-12)
    parts = [by_hand(x[k : k + 1], y[k : k + 1], lambda u, v: np.abs(exact(u, v))) for k in range(len(x))]
    marginals = [
        [mass.reshape(shape).sum(tuple(i for i in range(len(x)) if i != k)) for k in range(len(x))]
        for mass, shape in ((masses(n), shapes[0]), (masses(m, 1), shapes[1]))
    ]
    absolute = sum(a @ c @ b for a, c, b in zip(marginals[0], parts, marginals[1], strict=True))
    np.testing.assert_allclose(grid.mean_cost(absolute=True), absolute, rtol=1e-12)
    g = np.random.default_rng(3).normal(size=m)
    for epsilon in (0.003, 1.0):
        got, expected = (softmin(p.cost, jnp.asarray(g), p.b, jnp.asarray(epsilon)) for p in (grid, dense))
        np.testing.assert_allclose(got, expected, atol=1e-13)


@functools.cache
def pair_of_problems():
    x, y = axes((2, 3, 4)), axes((3, 2, 3), 1)
    matrix = by_hand(x, y, lambda u, v: (u - v) ** 2)
    a, b = masses(24), masses(18, 1)
    return ot.Problem(ot.GridCost(x, y), a, b), ot.Problem(matrix, a, b)


def test_couplings_are_those_of_the_matrix():
    """Sinkhorn's iteration, the coupling and every view of it; three axes, not square, with zeros in the masses."""
    given, dense = pair_of_problems()
    found, whole = (check(ot.sinkhorn(p, EPSILON, atol=1e-13)) for p in (given, dense))
    P, r = np.asarray(whole.matrix), np.random.default_rng(2)
    for name in ("f", "g", "value", "matrix"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), atol=1e-12)
    assert found.marginal_error < 1e-12
    assert abs(found.duality_gap) < 1e-13
    for got, expected in zip(found.marginals(), whole.marginals(), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-13)
    np.testing.assert_allclose(found.transport_cost(), whole.transport_cost(), rtol=1e-11)
    for values in (r.normal(size=18), r.normal(size=(18, 2, 2)), np.zeros(18), np.eye(18)[:, 5]):
        np.testing.assert_allclose(found.apply(values), np.tensordot(P, values, 1), atol=1e-13)
    np.testing.assert_allclose(found.T.apply(np.ones(24)), given.b, atol=1e-13)
    kept = given.a > 0
    np.testing.assert_allclose(
        found.barycentric()[kept], (P @ given.cost.points.y)[kept] / P.sum(1)[kept, None], atol=1e-12
    )
    x = np.asarray(given.cost.rows)
    np.testing.assert_allclose(found.potential(x), found.f, atol=1e-12)
    np.testing.assert_allclose(found.transport(x), found.barycentric(), atol=1e-12)
    i, j = found.sample(jax.random.key(0), 200)
    assert np.all(P[i, j] > 0)


def test_other_solvers_take_grids():
    given, dense = pair_of_problems()
    for solver in (
        lambda p: ot.unbalanced(p, EPSILON, 0.3, None, atol=1e-12),
        lambda p: ot.partial(p, 0.6, EPSILON, atol=1e-12),
        lambda p: ot.sinkhorn_newton(p, EPSILON, num_kept=18, atol=1e-12),
    ):
        found, whole = check(solver(given)), check(solver(dense))
        np.testing.assert_allclose(found.matrix, whole.matrix, atol=1e-11)
        np.testing.assert_allclose(found.value, whole.value, atol=1e-11)


def test_mass_may_grow_from_nothing():
    """The derivative of the value in a mass, zero ones too, is its potential; that in the axes is the one through the matrix."""
    given, dense = pair_of_problems()

    def value(x, b):
        return ot.sinkhorn(ot.Problem(ot.GridCost(x, given.cost.y_axes), given.a, b), EPSILON, atol=1e-13).value

    by_axes, slope = jax.grad(value, (0, 1))(given.cost.x_axes, given.b)
    found = ot.sinkhorn(dense, EPSILON, atol=1e-13)
    np.testing.assert_allclose(slope - slope.mean(), found.g - found.g.mean(), atol=1e-11)
    _, pull = jax.vjp(lambda x: ot.Problem(ot.GridCost(x, given.cost.y_axes)).matrix, given.cost.x_axes)
    for got, expected in zip(by_axes, pull(found.matrix)[0], strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-12)


def test_tiles_equal_the_whole(monkeypatch):
    given, _ = pair_of_problems()
    g, values = jnp.asarray(np.random.default_rng(4).normal(size=18)), np.arange(18.0)

    def everything(g):
        found = ot.sinkhorn(given, EPSILON, max_steps=5)
        return softmin(given.cost, g, given.b, jnp.asarray(0.01)), found.transport_cost(), found.apply(values)

    whole, slope = everything(g), jax.grad(lambda g: jnp.sum(everything(g)[0] ** 2))(g)
    monkeypatch.setattr(costs, "_AREA", 32)
    jax.clear_caches()
    for got, expected in zip(everything(g), whole, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-13)
    np.testing.assert_allclose(jax.grad(lambda g: jnp.sum(everything(g)[0] ** 2))(g), slope, atol=1e-12)
    jax.clear_caches()


def test_memory_and_time_are_those_of_the_axes(float32, monkeypatch):
    """128 x 128 points: no array of pairs, which would be 1 GB. 64 x 64: some operations for each of n^3 terms, not of n^4."""

    def program(n):
        axis, image = jax.ShapeDtypeStruct((n,), jnp.float32), jax.ShapeDtypeStruct((n * n,), jnp.float32)

        def run(x, y, a, b):
            found = ot.sinkhorn(ot.Problem(ot.GridCost((x, y)), a, b), 0.01, max_steps=50)
            return found.g, found.value, found.marginal_error, found.transport_cost(), found.apply(a)

        return jax.jit(run).lower(axis, axis, image, image).compile()

    assert program(128).memory_analysis().temp_size_in_bytes < 32e6
    monkeypatch.setattr(costs, "_AREA", 1 << 40)  # the compiler counts the operations of one tile
    assert program(64).cost_analysis()["flops"] < 300 * 64**3  # 3200 for the same costs as those of points


def test_float32_at_small_epsilon(float32):
    """Against float64: off by a few roundings of the costs; a solver says how far it got, and zeros in the masses do no harm."""
    x = np.linspace(0, 1, 20)
    r = np.random.default_rng(5)
    g, b = r.uniform(size=400), masses(400)
    matrix = by_hand((x, x), (x, x), lambda u, v: (u - v) ** 2)
    for epsilon in (1e-3, 1e-5):
        z = np.where(b > 0, (g - matrix) / epsilon + np.log(np.where(b > 0, b, 1)), -np.inf)
        exact = -epsilon * np.logaddexp.reduce(z, axis=1)
        cost = ot.GridCost((np.float32(x), np.float32(x)))
        got = softmin(cost, jnp.float32(g), jnp.float32(b), jnp.float32(epsilon))
        np.testing.assert_allclose(got, exact, atol=20 * 2**-24 * 3)  # costs and potentials up to 3
    found = ot.sinkhorn(ot.Problem(cost, np.float32(b[::-1].copy()), np.float32(b)), 1e-3, max_steps=2000)
    assert found.status == Status.CONVERGED
    assert found.marginal_error < 1e-3
    far = ot.sinkhorn(found.problem, 1e-3, init=jnp.zeros(400), max_steps=2)  # potentials that are wrong by far
    assert far.status == Status.MAX_STEPS
    assert jnp.isfinite(far.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ot.GridCost(()), "x_axes: expected coordinates"),
        (lambda: ot.GridCost((np.ones((2, 2)),)), "x_axes: expected coordinates"),
        (lambda: ot.GridCost((np.ones(2), np.ones(0))), "x_axes: expected coordinates"),
        (lambda: ot.GridCost((np.ones(2),), (np.ones(2), np.ones(2))), "y_axes: expected 1 axes"),
        (lambda: ot.GridCost((np.arange(3),)), "x_axes: expected real values"),
        (lambda: ot.Problem(ot.GridCost((np.ones(2), np.ones(3))), np.ones(5)), "a: expected shape"),
        (
            lambda: ot.semantic_partial(ot.Problem(ot.GridCost((np.ones(2),))), np.eye(2), 0.5, 1, 1, 1),
            "problem: expected a cost",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
