"""BlackJAX's algorithms in our drivers, ours in its loop, and an import that stays light."""

import subprocess
import sys

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax.util import run_inference_algorithm

import invjax
from invjax import samplers
from invjax.reducers import Moments

from .registry import Normal

TARGET = Normal(np.array([1.0, -2.0]), np.array([1.0, 4.0]))


def logdensity(x):
    return -TARGET(x)


def test_our_mala_is_blackjaxs(key):
    """The same proposal and probability from the same key: BlackJAX splits it into proposal and test as we do."""
    ours, theirs = samplers.MALA(TARGET, None, 0.2), blackjax.mala(logdensity, 0.2)
    x = jnp.array([0.5, 0.3])
    state, info = ours.step(key, ours.init(x))
    other, expected = theirs.step(key, theirs.init(x))
    np.testing.assert_allclose(info.acceptance_rate, expected.acceptance_rate, rtol=1e-12)
    np.testing.assert_allclose(state.position, other.position, rtol=1e-12)
    np.testing.assert_allclose(state.score, other.logdensity_grad, rtol=1e-12)


def test_blackjax_runs_in_our_driver(key):
    """Exact moments, by BlackJAX's MALA and NUTS as they are; errors from the effective sample sizes."""
    for algorithm in (blackjax.mala(logdensity, 0.25), blackjax.nuts(logdensity, 0.6, jnp.ones(2))):
        result = invjax.sample(key, algorithm, TARGET.mean, 2000)
        assert result.status == invjax.Status.CONVERGED
        draws = result.collected[None]
        assert np.all(abs(draws.mean((0, 1)) - TARGET.mean) <= 3 * samplers.mcse(draws))
        square = (draws - TARGET.mean) ** 2 * TARGET.precision
        assert np.all(abs(square.mean((0, 1)) - 1) <= 3 * samplers.mcse(square))


@pytest.mark.parametrize("sampler", [samplers.MALA(TARGET, None, 0.3), samplers.Underdamped(TARGET, None, 0.4)])
def test_ours_run_in_blackjaxs_loop(sampler, key):
    """Its loop splits its key: the same chain by hand."""
    last, (states, _) = run_inference_algorithm(key, sampler, 5, initial_position=TARGET.mean)
    run_key, init_key = jax.random.split(key)
    state = sampler.init(TARGET.mean, init_key)
    for i, k in enumerate(jax.random.split(run_key, 5)):
        state, _ = sampler.step(k, state)
        np.testing.assert_allclose(states.position[i], state.position, rtol=1e-12)
    np.testing.assert_array_equal(last.position, states.position[-1])


def test_nuts_refuses_complex_positions(key):
    with pytest.raises(ValueError, match="x: expected a real position, got dtype complex"):
        samplers.nuts(key, TARGET, jnp.ones(2, complex), 10)


def test_import_does_not_load_blackjax():
    code = "import sys, invjax.samplers as s; s.ULA; assert 'blackjax' not in sys.modules; assert 'nuts' in dir(s)"
    code += "; s.nuts; s.nuts; assert callable(s.nuts) and callable(s.ess); assert 'blackjax' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_welford_moments_of_a_chain_in_float32(float32, key):
    """float32 throughout: variance of ULA on N(0, 1) within three standard errors (as in test_langevin)."""
    h, n, lanes = 0.5, 200, 2000
    variance, phi = 1 / (1 - h / 2), 1 - h
    x = np.sqrt(variance) * jax.random.normal(key, (lanes,))
    m = invjax.sample(key, samplers.ULA(Normal(0.0, 1.0), None, h), x, n, collect=Moments()).collected
    assert m.mean.dtype == jnp.float32
    square = jnp.mean(m.variance * (n - 1) / n + m.mean**2)
    assert abs(square - variance) <= 3 * variance * np.sqrt(2 / (n * lanes) * (1 + phi**2) / (1 - phi**2))
