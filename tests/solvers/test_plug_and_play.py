"""Plug-and-play methods against closed forms: with a Gaussian's denoiser every one of them is a known linear iteration."""

import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import iterate, likelihoods, operators, priors, samplers, solve, solvers, transforms
from invjax.drive import check
from invjax.reducers import Every

N, SIGMA, LEVEL, ALPHA = 5, 0.4, 0.3, 0.7


class Problem(NamedTuple):
    """Likelihood and Gaussian prior, and the exact solutions."""

    f: likelihoods.Likelihood
    prior: priors.Gaussian
    A: np.ndarray
    S: np.ndarray

    def mode(self, extra=0.0, alpha=1.0):
        """Hessian and maximum of the posterior with the prior's covariance S + extra I to the power alpha."""
        P = np.linalg.inv(self.S + extra * np.eye(N))
        M = self.A.T @ self.A / SIGMA**2 + alpha * P
        return M, np.linalg.solve(M, self.A.T @ np.asarray(self.f.y) / SIGMA**2 + alpha * P @ self.prior.mean)


@functools.cache
def problem():
    r = np.random.default_rng(0)
    A, root = r.normal(size=(4, N)), r.normal(size=(N, N)) / 2
    S = root @ root.T + 0.2 * np.eye(N)
    f = likelihoods.InverseProblem(operators.Matrix(A), likelihoods.Gaussian(SIGMA)).likelihood(r.normal(size=4))
    return Problem(f, priors.Gaussian(r.normal(size=N), S), A, S)


@pytest.mark.parametrize("method", ["ProximalGradient", "FISTA", "ADMM", "DouglasRachford"])
def test_the_splitting_solvers_reach_the_gaussian_mode(method):
    """There the denoiser at level sqrt(lam s) is the prox of s lam g, so PnP minimises f + lam g for every step."""
    p, lam = problem(), 0.8
    plug = priors.PlugAndPlay(p.prior.denoiser, lam)
    step = 0.9 / p.f.lipschitz if method in ("ProximalGradient", "FISTA") else 0.1
    result = check(
        solve(getattr(solvers, method)(p.f, plug, step), jnp.zeros(N), rtol=0.0, atol=1e-11, max_steps=20000)
    )
    np.testing.assert_allclose(result.position, p.mode(alpha=lam)[1], atol=1e-8)


def test_red_reaches_the_mode_of_the_smoothed_prior():
    p = problem()
    M, mode = p.mode(LEVEL**2, ALPHA)
    red = priors.RED(p.prior.denoiser, LEVEL, ALPHA)
    method = solvers.GradientDescent(p.f, red, 1 / np.linalg.norm(M, 2))
    result = check(solve(method, jnp.zeros(N), rtol=0.0, atol=1e-11, max_steps=20000))
    np.testing.assert_allclose(result.position, mode, atol=1e-9)


def test_dpir_is_its_recursion():
    """Every step is an affine map, written out here with dense matrices."""
    p, lam = problem(), 0.23
    sigmas = solvers.dpir_sigmas(0.02, 6)
    np.testing.assert_allclose(sigmas[0], 49 / 255, rtol=1e-6)
    np.testing.assert_allclose(sigmas[-1], 0.02, rtol=1e-6)
    np.testing.assert_allclose(np.diff(np.log(sigmas), 2), 0, atol=1e-6)
    assert solvers.dpir_sigmas(0.0, 3)[-1] == pytest.approx(0.01)
    method = solvers.DPIR(p.f, p.prior.denoiser, sigmas, lam)
    state, _, _ = iterate(method, jnp.zeros(N), method.num_steps + 2)
    x = np.zeros(N)
    for sigma in [*np.asarray(sigmas), *[float(sigmas[-1])] * 2]:
        step = sigma**2 / lam
        u = np.linalg.solve(step * p.A.T @ p.A / SIGMA**2 + np.eye(N), x + step * p.A.T @ np.asarray(p.f.y) / SIGMA**2)
        x = p.prior.mean + p.S @ np.linalg.solve(p.S + sigma**2 * np.eye(N), u - p.prior.mean)
    np.testing.assert_allclose(state.position, x, rtol=1e-6)
    with pytest.raises(ValueError, match="num_steps"):
        solvers.dpir_sigmas(0.1, 0)
    with pytest.raises(ValueError, match="lam"):
        solvers.DPIR(p.f, p.prior.denoiser, sigmas, 0.0)


W = np.random.default_rng(4).normal(size=(N, N)) / 3


def linear(x, sigma):
    return x @ W.T + sigma


def test_gradient_step_reaches_the_quadratic_minimiser():
    """N(x) = W x + s: g = lam |(I - W) x - s|^2 / 2, f + g a least-squares problem."""
    p, lam = problem(), 2.0
    prior = priors.GradientStep(linear, 0.3, lam)
    K = np.eye(N) - W
    M = p.A.T @ p.A / SIGMA**2 + lam * K.T @ K
    exact = np.linalg.solve(M, p.A.T @ np.asarray(p.f.y) / SIGMA**2 + lam * K.T @ np.full(N, 0.3))
    result = check(solve(solvers.GradientStepPnP(p.f, prior, 5.0), jnp.ones(N), rtol=0.0, atol=1e-11, max_steps=20000))
    np.testing.assert_allclose(result.position, exact, atol=1e-8)
    np.testing.assert_allclose(result.state.objective, p.f(exact) + prior(exact), rtol=1e-10)


def bumpy(x, sigma):
    return jnp.sin(3 * x) + sigma * jnp.roll(x, 1) ** 2 / 5


def test_gradient_step_descends_to_a_stationary_point_of_a_nonconvex_objective():
    """From any first step: the objective never grows (but for rounding), and both gradients cancel at the end."""
    p, prior = problem(), priors.GradientStep(bumpy, 0.5, 1.5)
    for first in (100.0, 1.0, 1e-3):
        method = solvers.GradientStepPnP(p.f, prior, first)
        state = method.init(jnp.full(N, 2.0))
        step, values = eqx.filter_jit(method.step), [state.objective]
        for _ in range(100):
            state, info = step(state)
            values.append(info.objective)
        assert np.all(np.diff(values) <= 1e-12 * np.abs(values[:-1]))
        assert values[-1] < 0.5 * values[0]
    result = check(
        solve(solvers.GradientStepPnP(p.f, prior, 1.0), jnp.full(N, 2.0), rtol=0.0, atol=1e-11, max_steps=20000)
    )
    x = result.position
    np.testing.assert_allclose(p.f.grad(x) + prior.grad(x), 0, atol=1e-6)
    with pytest.raises(ValueError, match=r"below 0\.5"):
        solvers.GradientStepPnP(p.f, prior, 1.0, 0.7)


def test_pnp_sgd_without_noise_reaches_the_mode():
    p = problem()
    M, mode = p.mode(LEVEL**2, ALPHA)
    red = priors.RED(p.prior.denoiser, LEVEL, ALPHA)
    method = solvers.PnPSGD(p.f, red, 1 / np.linalg.norm(M, 2), power=0.0, noise=0.0)
    result = check(solve(method, jnp.zeros(N), key=jax.random.key(0), rtol=0.0, atol=1e-9, max_steps=5000))
    np.testing.assert_allclose(result.position, mode, atol=1e-8)
    shift = np.random.default_rng(1).normal(
        size=N
    )  # a denoiser that is wrong by a constant moves the limit by M^-1 alpha u / eps
    wrong = priors.RED(lambda x, sigma: p.prior.denoiser(x, sigma) + shift, LEVEL, ALPHA)
    method = solvers.PnPSGD(p.f, wrong, 1 / np.linalg.norm(M, 2), power=0.0, noise=0.0)
    moved = solve(method, jnp.zeros(N), key=jax.random.key(0), rtol=0.0, atol=1e-9, max_steps=5000).position
    np.testing.assert_allclose(moved - mode, np.linalg.solve(M, ALPHA * shift / LEVEL**2), atol=1e-7)


class Quadratic:
    """Score -x: curvature one in every direction."""

    def __call__(self, x):
        return jnp.sum(x**2) / 2

    def score(self, x):
        return -x


class Flat(Quadratic):
    def score(self, x):
        return 0 * x


def spread(step, power, num_steps, lanes=4000):
    """Mean and variance over chains (the coordinates) from a start of mean 5 and variance 1."""
    start = 5 + jax.random.normal(jax.random.key(0), (lanes,))
    method = solvers.PnPSGD(Quadratic(), Flat(), step, power)
    state, _, _ = iterate(method, start, num_steps, key=jax.random.key(1))
    return np.mean(state.position), np.var(state.position), lanes


@pytest.mark.parametrize(("num_steps", "mean", "variance"), [(100, 5.974e-2, 1.0130e-2), (1000, 1.511e-3, 1.2711e-3)])
def test_pnp_sgd_has_its_exact_mean_and_variance(num_steps, mean, variance):
    """m = 1, d_k = 0.5 k^-0.8: e <- (1 - d_k) e, s <- (1 - d_k)^2 s + d_k^2 (values of the reference recursion)."""
    e, s = 5.0, 1.0
    for k in range(1, num_steps + 1):
        d = 0.5 * k**-0.8
        e, s = (1 - d) * e, (1 - d) ** 2 * s + d**2
    np.testing.assert_allclose([e, s], [mean, variance], rtol=1e-3)
    found_mean, found_variance, lanes = spread(0.5, 0.8, num_steps)
    assert abs(found_mean - e) <= 3 * np.sqrt(s / lanes)
    assert abs(found_variance / s - 1) <= 3 * np.sqrt(2 / lanes)


def test_pnp_sgd_with_a_constant_step_keeps_its_variance():
    """c / (m (2 - c m)): a schedule whose squares do not sum does not converge."""
    c = 0.3
    mean, variance, lanes = spread(c, 0.0, 200)
    exact = c / (2 - c)
    assert abs(variance / exact - 1) <= 3 * np.sqrt(2 / lanes)
    assert abs(mean) <= 3 * np.sqrt(exact / lanes)


def test_steps_are_flat_before_they_decay():
    method = solvers.PnPSGD(Quadratic(), Flat(), 0.5, 0.8, num_flat=3)
    _, steps, _ = iterate(method, jnp.zeros(2), 6, key=jax.random.key(0), trace=Every(1, of=_step_size))
    np.testing.assert_allclose(steps, 0.5 * np.array([1, 1, 1, 1, 2**-0.8, 3**-0.8]), rtol=1e-12)


def _step_size(state, info):
    return info.step_size


def test_noise_leaves_a_saddle():
    """Half-way between two modes the drift is zero: without noise the iterate stays, with it it ends in a mode."""
    modes = np.array([[-1.0, 0.0], [1.0, 0.0]])
    mixture = priors.GaussianMixture(None, modes, 0.05)
    red = priors.RED(mixture.denoiser, 0.2)
    ends = []
    for noise in (0.0, 1.0):
        method = solvers.PnPSGD(Flat(), red, 0.05, 0.6, noise)
        run = jax.jit(jax.vmap(lambda k, m=method: iterate(m, jnp.zeros(2), 1500, key=k)[0].position))
        ends.append(run(jax.random.split(jax.random.key(3), 100)))
    np.testing.assert_allclose(ends[0], 0, atol=1e-12)
    distance = np.min(np.linalg.norm(ends[1][:, None] - modes, axis=-1), 1)
    assert np.mean(distance < 0.2) >= 0.95
    assert set(np.sign(ends[1][:, 0])) == {-1.0, 1.0}


def test_pnp_sgd_with_the_noise_of_langevin_is_pnp_ula():
    p, step, key = problem(), 1e-3, jax.random.key(5)
    red = priors.RED(p.prior.denoiser, LEVEL, ALPHA)
    box = (-jnp.inf, jnp.inf)
    ula = samplers.PnPULA(p.f, red, 1.0, step, box=box, allow_unstable=True)
    sgd = solvers.PnPSGD(p.f, red, step, power=0.0, noise=np.sqrt(2 / step))
    a, b = (iterate(m, jnp.zeros(N), 50, key=key)[0].position for m in (ula, sgd))
    np.testing.assert_allclose(a, b, rtol=1e-10)


def level(method):
    return method.prior.sigma


def test_continuation_changes_a_parameter_from_step_to_step():
    """Equal to a loop that builds the method anew for each step, for deterministic and random methods."""
    p, sigmas, key = problem(), jnp.array([0.5, 0.3, 0.2]), jax.random.key(1)

    def plug(sigma):
        return solvers.FISTA(p.f, priors.PlugAndPlay(p.prior.denoiser, sigma=sigma), 0.05)

    def sgd(sigma):
        return solvers.PnPSGD(p.f, priors.RED(p.prior.denoiser, sigma), 0.01)

    for make, k in ((plug, None), (sgd, key)):
        method = solvers.Continuation(make(1.0), level, sigmas)
        state, _, _ = iterate(method, jnp.zeros(N), 5, key=k)
        expected = make(1.0).init(jnp.zeros(N))
        for i in range(5):
            args = (expected,) if k is None else (jax.random.fold_in(k, i), expected)
            expected, _ = make(sigmas[min(i, 2)]).step(*args)
        np.testing.assert_allclose(state.position, expected.position, rtol=1e-10)
    with pytest.raises(ValueError, match="values: expected equal leading axes"):
        solvers.Continuation(plug(1.0), level, 0.3)


def test_coarse_to_fine_reaches_the_better_mode():
    """Between a near weak mode and a far strong one, a falling level finds the strong one; a fixed one does not."""
    mixture = priors.GaussianMixture([0.15, 0.85], np.array([[-1.0], [1.2]]), 0.02)
    x = jnp.array([-0.8])

    def run(sigmas):
        red = priors.RED(mixture.denoiser, sigmas[0])
        method = solvers.Continuation(solvers.PnPSGD(Flat(), red, 0.01, 0.0, 0.0), level, sigmas)
        return iterate(method, x, 3000, key=jax.random.key(0))[0].position

    fixed, coarse = run(jnp.full(3000, 0.2)), run(jnp.geomspace(2.0, 0.2, 3000))
    assert mixture.log_prob(coarse, 0.2) > mixture.log_prob(fixed, 0.2) + 1
    assert fixed < 0 < coarse


def element(method):
    return method.prior.denoiser.element


def asymmetric(x, sigma):
    return x - sigma * (x - jnp.roll(x, 1, 0)) / 4


def test_random_turns_of_the_denoiser():
    """A step with the drawn element by hand; and the mean over draws is the step of the symmetrised denoiser."""
    shape, turns = (4, 4, 1), transforms.QuarterTurns()
    y = jax.random.normal(jax.random.key(0), shape)
    f = likelihoods.InverseProblem(operators.Identity(shape), likelihoods.Gaussian(0.5)).likelihood(y)

    def method(denoiser):
        return solvers.HQS(f, priors.PlugAndPlay(denoiser), 0.1)

    random = solvers.Randomised(
        method(priors.Transformed(asymmetric, turns, jnp.zeros((), jnp.int32))), element, turns.sample
    )
    state = random.init(jnp.zeros(shape))
    keys = jax.random.split(jax.random.key(2), 40)
    drawn = jax.vmap(turns.sample)(keys)
    assert set(np.asarray(drawn)) == {0, 1, 2, 3}
    steps = jax.jit(jax.vmap(lambda k: random.step(k, state)[0].other))(keys)
    for g in range(4):
        by_hand = method(priors.Transformed(asymmetric, turns, jnp.asarray(g))).step(state)[0].other
        np.testing.assert_allclose(steps[np.flatnonzero(drawn == g)[0]], by_hand, rtol=1e-10)
    means = [steps[np.flatnonzero(drawn == g)[0]] for g in range(4)]
    expected = method(transforms.Symmetrised(turns, asymmetric)).step(state)[0].other
    np.testing.assert_allclose(sum(means) / 4, expected, rtol=1e-10)
