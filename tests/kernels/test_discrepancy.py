"""Discrepancies: closed forms, brute force over pairs, and the guarantees of the tests built on them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import kernels as K

R = np.random.default_rng(0)
X, Y = R.normal(size=(9, 2)), 0.5 + R.normal(size=(7, 2))


def hermite(mean, std, num=40):
    """Gauss-Hermite points and weights of N(mean, std^2) on the plane: moments are exact, so are smooth expectations."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(num)
    points = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
    mass = np.multiply.outer(weights, weights).ravel()
    return jnp.asarray(mean + std * points), jnp.asarray(mass / mass.sum())


def gaussian_overlap(bandwidth, gap, variance, dim=2):
    """``E exp(-|Z|^2 / (2 b^2))`` for ``Z ~ N(gap, variance I)``."""
    return (bandwidth**2 / (bandwidth**2 + variance)) ** (dim / 2) * np.exp(
        -(gap @ gap) / 2 / (bandwidth**2 + variance)
    )


def test_mmd_of_two_gaussians():
    gap, stds, b = np.array([0.7, -0.4]), (0.6, 0.9), 1.1
    (x, wx), (y, wy) = hermite(np.zeros(2), stds[0]), hermite(gap, stds[1])
    exact = (
        gaussian_overlap(b, 0 * gap, 2 * stds[0] ** 2)
        + gaussian_overlap(b, 0 * gap, 2 * stds[1] ** 2)
        - 2 * gaussian_overlap(b, gap, stds[0] ** 2 + stds[1] ** 2)
    )
    np.testing.assert_allclose(K.mmd2(K.Gaussian(b), x, y, wx=wx, wy=wy), exact, rtol=1e-9)
    field = K.witness(K.Gaussian(b), x, y, jnp.asarray(X), wx=wx, wy=wy)
    expected = [gaussian_overlap(b, p, stds[0] ** 2) - gaussian_overlap(b, p - gap, stds[1] ** 2) for p in X]
    np.testing.assert_allclose(field, expected, atol=1e-10)


def test_energy_distance_of_uniform_and_dirac():
    """``F(U[0, 1], delta_a) = (a^3 + (1 - a)^3) / 3`` with the half, by midpoints: off by ``1 / (12 n^2)``."""
    x = (jnp.arange(200)[:, None] + 0.5) / 200
    exact = 2 * (0.3**3 + 0.7**3) / 3
    plan = K.plan(K.NegativeDistance(), ((201, 1), (201, 1)), 1.0, method="sort")
    for given in (None, plan):
        np.testing.assert_allclose(K.energy_distance(x, jnp.array([[0.3]]), plan=given), exact, atol=1e-4)


def by_loops(k, x, y, unbiased):
    def mean(a, b, same):
        pairs = [float(k(p, q)) for i, p in enumerate(a) for j, q in enumerate(b) if not (same and unbiased and i == j)]
        return np.mean(pairs)

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("name", ["gaussian", "negative"])
def test_v_and_u_statistics(name, unbiased):
    k = {"gaussian": K.Gaussian(0.8), "negative": K.NegativeDistance()}[name]
    exact = by_loops(k, X, Y, unbiased)
    np.testing.assert_allclose(K.mmd2(k, X, Y, unbiased=unbiased), exact, rtol=1e-10)
    plan = K.plan(
        k, ((16, 2), (16, 2)), 4.0, 1e-6, jax.random.key(0), "fourier" if name == "gaussian" else "sort", num_slices=200
    )
    np.testing.assert_allclose(K.mmd2(k, X, Y, unbiased=unbiased, plan=plan), exact, atol=2e-4)


@pytest.mark.parametrize("method", ["sort", "grid"])
def test_sliced_energy_distance(method):
    """The form with distribution functions is the kernel sum at the same directions; derivatives agree with differences."""
    k = K.NegativeDistance()
    plan = K.plan(k, ((16, 2), (16, 2)), 4.0, key=jax.random.key(1), method=method, directions="iid", num_slices=7)
    w = jnp.asarray(R.uniform(size=9))
    w = w / w.sum()
    tolerance = 1e-12 if method == "sort" else 1e-5
    found = K.energy_distance(X, Y, wx=w, plan=plan)
    np.testing.assert_allclose(found, K.mmd2(k, X, Y, wx=w, plan=plan), atol=tolerance)
    assert float(K.energy_distance(X, X, plan=plan)) < 1e-30
    slope = jax.grad(lambda x: K.energy_distance(x, Y, wx=w, plan=plan))(jnp.asarray(X))
    both, signed = jnp.concatenate([jnp.asarray(X), Y]), jnp.concatenate([w, jnp.full(7, -1 / 7)])
    expected = 2 * w[:, None] * K.kernel_sum_gradient(k, both, jnp.asarray(X), signed, plan=plan)
    np.testing.assert_allclose(slope, expected, atol=1e-11)


def test_small_energy_distances_keep_their_digits(float32):
    """Two clouds 1e-3 apart: the distance is of order 1e-6, near the rounding of the kernel sum."""
    x = np.random.default_rng(1).normal(size=(400, 2)).astype(np.float32)
    y = x + np.float32(1e-3)
    with jax.enable_x64(True):
        plan = K.plan(
            K.NegativeDistance(), ((800, 2), (800, 2)), 5.0, key=jax.random.key(1), method="sort", num_slices=8
        )
        exact = K.energy_distance(x.astype(np.float64), y.astype(np.float64), plan=plan)
        plan = jax.tree.map(lambda a: a.astype(np.float32), plan)
    np.testing.assert_allclose(K.energy_distance(x, y, plan=plan), exact, rtol=2e-3)


def stein_by_derivatives(k, x, y, sx, sy):
    mixed = jax.jacfwd(jax.grad(k, 1), 0)(x, y)
    return sx @ sy * k(x, y) + sx @ jax.grad(k, 1)(x, y) + sy @ jax.grad(k, 0)(x, y) + jnp.trace(mixed)


@pytest.mark.parametrize(
    "kernel", [K.Gaussian(0.8), K.InverseMultiquadric(1.2), K.Matern(2.5, 1.0), K.Gaussian(1.0) + 0.5 * K.Matern(3.5)]
)
def test_stein_discrepancy(kernel):
    """Against derivatives of the kernel pair by pair; zero for the law itself, in both arguments."""
    scores = -X + 0.3
    rows = jax.vmap(lambda a, b, s, t: stein_by_derivatives(kernel, a, b, s, t), (None, 0, None, 0))
    pairs = jax.jit(jax.vmap(rows, (0, None, 0, None)))
    matrix = np.asarray(pairs(X, X + 1e-9, scores, scores))  # off the diagonal, where a square root has no derivative
    np.testing.assert_allclose(K.stein_discrepancy2(kernel, X, scores), matrix.mean(), rtol=1e-6)
    off = (matrix.sum() - np.trace(matrix)) / (9 * 8)
    np.testing.assert_allclose(K.stein_discrepancy2(kernel, X, scores, unbiased=True), off, rtol=1e-6)
    w = R.uniform(size=9)
    w /= w.sum()
    np.testing.assert_allclose(K.stein_discrepancy2(kernel, X, scores, w=w), w @ matrix @ w, rtol=1e-6)


def test_stein_discrepancy_of_the_law_is_zero():
    points, mass = hermite(np.zeros(2), 1.0, 24)
    at_law = K.stein_discrepancy2(K.Gaussian(1.5), points, -points, w=mass)
    assert abs(at_law) < 1e-9
    assert K.stein_discrepancy2(K.Gaussian(1.5), points, -(points - 0.1), w=mass) > 1e-3


def test_permutation_test_is_that_of_all_labellings():
    """Three against three points: the null over random permutations is that over the 20 labellings."""
    k, x, y = K.Gaussian(1.0), X[:3], Y[:3] + 1
    z = np.concatenate([x, y])
    every = []
    for chosen in itertools.combinations(range(6), 3):
        a = np.full(6, -1 / 3)
        a[list(chosen)] = 1 / 3
        every.append(a @ np.asarray(k.gram(z, z)) @ a)
    result = K.two_sample_test(jax.random.key(0), k, x, y, 4000, batch_size=500)
    np.testing.assert_allclose(result.statistic, every[0], rtol=1e-12)
    exact = np.mean(np.array(every) >= every[0] - 1e-12)
    assert abs(float(result.p_value) - exact) < 4 * np.sqrt(exact * (1 - exact) / 4000)
    assert {round(float(v), 9) for v in result.null} == {round(float(v), 9) for v in every}


def test_level_and_power_of_the_test():
    """Under the hypothesis P(p <= 0.1) <= 0.1 (200 tests: three standard errors); for shifted clouds nearly always rejected."""
    k = K.Gaussian(1.0)
    draws = np.random.default_rng(5).normal(size=(200, 30, 2))

    @jax.jit
    def p_values(draws, shift):
        keys = jax.random.split(jax.random.key(3), 200)
        one = lambda key, z: K.two_sample_test(key, k, z[:15], z[15:] + shift, 39).p_value  # noqa: E731
        return jax.lax.map(lambda args: one(*args), (keys, draws))

    assert (np.asarray(p_values(draws, 0.0)) <= 0.1).mean() <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 200)
    assert (np.asarray(p_values(draws, 1.5)) <= 0.1).mean() > 0.95


def test_bad_arguments():
    k = K.Gaussian(1.0)
    with pytest.raises(ValueError, match="wx"):
        K.mmd2(k, X, Y, wx=np.ones(3))
    with pytest.raises(ValueError, match="scores"):
        K.stein_discrepancy2(k, X, Y)
    with pytest.raises(ValueError, match="mixed derivative"):
        K.stein_discrepancy2(K.Laplace(1.0), X, X)
    with pytest.raises(ValueError, match="num_permutations"):
        K.two_sample_test(jax.random.key(0), k, X, Y, 0)
    plan = K.plan(K.Logarithm(), ((16, 2), (16, 2)), 4.0, 1.0, jax.random.key(0), "grid", num_slices=4)
    with pytest.raises(ValueError, match="singular"):
        K.mmd2(K.Logarithm(), X, Y, plan=plan)
