"""Analytic priors against SciPy, quadrature, brute-force averages and sample moments; precision, compile count, refusals."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from invjax.paths import VE, VP, Linear
from invjax.priors import Empirical, Gaussian, GaussianMixture

from .analytic import (
    COVARIANCES,
    FULL,
    FULL_4,
    IMAGE,
    MEAN_4,
    MEANS,
    POINTS,
    PRIORS,
    WEIGHTS,
    X,
    condition,
    everything,
    grid,
    linear_likelihood,
    many_log_probs,
    many_samples,
    potential_gradient,
    responsibilities,
)

R = np.random.default_rng(2)


@eqx.filter_jit
def at_a_point(prior, x, step):
    """Value, potential, prox, derivative of the prox in a step of zero, score."""
    onset = jax.jvp(lambda s: prior.prox(x, s), (0.0,), (1.0,))[1]
    return prior(x), prior.potential(x), prior.prox(x, step), onset, prior.score(x)


@pytest.mark.parametrize("covariance", [0.7, R.uniform(0.1, 2, IMAGE), FULL_4], ids=["scalar", "diagonal", "full"])
def test_gaussian_against_scipy(covariance):
    prior = Gaussian(MEAN_4, covariance)
    dense = covariance if np.shape(covariance) == (4, 4) else np.diag(np.broadcast_to(covariance, IMAGE).ravel())
    np.testing.assert_allclose(prior.covariance.dense(IMAGE), dense, rtol=1e-13, atol=1e-14)
    x = R.normal(size=IMAGE)
    for sigma in (0.0, 0.6):
        total = dense + sigma**2 * np.eye(4)
        white = np.linalg.solve(total, (x - MEAN_4).ravel())
        denoiser, score, potential, log_prob = everything(prior, x, sigma)
        np.testing.assert_allclose(log_prob, multivariate_normal(MEAN_4.ravel(), total).logpdf(x.ravel()), rtol=1e-12)
        np.testing.assert_allclose(score.ravel(), -white, rtol=1e-11)
        np.testing.assert_allclose(potential, (x - MEAN_4).ravel() @ white / 2, rtol=1e-12)
        np.testing.assert_allclose(denoiser.ravel(), MEAN_4.ravel() + dense @ white, rtol=1e-11)
    value, potential, z, onset, score = at_a_point(prior, x, 0.3)
    assert value == potential
    # Optimality: step_size C^-1 (z - mean) + z - x = 0.
    gap = 0.3 * np.linalg.solve(dense, (z - MEAN_4).ravel()) + (z - x).ravel()
    np.testing.assert_allclose(gap, 0, atol=1e-13)
    # The prox leaves x along minus the gradient of the potential.
    np.testing.assert_allclose(onset, score, rtol=1e-11)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_mixture_density_against_scipy(kind):
    prior = PRIORS[kind]()
    for sigma in (0.0, 0.8):
        parts = [
            multivariate_normal(m, c + sigma**2 * np.eye(2)) for m, c in zip(MEANS, COVARIANCES[kind], strict=True)
        ]
        density = WEIGHTS @ np.array([p.pdf(X) for p in parts])
        np.testing.assert_allclose(everything(prior, X, sigma)[3], np.log(density), rtol=1e-12)
        posterior = WEIGHTS * np.array([p.pdf(X) for p in parts]) / density
        np.testing.assert_allclose(responsibilities(prior, X, sigma), posterior, rtol=1e-11)


def test_smoothed_mixture_by_quadrature_in_one_dimension():
    prior = GaussianMixture([0.3, 0.7], [-1.0, 1.5], [0.2, 0.5])
    z = np.linspace(-14, 14, 20001)
    clean = np.exp(many_log_probs(prior, z))
    for sigma in (0.3, 2.0):
        x, y = 0.4, -0.7
        joint = clean * np.exp(-((x - z) ** 2) / (2 * sigma**2)) / np.sqrt(2 * np.pi * sigma**2) * (z[1] - z[0])
        other = clean * np.exp(-((y - z) ** 2) / (2 * sigma**2)) / np.sqrt(2 * np.pi * sigma**2) * (z[1] - z[0])
        denoiser, score, potential, log_prob = everything(prior, x, sigma)
        np.testing.assert_allclose(log_prob, np.log(joint.sum()), atol=1e-10)
        np.testing.assert_allclose(denoiser, (z @ joint) / joint.sum(), atol=1e-10)
        np.testing.assert_allclose(score, ((z - x) @ joint) / joint.sum() / sigma**2, atol=1e-9)
        difference = potential - everything(prior, y, sigma)[2]
        np.testing.assert_allclose(difference, np.log(other.sum() / joint.sum()), atol=1e-10)


@pytest.mark.parametrize("kind", ["mixture_full", "mixture_shared"])
def test_smoothed_mixture_by_quadrature_in_two_dimensions(kind):
    prior, sigma = PRIORS[kind](), 0.7
    z, cell = grid(-9, 9, 301)
    parts = zip(WEIGHTS, MEANS, COVARIANCES[kind], strict=True)
    clean = sum(w * multivariate_normal(m, c).pdf(z) for w, m, c in parts)
    joint = clean * multivariate_normal(X, sigma**2 * np.eye(2)).pdf(z) * cell
    denoiser, score, _, log_prob = everything(prior, X, sigma)
    np.testing.assert_allclose(log_prob, np.log(joint.sum()), atol=1e-9)
    np.testing.assert_allclose(denoiser, joint @ z / joint.sum(), atol=1e-9)
    np.testing.assert_allclose(score, joint @ (z - X) / joint.sum() / sigma**2, atol=1e-8)


@pytest.mark.parametrize("name", PRIORS)
def test_views_agree(name):
    prior = PRIORS[name]()
    for sigma in (0.5, 3.0):
        denoiser, score, potential, log_prob = everything(prior, X, sigma)
        np.testing.assert_allclose(denoiser, X + sigma**2 * score, rtol=1e-12, atol=1e-13)  # Tweedie
        gradient = potential_gradient(jnp.asarray(X), prior, jnp.asarray(sigma))
        np.testing.assert_allclose(score, -gradient, rtol=1e-11, atol=1e-12)
        _, _, elsewhere, log_there = everything(prior, X + 1, sigma)
        np.testing.assert_allclose(potential - elsewhere, log_there - log_prob, rtol=1e-11)  # a constant apart


def test_one_component_is_the_gaussian():
    x = R.normal(size=IMAGE)
    one, many = Gaussian(MEAN_4, FULL_4), GaussianMixture([2.0], MEAN_4[None], FULL_4[None])
    for a, b in zip(everything(one, x, 0.4), everything(many, x, 0.4), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    # Two covariance kinds that say the same thing.
    variances = R.uniform(0.1, 2, (2, *IMAGE))
    means = R.normal(size=(2, *IMAGE))
    a = GaussianMixture([0.4, 0.6], means, variances)
    b = GaussianMixture([0.4, 0.6], means, np.stack([np.diag(v.ravel()) for v in variances]))
    for u, v in zip(everything(a, x, 0.4), everything(b, x, 0.4), strict=True):
        np.testing.assert_allclose(u, v, rtol=1e-12)


@pytest.mark.parametrize("name", ["gaussian_full", "mixture_full", "empirical"])
@pytest.mark.parametrize("path", [Linear(), VE(0.1, 10.0), VP()], ids=["linear", "ve", "vp"])
def test_velocity_solves_the_continuity_equation(name, path):
    # d log p_t / dt = -div v - v . score, with p_t evaluated from log_prob of x / alpha at level sigma / alpha.
    prior, t = PRIORS[name](), 0.6

    def log_density(t, x):
        alpha = path.alpha(t)
        return prior.log_prob(x / alpha, path.sigma(t) / alpha) - x.size * jnp.log(alpha)

    @jax.jit
    def terms(t, x):
        velocity = prior.velocity(path)
        return *jax.grad(log_density, argnums=(0, 1))(t, x), velocity(t, x), jax.jacfwd(velocity, argnums=1)(t, x)

    rate, score, v, jacobian = terms(t, jnp.asarray(X))
    divergence = jnp.trace(jacobian)
    np.testing.assert_allclose(rate, -divergence - v @ score, rtol=1e-9)


@pytest.mark.parametrize("name", ["gaussian_full", "mixture_full"])
def test_velocity_at_the_ends(name):
    prior = PRIORS[name]()
    mean = MEANS[0] if name == "gaussian_full" else WEIGHTS @ MEANS
    steep = VE(0.1, 10.0)

    @eqx.filter_jit
    def ends(prior, x):
        paths = {"linear": Linear(), "vp": VP(), "ve": VE(), "steep": steep}
        times = jnp.array([0.0, 1e-9, 1.0])
        speeds = {k: jax.vmap(lambda t, v=prior.velocity(path): v(t, x))(times) for k, path in paths.items()}
        return speeds, prior.score(x), prior.score(x, 0.1)

    speeds, score, noisy = ends(prior, X)
    np.testing.assert_allclose(speeds["linear"][0], mean - X, rtol=1e-12)
    np.testing.assert_allclose(speeds["linear"][2], X, rtol=1e-12)
    # VP at the data: beta_min / 2 (x + score); VE: -sigma sigma' score.
    np.testing.assert_allclose(speeds["vp"][2], 0.05 * (X + score), rtol=1e-11)
    np.testing.assert_allclose(speeds["steep"][2], 0.01 * np.log(100) * noisy, rtol=1e-11)
    for exact, close, _ in speeds.values():
        np.testing.assert_allclose(exact, close, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["empirical", "empirical_blocked"])
def test_empirical_is_the_softmax_average(name):
    prior, weights = PRIORS[name](), np.arange(1.0, 8.0) / 28
    for sigma in (0.05, 1.0):
        log = np.log(weights) - np.sum((X - POINTS) ** 2, 1) / (2 * sigma**2)
        soft = np.exp(log - log.max())
        denoiser, _, potential, log_prob = everything(prior, X, sigma)
        np.testing.assert_allclose(denoiser, soft @ POINTS / soft.sum(), rtol=1e-12)
        log_sum = log.max() + np.log(soft.sum())
        np.testing.assert_allclose(potential, -log_sum, rtol=1e-12)
        np.testing.assert_allclose(log_prob, log_sum - np.log(2 * np.pi * sigma**2), rtol=1e-12)


def test_blocks_do_not_change_the_empirical_prior():
    points, weights = R.normal(size=(10, *IMAGE)), R.uniform(size=10)
    weights[:4] = 0  # the first block has no mass: the running maximum starts at -inf
    x = R.normal(size=IMAGE)
    reference = Empirical(points, weights)
    for size in (4, 10, 64):
        blocked = Empirical(points, weights, block_size=size)
        for a, b in zip(everything(reference, x, 0.3), everything(blocked, x, 0.3), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13)

    @jax.jit
    def gradients(points):
        return [jax.grad(lambda p, n=n: Empirical(p, weights, block_size=n).potential(x, 0.3))(points) for n in (4, 64)]

    blocked, whole = (np.asarray(g) for g in gradients(points))
    np.testing.assert_allclose(blocked, whole, rtol=1e-12)
    # A function of x + c and points + c is invariant, so the gradients cancel.
    np.testing.assert_allclose(blocked.sum(0), everything(reference, x, 0.3)[1], rtol=1e-12)


def test_singular_covariances():
    direction = np.array([0.6, 0.8])
    prior = Gaussian(np.zeros(2), 4 * np.outer(direction, direction))
    np.testing.assert_allclose(prior.denoiser(X, 1.0), 0.8 * direction * (direction @ X), rtol=1e-14)
    np.testing.assert_allclose(prior.denoiser(X, 0.0), direction * (direction @ X), rtol=1e-14)
    np.testing.assert_allclose(prior.prox(X, 1.0), 0.8 * direction * (direction @ X), rtol=1e-14)
    total = multivariate_normal(np.zeros(2), 4 * np.outer(direction, direction) + np.eye(2))
    np.testing.assert_allclose(prior.log_prob(X, 1.0), total.logpdf(X), rtol=1e-13)
    draw = prior.sample(jax.random.key(3))
    np.testing.assert_allclose(draw, direction * (direction @ draw), atol=1e-14)
    posterior = condition(prior, linear_likelihood(np.array([[1.0, 0.0]]), 0.5, np.array([1.0])))
    gain = 4 * 0.6 / (4 * 0.36 + 0.25)
    np.testing.assert_allclose(posterior.mean, gain * direction, rtol=1e-12)
    for view in (prior.score, prior.log_prob, prior):
        with pytest.raises(ValueError, match="covariance is singular"):
            view(X)


@pytest.mark.parametrize(
    "name", ["gaussian_diagonal", "gaussian_full", "mixture_diagonal", "mixture_full", "empirical"]
)
def test_sample_moments(name, key):
    prior, num = PRIORS[name](), 20000
    draws = np.asarray(many_samples(prior, jax.random.split(key, num)))
    if name.startswith("gaussian"):
        mean, second = MEANS[0], np.asarray(prior.covariance.dense((2,))) + np.outer(MEANS[0], MEANS[0])
    elif name.startswith("mixture"):
        mean = WEIGHTS @ MEANS
        second = sum(w * (c + np.outer(m, m)) for w, m, c in zip(WEIGHTS, MEANS, COVARIANCES[name], strict=True))
    else:
        weights = np.arange(1.0, 8.0) / 28
        mean, second = weights @ POINTS, (POINTS.T * weights) @ POINTS
    products = draws[:, :, None] * draws[:, None, :]
    for values, expected in ((draws, mean), (products, second)):
        error = values.std(0) / np.sqrt(num)
        assert (np.abs(values.mean(0) - expected) < 4 * error).all()


@pytest.mark.parametrize(
    "name", ["gaussian_scalar", "gaussian_full", "mixture_shared", "mixture_full", "empirical_blocked"]
)
def test_float32_is_kept_and_close(name, strict):
    double = PRIORS[name]()
    single = jax.tree.map(lambda a: a.astype(jnp.float32), double)
    likelihood = linear_likelihood(np.ones((1, 2)), 0.5, np.ones(1, np.float32))
    t = jnp.asarray(0.5, jnp.float64)
    x = jnp.asarray(X, jnp.float32)
    for sigma in (0.2, 2.0):
        exact = everything(double, x.astype(jnp.float64), sigma)
        # Float64 parameters and levels must not promote a float32 point.
        for got, want in zip(everything(double, x, jnp.asarray(sigma, jnp.float64)), exact, strict=True):
            assert got.dtype == jnp.float32
            np.testing.assert_allclose(got, want, rtol=3e-5, atol=3e-6)
    others = eqx.filter_jit(lambda p: (p.velocity(VP())(t, x), p.sample(jax.random.key(0)), p.posterior(likelihood)))
    assert {a.dtype for a in jax.tree.leaves(others(single))} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", ["gaussian_full", "mixture_full", "empirical_blocked"])
def test_one_program_for_all_levels_and_parameters(name):
    count = 0

    @eqx.filter_jit
    def scores(prior, sigmas):
        nonlocal count
        count += 1
        return jax.vmap(lambda s: prior.score(X, s))(sigmas)

    prior = PRIORS[name]()
    sigmas = jnp.linspace(0.2, 1, 5)
    first = scores(prior, sigmas)
    scores(jax.tree.map(lambda a: a * 1.5, prior), sigmas)
    assert count == 1
    np.testing.assert_allclose(first[3], prior.score(X, sigmas[3]), rtol=1e-12)
    # Over the fields of the Module: a batch of priors is one vmap.
    batch = jax.tree.map(lambda a: jnp.stack([a, 1.5 * a]), prior)
    got = eqx.filter_jit(jax.vmap(lambda p: p.denoiser(X, 0.5)))(batch)
    np.testing.assert_allclose(got[0], prior.denoiser(X, 0.5), rtol=1e-12)
    assert np.abs(got[1] - got[0]).max() > 1e-3


def test_eager_empirical_calls_compile_once():
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **kw: compiled.append(event) if event.endswith("jaxpr_to_mlir_module_duration") else None
    )
    Empirical(POINTS, block_size=2).at(jnp.asarray(X), 1.0, 0.5)
    assert compiled
    compiled.clear()
    Empirical(POINTS + 1, block_size=2).at(jnp.asarray(X), 1.0, 0.7)
    jax.monitoring.clear_event_listeners()
    assert not compiled


def test_wrong_arguments_are_refused():
    asymmetric = FULL[0] + np.array([[0, 0.1], [0, 0]])
    for covariance, message in [
        (asymmetric, "symmetric"),
        (-FULL[0], "positive semi-definite"),
        (np.full((2, 2), np.nan), "symmetric"),
        (-0.1, "non-negative"),
        (np.ones(3), "expected shape"),
    ]:
        with pytest.raises(ValueError, match=f"covariance: .*{message}"):
            Gaussian(MEANS[0], covariance)
    with pytest.raises(ValueError, match="mean: expected real"):
        Gaussian(MEANS[0] * 1j, 1.0)
    with pytest.raises(ValueError, match="weights: expected non-negative"):
        GaussianMixture([0.5, -0.1, 0.6], MEANS, 1.0)
    with pytest.raises(ValueError, match="sum of weights"):
        Empirical(POINTS, np.zeros(7))
    with pytest.raises(ValueError, match="weights: expected shape"):
        Empirical(POINTS, np.ones(6))
    with pytest.raises(ValueError, match="covariances: expected a scalar or one of"):
        GaussianMixture(WEIGHTS, MEANS, np.ones(3))
    with pytest.raises(ValueError, match="covariances: expected a symmetric"):
        GaussianMixture(WEIGHTS, MEANS, np.stack([FULL[0], asymmetric, FULL[0]]))
    with pytest.raises(ValueError, match="kind: expected one of"):
        GaussianMixture([0.5, 0.5], MEANS[:2], FULL[0])
    prior = PRIORS["gaussian_full"]()
    for call in (lambda: prior.score(X, -1.0), lambda: prior.score(X, np.ones(2))):
        with pytest.raises(ValueError, match="sigma: expected"):
            call()
    with pytest.raises(ValueError, match="x: expected shape"):
        prior.score(np.ones(3))
    with pytest.raises(ValueError, match="x: expected a real"):
        prior.score(X * 1j)
    with pytest.raises(ValueError, match="sigma: expected positive"):
        PRIORS["empirical"]().denoiser(X, 0.0)
    with pytest.raises(ValueError, match="block_size"):
        Empirical(POINTS, block_size=0)
    with pytest.raises(ValueError, match="at most 4096"):
        Gaussian(np.zeros(4097), 1.0).posterior(linear_likelihood(np.ones((1, 4097)), 1.0, np.ones(1)))
    with pytest.raises(ValueError, match=r"noise\.sigma: expected positive"):
        prior.posterior(linear_likelihood(np.ones((1, 2)), 0.0, np.ones(1)))


def test_ambiguous_covariances_follow_the_kind():
    diagonal = GaussianMixture([0.5, 0.5], MEANS[:2], FULL[0] ** 2, kind="diagonal")
    shared = GaussianMixture([0.5, 0.5], MEANS[:2], FULL[0], kind="shared")
    rows = [multivariate_normal(m, np.diag(v)).pdf(X) for m, v in zip(MEANS[:2], FULL[0] ** 2, strict=True)]
    np.testing.assert_allclose(everything(diagonal, X, 0.0)[3], np.log(np.mean(rows)), rtol=1e-12)
    rows = [multivariate_normal(m, FULL[0]).pdf(X) for m in MEANS[:2]]
    np.testing.assert_allclose(everything(shared, X, 0.0)[3], np.log(np.mean(rows)), rtol=1e-12)
