"""The posterior-L2 pseudometric and its bounds, against closed forms of Gaussian chains and on the paper's cross mixture."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import invjax
from invjax import likelihoods, operators, priors, samplers
from invjax.reducers import Every

STEP, CHAINS = 0.05, 4000


class Linear(eqx.Module):
    """The drift v - M x, as a target."""

    M: Any
    v: Any

    def score(self, x):
        return self.v - self.M @ x


def law(drift, step=STEP):
    """Mean and covariance of the law of the chain."""
    M = np.asarray(drift.M)
    return np.linalg.solve(M, drift.v), np.linalg.inv(M - step * M @ M / 2)


def bures(p, q):
    root = scipy.linalg.sqrtm(p[1])
    cross = scipy.linalg.sqrtm(root @ q[1] @ root).real
    return np.sqrt(np.sum((p[0] - q[0]) ** 2) + np.trace(p[1] + q[1] - 2 * cross))


def exact_distance(first, second, step=STEP):
    (m, C), gap = law(first, step), np.asarray(first.M - second.M)
    shift = gap @ m - np.asarray(first.v - second.v)
    return np.sqrt(shift @ shift + np.trace(gap @ C @ gap.T))


def pairs():
    """A reference and drifts that differ in v, in M, in both, a little and much."""
    r = np.random.default_rng(0)
    root = r.normal(size=(3, 3))
    M, v = root @ root.T + np.eye(3), r.normal(size=3)
    other = r.normal(size=(3, 3)) / 5
    changes = [(0.0, 0.5), (0.1, 0.0), (1.0, 0.3), (0.01, 0.01), (2.0, 2.0)]
    return Linear(M, v), [Linear(M + a * other @ other.T, v + b * r.normal(size=3)) for a, b in changes]


def draws(drift, count=CHAINS):
    mean, C = law(drift)
    return jnp.asarray(np.random.default_rng(1).multivariate_normal(mean, C, count))


@pytest.mark.parametrize("i", range(5))
def test_distance_of_gaussian_chains(i):
    """The mean of |gap|^2, a quadratic form of Gaussians: its standard error is from the sample itself."""
    first, seconds = pairs()
    x = draws(first)
    gap2 = np.sum(np.square(jax.vmap(lambda x: first.score(x) - seconds[i].score(x))(x)), 1)
    measured = samplers.posterior_l2(x, first.score, seconds[i].score)
    error = gap2.std() / np.sqrt(CHAINS) / (2 * measured)
    assert abs(measured - exact_distance(first, seconds[i])) <= 4 * error + 1e-12


@pytest.mark.parametrize("i", range(5))
def test_transport_bound_holds_for_every_pair(i):
    first, seconds = pairs()
    second = seconds[i]
    rho = np.abs(1 - STEP * np.linalg.eigvalsh(second.M)).max()
    bound = samplers.transport_bound(exact_distance(first, second), STEP, rho)
    moved = bures(law(first), law(second))
    assert moved <= bound * (1 + 1e-9)
    assert bound < 60 * moved  # and it says something


def test_a_shift_of_the_mean():
    """b_2 = b_1 + u: d_1 = |u|, the laws differ by the translation M^-1 u, and the bound holds with near equality in 1-D."""
    M, u = np.diag([2.0, 5.0]), np.array([0.3, 0.0])
    first, second = Linear(M, np.zeros(2)), Linear(M, u)
    d = samplers.posterior_l2(draws_2d(first), first.score, second.score)
    np.testing.assert_allclose(d, np.linalg.norm(u), rtol=1e-12)
    moved = bures(law(first), law(second))
    np.testing.assert_allclose(moved, np.linalg.norm(np.linalg.solve(M, u)), rtol=1e-6)
    bound = samplers.transport_bound(d, STEP, 1 - STEP * 2)
    np.testing.assert_allclose(bound, moved, rtol=1e-6)


def blurred_drift(width, y, prior, sigma=0.05):
    """The drift of the posterior of an 8 x 8 image under a Gaussian blur, and the matrix of that blur."""
    blur = operators.Blur(operators.gaussian_kernel(width, 7), (8, 8, 1))
    A = np.asarray(jax.vmap(lambda e: blur(e.reshape(8, 8, 1)).ravel())(jnp.eye(64))).T
    return Linear(A.T @ A / sigma**2 + prior.M, A.T @ y / sigma**2 + prior.v), A


def test_distance_of_operators_is_no_monotone_scale():
    """Closed forms, no chain: a blur is taken for wider ones. Near the true width the distance and the error grow together.

    Beyond that the drift of a wide blur vanishes in more and more directions: its distance from the true drift falls while the
    law moves on. So over widths of 0.5 to 3 no rank correlation near 1 can be expected; the transport bound holds.
    """
    i = np.arange(8)
    smooth = np.exp(-((i[:, None] - i) ** 2) / (2 * 1.5**2))
    covariance = 0.1 * np.kron(smooth, smooth) + 1e-3 * np.eye(64)
    prior = Linear(np.linalg.inv(covariance), np.zeros(64))
    x = np.linalg.cholesky(covariance) @ np.random.default_rng(1).normal(size=64)
    step = 1e-4  # below 0.3 over the Lipschitz constant of the drift
    _, A = blurred_drift(0.5, x, prior)
    y = A @ x + 0.05 * np.random.default_rng(0).normal(size=64)
    true, _ = blurred_drift(0.5, y, prior)
    distances, moved = [], []
    for width in (0.75, 1.0, 1.25, 2.0, 3.0):
        wrong, _ = blurred_drift(width, y, prior)
        distances.append(exact_distance(true, wrong, step))
        moved.append(bures(law(true, step), law(wrong, step)))
        rho = np.abs(1 - step * np.linalg.eigvalsh(wrong.M)).max()
        assert moved[-1] <= samplers.transport_bound(distances[-1], step, rho)
    assert np.all(np.diff(moved) > 0)
    assert np.all(np.diff(distances[:3]) > 0)
    assert np.all(np.diff(distances[2:]) < 0)


def draws_2d(drift):
    mean, C = law(drift)
    return jnp.asarray(np.random.default_rng(2).multivariate_normal(mean, C, 100))


def test_total_variation_bound_in_one_dimension():
    """Laws of one chain after n steps from the other's law, by quadrature."""
    first, second = Linear(np.array([[2.0]]), np.zeros(1)), Linear(np.array([[2.5]]), np.array([0.4]))
    (m, C), d = law(first), exact_distance(first, second)
    grid = np.linspace(-6, 6, 20001)

    def density(mean, variance):
        return np.exp(-((grid - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)

    mean, variance = m[0], C[0, 0]
    for n in range(1, 40):
        rate = 1 - STEP * second.M[0, 0]
        mean, variance = rate * mean + STEP * second.v[0], rate**2 * variance + 2 * STEP
        distance = np.trapezoid(np.abs(density(m[0], C[0, 0]) - density(mean, variance)), grid) / 2
        assert distance <= samplers.total_variation_bound(d, STEP, n)
        if n == 1:  # of the right order, not vacuous
            assert samplers.total_variation_bound(d, STEP, n) < 12 * distance


def test_pseudometric_axioms_and_denoisers():
    first, seconds = pairs()
    x = draws(first, 200)

    def distance(a, b):
        return samplers.posterior_l2(x, a.score, b.score)

    assert distance(first, first) == 0
    assert distance(first, seconds[4]) <= distance(first, seconds[2]) + distance(seconds[2], seconds[4]) + 1e-12
    sigma, alpha = 0.3, 0.7
    gaussians = [priors.Gaussian(np.zeros(3), C).denoiser for C in (1.0, 2.0)]
    drifts = [priors.RED(D, sigma, alpha) for D in gaussians]
    of_denoisers = samplers.posterior_l2(x, *(functools.partial(lambda D, x: D(x, sigma), D) for D in gaussians))
    np.testing.assert_allclose(distance(*drifts), alpha / sigma**2 * of_denoisers, rtol=1e-12)
    assert samplers.posterior_l2(x, first.score, seconds[0].score, batch_size=7) == pytest.approx(
        float(distance(first, seconds[0])), rel=1e-12
    )
    with pytest.raises(ValueError, match="draws"):
        samplers.posterior_l2(x[:0], first.score, first.score)


def test_operator_mismatch_bound_and_the_reducer(key):
    r = np.random.default_rng(3)
    A1, y = r.normal(size=(4, 3)), r.normal(size=4)
    A2 = A1 + 0.1 * r.normal(size=(4, 3))
    sigma = 0.7
    f1, f2 = (
        likelihoods.InverseProblem(operators.Matrix(A), likelihoods.Gaussian(sigma)).likelihood(y) for A in (A1, A2)
    )
    prior = priors.Tikhonov(1.0)
    chain = samplers.ULA(f1, prior, 0.02)
    collect = {"gap": samplers.gap_moments(f1.score, f2.score), "draws": Every(1)}
    out = invjax.sample(key, chain, jnp.zeros(3), 500, collect=collect).collected
    x = out["draws"]
    d = samplers.posterior_l2(x, f1.score, f2.score)
    np.testing.assert_allclose(out["gap"].mean, d**2, rtol=1e-10)
    rms = [np.sqrt(np.mean(np.sum(np.square(v), 1))) for v in (y - x @ A1.T, x)]
    bound = samplers.operator_mismatch_bound(sigma, np.linalg.norm(A1 - A2, 2), rms[0], np.linalg.norm(A2, 2), rms[1])
    assert d <= bound < 20 * d


class Cut(eqx.Module):
    """The paper's mismatched denoiser: D(x) where x_1 > cut, zero elsewhere."""

    denoiser: Any
    cut: Any

    def __call__(self, x, sigma):
        return jnp.where(x[0] > self.cut, self.denoiser(x, sigma), 0)


def test_the_posterior_distance_predicts_the_error_better_than_the_prior_distance():
    """The cross mixture of the paper: correlation of the sliced W1 error with d_1 >= 0.9, and 0.03 above that of the prior's."""
    eps, alpha, step = 0.05, 0.3, 0.05
    cross = priors.GaussianMixture([0.5, 0.5], np.zeros((2, 2)), [[[2, 0.5], [0.5, 0.15]], [[0.15, 0.5], [0.5, 2]]])
    f = likelihoods.InverseProblem(operators.Identity((2,)), likelihoods.Gaussian(1.0)).likelihood(
        jnp.array([0.0, 8.0])
    )
    cuts = jnp.linspace(-5, 5, 21)
    box = (-jnp.inf, jnp.inf)

    def chain(denoiser, key):
        prior = priors.RED(denoiser, np.sqrt(eps), alpha)
        sampler = samplers.PnPULA(f, prior, 1.0, step, box=box, allow_unstable=True)
        return invjax.sample(key, sampler, jnp.zeros(2), 50, burn_in=1500, thinning=20).collected

    run = jax.jit(jax.vmap(lambda cut, keys: jax.vmap(lambda k: chain(Cut(cross.denoiser, cut), k))(keys)))
    keys = jax.random.split(jax.random.key(5), (23, 64))
    reference, again = run(jnp.full(2, -jnp.inf), keys[21:]).reshape(2, -1, 2)
    wrong = run(cuts, keys[:21]).reshape(21, -1, 2)
    angles = np.linspace(0, np.pi, 32, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)])

    def sliced(x, y):
        return np.mean(np.abs(np.sort(x @ directions, 0) - np.sort(y @ directions, 0)))

    moved, floor = np.array([sliced(reference, x) for x in wrong]), sliced(reference, again)
    sigma = np.sqrt(eps)
    from_prior = jax.vmap(cross.sample)(jax.random.split(jax.random.key(6), 3200))

    def distance(x, cut):
        wrong = Cut(cross.denoiser, cut)
        return samplers.posterior_l2(x, lambda x: cross.denoiser(x, sigma), lambda x: wrong(x, sigma))

    posterior, prior = (
        np.asarray(jax.jit(jax.vmap(lambda c, x=x: distance(x, c)))(cuts)) for x in (reference, from_prior)
    )
    r_posterior, r_prior = (np.corrcoef(d, moved)[0, 1] for d in (posterior, prior))
    assert r_posterior >= 0.9
    assert r_posterior - r_prior >= 0.03
    assert np.all(moved[posterior < 0.1] < 3 * floor)
    assert np.sum(posterior < 0.1) >= 5
