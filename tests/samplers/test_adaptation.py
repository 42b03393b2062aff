"""Step-size adaptation: the acceptance rate that it promises, recovery from bad first steps, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import invjax
from invjax import samplers
from invjax.reducers import Moments

from .registry import Normal

CHAINS, DIM = 12, 10


def acceptance(state, info):
    return info.acceptance_rate


@pytest.mark.parametrize(
    ("make", "target"),
    [
        (lambda h: samplers.MALA(Normal(0.0, 1.0), None, h), 0.574),
        (lambda h: samplers.Underdamped(Normal(0.0, 1.0), None, h), 0.85),
    ],
    ids=["mala", "underdamped"],
)
@pytest.mark.parametrize("first", [1e-3, 30.0])
def test_reaches_its_target(make, target, first, key):
    """The mean acceptance with the adapted step size, over chains that adapted and then ran on their own."""

    steps = 1500

    def one(key):
        warm, run = jax.random.split(key)
        adaptation = samplers.StepSizeAdaptation(make(first), target)
        state, trace, status = invjax.iterate(adaptation, jnp.ones(DIM), steps, key=warm, trace=Moments(of=acceptance))
        method = adaptation.adapted(state)
        result = invjax.sample(run, method, state.position, 500, collect=Moments(of=acceptance))
        return state.dual_averaging.log_step_size, trace.mean, result.collected.mean, status

    log_last, warm_rates, rates, status = jax.vmap(one)(jax.random.split(key, CHAINS))
    assert not status.any()
    # The identity of dual averaging: its error is that of the mean acceptance, of order 1 / sqrt(steps).
    lag = 0.05 * (1 + 10 / steps) * (np.log(10 * first) - log_last) / np.sqrt(steps)
    np.testing.assert_allclose(warm_rates, target - lag, atol=1e-9)
    # Monte Carlo error between chains, and the curvature of the acceptance over the fluctuations of the step size.
    assert -3 * rates.std() / np.sqrt(CHAINS) <= rates.mean() - target <= 3 * rates.std() / np.sqrt(CHAINS) + 0.03


def test_before_any_step_the_method_is_its_own():
    adaptation = samplers.StepSizeAdaptation(samplers.MALA(Normal(0.0, 1.0), None, 0.3), 0.5)
    np.testing.assert_allclose(adaptation.adapted(adaptation.init(jnp.ones(2))).step_size, 0.3, rtol=1e-14)


def test_a_method_without_acceptance_is_refused(key):
    adaptation = samplers.StepSizeAdaptation(samplers.ULA(Normal(0.0, 1.0), None, 0.3), 0.5)
    with pytest.raises(ValueError, match="acceptance_rate in the info of ULA"):
        adaptation.step(key, adaptation.init(jnp.ones(2)))
