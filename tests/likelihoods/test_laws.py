"""The laws of noise beyond Gaussian and Poisson: moments, normalisation, score identities; proxes against brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from invjax import likelihoods as lik
from invjax.operators import FiniteDifferences

from ..registry import call

DRAWS = 1_000_000
SCORES = 200_000
Z = 0.8

# Noise, mean and variance of y given u = 0.8.
MOMENTS = {
    "laplace": (lik.Laplace(0.3), Z, 2 * 0.3**2),
    "uniform": (lik.Uniform(0.4), Z, 0.4**2 / 3),
    "gamma": (lik.Gamma(5.0), Z, Z**2 / 5),
    "fisher_tippett": (lik.FisherTippett(3.0), Z + scipy.special.digamma(3) - np.log(3), scipy.special.polygamma(1, 3)),
    "student_t": (lik.StudentT(7.0, 0.3), Z, 0.3**2 * 7 / 5),
    "rician": (
        lik.Rician(0.5),
        scipy.stats.rice(Z / 0.5, scale=0.5).mean(),
        scipy.stats.rice(Z / 0.5, scale=0.5).var(),
    ),
    "salt_pepper": (lik.SaltPepper(0.2, 0.1), 0.7 * Z + 0.2, 0.7 * Z**2 + 0.2 - (0.7 * Z + 0.2) ** 2),
    "noiseless": (lik.Noiseless(), Z, 0.0),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_moments_of_a_million_samples(name, key):
    noise, mean, variance = MOMENTS[name]
    y = call(noise, "sample", key, jnp.full(DRAWS, Z))
    np.testing.assert_allclose(y.mean(), mean, rtol=0.01)
    np.testing.assert_allclose(y.var(), variance, rtol=0.02, atol=1e-12)


def test_log_poisson_moments(key):
    """The delta method: variance exp(mu z) / (n mu^2), bias mu / 2 times that; the next order is 1 / (n exp(-mu z))."""
    photons, mu, z = 1024.0, 0.02, 0.5
    y = call(lik.LogPoisson(photons, mu), "sample", key, jnp.full(DRAWS, z))
    variance = np.exp(mu * z) / (photons * mu**2)
    np.testing.assert_allclose(y.var(), variance, rtol=0.01)
    error = np.sqrt(variance / DRAWS)
    assert abs(y.mean() - z - mu / 2 * variance) < 5 * error
    assert jnp.isfinite(call(lik.LogPoisson(2.0, 1.0), "sample", key, jnp.full(1000, 5.0))).all()  # zero counts


def test_complex_laplace_moments(key):
    y = call(lik.Laplace(0.3), "sample", key, jnp.full(DRAWS, 0.2 + 0.1j)) - (0.2 + 0.1j)
    np.testing.assert_allclose([y.real.var(), y.imag.var()], 3 * 0.3**2, rtol=0.02)
    assert abs(jnp.mean(y.real * y.imag)) < 5 * np.sqrt(15) * 0.3**2 / 1000  # E r^4 = 120 scale^4, E cos^2 sin^2 = 1/8


def test_unknown_level_is_shared_by_the_measurement(key):
    noise, keys = lik.UniformGaussian(0.1, 0.5), jax.random.split(key, 20_000)
    y = jax.jit(jax.vmap(lambda k: noise.sample(k, jnp.zeros(50))))(keys)
    levels = np.mean(np.asarray(y) ** 2, axis=1)
    exact = (0.5**3 - 0.1**3) / (3 * 0.4)  # E sigma^2
    assert abs(levels.mean() - exact) < 5 * levels.std() / np.sqrt(20_000)
    fourth = (0.5**5 - 0.1**5) / (5 * 0.4)  # E sigma^4; a level of its own for every entry would give far less spread
    np.testing.assert_allclose(levels.var(), fourth * (1 + 2 / 50) - exact**2, rtol=0.05)


@pytest.mark.parametrize("step", [0.25, 0.5])
def test_quantised_levels(step):
    noise, u = lik.Quantised(step, 0.0, 1.0), jnp.linspace(-0.5, 1.5, 101)
    y = noise.sample(jax.random.key(0), u)
    assert set(np.unique(y)) == set(np.arange(0, 1 + step, step))
    inside = (u > 0) & (u < 1)
    assert jnp.max(jnp.abs(y - u)[inside]) <= step / 2
    assert noise.potential(u, y) == 0
    assert noise.potential(u.at[50].add(1.01 * step), y) == jnp.inf
    np.testing.assert_array_equal(noise.prox(u, y, 1.0), u)


# Densities -------------------------------------------------------------------------------------------------------------

INTEGRALS = {
    "laplace": (lik.Laplace(0.3), (-8, 9)),
    "uniform": (lik.Uniform(0.5), (0.2, 1.2)),
    "gamma": (lik.Gamma(4.0), (1e-9, 12)),
    "fisher_tippett": (lik.FisherTippett(3.0), (-12, 5)),
    "student_t": (lik.StudentT(9.0, 0.2), (-30, 30)),
    "rician": (lik.Rician(0.5), (1e-9, 8)),
    "uniform_gaussian": (lik.UniformGaussian(0.1, 0.4), (-3, 4)),
}


@pytest.mark.parametrize("name", INTEGRALS)
def test_log_prob_integrates_to_one(name):
    noise, (low, high) = INTEGRALS[name]
    nodes, weights = np.polynomial.legendre.leggauss(40)
    edges = np.sort(np.append(np.linspace(low, high, 401), 0.7))  # the density of Laplace has a kink at u
    half = (edges[1:] - edges[:-1])[:, None] / 2
    y = (edges[:-1, None] + half * (nodes + 1)).ravel()
    log_prob = jax.jit(jax.vmap(lambda v: noise.log_prob(jnp.array([0.7]), v[None])))(y)
    np.testing.assert_allclose(np.sum(np.exp(log_prob) * (half * weights).ravel()), 1, rtol=1e-8)


def test_log_prob_of_atoms_and_counts_sum_to_one():
    noise, u = lik.SaltPepper(0.2, 0.1), jnp.array([0.7])
    np.testing.assert_allclose(sum(jnp.exp(noise.log_prob(u, jnp.array([v]))) for v in (0.0, 1.0, 0.7)), 1, rtol=1e-12)
    assert noise.log_prob(u, jnp.array([0.6])) == -jnp.inf
    counts, rate = np.arange(1, 120), 30 * np.exp(-0.5 * 0.7)
    y = -np.log(counts / 30) / 0.5
    got = jax.vmap(lambda v: lik.LogPoisson(30.0, 0.5).log_prob(u, v[None]))(y)
    np.testing.assert_allclose(got, scipy.stats.poisson.logpmf(counts, rate), rtol=1e-9)


def test_densities_equal_scipy():
    y = jnp.array([0.2, 0.9, 2.5])
    u = jnp.full(3, 0.7)
    exact = (
        (lik.Laplace(0.3), scipy.stats.laplace(0.7, 0.3)),
        (lik.StudentT(4.0, 0.3), scipy.stats.t(4, 0.7, 0.3)),
        (lik.Gamma(4.0), scipy.stats.gamma(4, scale=0.7 / 4)),
        (lik.Rician(0.5), scipy.stats.rice(0.7 / 0.5, scale=0.5)),
    )
    for noise, law in exact:
        np.testing.assert_allclose(noise.log_prob(u, y), law.logpdf(y).sum(), rtol=1e-10)


@pytest.mark.parametrize("size", [6, 4096, 65536])
@pytest.mark.parametrize("level", [0.05, 0.2, 0.5])
def test_unknown_level_is_integrated_exactly(size, level):
    """In closed form by incomplete gamma functions, for levels inside the bounds; by a dense sum in log space outside."""
    low, high, r = 0.1, 0.4, level * np.random.default_rng(0).normal(size=size)
    square = np.sum(r**2)
    t = np.linspace(np.log(low), np.log(high), 200_001)
    for _ in range(2):  # second time on the part that matters, or the sum is too coarse for the peak
        terms = (1 - size) * t - 0.5 * square * np.exp(-2 * t)
        near = np.flatnonzero(terms > terms.max() - 60)
        t = np.linspace(t[max(near[0] - 1, 0)], t[min(near[-1] + 1, t.size - 1)], t.size)
    terms = (1 - size) * t - 0.5 * square * np.exp(-2 * t)
    ends = np.full(t.size, t[1] - t[0])
    ends[[0, -1]] /= 2
    exact = scipy.special.logsumexp(terms, b=ends) - np.log(high - low) - 0.5 * size * np.log(2 * np.pi)
    if level == 0.2:
        a = (size - 1) / 2
        inside = scipy.special.gammainc(a, square / (2 * low**2)) - scipy.special.gammainc(a, square / (2 * high**2))
        closed = np.log(inside / 2) - a * np.log(square / 2) + scipy.special.gammaln(a) - np.log(high - low)
        np.testing.assert_allclose(exact, closed - 0.5 * size * np.log(2 * np.pi), rtol=1e-11, atol=1e-7)
    noise, u = lik.UniformGaussian(low, high), jnp.zeros(size)
    np.testing.assert_allclose(noise.log_prob(u, jnp.asarray(r)), exact, rtol=1e-10, atol=1e-6)
    weights = np.exp(terms - terms.max()) * ends
    mean = np.sum(weights * np.exp(-2 * t)) / weights.sum()
    np.testing.assert_allclose(noise.precision(jnp.asarray(square), size), mean, rtol=1e-6)


# E score = 0 and Var score = Fisher information.
FISHER = {
    "gamma": (lik.Gamma(5.0), 5 / Z**2),
    "fisher_tippett": (lik.FisherTippett(3.0), 3.0),
    "log_poisson": (lik.LogPoisson(200.0, 0.5), 200 * 0.25 * np.exp(-0.5 * Z)),
    "student_t": (lik.StudentT(5.0, 0.3), 6 / 8 / 0.3**2),
    "laplace": (lik.Laplace(0.3), 1 / 0.3**2),
}


@pytest.mark.parametrize("name", FISHER)
def test_score_has_mean_zero_and_variance_fisher(name, key):
    noise, fisher = FISHER[name]
    z = jnp.full(SCORES, Z)
    score = call(noise, "score", z, call(noise, "sample", key, z))
    assert abs(score.mean()) < 5 * score.std() / np.sqrt(SCORES)
    np.testing.assert_allclose(jnp.mean(score**2), fisher, rtol=1e-12, atol=5 * (score**2).std() / np.sqrt(SCORES))


def test_rician_score_has_mean_zero_and_second_moment(key):
    z, noise = jnp.full(SCORES, Z), lik.Rician(0.5)
    y = call(noise, "sample", key, z)
    np.testing.assert_allclose(jnp.mean(y**2), Z**2 + 2 * 0.25, rtol=0.01)
    score = call(noise, "score", z, y)
    assert abs(score.mean()) < 5 * score.std() / np.sqrt(SCORES)


# Proxes ----------------------------------------------------------------------------------------------------------------

PROX = {
    "laplace": (lik.Laplace(0.3), -1.0, 3.0),
    "uniform": (lik.Uniform(0.25), -1.0, 3.0),
    "quantised": (lik.Quantised(0.5, 0.0, 1.0), -1.0, 3.0),
    "gamma": (lik.Gamma(4.0), 1e-6, 3.0),
    "fisher_tippett": (lik.FisherTippett(3.0), -2.0, 3.0),
    "log_poisson": (lik.LogPoisson(50.0, 0.7), -2.0, 3.0),
    "rician": (lik.Rician(0.6), 0.0, 3.0),
    "student_t": (lik.StudentT(3.0, 0.6), -1.0, 3.0),
    "salt_pepper": (lik.SaltPepper(0.2, 0.1), -1.0, 3.0),
    "huber": (lik.Huber(0.2, 0.5), -1.0, 3.0),
    "amplitude": (lik.Amplitude(0.5, 1e-3), 0.0, 3.0),
    "uniform_gaussian": (lik.UniformGaussian(0.3, 0.6), -1.0, 3.0),
}
POINTS = [(0.3, 0.5), (1.7, 0.5), (-0.6, 1.0), (0.2, 0.0), (0.9, 1.0), (2.2, 1.0)]


@pytest.mark.parametrize("name", PROX)
def test_prox_equals_brute_force(name):
    """Against the best of 400 001 points, pixel by pixel; y is a level, a count or an extreme where the model asks for one."""
    noise, low, high = PROX[name]
    grid, step = np.linspace(low, high, 400_001), 0.07
    u, y = (jnp.asarray(v) for v in zip(*POINTS, strict=True))
    y = jnp.maximum(y, 0.05) if name in ("gamma", "rician", "log_poisson") else y
    values = jax.jit(jax.vmap(lambda v, b: noise.potential(v[None], b[None]), in_axes=(0, None)))

    if name == "uniform_gaussian":  # one level for all entries: not separable, so entry by entry
        got = jnp.stack([noise.prox(a[None], b[None], step)[0] for a, b in zip(u, y, strict=True)])
    else:
        got = call(noise, "prox", u, y, jnp.asarray(step))
    for a, b, p in zip(u, y, got, strict=True):
        objective = (
            step * np.asarray(values(jnp.append(grid, jnp.stack([p, b])), b)) + (np.append(grid, [p, b]) - a) ** 2 / 2
        )
        assert objective[-2] <= objective.min() + 1e-9
        if low < p < high:
            np.testing.assert_allclose(p, np.append(grid, b)[np.delete(objective, -2).argmin()], atol=1e-4)


@pytest.mark.parametrize("name", ["gamma", "fisher_tippett", "log_poisson", "rician", "student_t", "amplitude"])
def test_derivatives_of_the_prox_equal_central_differences(name):
    noise = PROX[name][0]

    @jax.jit
    def value(t):
        return noise.prox(jnp.array([0.7 + t]), jnp.array([0.9 - 2 * t]), 0.05 * (1 + t))[0]

    h = 1e-5
    np.testing.assert_allclose(jax.jit(jax.grad(value))(0.0), (value(h) - value(-h)) / (2 * h), rtol=1e-7)


def test_projection_on_a_ball():
    r = np.random.default_rng(0)
    y, u = r.normal(size=(4, 3)) * (1 + 1j), r.normal(size=(4, 3)) + 0j
    ball = lik.Ball(0.5)
    p = ball.prox(jnp.asarray(u), jnp.asarray(y), 3.0)
    np.testing.assert_allclose(np.linalg.norm(p - y), 0.5, rtol=1e-12)
    np.testing.assert_allclose((u - y) / np.linalg.norm(u - y) * 0.5, p - y, atol=1e-12)
    assert ball.potential(p, jnp.asarray(y)) == 0
    assert ball.potential(jnp.asarray(u), jnp.asarray(y)) == jnp.inf
    inside = p * 0.999 + y * 0.001
    np.testing.assert_allclose(ball.prox(inside, jnp.asarray(y), 3.0), inside, rtol=1e-14)


def test_itoh_recovers_a_smooth_phase():
    rows, columns = np.mgrid[:12, :9]
    phase = jnp.asarray(8 * np.exp(-((rows - 5) ** 2 + (columns - 4) ** 2) / 30.0))[..., None]
    wrapped = phase - 2 * jnp.pi * jnp.round(phase / (2 * jnp.pi))
    fidelity = lik.Itoh(0.5)
    assert jnp.abs(FiniteDifferences(phase.shape)(phase)).max() < jnp.pi  # Itoh's condition
    np.testing.assert_allclose(fidelity.potential(phase, wrapped), 0, atol=1e-20)
    u = fidelity.prox(0 * phase, wrapped, 1e8)
    np.testing.assert_allclose(u - u.mean(), phase - phase.mean(), atol=1e-6)
    x = jnp.asarray(np.random.default_rng(0).normal(size=phase.shape))
    p = call(fidelity, "prox", x, wrapped, jnp.asarray(0.3))
    np.testing.assert_allclose(0.3 * fidelity.grad(p, wrapped) + p - x, 0, atol=1e-10)


def test_a_stack_of_fidelities(key):
    noise = lik.Stacked((lik.Gaussian(0.5), lik.Poisson(0.1)))
    clean = (jnp.ones((3, 2)), jnp.full((4,), 2.0))
    y = noise.sample(key, clean)
    parts = [(lik.Gaussian(0.5), 0), (lik.Poisson(0.1), 1)]
    for name in ("potential", "log_prob"):
        total = sum(getattr(p, name)(clean[i], y[i]) for p, i in parts)
        np.testing.assert_allclose(getattr(noise, name)(clean, y), total, rtol=1e-12)
    for p, i in parts:
        np.testing.assert_array_equal(noise.grad(clean, y)[i], p.grad(clean[i], y[i]))
        np.testing.assert_array_equal(noise.score(clean, y)[i], -p.grad(clean[i], y[i]))
        np.testing.assert_array_equal(noise.prox(clean, y, 0.3)[i], p.prox(clean[i], y[i], 0.3))
    assert noise.lipschitz(y) == jnp.inf
    with pytest.raises(ValueError, match="expected noise models, got Huber"):
        lik.Stacked((lik.Huber(0.1),)).sample(key, (jnp.ones(2),))


ERRORS = {
    "scale: expected positive values, got 0.0": lambda: lik.Laplace(0.0),
    "half_width: expected positive values, got -1.0": lambda: lik.Uniform(-1),
    "width: expected positive values, got 0.0": lambda: lik.Quantised(0.0),
    "low: expected values below high = 0.0, got 1.0": lambda: lik.Quantised(0.5, 1.0, 0.0),
    "looks: expected positive values, got 0.0": lambda: lik.Gamma(0),
    "looks: expected positive values, got nan": lambda: lik.FisherTippett(float("nan")),
    "num_photons: expected positive values, got 0.0": lambda: lik.LogPoisson(0),
    "mu: expected positive values, got 0.0": lambda: lik.LogPoisson(1, 0),
    "sigma: expected positive values, got 0.0": lambda: lik.Rician(0),
    "salt + pepper: expected below 1 values, got": lambda: lik.SaltPepper(0.5, 0.5),
    "high - low: expected positive values, got 0.0": lambda: lik.UniformGaussian(0.5, 0.5),
    "dof: expected positive values, got 0.0": lambda: lik.StudentT(0, 1),
    "delta: expected positive values, got 0.0": lambda: lik.Huber(0),
    "radius: expected shape ()": lambda: lik.Ball(np.ones(2)),
    "eps: expected positive values, got 0.0": lambda: lik.Amplitude(1, 0),
    "period: expected positive values, got 0.0": lambda: lik.Itoh(1, 0),
    "parts: expected a tuple of at least one fidelity": lambda: lik.Stacked(()),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message]()
    assert message in str(error.value)


def test_amplitudes_of_negative_intensities_count_as_zero():
    """Noise makes measured intensities negative."""
    fidelity, u = lik.Amplitude(), jnp.array([0.3, 0.7])
    negative, zero = jnp.array([-0.1, 0.5]), jnp.array([0.0, 0.5])
    for name in ("potential", "grad"):
        np.testing.assert_array_equal(call(fidelity, name, u, negative), call(fidelity, name, u, zero))
    np.testing.assert_array_equal(call(fidelity, "prox", u, negative, 0.3), call(fidelity, "prox", u, zero, 0.3))
