"""PnP-ULA against the exact laws of its chain and of the smoothed posterior."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import invjax
from invjax import likelihoods, operators, priors, samplers
from invjax.reducers import Every

D = 4
EPS, SIGMA, ALPHA = 0.04, 0.3, 0.8  # EPS is a variance
INFINITE = (-jnp.inf, jnp.inf)
LANES = 4000


def gaussian_problem():
    """Prior N(m0, S), operator A and measurement y of dimension 4, with M and v of the smoothed posterior's score v - M x."""
    r = np.random.default_rng(0)
    A, root = r.normal(size=(3, D)), r.normal(size=(D, D)) / 2
    S, m0, y = root @ root.T + 0.1 * np.eye(D), r.normal(size=D), r.normal(size=3)
    P = np.linalg.inv(S + EPS * np.eye(D))
    M = A.T @ A / SIGMA**2 + ALPHA * P
    v = A.T @ y / SIGMA**2 + ALPHA * P @ m0
    f = likelihoods.InverseProblem(operators.Matrix(A), likelihoods.Gaussian(SIGMA)).likelihood(y)
    prior = priors.RED(priors.Gaussian(m0, S).denoiser, np.sqrt(EPS), ALPHA)
    residual = np.linalg.norm(EPS * P, 2)  # of x - D(x) = EPS P (x - m0)
    return f, prior, residual, M, v


@functools.cache
def chain_covariance(factor):
    """Sample covariance of many chains at step factor / |M|, started at the mode, after they are stationary."""
    f, prior, residual, M, v = gaussian_problem()
    step = factor / np.linalg.norm(M, 2)
    sampler = samplers.PnPULA(f, prior, residual, step, box=INFINITE, allow_unstable=True)
    start = jnp.linalg.solve(M, v)
    rate = np.abs(1 - step * np.linalg.eigvalsh(M)).max()
    burn_in = int(np.ceil(np.log(1e-4) / np.log(rate)))
    keys = jax.random.split(jax.random.key(0), LANES)
    draws = jax.jit(jax.vmap(lambda k: invjax.sample(k, sampler, start, 1, burn_in=burn_in).collected[0]))(keys)
    return draws, step


def test_score_is_tweedies():
    """(D - x) / eps is the gradient of the log density of the smoothed mixture."""
    r = np.random.default_rng(1)
    mixture = priors.GaussianMixture([0.3, 0.7], r.normal(size=(2, 2)), np.stack([np.eye(2), np.diag([0.2, 2.0])]))
    prior = priors.RED(mixture.denoiser, 0.4)
    for x in r.normal(size=(5, 2)):
        exact = jax.grad(lambda x: mixture.log_prob(x, 0.4))(jnp.asarray(x))
        np.testing.assert_allclose(prior.score(x), exact, atol=1e-12)


@pytest.mark.parametrize("factor", [0.3, 1.5])
def test_the_chain_has_its_exact_gaussian_law(factor):
    """N(M^-1 v, (M - h M^2 / 2)^-1), discretisation included; at the large step the target's covariance is refuted."""
    _, _, _, M, v = gaussian_problem()
    draws, step = chain_covariance(factor)
    mean, covariance = np.linalg.solve(M, v), np.linalg.inv(M - step * M @ M / 2)
    values, basis = np.linalg.eigh(covariance)
    white = (draws - mean) @ basis / np.sqrt(values)  # N(0, I) if the formula holds
    assert np.abs(white.mean(0)).max() <= 4 / np.sqrt(LANES)
    second = white.T @ white / LANES
    assert np.abs(second - np.eye(D)).max() <= 4 * np.sqrt(2 / LANES)
    top = np.linalg.eigh(M)[1][:, -1]
    ratio = np.var(np.asarray(draws) @ top) * np.linalg.norm(M, 2)  # 1 for the unbiased law
    expected = 1 / (1 - factor / 2)
    assert abs(ratio / expected - 1) <= 4 * np.sqrt(2 / LANES)
    assert expected < 1.2 or ratio > 3  # at factor 1.5 it is 4


def test_bias_is_proportional_to_the_step():
    """Of the exact laws: |cov_h - M^-1| / h tends to a constant (I/2), and the mean has no bias."""
    _, _, _, M, _ = gaussian_problem()
    steps = np.array([0.2, 0.1, 0.05]) / np.linalg.norm(M, 2)
    bias = [np.linalg.norm(np.linalg.inv(M - h * M @ M / 2) - np.linalg.inv(M), 2) for h in steps]
    np.testing.assert_allclose(np.divide(bias, steps), 0.5, rtol=0.12)


@pytest.mark.parametrize(("factor", "finite"), [(1.98, True), (2.02, False)])
def test_stability_edge(factor, finite):
    f, prior, residual, M, _ = gaussian_problem()
    step = factor / np.linalg.norm(M, 2)
    sampler = samplers.PnPULA(f, prior, residual, step, box=INFINITE, allow_unstable=True)
    far = 1e3 * jnp.asarray(np.linalg.eigh(M)[1][:, -1])
    x = invjax.sample(jax.random.key(0), sampler, far, 1, burn_in=400).collected[0]
    assert (jnp.linalg.norm(x) < 1e3) == finite


def test_tails_pull_back_to_the_box():
    """Without likelihood and prior: uniform on the box with Gaussian tails of variance s outside."""

    class Flat(eqx.Module):
        def score(self, x):
            return 0 * x

    def identity(x, sigma):
        return x

    low, high, s = -0.5, 1.0, 0.04
    prior = priors.RED(identity, 1.0, 0.0)
    sampler = samplers.PnPULA(Flat(), prior, 1.0, 0.02 * s, likelihood_lipschitz=0.0, box=(low, high), smoothing=s)
    x = jnp.array([5.0, -4.0, 0.3])
    quiet = sampler._ula()
    drift = samplers.Posterior(quiet.likelihood, quiet.prior).score(x)
    np.testing.assert_allclose(drift, [(high - 5) / s, (low + 4) / s, 0], rtol=1e-12)
    draws = invjax.sample(
        jax.random.key(1), sampler, jnp.full(LANES, 0.25), 20, burn_in=3000, thinning=100, collect=Every(1)
    ).collected
    # P(inside) = w / (w + sqrt(2 pi s)), and outside a half normal, up to the O(h) bias (h is 2 % of s).
    width = high - low
    inside = np.mean((draws >= low) & (draws <= high))
    exact = width / (width + np.sqrt(2 * np.pi * s))
    error = np.sqrt(exact * (1 - exact) / LANES)
    assert abs(inside - exact) <= 4 * error + 0.02 * (1 - exact)
    over = draws[draws > high] - high
    assert abs(np.mean(over**2) / s - 1) <= 4 * np.sqrt(2 / (LANES * (1 - exact) / 2)) + 0.02


def test_projected_chains_stay_inside_and_are_the_same_without_a_box(key):
    f, prior, residual, _, _ = gaussian_problem()
    x = jnp.zeros(D)
    tight = samplers.PnPULA(f, prior, residual, box=(-0.2, 0.3), projected=True)
    draws = invjax.sample(key, tight, x, 200).collected
    assert jnp.all((draws >= -0.2) & (draws <= 0.3))
    assert jnp.any(draws == -0.2)
    assert jnp.any(draws == 0.3)
    both = [
        samplers.PnPULA(f, prior, residual, 1e-3, box=INFINITE, projected=projected, smoothing=0.01)
        for projected in (True, False)
    ]
    a, b = (invjax.sample(key, sampler, x, 20).collected for sampler in both)
    np.testing.assert_array_equal(a, b)


def test_bounds_are_those_of_the_reference():
    f, prior, residual, _, _ = gaussian_problem()
    L_f, L_g = float(f.lipschitz), ALPHA * residual / EPS
    sampler = samplers.PnPULA(f, prior, residual)
    smoothing = 0.99 / (2 * L_g + 4 * L_f)
    np.testing.assert_allclose(sampler.smoothing, smoothing, rtol=1e-12)
    np.testing.assert_allclose(sampler.step_size, 0.99 / (3 * (L_f + L_g + 1 / smoothing)), rtol=1e-12)
    projected = samplers.PnPULA(f, prior, residual, projected=True)
    np.testing.assert_allclose(projected.step_size, 0.99 / (L_f + L_g), rtol=1e-12)
    with pytest.raises(ValueError, match="allow_unstable=True"):
        samplers.PnPULA(f, prior, residual, 1.02 * sampler.step_size)
    with pytest.raises(ValueError, match="residual_lipschitz"):
        samplers.PnPULA(f, prior, 0.0)
    with pytest.raises(ValueError, match=r"priors\.RED"):
        samplers.PnPULA(f, priors.Tikhonov(), 1.0)


def test_a_traced_step_is_reported_not_refused(key):
    f, prior, residual, _, _ = gaussian_problem()
    bound = samplers.PnPULA(f, prior, residual).step_bound

    @jax.jit
    def ratio(step):
        sampler = samplers.PnPULA(f, prior, residual, step)
        return sampler.step(key, sampler.init(jnp.zeros(D)))[1].step_bound_ratio

    np.testing.assert_allclose(ratio(3 * bound), 3, rtol=1e-12)


def test_one_denoiser_call_per_step(key):
    """In the compiled loop, too: a custom primitive would be counted; here the calls of the traced step are."""
    f, prior, residual, _, _ = gaussian_problem()
    calls = []

    def counted(x, sigma):
        calls.append(1)
        return prior.denoiser(x, sigma)

    sampler = samplers.PnPULA(f, priors.RED(counted, np.sqrt(EPS), ALPHA), residual)
    hlo = jax.jit(lambda k: invjax.sample(k, sampler, jnp.zeros(D), 50).collected).lower(key).as_text()
    assert hlo.count("stablehlo.while") >= 1
    state = jax.eval_shape(sampler.init, jnp.zeros(D))
    calls.clear()
    jax.eval_shape(sampler.step, key, state)
    assert len(calls) == 1


MEANS = np.array([[-1.0, 0.0], [1.0, 0.5]])
COVARIANCES = np.stack([np.diag([0.3, 0.2]), np.array([[0.2, 0.1], [0.1, 0.3]])])
ROW, Y, NOISE = np.array([[1.0, 0.4]]), np.array([0.4]), 0.7


def exact_posterior(eps):
    """Mean and covariance of the posterior under the mixture smoothed by N(0, eps I), by the formulas of Bayes."""
    weights, means, covariances = [], [], []
    for mean, S in zip(MEANS, COVARIANCES + eps * np.eye(2), strict=True):
        evidence = ROW @ S @ ROW.T + NOISE**2
        gain = S @ ROW.T @ np.linalg.inv(evidence)
        gap = Y - ROW @ mean
        weights.append(np.exp(-gap @ np.linalg.solve(evidence, gap) / 2) / np.sqrt(np.linalg.det(evidence)))
        means.append(mean + gain @ gap)
        covariances.append(S - gain @ ROW @ S)
    weights = np.array(weights) / np.sum(weights)
    mean = weights @ means
    gap = np.array(means) - mean
    return mean, np.einsum("k,kij->ij", weights, covariances) + np.einsum("k,ki,kj->ij", weights, gap, gap)


def test_mixture_posterior_is_reached_within_the_derived_bias():
    """Many chains on a bimodal target, from draws of the exact posterior: Monte Carlo error plus the O(h) bias.

    On a Gaussian of precision M the bias of the covariance is h/2 (I + h M / 2 + ...), below h where h |M| < 1.
    """
    eps = 0.05
    mixture = priors.GaussianMixture([0.5, 0.5], MEANS, COVARIANCES)
    f = likelihoods.InverseProblem(operators.Matrix(ROW), likelihoods.Gaussian(NOISE)).likelihood(Y)
    prior = priors.RED(mixture.denoiser, np.sqrt(eps))
    smoothed = priors.GaussianMixture([0.5, 0.5], MEANS, COVARIANCES + eps * np.eye(2)).posterior(f)
    keys = jax.random.split(jax.random.key(2), LANES)
    start = jax.vmap(smoothed.sample)(keys)
    mean, covariance = exact_posterior(eps)

    @jax.jit
    def final(step):
        sampler = samplers.PnPULA(f, prior, 1.0, step, box=INFINITE, allow_unstable=True)
        run = lambda k, x: invjax.sample(k, sampler, x, 1, burn_in=150).collected[0]  # noqa: E731
        return jax.vmap(run)(keys, start)

    noise = 4 * np.sqrt(2 / LANES) * covariance.max()
    for step in (0.06, 0.03):
        draws = np.asarray(final(step))
        assert np.abs(draws.mean(0) - mean).max() <= 4 * np.sqrt(covariance.max() / LANES) + step
        assert np.abs(np.cov(draws.T) - covariance).max() <= noise + step


def test_the_bias_of_smoothing_is_that_of_the_card():
    """The posterior of the smoothed prior tends to the exact one linearly in epsilon."""
    mean, covariance = exact_posterior(0.0)
    gaps = [
        [np.abs(a - b).max() for a, b in zip(exact_posterior(e), (mean, covariance), strict=True)] for e in (0.02, 0.01)
    ]
    np.testing.assert_allclose(np.divide(*gaps), 2, rtol=0.1)
