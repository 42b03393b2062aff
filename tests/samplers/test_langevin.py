"""ULA and MYULA against the stationary laws of their chains, Moreau against its definition."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import invjax
from invjax import likelihoods, operators, priors, samplers
from invjax.reducers import Every, Moments

from .registry import L1, NonNegative, Normal

LANES = 2000


def test_ula_has_the_variance_of_its_autoregression(key):
    """Independent coordinates started in the stationary law; s.e. from the autocorrelation phi^2k of squares of an AR(1)."""
    s, h, n = 0.7, 0.3, 400
    variance, phi = s**2 / (1 - h / (2 * s**2)), 1 - h / s**2
    x = np.sqrt(variance) * jax.random.normal(key, (LANES,))
    draws = invjax.sample(key, samplers.ULA(Normal(0.0, 1 / s**2), None, h), x, n).collected
    error = variance * np.sqrt(2 / (n * LANES) * (1 + phi**2) / (1 - phi**2))
    assert abs(jnp.mean(draws**2) - variance) <= 3 * error
    assert abs(variance - s**2) > 30 * error  # the bias of the discretisation is seen
    lag_one = jnp.mean(draws[1:] * draws[:-1]) / variance
    assert abs(lag_one - phi) <= 4 / np.sqrt(n * LANES) * np.sqrt((1 + phi**2) / (1 - phi**2))


def test_complex_ula_samples_both_parts(key):
    """exp(-U) as a density of real and imaginary part: each has the variance of the real chain."""
    h, n, mean = 0.3, 200, 1 - 2j
    variance, phi = 1 / (1 - h / 2), 1 - h
    parts = np.sqrt(variance) * jax.random.normal(key, (2, LANES))
    draws = invjax.sample(key, samplers.ULA(Normal(mean, 1.0), None, h), mean + parts[0] + 1j * parts[1], n).collected
    error = np.sqrt(1 / (n * LANES) * (1 + phi**2) / (1 - phi**2)) * variance
    for part in ((draws - mean).real, (draws - mean).imag):
        assert abs(jnp.mean(part**2) - variance) <= 3 * np.sqrt(2) * error
    assert abs(jnp.mean(((draws - mean) ** 2).imag)) / 2 <= 3 * error


def stationary_moments(score, h, grid):
    """Mean and variance of the chain x + h score(x) + sqrt(2 h) z, by the eigenvector of its transition matrix."""
    drift = grid + h * score(grid)
    kernel = np.exp(-((grid[None] - drift[:, None]) ** 2) / (4 * h))
    kernel /= kernel.sum(1, keepdims=True)
    p = np.linalg.matrix_power(kernel, 1024)[len(grid) // 2]
    mean = p @ grid
    return mean, p @ (grid - mean) ** 2


def test_myula_samples_the_smoothed_posterior(key):
    """N(y, sigma^2) likelihood, Laplace prior: the score of the envelope is clip(x / s, -lam, lam)."""
    y, sigma, lam, s, h, n = 0.8, 0.5, 3.0, 0.1, 0.05, 150

    def score(x):
        return (y - x) / sigma**2 - np.clip(x / s, -lam, lam)

    grid = np.linspace(-3, 3, 401)
    mean, variance = stationary_moments(score, h, grid)
    sampler = samplers.MYULA(Normal(y, 1 / sigma**2), L1(lam), h, s)
    x = mean + np.sqrt(variance) * jax.random.normal(key, (LANES,))
    m = invjax.sample(key, sampler, x, n, burn_in=50, collect=Moments()).collected
    # Coordinates are independent chains: the spread of their own averages gives the standard errors.
    square = m.variance * (n - 1) / n + (m.mean - mean) ** 2
    for values, exact in ((m.mean, mean), (square, variance)):
        assert abs(jnp.mean(values) - exact) <= 3 * jnp.std(values) / np.sqrt(LANES)
    # The chain's law tends to the envelope's density, integrated here, with an error of order h.
    huber = np.where(abs(grid) <= lam * s, grid**2 / (2 * s), lam * abs(grid) - lam**2 * s / 2)
    density = np.exp(-((grid - y) ** 2) / (2 * sigma**2) - huber)
    density /= density.sum()
    exact = density @ grid, density @ (grid - density @ grid) ** 2
    for i in range(2):
        bias = [stationary_moments(score, step, grid)[i] - exact[i] for step in (h, h / 2, h / 4)]
        assert bias[1] / bias[2] == pytest.approx(2, abs=0.25)


def test_myula_steps_are_ula_steps_on_the_smoothed_score(key):
    f, g, c, s, h = Normal(0.5, 2.0), L1(1.0), NonNegative(), 0.3, 0.1
    x = jnp.array([-1.0, 0.1, 2.0])
    smooth = -jnp.clip(x / s, -1, 1)
    noise = np.sqrt(2 * h) * jax.random.normal(key, (3,))
    plain, constrained = samplers.MYULA(f, g, h, s, num_inner=7), samplers.MYULA(f, g, h, s, c)
    state, info = plain.step(key, plain.init(x))
    np.testing.assert_allclose(state.position, x + h * (f.score(x) + smooth) + noise, rtol=1e-14)
    np.testing.assert_allclose(info.score_norm, jnp.linalg.norm(f.score(x) + smooth), rtol=1e-14)
    assert [int(a) for a in jax.tree.leaves(state.aux)] == [7]  # the warm prox ran, and its aux is carried
    state, _ = constrained.step(key, constrained.init(x))
    pull = jnp.where(x < 0, -x / s, 0)
    np.testing.assert_allclose(state.position, x + h * (f.score(x) + smooth + pull) + noise, rtol=1e-14)


def test_projected_ula_stays_in_the_set(key):
    f = Normal(0.0, 1.0)
    draws = invjax.sample(key, samplers.ULA(f, None, 0.1, NonNegative()), jnp.ones(50), 100).collected
    assert jnp.min(draws) == 0.0
    assert jnp.max(draws) > 1


def test_moreau_envelope_is_its_definition():
    prior, s = samplers.Moreau(L1(1.5), 0.4), 0.4
    for x in (-2.0, 0.3, 0.9):
        exact = optimize.minimize_scalar(lambda z, x=x: 1.5 * abs(z) + (z - x) ** 2 / (2 * s), options={"xtol": 1e-12})
        np.testing.assert_allclose(prior(jnp.array(x)), exact.fun, rtol=1e-10)
        np.testing.assert_allclose(prior.score(jnp.array(x)), -jax.grad(prior)(x), rtol=1e-12)
        warm = prior.energy_step(jnp.array(x), prior.score_init(jnp.array(x)))
        np.testing.assert_array_equal(warm[:2], (prior(jnp.array(x)), prior.score(jnp.array(x))))


def test_posterior_adds_its_terms():
    f, g, x = Normal(0.5, 2.0), Normal(0.0, 1.0), jnp.array([1.0, -2.0])
    target = samplers.Posterior(f, samplers.Posterior(g, samplers.Moreau(L1(1.0), 0.1)))
    exact = f(x) + g(x) + samplers.Moreau(L1(1.0), 0.1)(x)
    np.testing.assert_allclose(target(x), exact, rtol=1e-15)
    np.testing.assert_allclose(target.score(x), -jax.grad(target)(x), rtol=1e-14)
    potential, score, aux = target.energy_step(x, target.score_init(x))
    np.testing.assert_allclose(potential, exact, rtol=1e-15)
    np.testing.assert_allclose(score, target.score(x), rtol=1e-15)
    assert jax.tree.structure(aux) == jax.tree.structure(target.score_init(x))


class Bounded:
    lipschitz = 8.0


class Unbounded:
    lipschitz = jnp.inf


def test_myula_defaults_are_half_the_stability_bound():
    d = samplers.myula_defaults(Bounded())
    assert d["smoothing"] == 1 / 8
    np.testing.assert_allclose(d["step_size"], 0.5 * 2 / (8 + 1 / d["smoothing"]))
    with pytest.raises(ValueError, match="lipschitz: expected positive"):
        samplers.myula_defaults(Unbounded())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: samplers.ULA(f, None, 0.0), "step_size: expected positive"),
        (lambda f: samplers.ULA(f, NonNegative(), 0.1), "prior: expected a Module with .score"),
        (lambda f: samplers.ULA(None, None, 0.1), "likelihood: expected a Module with .score"),
        (lambda f: samplers.MYULA(f, L1(1.0), 0.1, -1.0), "smoothing: expected positive"),
        (lambda f: samplers.MYULA(f, f, 0.1, 1.0), "prior: expected a prior with .prox"),
        (lambda f: samplers.MYULA(f, L1(1.0), 0.1, 1.0, num_inner=0), "num_inner: expected a positive"),
        (lambda f: samplers.MALA(f, samplers.Moreau(L1(1.0), 0.1), np.nan), "step_size: expected positive"),
        (lambda f: samplers.MALA(ScoreOnly(), None, 0.1), "likelihood: expected a Module with a potential"),
        (lambda f: samplers.SKROCK(f, None, 0.1, 1), "num_stages: expected an integer of at least 2, got 1"),
        (lambda f: samplers.SKROCK(f, None, 0.1, 5, 0.0), "eta: expected positive"),
        (lambda f: samplers.max_step_size(1.0, 1), "num_stages: expected"),
        (lambda f: samplers.Underdamped(f, None, 0.1, 0.0), "friction: expected positive"),
        (lambda f: samplers.StepSizeAdaptation(samplers.ULA(f, None, 0.1), 1.0), "target: expected below 1.0"),
        (lambda f: samplers.StepSizeAdaptation(f, 0.5), "method: expected a Module with a field step_size"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(Normal(0.0, 1.0))


class ScoreOnly:
    def score(self, x):
        return -x


def test_warm_total_variation_reaches_the_cold_prox(key):
    """Few inner iterations per call, carried over: at a point that stays, the score tends to that of the whole prox."""
    x = jax.random.normal(key, (8, 6, 1))
    smooth = samplers.Moreau(priors.TV((8, 6, 1), 0.3), 0.5, num_inner=5)
    step = eqx.filter_jit(smooth.score_step)
    aux, gaps = smooth.score_init(x), []
    for _ in range(40):
        score, aux = step(x, aux)
        gaps.append(float(jnp.linalg.norm(score - smooth.score(x))))
    assert gaps[0] > 1e-2
    assert gaps[-1] < 1e-3 * gaps[0]


def pixel_average(state, info):
    return jnp.mean(state.position)


def test_myula_with_total_variation_keeps_the_law_of_the_average(key):
    """TV ignores constants, so the average of n pixels is an AR(1) with mean(y) and the variance of ULA on N(., sigma^2 / n)."""
    shape, sigma, num = (8, 6, 1), 0.2, 600
    problem = invjax.InverseProblem(operators.Identity(shape), likelihoods.Gaussian(sigma))
    f = problem.likelihood(problem.measure(key, jnp.zeros(shape).at[2:6, 2:5].set(1.0)))
    values = samplers.myula_defaults(f)
    np.testing.assert_allclose([values["step_size"], values["smoothing"]], [sigma**2 / 2, sigma**2], rtol=1e-12)
    method, phi = samplers.MYULA(f, priors.TV(shape, 5.0), **values), 0.5
    collect = {"average": Every(of=pixel_average), "moments": Moments()}
    result = invjax.check(invjax.sample(key, method, f.y, num, burn_in=50, collect=collect)).collected
    variance = sigma**2 / f.y.size / (1 - 1 / 4)
    error = jnp.mean(result["average"]) - jnp.mean(f.y)
    assert abs(error) <= 3 * np.sqrt(variance / num * (1 + phi) / (1 - phi))
    square = jnp.mean((result["average"] - jnp.mean(f.y)) ** 2)
    assert abs(square - variance) <= 3 * variance * np.sqrt(2 / num * (1 + phi**2) / (1 - phi**2))
    assert priors.TV(shape)(result["moments"].mean) < 0.8 * priors.TV(shape)(f.y)  # the prior does act
