"""Direction sets: quality against published figures, exactness, uniformity, errors of sliced sums."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import kernels as K
from invjax.kernels import optimised

# Gap of the published optimised sets (Hertrich, Jahn, Quellmalz 2025), computed from them.
PUBLISHED = {(3, 20): 6.476e-3, (3, 160): 2.811e-4, (10, 20): 2.055e-2, (10, 160): 1.834e-3, (50, 20): 3.4216e-2}


@pytest.mark.parametrize(("dim", "num"), PUBLISHED)
def test_optimised_sets_are_as_good_as_published(dim, num, key):
    gaps = {kind: float(K.sphere_gap(K.directions(key, kind, num, dim))) for kind in ("distance", "orthogonal")}
    twice_mean = float(K.sphere_gap(jnp.eye(dim)[:1])) + 2  # one point and its antipode: 2 W - 2
    assert 0 < gaps["distance"] <= 1.02 * PUBLISHED[dim, num]
    assert gaps["distance"] <= gaps["orthogonal"] + 1e-9
    assert gaps["orthogonal"] < (twice_mean - 2) / num  # the mean over independent sets


def test_orthonormal_systems_are_optimal():
    """d = 50, P = 20: the gap of an orthonormal system in closed form is that of the published optimum."""
    num, dim = 20, 50
    mean = 1.41061091  # E |xi - eta|
    exact = 2 * mean - ((num - 1) * 2 * np.sqrt(2) + 2) / num
    for kind in ("distance", "orthogonal"):
        np.testing.assert_allclose(K.sphere_gap(K.directions(jax.random.key(3), kind, num, dim)), exact, rtol=1e-5)
    np.testing.assert_allclose(exact, PUBLISHED[50, 20], rtol=1e-3)


@pytest.mark.parametrize("kind", ["iid", "orthogonal", "sobol", "distance"])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_sets_are_unit_vectors_and_functions_of_the_key(kind, dim):
    sets = [np.asarray(K.directions(jax.random.key(seed), kind, 12, dim)) for seed in (0, 0, 1)]
    assert sets[0].shape == (12, dim)
    np.testing.assert_allclose(np.linalg.norm(sets[0], axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(sets[0], sets[1])
    assert dim == 1 or np.abs(sets[0] - sets[2]).max() > 1e-2


def test_gradient_of_the_distance_sum():
    r = np.random.default_rng(0)
    x = r.normal(size=(7, 4))
    x /= np.linalg.norm(x, axis=1, keepdims=True)

    def value(z):  # the definition
        return sum(np.linalg.norm(a - b) + np.linalg.norm(a + b) for a in z for b in z) / len(z) ** 2

    found, gradient = optimised.distance_sum(x)
    np.testing.assert_allclose(found, value(x), rtol=1e-12)
    for _ in range(3):  # along the sphere
        step = r.normal(size=x.shape)
        step -= np.sum(step * x, 1, keepdims=True) * x
        h = 1e-5
        ends = [x + sign * h * step for sign in (1, -1)]
        ends = [end / np.linalg.norm(end, axis=1, keepdims=True) for end in ends]
        np.testing.assert_allclose((value(ends[0]) - value(ends[1])) / (2 * h), np.vdot(gradient, step), rtol=1e-6)
    turned = x @ np.linalg.qr(r.normal(size=(4, 4)))[0]
    np.testing.assert_allclose(optimised.distance_sum(turned)[0], found, rtol=1e-12)
    np.testing.assert_allclose(K.sphere_gap(jnp.asarray(turned)), K.sphere_gap(jnp.asarray(x)), rtol=1e-12)


def test_optimised_sets_are_cached(tmp_path, monkeypatch):
    """In memory, and in files that a fresh process reads; a damaged shape is made again."""
    monkeypatch.setenv("INVJAX_CACHE", str(tmp_path / "new"))
    make = optimised.most_distant.__wrapped__
    first = make(5, 3)
    (path,) = (tmp_path / "new").iterdir()
    np.save(path, first + 1)
    np.testing.assert_array_equal(make(5, 3), first + 1)  # it was read
    np.save(path, np.zeros(2))
    np.testing.assert_array_equal(make(5, 3), first)
    monkeypatch.setenv("INVJAX_CACHE", "/dev/null/nowhere")
    np.testing.assert_array_equal(make(5, 3), first)


@pytest.mark.parametrize("num", [1, 4, 9])
def test_equispaced_sets_integrate_trigonometric_polynomials(num, key):
    """Even ones of degree below 2 num exactly, and not the next."""
    for xi in (np.asarray(K.equispaced(num)), np.asarray(K.directions(key, "distance", num, 2), np.float64)):
        angle = np.arctan2(xi[:, 1], xi[:, 0])
        for degree in range(2, 2 * num, 2):
            assert abs(np.exp(1j * degree * angle).mean()) < 1e-6 * degree
        assert abs(np.exp(2j * num * angle).mean()) > 0.99


@pytest.mark.parametrize("degree", [0, 2, 6, 12])
def test_gauss_directions_are_exact(degree):
    """Even moments of the sphere: ``E <xi, e>^(2k) = 1 / (2k + 1)`` in three dimensions, ``binom(2k, k) / 4^k`` in two."""
    from scipy.special import binom

    e = np.array([0.6, -0.48, 0.64])
    xi, w = K.gauss_directions(degree, 3)
    assert len(xi) <= (degree + 2) ** 2 / 2
    for power in range(0, degree + 1, 2):
        np.testing.assert_allclose(w @ (xi @ e) ** power, 1 / (power + 1), rtol=1e-12)
    xi, w = K.gauss_directions(degree, 2)
    for power in range(0, degree + 1, 2):
        np.testing.assert_allclose(
            w @ (xi @ np.array([0.6, 0.8])) ** power, binom(power, power // 2) / 2**power, rtol=1e-12
        )
    with pytest.raises(ValueError, match="degree"):
        K.gauss_directions(3, 3)
    with pytest.raises(ValueError, match="dim"):
        K.gauss_directions(4, 4)


def test_rotations_are_uniform():
    """Mean 0 and variance 1/d of every entry, fourth moment 3 / (d (d + 2)); orthogonal to rounding."""
    turns = np.asarray(jax.vmap(lambda k: K.rotation(k, 3))(jax.random.split(jax.random.key(0), 4000)))
    np.testing.assert_allclose(turns @ np.swapaxes(turns, 1, 2), np.broadcast_to(np.eye(3), turns.shape), atol=1e-6)
    assert np.abs(turns.mean(0)).max() < 4 * np.sqrt(1 / 3 / 4000)
    spread = np.sqrt((1 / 5 - 1 / 9) / 4000)
    assert np.abs((turns**2).mean(0) - 1 / 3).max() < 4 * spread


@functools.cache
def setting(dim=3, num=60):
    r = np.random.default_rng(1)
    x, y = (jnp.asarray(r.uniform(-0.7, 0.7, (num, dim))) for _ in range(2))
    return x, y, jnp.asarray(r.uniform(0.5, 1, num))


def relative_error(k, kind, count, seed, dim=3):
    x, y, w = setting(dim)
    exact = k.gram(x, y).T @ w
    xi = K.directions(jax.random.key(seed), kind, count, dim)
    t = jnp.abs((y[:, None] - x[None]) @ xi.T)
    found = jnp.einsum("mnp,n->m", k.sliced(t, dim, k.tabulate(dim, 3.0)), w) / count
    return float(jnp.abs(found - exact).sum() / jnp.abs(exact).sum())


def slope(kind, seeds, counts=(20, 40, 80, 160)):
    k = K.NegativeDistance()
    errors = [np.sqrt(np.mean([relative_error(k, kind, count, seed) ** 2 for seed in seeds])) for count in counts]
    return np.polyfit(np.log(counts), np.log(errors), 1)[0]


def test_rates_of_error():
    """Negative distance, d = 3: -1/2 for independent directions, -3/4 for the optimised sets.

    For n seeds a root mean square has relative error ``1/sqrt(2 n)`` or more (errors of one seed are correlated over points): 0.1
    with 50 seeds. The fit over a factor of eight has ``0.1 / (1.55 ln 2) = 0.1`` then.
    """
    assert abs(slope("iid", range(50)) + 0.5) < 0.1
    assert slope("distance", range(12)) < -0.70


def test_designs_are_spectral_for_smooth_kernels():
    x, y, w = setting()
    k = K.Gaussian(1.0)
    exact = k.gram(x, y).T @ w
    xi, share = K.gauss_directions(44, 3)
    assert len(xi) < 560
    plan = K.plan(k, (x.shape, y.shape), 1.3, 1e-12, method="fourier", directions=xi, weights=share)
    found = K.kernel_sum(k, x, y, w, plan=plan)
    assert float(jnp.abs(found - exact).max() / jnp.abs(exact).max()) < 1e-10
    assert plan.error < 1e-10


def test_rotated_sets_are_unbiased():
    """Mean over 400 rotations of the set of 20: within three standard errors, in the mean square over 60 targets."""
    x, y, w = setting()
    k = K.NegativeDistance()
    exact = np.asarray(k.gram(x, y).T @ w)
    base = jnp.asarray(optimised.most_distant(20, 3))

    @jax.jit
    def total(key):
        t = jnp.abs((y[:, None] - x[None]) @ K.rotate(key, base).T)
        return jnp.mean(k.sliced(t, 3, ()), -1) @ w

    sums = np.asarray(jax.lax.map(total, jax.random.split(jax.random.key(0), 400), batch_size=20))
    z = (sums.mean(0) - exact) / (sums.std(0, ddof=1) / 20)
    assert np.sqrt(np.mean(z**2)) < 3
    assert np.sqrt(np.mean((sums.mean(0) - exact) ** 2)) < 0.3 * np.sqrt(np.mean((sums - exact) ** 2))


def test_bad_arguments():
    with pytest.raises(ValueError, match="traced key"):
        jax.jit(lambda key: K.directions(key, "sobol", 4, 3))(jax.random.key(0))
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="kind"):
        K.directions(key, "random", 3, 3)
    with pytest.raises(ValueError, match="num, dim"):
        K.directions(key, "iid", 0, 3)
