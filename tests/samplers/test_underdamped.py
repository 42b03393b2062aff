"""BAOAB on a harmonic oscillator: exact law of its linear map, weak order, order of energy error, exact test ratio."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from invjax import samplers
from invjax.samplers import underdamped

from .registry import Normal


@pytest.fixture
def affine(monkeypatch):
    """(M, b, N) of a step (x, p) -> M (x, p) + b + N z, read off the sampler by setting its noise."""

    def build(sampler):
        def move(x, p, z):
            monkeypatch.setattr(underdamped, "standard_normal", lambda key, _: jnp.array(z))
            state = sampler.init(jnp.array(x))._replace(momentum=jnp.array(p))
            state = sampler.step(None, state)[0]
            return np.array([state.position, state.momentum])

        b = move(0.0, 0.0, 0.0)
        return np.stack([move(1.0, 0.0, 0.0) - b, move(0.0, 1.0, 0.0) - b], 1), b, move(0.0, 0.0, 1.0) - b

    return build


@pytest.mark.parametrize("h", [0.1, 0.7, 1.2])
def test_position_marginal_on_a_gaussian_is_exact(affine, h):
    """Stable for h < 2 / sqrt(k) = 1.26: the covariance that the step leaves invariant has 1 / k for positions."""
    k, mean = 2.5, 0.8
    M, b, N = affine(samplers.Underdamped(Normal(mean, k), None, h, 0.9))
    assert max(abs(np.linalg.eigvals(M))) < 1
    covariance = linalg.solve_discrete_lyapunov(M, np.outer(N, N))
    np.testing.assert_allclose(covariance, np.diag([1 / k, 1 - h**2 * k / 4]), atol=1e-11)
    np.testing.assert_allclose(np.linalg.solve(np.eye(2) - M, b), [mean, 0], atol=1e-12)


def test_weak_order_is_two(affine):
    """Mean and covariance at time 2 from a point against the exact Ornstein-Uhlenbeck law."""
    k, friction, time = 2.0, 0.7, 2.0
    drift = np.array([[0, 1], [-k, -friction]])
    flow = linalg.expm(time * drift)
    stationary = np.diag([1 / k, 1.0])
    exact = flow @ [1.0, 0.5], stationary - flow @ stationary @ flow.T
    errors = []
    for h in (0.1, 0.05, 0.025):
        M, _, N = affine(samplers.Underdamped(Normal(0.0, k), None, h, friction))
        m, C = np.array([1.0, 0.5]), np.zeros((2, 2))
        for _ in range(round(time / h)):
            m, C = M @ m, M @ C @ M.T + np.outer(N, N)
        errors.append([np.linalg.norm(m - exact[0]), np.linalg.norm(C - exact[1])])
    orders = np.log2(np.array(errors)[:-1] / np.array(errors)[1:])
    np.testing.assert_allclose(orders, 2, atol=0.1)


def energy(target, x, p):
    return target(x) + jnp.sum(jnp.abs(p) ** 2) / 2


def test_energy_error_is_that_of_the_metropolis_ratio(monkeypatch):
    """exp(-error) = pi(end) q(end, start) / (pi(start) q(start, end)), q the density of the momentum refreshment."""
    f, h, friction = Normal(jnp.array([0.3, -1.0]), 2.0), 0.6, 0.8
    sampler = samplers.Underdamped(f, None, h, friction)
    z = jnp.array([0.4, -1.3])
    c = np.exp(-friction * h)
    monkeypatch.setattr(underdamped, "standard_normal", lambda key, _: z)
    state = sampler.init(jnp.array([1.0, 0.2]))._replace(momentum=jnp.array([-0.5, 0.9]))
    new, info = sampler.step(None, state)
    kicked = state.momentum + h / 2 * state.score
    thermal = c * kicked + np.sqrt(1 - c**2) * z
    back = (-kicked + c * thermal) / np.sqrt(1 - c**2)  # the noise that the time-reversed step needs
    log_ratio = energy(f, state.position, state.momentum) - energy(f, new.position, new.momentum)
    log_ratio += jnp.sum(z**2) / 2 - jnp.sum(back**2) / 2
    np.testing.assert_allclose(-info.energy_error, log_ratio, rtol=1e-12)
    np.testing.assert_allclose(info.acceptance_rate, min(1.0, np.exp(log_ratio)), rtol=1e-12)
    # The reversed step, with momenta flipped, leads back.
    monkeypatch.setattr(underdamped, "standard_normal", lambda key, _: back)
    returned, reverse = sampler.step(None, new._replace(momentum=-new.momentum))
    np.testing.assert_allclose(returned.position, state.position, atol=1e-13)
    np.testing.assert_allclose(returned.momentum, -state.momentum, atol=1e-13)
    np.testing.assert_allclose(reverse.energy_error, -info.energy_error, atol=1e-13)


def test_energy_error_has_order_three(key):
    errors = []
    for h in (0.04, 0.02, 0.01):
        sampler = samplers.Underdamped(Normal(0.0, 2.0), None, h, 1e-12)
        state = sampler.init(jnp.array([1.0]))._replace(momentum=jnp.array([0.7]))
        errors.append(abs(float(sampler.step(key, state)[1].energy_error)))
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), 3, atol=0.1)


def test_momentum_starts_thermal_or_at_rest(key):
    sampler, x = samplers.Underdamped(Normal(0.0, 1.0), None, 0.1), jnp.ones(20000)
    momentum = sampler.init(x, key).momentum
    assert abs(jnp.mean(momentum**2) - 1) <= 3 * np.sqrt(2 / 20000)
    assert not jnp.any(sampler.init(x).momentum)
