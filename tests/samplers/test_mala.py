"""MALA: detailed balance to rounding, and invariance of a Gaussian and of a mixture."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import invjax
from invjax import InverseProblem, likelihoods, operators, priors, samplers
from invjax.samplers import mala

from .registry import Normal


@pytest.mark.parametrize("kind", [float, complex])
def test_detailed_balance(monkeypatch, kind, key):
    """pi(x) q(x, y) a(x, y) = pi(y) q(y, x) a(y, x) for a fixed pair, with the noise that leads from one to the other."""
    r = np.random.default_rng(1)
    mean, x, y = (r.normal(size=3) + (1j * r.normal(size=3) if kind is complex else 0) for _ in range(3))
    f, h = Normal(mean, np.array([1.0, 2.0, 3.0])), 0.2
    sampler = samplers.MALA(f, Normal(0.0, 0.3), h)
    target = samplers.Posterior(f, Normal(0.0, 0.3))

    @jax.jit
    def move(a, b):
        noise = (b - a - h * target.score(a)) / np.sqrt(2 * h)
        monkeypatch.setattr(mala, "standard_normal", lambda key, _: noise)
        state, info = sampler.step(key, sampler.init(a))
        balance = -target(a) - jnp.sum(jnp.abs(noise) ** 2) / 2 + jnp.log(info.acceptance_rate)
        return state.position, info, balance

    def flow(a, b):
        position, info, balance = move(a, b)
        np.testing.assert_allclose(position, b if info.is_accepted else a, rtol=1e-12)
        return info.acceptance_rate, balance

    (there, forth), (back, home) = flow(x, y), flow(y, x)
    assert max(there, back) == 1
    assert min(there, back) < 0.9
    np.testing.assert_allclose(forth, home, rtol=1e-12)


def test_gaussian_is_invariant(key):
    """Chains started in N(0, 1), with a step size where ULA has variance 2.5 and a third of the proposals are refused."""
    chains, n, h = 1500, 60, 1.2

    @jax.jit
    def run(key):
        x = jax.random.normal(key, (chains, 1))
        chain = jax.vmap(lambda k, x: invjax.sample(k, samplers.MALA(Normal(0.0, 1.0), None, h), x, n).collected)
        return chain(jax.random.split(key, chains), x)

    draws = np.asarray(run(key))
    within(np.mean(draws**2, axis=(1, 2)), 1.0)
    within(np.mean(draws[:, -10:] ** 2, axis=(1, 2)), 1.0)


def within(values, exact):
    """The mean of independent values is within three standard errors (their own) of its expectation."""
    values = np.asarray(values)
    assert abs(values.mean() - exact) <= 3 * values.std() / np.sqrt(len(values))


@pytest.fixture(scope="module")
def mixture():
    """A likelihood, a prior of two components, the exact posterior, and its E x and E x^2 by quadrature."""
    prior = priors.GaussianMixture(
        [0.4, 0.6], np.array([[-1.0, 0.5], [1.0, -0.5]]), np.array([0.5, 0.3])[:, None, None] * np.eye(2)
    )
    operator = operators.Matrix(np.array([[1.0, 0.5]]))
    f = InverseProblem(operator, likelihoods.Gaussian(0.8)).likelihood(np.array([0.1]))
    line = np.linspace(-6, 6, 241)
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)

    @jax.jit
    def exact(grid):
        posterior = prior.posterior(f)
        return posterior, jax.vmap(posterior.log_prob)(grid)

    posterior, values = exact(grid)
    density = np.exp(values) * 0.05**2
    np.testing.assert_allclose(density.sum(), 1, rtol=1e-9)
    return f, prior, posterior, (density @ grid, density @ grid**2)


def test_mixture_posterior_is_invariant(mixture, key):
    f, prior, posterior, (first, second) = mixture
    chains = 1000

    @jax.jit
    def run(key):
        x = jax.vmap(posterior.sample)(jax.random.split(jax.random.key(1), chains))
        chain = jax.vmap(lambda k, x: invjax.sample(k, samplers.MALA(f, prior, 0.5), x, 60))
        return chain(jax.random.split(key, chains), x).collected

    draws = np.asarray(run(key))
    for i in range(2):
        within(draws[..., i].mean(1), first[i])
        within((draws[..., i] ** 2).mean(1), second[i])


def test_nuts_agrees_with_the_mixture_posterior(mixture, key):
    """A chain that starts far away finds both components; errors from its effective sample size."""
    f, prior, _, (first, second) = mixture
    algorithm, state = samplers.nuts(key, samplers.Posterior(f, prior), jnp.array([4.0, 4.0]), 300, dense=True)
    draws = np.asarray(invjax.sample(key, algorithm, state.position, 3000).collected)[None]
    for values, exact in ((draws, first), (draws**2, second)):
        error = samplers.mcse(values)
        assert np.all(abs(values.mean((0, 1)) - exact) <= 3 * error)
        assert np.all(error < 0.1)


def test_a_proposal_without_density_is_refused(key):
    """Support x < 1: moves beyond have an infinite potential, a NaN score, and acceptance 0."""
    sampler = samplers.MALA(Below(), None, 0.5)
    state = sampler.init(jnp.array([0.999]))
    new, info = jax.jit(jax.vmap(lambda k: sampler.step(k, state)))(jax.random.split(key, 200))
    assert jnp.all(new.position < 1)
    # The proposal is N(0.4995, 1): it lands beyond with probability 0.308.
    assert abs(jnp.mean(info.acceptance_rate == 0) - 0.308) <= 3 * np.sqrt(0.308 * 0.692 / 200)


class Below(eqx.Module):
    """Half-normal: -log density of N(0, 1) on x < 1, with a NaN score outside."""

    def __call__(self, x):
        return jnp.where(jnp.all(x < 1), jnp.sum(x**2) / 2, jnp.inf)

    def score(self, x):
        return jnp.where(x < 1, -x, jnp.nan)
