"""The laws of noise beyond Gaussian and Poisson: moments, normalisation, score identities; proxes against brute force."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from invjax import likelihoods as lik

from ..registry import call

DRAWS = 250_000
Z = 0.8

LAWS = {
    "laplace": lik.Laplace(0.3),
    "uniform": lik.Uniform(0.4),
    "gamma": lik.Gamma(5.0),
    "fisher_tippett": lik.FisherTippett(3.0),
    "student_t": lik.StudentT(7.0, 0.3),
    "rician": lik.Rician(0.5),
    "salt_pepper": lik.SaltPepper(0.2, 0.1),
    "noiseless": lik.Noiseless(),
    "log_poisson": lik.LogPoisson(200.0, 0.5),
}
# Mean and variance of y given u = 0.8.
MOMENTS = {
    "laplace": (Z, 2 * 0.3**2),
    "uniform": (Z, 0.4**2 / 3),
    "gamma": (Z, Z**2 / 5),
    "fisher_tippett": (Z + scipy.special.digamma(3) - np.log(3), scipy.special.polygamma(1, 3)),
    "student_t": (Z, 0.3**2 * 7 / 5),
    "rician": (scipy.stats.rice(Z / 0.5, scale=0.5).mean(), scipy.stats.rice(Z / 0.5, scale=0.5).var()),
    "salt_pepper": (0.7 * Z + 0.2, 0.7 * Z**2 + 0.2 - (0.7 * Z + 0.2) ** 2),
    "noiseless": (Z, 0.0),
}
# E score = 0 and Var score = Fisher information.
FISHER = {
    "gamma": 5 / Z**2,
    "fisher_tippett": 3.0,
    "log_poisson": 200 * 0.25 * np.exp(-0.5 * Z),
    "student_t": 8 / 10 / 0.3**2,
    "laplace": 1 / 0.3**2,
}


@eqx.filter_jit
def sample_and_score(noise, key, z):
    y = noise.sample(key, z)
    return y, noise.score(z, y)


@functools.cache
def draws(name):
    return tuple(np.asarray(a) for a in sample_and_score(LAWS[name], jax.random.key(0), np.full(DRAWS, Z)))


@pytest.mark.parametrize("name", MOMENTS)
def test_moments_of_many_samples(name):
    """Five standard errors, of the variance ``5 sqrt((kurtosis - 1) / DRAWS)``, are about these tolerances or less."""
    (mean, variance), (y, _) = MOMENTS[name], draws(name)
    np.testing.assert_allclose(y.mean(), mean, rtol=0.01)
    np.testing.assert_allclose(y.var(), variance, rtol=0.02, atol=1e-12)


@pytest.mark.parametrize("name", FISHER)
def test_score_has_mean_zero_and_variance_fisher(name):
    _, score = draws(name)
    assert abs(score.mean()) < 5 * score.std() / np.sqrt(DRAWS)
    np.testing.assert_allclose(np.mean(score**2), FISHER[name], rtol=1e-12, atol=5 * (score**2).std() / np.sqrt(DRAWS))


def test_rician_score_has_mean_zero_and_second_moment():
    y, score = draws("rician")
    np.testing.assert_allclose(np.mean(y**2), Z**2 + 2 * 0.25, rtol=0.01)
    assert abs(score.mean()) < 5 * score.std() / np.sqrt(DRAWS)


def test_log_poisson_moments(key):
    """The delta method: variance exp(mu z) / (n mu^2), bias mu / 2 times that; the next order is 1 / (n exp(-mu z))."""
    photons, mu, z, number = 1024.0, 0.02, 0.5, 2 * DRAWS
    y = np.asarray(call(lik.LogPoisson(photons, mu), "sample", key, np.full(number, z)))
    variance = np.exp(mu * z) / (photons * mu**2)  # the standard error of the variance is 0.002 of it
    np.testing.assert_allclose(y.var(), variance, rtol=0.01)
    error = np.sqrt(variance / number)
    assert abs(y.mean() - z - mu / 2 * variance) < 5 * error
    assert jnp.isfinite(call(lik.LogPoisson(2.0, 1.0), "sample", key, jnp.full(1000, 5.0))).all()  # zero counts


def test_complex_laplace_moments(key):
    y = np.asarray(call(lik.Laplace(0.3), "sample", key, np.full(DRAWS, 0.2 + 0.1j))) - (0.2 + 0.1j)
    np.testing.assert_allclose([y.real.var(), y.imag.var()], 3 * 0.3**2, rtol=0.02)
    error = np.sqrt(15) * 0.3**2 / np.sqrt(DRAWS)  # E r^4 = 120 scale^4, E cos^2 sin^2 = 1/8
    assert abs(np.mean(y.real * y.imag)) < 5 * error


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
    noise, u = lik.Quantised(step, 0.0, 1.0), np.linspace(-0.5, 1.5, 101)
    y = np.asarray(call(noise, "sample", jax.random.key(0), u))
    assert set(np.unique(y)) == set(np.arange(0, 1 + step, step))
    inside = (u > 0) & (u < 1)
    assert np.max(np.abs(y - u)[inside]) <= step / 2
    assert call(noise, "potential", u, y) == 0
    np.testing.assert_array_equal(call(noise, "prox", u, y, 1.0), u)
    u[50] += 1.01 * step
    assert call(noise, "potential", u, y) == np.inf


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


@eqx.filter_jit
def log_probs(noise, u, ys):
    """Log densities of many scalar measurements."""
    return jax.vmap(lambda y: noise.log_prob(u, y[None]))(ys)


@pytest.mark.parametrize("name", INTEGRALS)
def test_log_prob_integrates_to_one(name):
    noise, (low, high) = INTEGRALS[name]
    nodes, weights = np.polynomial.legendre.leggauss(40)
    edges = np.sort(np.append(np.linspace(low, high, 401), 0.7))  # the density of Laplace has a kink at u
    half = (edges[1:] - edges[:-1])[:, None] / 2
    y = (edges[:-1, None] + half * (nodes + 1)).ravel()
    log_prob = log_probs(noise, np.array([0.7]), y)
    np.testing.assert_allclose(np.sum(np.exp(log_prob) * (half * weights).ravel()), 1, rtol=1e-8)


def test_log_prob_of_atoms_and_counts_sum_to_one():
    u = np.array([0.7])
    *atoms, elsewhere = np.exp(log_probs(lik.SaltPepper(0.2, 0.1), u, np.array([0.0, 1.0, 0.7, 0.6])))
    np.testing.assert_allclose(sum(atoms), 1, rtol=1e-12)
    assert elsewhere == 0
    counts, rate = np.arange(1, 120), 30 * np.exp(-0.5 * 0.7)
    got = log_probs(lik.LogPoisson(30.0, 0.5), u, -np.log(counts / 30) / 0.5)
    np.testing.assert_allclose(got, scipy.stats.poisson.logpmf(counts, rate), rtol=1e-9)


def test_densities_equal_scipy():
    y = np.array([0.2, 0.9, 2.5])
    exact = (
        (lik.Laplace(0.3), scipy.stats.laplace(0.7, 0.3)),
        (lik.StudentT(4.0, 0.3), scipy.stats.t(4, 0.7, 0.3)),
        (lik.Gamma(4.0), scipy.stats.gamma(4, scale=0.7 / 4)),
        (lik.Rician(0.5), scipy.stats.rice(0.7 / 0.5, scale=0.5)),
    )
    for noise, law in exact:
        np.testing.assert_allclose(call(noise, "log_prob", np.full(3, 0.7), y), law.logpdf(y).sum(), rtol=1e-10)


@eqx.filter_jit
def of_unknown_level(noise, r, square):
    return noise.log_prob(jnp.zeros_like(r), r), noise.precision(square, r.size)


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
    log_prob, precision = of_unknown_level(lik.UniformGaussian(low, high), r, square)
    np.testing.assert_allclose(log_prob, exact, rtol=1e-10, atol=1e-6)
    weights = np.exp(terms - terms.max()) * ends
    mean = np.sum(weights * np.exp(-2 * t)) / weights.sum()
    np.testing.assert_allclose(precision, mean, rtol=1e-6)


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


@eqx.filter_jit
def entry_by_entry(noise, us, ys, step, candidates):
    """Proxes of scalars, since the level of ``UniformGaussian`` is shared; and potentials of candidates for each."""
    proxes = jax.vmap(lambda u, y: noise.prox(u[None], y[None], step)[0])(us, ys)
    return proxes, jax.vmap(lambda row, y: jax.vmap(lambda v: noise.potential(v[None], y[None]))(row))(candidates, ys)


@pytest.mark.parametrize("name", PROX)
def test_prox_equals_brute_force(name):
    """Against the best of 4001 points, and of 4001 around that, pixel by pixel; y is in the domain of the model."""
    noise, low, high = PROX[name]
    step, (u, y) = 0.07, np.transpose(POINTS)
    y = np.maximum(y, 0.05) if name in ("gamma", "rician", "log_poisson") else y
    got, _ = entry_by_entry(noise, u, y, step, np.full((len(u), 4003), Z))
    best, reach = np.full(u.shape, (low + high) / 2), (high - low) / 2
    for _ in range(2):
        grid = np.clip(best[:, None] + reach * np.linspace(-1, 1, 4001), low, high)
        points = np.column_stack([grid, y, got])
        got, values = (np.asarray(a) for a in entry_by_entry(noise, u, y, step, points))
        objective = step * np.asarray(values) + (points - u[:, None]) ** 2 / 2
        assert (objective[:, -1] <= objective.min(1) + 1e-9).all()
        best, reach = points[np.arange(len(u)), objective[:, :-1].argmin(1)], reach / 1000
    inside = (low < got) & (got < high)
    np.testing.assert_allclose(got[inside], best[inside], atol=1e-4)


@pytest.mark.parametrize("name", ["gamma", "fisher_tippett", "log_poisson", "rician", "student_t", "amplitude"])
def test_derivatives_of_the_prox_equal_central_differences(name):
    noise = PROX[name][0]

    def value(t):
        return noise.prox(jnp.array([0.7 + t]), jnp.array([0.9 - 2 * t]), 0.05 * (1 + t))[0]

    h = 1e-5
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(value)))(np.array([0, h, -h]))
    np.testing.assert_allclose(slopes[0], (values[1] - values[2]) / (2 * h), rtol=1e-7)


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
    phase = (8 * np.exp(-((rows - 5) ** 2 + (columns - 4) ** 2) / 30.0))[..., None]
    wrapped = phase - 2 * np.pi * np.round(phase / (2 * np.pi))
    fidelity = lik.Itoh(0.5)
    assert max(np.abs(np.diff(phase, axis=axis)).max() for axis in (0, 1)) < np.pi  # Itoh's condition
    np.testing.assert_allclose(call(fidelity, "potential", phase, wrapped), 0, atol=1e-20)
    u = np.asarray(call(fidelity, "prox", 0 * phase, wrapped, np.asarray(1e8)))
    np.testing.assert_allclose(u - u.mean(), phase - phase.mean(), atol=1e-6)
    x = np.random.default_rng(0).normal(size=phase.shape)
    p = call(fidelity, "prox", x, wrapped, np.asarray(0.3))
    np.testing.assert_allclose(0.3 * np.asarray(call(fidelity, "grad", p, wrapped)) + p - x, 0, atol=1e-10)


def test_a_stack_of_fidelities(key):
    parts = (lik.Gaussian(0.5), lik.Poisson(0.1))
    clean = (np.ones((3, 2)), np.full((4,), 2.0))

    @eqx.filter_jit
    def views(noise, u, y):
        out = noise.potential(u, y), noise.log_prob(u, y), noise.grad(u, y), noise.score(u, y), noise.prox(u, y, 0.3)
        return *out, noise.lipschitz(y)

    y = call(lik.Stacked(parts), "sample", key, clean)
    *scalars, grad, score, prox, lipschitz = views(lik.Stacked(parts), clean, y)
    alone = [views(*one) for one in zip(parts, clean, y, strict=True)]
    np.testing.assert_allclose(scalars, [sum(a[i] for a in alone) for i in range(2)], rtol=1e-12)
    for i, (_, _, one, _, one_prox, _) in enumerate(alone):
        np.testing.assert_array_equal(grad[i], one)
        np.testing.assert_array_equal(score[i], -one)
        np.testing.assert_array_equal(prox[i], one_prox)
    assert lipschitz == np.inf
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
