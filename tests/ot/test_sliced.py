"""Sliced Wasserstein distances: closed forms, the linear programme in one dimension, ordering of the variants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import kernels, ot


def clouds(seed=0, n=40, m=30, d=3):
    r = np.random.default_rng(seed)
    return r.normal(size=(n, d)), r.normal(size=(m, d)) + 0.5


def directions(num, d=3, seed=1):
    v = np.random.default_rng(seed).normal(size=(num, d))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def test_a_shift_costs_its_mean_square():
    """``SW_2^2 = |shift|^2 / d``: exactly for directions with ``mean theta theta^T = I / d``, as orthonormal ones have."""
    x, shift = clouds()[0], np.array([1.0, -2.0, 0.5])
    frame = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    exact = ot.sliced_wasserstein(x, x + shift, frame)
    np.testing.assert_allclose(exact.cost, np.sum(shift**2) / 3, rtol=1e-12)
    np.testing.assert_allclose(exact.distance, np.sqrt(np.sum(shift**2) / 3), rtol=1e-12)
    # 5000 random ones: <theta, shift>^2 has variance |shift|^4 4 / 45 in three dimensions; five standard errors.
    drawn = ot.sliced_wasserstein(x, x + shift, directions(5000))
    error = np.sum(shift**2) * np.sqrt(4 / 45 / 5000)
    assert abs(drawn.cost - np.sum(shift**2) / 3) < 5 * error


def test_each_direction_is_a_line():
    (x, y), theta = clouds(), directions(70)  # more than are projected on at once
    r = np.random.default_rng(2)
    for a, b in ((None, None), (r.dirichlet(np.ones(40)), None), (r.dirichlet(np.ones(40)), r.dirichlet(np.ones(30)))):
        found = ot.sliced_wasserstein(x, y, theta, a, b, power=1.5)
        lines = [ot.line_wasserstein(x @ t, y @ t, a, b, power=1.5) for t in theta]
        np.testing.assert_allclose(found.costs, lines, rtol=1e-11)
        np.testing.assert_allclose(found.cost, np.mean(lines), rtol=1e-12)
    weights = r.dirichlet(np.ones(70))
    found = ot.sliced_wasserstein(x, y, theta, weights=weights)
    np.testing.assert_allclose(found.cost, weights @ found.costs, rtol=1e-12)


def test_equal_clouds_permutations_and_rotations():
    (x, y), theta = clouds(), directions(20)
    r = np.random.default_rng(3)
    assert ot.sliced_wasserstein(x, x[r.permutation(40)], theta).cost < 1e-28
    plain = ot.sliced_wasserstein(x, y, theta).cost
    Q = np.linalg.qr(r.normal(size=(3, 3)))[0]
    np.testing.assert_allclose(ot.sliced_wasserstein(x @ Q.T, y @ Q.T, theta @ Q.T).cost, plain, rtol=1e-12)
    gradient = jax.grad(lambda x: ot.sliced_wasserstein(x, x[::-1] * 1.0, theta).distance)(jnp.asarray(x))
    assert np.all(np.isfinite(gradient))


def test_energy_based_leans_to_large_costs():
    """At least the mean (Chebyshev), equal when all directions agree; the softmax of the costs by NumPy."""
    (x, y), theta = clouds(), directions(50)
    mean, leaning = (ot.sliced_wasserstein(x, y, theta, energy_based=e) for e in (False, True))
    assert leaning.cost > mean.cost
    w = np.exp(mean.costs) / np.exp(mean.costs).sum()
    np.testing.assert_allclose(leaning.cost, w @ mean.costs, rtol=1e-12)
    same = np.repeat(theta[:1], 5, 0)
    a, b = (ot.sliced_wasserstein(x, y, same, energy_based=e).cost for e in (False, True))
    np.testing.assert_allclose(a, b, rtol=1e-12)


def test_max_sliced_finds_the_direction_of_a_shift():
    """Clouds that differ by a shift, and a large common variance across it: the largest cost is |shift|^2, along it."""
    r = np.random.default_rng(4)
    x = r.normal(size=(100, 5)) * np.array([1, 1, 1, 1, 5])
    shift = np.array([0.3, 0.0, -0.4, 0.0, 0.0])
    value, theta = ot.max_sliced_wasserstein(x, x + shift, directions(4, 5))
    np.testing.assert_allclose(value, 0.25, rtol=1e-6)
    np.testing.assert_allclose(np.abs(theta @ shift) / 0.5, 1, rtol=1e-6)


def test_max_sliced_of_gaussians_beats_a_grid():
    """In the plane, against the largest of 2000 equispaced directions: not below by more than their spacing allows."""
    x, y = clouds(5, 60, 60, 2)
    y = y * np.array([2.0, 0.7])
    value, theta = ot.max_sliced_wasserstein(x, y, kernels.equispaced(8))
    grid = ot.sliced_wasserstein(x, y, kernels.equispaced(2000)).costs
    assert value > grid.max() - 1e-5
    np.testing.assert_allclose(jnp.linalg.norm(theta), 1, rtol=1e-12)


def test_generalised_projections():
    """Degree one is linear; distances from points of a sphere; odd polynomials, by their definition."""
    (x, y), theta = clouds(), directions(6)
    linear = ot.sliced_wasserstein(x, y, theta).costs
    np.testing.assert_allclose(ot.sliced_wasserstein(x, y, ot.PolynomialProjection(theta, 1)).costs, linear, rtol=1e-12)
    circular = ot.sliced_wasserstein(x, y, ot.CircularProjection(theta, 2.0), power=1.0).costs
    for p in range(6):
        u, v = (np.linalg.norm(z - 2 * theta[p], axis=1) for z in (x, y))
        np.testing.assert_allclose(circular[p], ot.line_wasserstein(u, v, power=1.0), rtol=1e-12)
    c = np.random.default_rng(6).normal(size=(1, 10))
    cubic = ot.PolynomialProjection(c, 3)(jnp.asarray(x))[:, 0]
    monomials = [x[:, i] * x[:, j] * x[:, k] for i in range(3) for j in range(i, 3) for k in range(j, 3)]
    np.testing.assert_allclose(cubic, c[0] @ np.stack(monomials), rtol=1e-12)


def test_memory_is_that_of_the_points(float32):
    """2000 directions of 20,000 points in 10 dimensions: far less than their 160 MB of projections."""
    cloud, theta = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((20_000, 10), (2000, 10)))
    needs = jax.jit(lambda x, y, t: ot.sliced_wasserstein(x, y, t).cost).lower(cloud, cloud, theta).compile()
    assert needs.memory_analysis().temp_size_in_bytes < 32e6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: ot.sliced_wasserstein(x, y, np.ones((4, 2))), "projection: expected directions of shape"),
        (lambda x, y: ot.sliced_wasserstein(x, y[:, :2], np.ones((4, 3))), "y: expected points of shape"),
        (lambda x, y: ot.sliced_wasserstein(x, y, directions(4), power=0.5), "power: expected at least"),
        (lambda x, y: ot.sliced_wasserstein(x, y, directions(4), np.ones(40)), "a: expected weights of sum one"),
        (lambda x, y: ot.sliced_wasserstein(x, y, directions(4), weights=np.ones(4)), "weights: expected weights"),
        (
            lambda x, y: ot.sliced_wasserstein(x, y, directions(2), weights=np.ones(2) / 2, energy_based=True),
            "weights: expected None where energy_based",
        ),
        (lambda x, y: ot.PolynomialProjection(np.ones((1, 4)), 2), "degree: expected an odd"),
        (lambda x, y: ot.sliced_wasserstein(x, y, ot.PolynomialProjection(np.ones((1, 4)))), "coefficients: expected"),
        (lambda x, y: ot.CircularProjection(np.ones((1, 4)), -1.0), "radius: expected positive"),
        (lambda x, y: ot.max_sliced_wasserstein(x, y, np.ones(3)), "directions: expected directions of shape"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(*clouds())
