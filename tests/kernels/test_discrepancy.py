"""Discrepancies: closed forms, brute force over pairs, and the guarantees of the tests built on them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import kernels as K

X, Y = (shift + np.random.default_rng(0).normal(size=(16, 2)) for shift in (0.0, 0.5))
X, Y = X[:9], Y[9:]
WX, WY = (np.arange(1.0, n + 1) / (n * (n + 1) / 2) for n in (9, 7))


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


def by_loops(k, x, y, wx, wy, unbiased):
    def mean(a, b, wa, wb, same):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (same and unbiased and i == j)]
        return np.average([float(k(a[i], b[j])) for i, j in pairs], weights=[wa[i] * wb[j] for i, j in pairs])

    return mean(x, x, wx, wx, True) + mean(y, y, wy, wy, True) - 2 * mean(x, y, wx, wy, False)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("name", ["gaussian", "negative"])
def test_v_and_u_statistics(name, unbiased):
    k = {"gaussian": K.Gaussian(0.8), "negative": K.NegativeDistance()}[name]
    exact = by_loops(k, X, Y, WX, WY, unbiased)
    given = {"wx": WX, "wy": WY, "unbiased": unbiased}
    np.testing.assert_allclose(K.mmd2(k, X, Y, **given), exact, rtol=1e-10)
    plan = K.plan(
        k, ((16, 2), (16, 2)), 4.0, 1e-6, jax.random.key(0), "fourier" if name == "gaussian" else "sort", num_slices=200
    )
    np.testing.assert_allclose(K.mmd2(k, X, Y, plan=plan, **given), exact, atol=2e-4)


@pytest.mark.parametrize("method", ["grid", "sort", "fourier"])
def test_unbiased_slices_have_no_self_terms(method):
    """Few nodes: a point split between two of them does not see itself at distance 0. Against sums without the diagonal."""
    k = K.NegativeDistance() if method == "sort" else K.Gaussian(0.5)
    plan = K.plan(k, ((16, 2), (16, 2)), 4.0, directions=K.equispaced(4), method=method, num_nodes=64)
    z, w = jnp.asarray(np.concatenate([X, Y])), jnp.asarray(np.concatenate([WX, -WY]))
    alone = lambda i, j: K.kernel_sum(k, z[i][None], z[j][None], jnp.ones(1), plan=plan)[0]  # noqa: E731
    index = jnp.arange(16)
    gram = np.asarray(jax.jit(jax.vmap(jax.vmap(alone, (None, 0)), (0, None)))(index, index))
    parts = [np.where(index < 9, w, 0), np.where(index < 9, 0, -w)]
    within = [(p @ gram @ p - p**2 @ np.diag(gram)) / (1 - np.sum(p**2)) for p in parts]
    exact = within[0] + within[1] - 2 * parts[0] @ gram @ parts[1]
    np.testing.assert_allclose(K.mmd2(k, X, Y, wx=WX, wy=WY, unbiased=True, plan=plan), exact, atol=1e-12)


@pytest.mark.parametrize("method", ["sort", "grid", "fourier", "dense"])
def test_energy_distance_by_every_method(method):
    """Also far from the origin, with a centre; 256 equispaced directions are off by the square of their distance."""
    shapes, centre = ((16, 2), (16, 2)), np.array([50.0, -20.0])
    plan = K.plan(K.NegativeDistance(), shapes, 5.0, 1e-3, method=method, directions=K.equispaced(256), centre=centre)
    exact = by_loops(K.NegativeDistance(), X, Y, WX, WY, False)
    found = K.energy_distance(X + centre, Y + centre, wx=WX, wy=WY, plan=plan)
    np.testing.assert_allclose(found, exact, rtol=1e-2 if method == "fourier" else 1e-3)
    out = K.energy_distance(X, Y, plan=plan)
    assert np.isnan(out) == (method in ("grid", "fourier"))


def test_coinciding_points_are_not_told_apart():
    """Gradients of the sorted energy: equal for equal points, zero between equal clouds; in the weights those of the sums."""
    k = K.NegativeDistance()
    plan = K.plan(k, ((16, 2), (16, 2)), 5.0, method="sort", directions=K.equispaced(7))
    x = jnp.asarray(np.concatenate([np.zeros((5, 2)), X[:4]]))
    slope = jax.grad(lambda x, wx: K.energy_distance(x, Y, wx=wx, plan=plan), argnums=(0, 1))(x, jnp.asarray(WX))
    expected = jax.grad(lambda x, wx: K.mmd2(k, x, Y, wx=wx, plan=plan), argnums=(0, 1))(x, jnp.asarray(WX))
    np.testing.assert_allclose(slope[0], expected[0], atol=1e-12)
    np.testing.assert_allclose(slope[1], expected[1], atol=1e-12)
    same = jax.grad(lambda x: K.energy_distance(x, x[::-1], plan=plan))(jnp.asarray(X[:8]))
    np.testing.assert_allclose(same, np.zeros((8, 2)), atol=1e-12)


@pytest.mark.parametrize("method", ["sort", "grid"])
def test_sliced_energy_distance(method):
    """The form with distribution functions is the kernel sum at the same directions; derivatives agree with differences."""
    k = K.NegativeDistance()
    plan = K.plan(k, ((16, 2), (16, 2)), 4.0, key=jax.random.key(1), method=method, directions="iid", num_slices=7)
    w = jnp.asarray(np.random.default_rng(1).uniform(size=9))
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
    np.testing.assert_allclose(K.stein_discrepancy2(kernel, X, scores, w=WX), WX @ matrix @ WX, rtol=1e-6)
    off = (WX @ matrix @ WX - WX**2 @ np.diag(matrix)) / (1 - np.sum(WX**2))
    np.testing.assert_allclose(K.stein_discrepancy2(kernel, X, scores, w=WX, unbiased=True), off, rtol=1e-6)


def test_stein_discrepancy_far_from_the_origin(float32):
    """Only differences of points matter: 1e3 away it loses what the points lose, a few 1e-5 of their spread."""
    x, scores = np.asarray(X, np.float32), np.asarray(-X, np.float32)
    near, far = (K.stein_discrepancy2(K.Gaussian(1.0), x + np.float32(shift), scores) for shift in (0, 1000))
    np.testing.assert_allclose(far, near, rtol=1e-3)


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


def test_ties_and_nan_of_the_test():
    """Two against two points: at least a third of the labellings tie with the given one. Rounding is no evidence, nor is NaN."""
    x, y = X[:2].astype(np.float32), Y[:2].astype(np.float32)
    for k in (K.Gaussian(1.0), K.Gaussian(100.0), K.Gaussian(1000.0), K.NegativeDistance()):
        p, exact = (K.two_sample_test(jax.random.key(0), k, *c, 999).p_value for c in ((x, y), (X[:2], Y[:2])))
        assert p >= exact - 1e-6  # the same labellings, in float32 and float64
        assert p > 1 / 3 - 4 * np.sqrt(2 / 9 / 999)
    assert np.isnan(K.two_sample_test(jax.random.key(0), k, x * np.nan, y, 19).p_value)


@pytest.mark.parametrize(
    ("match", "call"),
    [
        ("x: expected at least 1", lambda: K.mmd2(K.Gaussian(1.0), X[:0], Y)),
        ("y: expected points", lambda: K.mmd2(K.Gaussian(1.0), X, Y[:, :1])),
        ("x: expected points", lambda: K.energy_distance(X[:, 0], Y)),
        ("x: expected real", lambda: K.energy_distance(np.ones((3, 2), int), Y)),
        ("x: expected real", lambda: K.stein_discrepancy2(K.Gaussian(1.0), 1j * X, X)),
        ("sum one", lambda: K.mmd2(K.Gaussian(1.0), X, Y, wx=np.ones(9))),
        ("sum one", lambda: K.stein_discrepancy2(K.Gaussian(1.0), X, X, w=np.ones(9))),
        ("unbiased", lambda: K.mmd2(K.Gaussian(1.0), X[:1], Y, unbiased=True)),
        ("mixed derivative", lambda: K.stein_discrepancy2(K.Gaussian(1.0) + K.Laplace(1.0), X, X)),
        ("singular", lambda: K.mmd2(K.Gaussian(1.0) + K.Logarithm(), X, Y, plan=some_plan())),
        ("another kernel", lambda: K.energy_distance(X, Y, plan=some_plan())),
        ("x: expected at least 1", lambda: K.two_sample_test(jax.random.key(0), K.Gaussian(1.0), X[:0], Y)),
    ],
)
def test_refusals_name_the_argument(match, call):
    with pytest.raises(ValueError, match=match):
        call()


def some_plan():
    return K.plan(K.Gaussian(1.0), ((16, 2), (16, 2)), 4.0, method="grid", directions=K.equispaced(3))


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
