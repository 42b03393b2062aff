"""Gaussian paths and view conversions against closed forms for Gaussian data, finite differences and limits at the ends."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import paths
from invjax.paths import VE, VP, LevelDenoiser, Linear, PathDenoiser, View, convert

PATHS = {"linear": Linear(), "ve": VE(0.02, 10.0), "vp": VP()}
VIEWS = ("denoiser", "epsilon", "score", "velocity")
PAIRS = list(itertools.permutations(VIEWS, 2))
MEAN, VARIANCE = np.array([0.5, -1.0, 2.0]), np.array([0.3, 1.0, 4.0])
X = np.array([0.2, 0.7, -1.3])


def levels(name, t):
    """alpha, sigma, alpha', sigma sigma' by NumPy, from the definitions."""
    s = 1 - t
    if name == "linear":
        return t, s, 1.0, -s
    if name == "ve":
        sigma = 10.0 * (0.02 / 10.0) ** t
        return 1.0, sigma, 0.0, sigma**2 * np.log(0.02 / 10.0)
    integral = 0.1 * s + 19.9 * s**2 / 2
    alpha, beta = np.exp(-integral / 2), 0.1 + 19.9 * s
    return alpha, np.sqrt(-np.expm1(-integral)), alpha * beta / 2, -(alpha**2) * beta / 2


def gaussian_views(name, t, x=X):
    """All views for data N(MEAN, diag VARIANCE): regression formulas of the pair (x_clean, n) on x_t."""
    alpha, sigma, alpha_dot, noise_rate = levels(name, t)
    white = (x - alpha * MEAN) / (alpha**2 * VARIANCE + sigma**2)
    denoiser = MEAN + alpha * VARIANCE * white
    velocity = alpha_dot * denoiser + noise_rate * white
    return {"denoiser": denoiser, "epsilon": sigma * white, "score": -white, "velocity": velocity}


@pytest.mark.parametrize("name", PATHS)
def test_coefficients_and_their_derivatives(name):
    path = PATHS[name]
    for t in (0.1, 0.5, 0.9):
        alpha, sigma, alpha_dot, noise_rate = levels(name, t)
        got = [path.alpha(t), path.sigma(t), path.alpha_dot(t), path.noise_rate(t), path.sigma_dot(t), path.snr(t)]
        expected = [alpha, sigma, alpha_dot, noise_rate, noise_rate / sigma, (alpha / sigma) ** 2]
        np.testing.assert_allclose(got, expected, rtol=1e-13)
        h = 1e-5  # central differences: error h^2 |f'''| / 6 + eps / h, below 1e-8 of |f'| + |f|
        slopes = [(f(t + h) - f(t - h)) / (2 * h) for f in (path.alpha, path.sigma)]
        np.testing.assert_allclose([path.alpha_dot(t), path.sigma_dot(t)], slopes, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(path.time(sigma / alpha), t, rtol=1e-12)
        np.testing.assert_allclose(path.interpolate(t, X, MEAN), alpha * X + sigma * MEAN, rtol=1e-13)


def test_ends_of_the_paths():
    assert (PATHS["linear"].alpha(0.0), PATHS["linear"].sigma(1.0)) == (0, 0)
    np.testing.assert_allclose([PATHS["ve"].sigma(0.0), PATHS["ve"].sigma(1.0)], [10, 0.02], rtol=1e-14)
    vp = PATHS["vp"]
    assert (vp.alpha(1.0), vp.sigma(1.0), vp.sigma_dot(1.0)) == (1, 0, -np.inf)
    assert vp.snr(1.0) == np.inf
    # Near the data sigma^2 = beta_min s to first order: 1 - exp(-B) would keep four digits only.
    np.testing.assert_allclose(vp.sigma(1 - 2.0**-40), np.sqrt(0.1 * 2.0**-40), rtol=1e-9)
    np.testing.assert_allclose(VP(2.0, 2.0).time(jnp.sqrt(jnp.expm1(2.0 * 0.25))), 0.75, rtol=1e-14)


@pytest.mark.parametrize("name", PATHS)
def test_conversions_are_exact_for_gaussian_data(name):
    for t, (source, target) in itertools.product((0.05, 0.6, 0.98), PAIRS):
        views = gaussian_views(name, t)
        got = convert(PATHS[name], source, target, t, X, views[source])
        # The worst is a velocity from a denoiser at small sigma: cancellation by a factor of at most 1 / sigma^2.
        np.testing.assert_allclose(got, views[target], rtol=1e-10, atol=1e-11, err_msg=f"{source} {target} {t}")
        named = getattr(paths, f"{source}_to_{target}")(PATHS[name], t, X, views[source])
        np.testing.assert_array_equal(got, named)


UNDETERMINED = {
    ("linear", 0.0): {(a, b) for a in ("epsilon", "score") for b in ("denoiser", "velocity")},
    ("linear", 1.0): {(a, "score") for a in ("denoiser", "epsilon", "velocity")},
    ("vp", 1.0): {(a, b) for a in ("denoiser", "epsilon") for b in ("score", "velocity")},
}


@pytest.mark.parametrize("t", [0.0, 1.0])
@pytest.mark.parametrize("name", PATHS)
def test_limits_at_the_ends(name, t):
    views = gaussian_views(name, t)
    for pair in PAIRS:
        got = convert(PATHS[name], *pair, t, X, views[pair[0]])
        if pair in UNDETERMINED.get((name, t), ()):
            assert not np.isfinite(got).any(), pair
        else:
            np.testing.assert_allclose(got, views[pair[1]], rtol=1e-9, atol=1e-12, err_msg=str(pair))


@pytest.mark.parametrize("name", PATHS)
def test_velocity_is_the_time_derivative_of_the_flow(name):
    # The ODE map of Gaussian data with a diagonal covariance moves quantiles: x_t = alpha m + sqrt(alpha^2 c + sigma^2) z.
    path, z = PATHS[name], np.array([-0.7, 0.4, 1.9])

    def flow(t):
        return path.alpha(t) * MEAN + jnp.sqrt(path.alpha(t) ** 2 * VARIANCE + path.sigma(t) ** 2) * z

    for t in (0.2, 0.8):
        score = gaussian_views(name, t, np.asarray(flow(t)))["score"]
        velocity = paths.score_to_velocity(path, t, flow(t), score)
        np.testing.assert_allclose(velocity, (flow(t + 1e-5) - flow(t - 1e-5)) / 2e-5, rtol=1e-7, atol=1e-8)


def level_denoiser(x, sigma):
    """E[clean | clean + sigma n = x] for the Gaussian data."""
    dtype = x.dtype
    mean, variance = jnp.asarray(MEAN, dtype), jnp.asarray(VARIANCE, dtype)
    return mean + variance / (variance + sigma**2) * (x - mean)


@pytest.mark.parametrize("name", PATHS)
def test_bridge_between_level_and_path_denoisers(name):
    path = PATHS[name]
    on_path = PathDenoiser(level_denoiser, path)
    for t in (0.0, 0.3, 1.0):
        np.testing.assert_allclose(on_path(t, X), gaussian_views(name, t)["denoiser"], rtol=1e-12)
    back = LevelDenoiser(on_path, path)
    for sigma in (0.1, 3.0):
        np.testing.assert_allclose(back(X, sigma), level_denoiser(X, sigma), rtol=1e-12)
    velocity = View(on_path, path, "denoiser", "velocity")
    np.testing.assert_allclose(velocity(0.3, X), gaussian_views(name, 0.3)["velocity"], rtol=1e-11)


@eqx.filter_jit
def all_conversions(path, t, x, value):
    return [convert(path, *pair, t, x, value) for pair in PAIRS]


@pytest.mark.parametrize("name", PATHS)
def test_dtype_of_the_point_is_kept(name, strict):
    # Time and hyper-parameters in float64, points in float32 and complex64: no promotion, under the strict rules.
    path = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), PATHS[name])
    t = jnp.asarray(0.4, jnp.float64)
    for dtype, wide in ((jnp.float32, jnp.float64), (jnp.complex64, jnp.complex128)):
        x = jnp.asarray(X if dtype == jnp.float32 else X * (1 + 2j), dtype)
        assert path.interpolate(t, x, x).dtype == x.dtype
        exact = all_conversions(path, t, x.astype(wide), jnp.asarray(0.5 + X, wide))
        for got, want in zip(all_conversions(path, t, x, jnp.asarray(0.5 + X, dtype)), exact, strict=True):
            assert got.dtype == x.dtype
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    small = jnp.asarray(X, jnp.float32)
    assert PathDenoiser(level_denoiser, path)(t, small).dtype == jnp.float32
    assert LevelDenoiser(View(lambda t, x: x, path, "velocity", "denoiser"), path)(small, t).dtype == jnp.float32


def test_one_program_for_all_times_and_schedules():
    count = 0

    @eqx.filter_jit
    def velocities(path, ts, scores):
        nonlocal count
        count += 1
        return jax.vmap(lambda t, s: paths.score_to_velocity(path, t, X, s))(ts, scores)

    ts, scores = jnp.linspace(0, 1, 4), jnp.ones((4, 3))
    first, second = velocities(VP(), ts, scores), velocities(VP(0.2, 15), ts, scores)
    assert count == 1
    np.testing.assert_allclose(first[2], paths.score_to_velocity(VP(), ts[2], X, scores[2]), rtol=1e-12)
    assert np.abs(first - second).max() > 0.1


def test_gradients_in_the_schedule_are_finite_at_the_ends():
    def loss(path, t):
        score = -jnp.asarray(X)
        return path.sigma(t) + jnp.sum(paths.score_to_velocity(path, t, X, score) ** 2) + path.alpha(t)

    slope = jax.jit(jax.grad(loss))
    for t in (0.0, 1.0):
        gradient = slope(VP(), t)
        assert np.isfinite([gradient.beta_min, gradient.beta_max]).all()

    def inverse(path):
        return jnp.sum(paths.velocity_to_denoiser(path, 1.0, X, -X) + paths.velocity_to_score(path, 1.0, X, -X))

    v = jax.jit(jax.grad(inverse))(VP())
    assert np.isfinite([v.beta_min, v.beta_max]).all()
    # velocity_to_score at t = 1 is 2 v / beta_min - x, so its derivative in beta_min is -2 v / beta_min^2.
    np.testing.assert_allclose(v.beta_min, 2 * X.sum() / 0.1**2, rtol=1e-12)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="sigma_min: expected positive"):
        VE(0.0, 1.0)
    with pytest.raises(ValueError, match="sigma_max - sigma_min"):
        VE(2.0, 1.0)
    with pytest.raises(ValueError, match="beta_min: expected positive"):
        VP(0.0)
    with pytest.raises(ValueError, match="beta_max: expected positive"):
        VP(0.1, -1.0)
    with pytest.raises(ValueError, match="target: expected one of"):
        convert(Linear(), "score", "noise", 0.5, X, X)
