"""Blind deconvolution: the bilinear model, blind Richardson-Lucy and PALM."""

import jax.numpy as jnp
import numpy as np
import pytest

from invjax import iterate, likelihoods, priors, solve, solvers
from invjax import operators as ops
from invjax.reducers import Every
from invjax.types import Fn

R = np.random.default_rng(41)
IMAGE = (6, 7, 2)
X, H = R.uniform(0.2, 1, IMAGE), R.uniform(size=(3, 2))


@pytest.mark.parametrize("boundary", ["circular", "valid", "zero"])
@pytest.mark.parametrize("channels", [(), (1,), (2,)])
def test_model_is_the_blur_from_both_sides(boundary, channels):
    h = jnp.asarray(R.uniform(size=(3, 2, *channels)))
    model = ops.BlindBlur(IMAGE, h.shape, boundary)
    expected = ops.Blur(h, IMAGE, boundary)(X)
    assert model.out_structure == ops.Blur(h, IMAGE, boundary).out_structure
    np.testing.assert_allclose(model((X, h)), expected, rtol=1e-13)
    np.testing.assert_allclose(model.of_image(h)(X), expected, rtol=1e-13)
    np.testing.assert_allclose(model.of_kernel(X)(h), expected, rtol=1e-13)
    bounds = np.array(model.norms(jnp.asarray(X), h))
    norms = np.array([np.linalg.norm(A.dense(), 2) for A in (model.of_image(h), model.of_kernel(X))])
    assert np.all(norms <= bounds * (1 + 1e-12))
    assert np.all(norms >= 0.4 * bounds)
    assert boundary != "circular" or norms[0] == pytest.approx(bounds[0])


def poisson(background, boundary="circular"):
    model = ops.BlindBlur(IMAGE, H.shape, boundary)
    clean = 20 * model((X, H / H.sum()))
    y = R.poisson(clean + background).astype(float)
    return likelihoods.Likelihood(model, likelihoods.Poisson(1.0, background), y)


FLAT = jnp.full(H.shape, 1 / 6)


@pytest.mark.parametrize("boundary", ["circular", "zero"])
def test_blind_richardson_lucy_descends_and_keeps_its_invariants(boundary):
    f = poisson(0.5, boundary)
    values = Every(1, of=Fn(lambda state, info, f: (f(state.position), *state.position), f))
    start = (jnp.full(IMAGE, 3.0), 5 * FLAT)
    _, (kl, x, h), status = iterate(solvers.BlindRichardsonLucy(f, 2), start, 60, trace=values)
    assert status == 0
    assert f(start) > kl[0]
    assert np.all(np.diff(kl) <= 1e-12 * np.abs(kl[:-1]))
    assert jnp.min(x) >= 0
    assert jnp.min(h) >= 0
    np.testing.assert_allclose(jnp.sum(h, (1, 2)), 1, rtol=1e-12)


def test_blind_richardson_lucy_equals_alternating_mlem():
    f = poisson(0.0)
    x, h = jnp.asarray(X), FLAT
    end, _, _ = iterate(solvers.BlindRichardsonLucy(f, 3), (x, h), 1)
    np.testing.assert_allclose(jnp.sum(f.operator(end.position)), jnp.sum(f.y), rtol=1e-12)  # the count
    em = solvers.MLEM(likelihoods.Likelihood(f.operator.of_kernel(x), f.noise, f.y))
    h, _, _ = iterate(em, h, 3)
    total = jnp.sum(h.position)
    em = solvers.MLEM(likelihoods.Likelihood(f.operator.of_image(h.position / total), f.noise, f.y))
    x, _, _ = iterate(em, x * total, 3)
    np.testing.assert_allclose(end.position[1], h.position / total, rtol=1e-11)
    np.testing.assert_allclose(end.position[0], x.position, rtol=1e-11)


def test_blind_richardson_lucy_scales_every_channel():
    model = ops.BlindBlur(IMAGE, (3, 2, 2))
    h = jnp.asarray(R.uniform(size=(3, 2, 2)))
    f = likelihoods.Likelihood(model, likelihoods.Poisson(), model((jnp.asarray(X), h)))
    state = solvers.BlindRichardsonLucy(f).init((jnp.asarray(X), h))
    np.testing.assert_allclose(jnp.sum(state.position[1], (0, 1)), 1, rtol=1e-13)
    np.testing.assert_allclose(model(state.position), f.y, rtol=1e-12)


def gaussian():
    model = ops.BlindBlur(IMAGE, H.shape)
    y = model((X, H / H.sum())) + 0.02 * R.normal(size=IMAGE)
    return likelihoods.Likelihood(model, likelihoods.Gaussian(0.1), y)


def objective(state, info, f, g):
    return f(state.position) + g(state.position[0])


@pytest.mark.parametrize("gamma", [1.0, 1.5])
def test_palm_descends(gamma):
    f, g = gaussian(), priors.Tikhonov(0.5)
    trace = Every(1, of=Fn(objective, f, g))
    method = solvers.PALM(f, g, priors.Simplex(), gamma)
    _, values, status = iterate(method, (f.y, FLAT), 1000, trace=trace)
    assert status == 0
    assert np.all(np.diff(values) <= 1e-12 * np.abs(values[:-1]))
    assert values[-1] < 0.7 * values[0]


def test_palm_ends_at_a_critical_point():
    f, g = gaussian(), priors.Tikhonov(0.5)
    method = solvers.Anderson(solvers.PALM(f, g, priors.Simplex()), 8)
    solution = solve(method, (f.y, FLAT), rtol=1e-9, max_steps=5000)
    assert solution.status == 0
    x, h = solution.position
    gx, gh = f.grad((x, h))
    np.testing.assert_allclose(gx + g.grad(x), 0, atol=1e-5)
    # On the simplex: equal derivatives where the kernel is positive, none smaller elsewhere.
    level = jnp.max(jnp.where(h > 1e-6, gh, -jnp.inf))
    assert jnp.max(jnp.where(h > 1e-6, level - gh, 0)) < 1e-3
    assert jnp.all(gh >= level - 1e-3)
    assert jnp.min(h) >= 0


def test_inertial_steps_equal_their_definition():
    f, g, alpha = gaussian(), priors.Tikhonov(0.5), 0.3
    model, y, weight = f.operator, np.ravel(f.y), 100.0
    end, _, _ = iterate(solvers.PALM(f, g, priors.Zero(), 1.2, alpha), (f.y, FLAT), 3)
    x, h = np.asarray(f.y), np.asarray(FLAT)
    x_old, h_old = x, h
    for _ in range(3):
        A, z = np.asarray(model.of_image(h).dense()), np.ravel(x + alpha * (x - x_old))
        c = 1.2 * weight * np.linalg.norm(A, 2) ** 2 * (1 + 2 * alpha) / (1 - 2 * alpha)
        x_new = (z - weight * A.T @ (A @ z - y) / c) / (1 + 0.5 / c)
        x, x_old = x_new.reshape(IMAGE), x
        B, z = np.asarray(model.of_kernel(x).dense()), np.ravel(h + alpha * (h - h_old))
        bound = model.norms(jnp.asarray(x), jnp.asarray(h))[
            1
        ]  # not the norm itself, which a small support makes smaller
        c = 1.2 * weight * bound**2 * (1 + 2 * alpha) / (1 - 2 * alpha)
        h, h_old = (z - weight * B.T @ (B @ z - y) / c).reshape(H.shape), h
    np.testing.assert_allclose(end.position[0], x, atol=1e-11)
    np.testing.assert_allclose(end.position[1], h, atol=1e-11)


def test_refused():
    f = poisson(0.0)
    with pytest.raises(ValueError, match="boundary: expected circular, valid or zero, got 'reflect'"):
        ops.BlindBlur(IMAGE, (3, 3), "reflect")
    with pytest.raises(ValueError, match="kernel: expected at most the image size"):
        ops.BlindBlur(IMAGE, (9, 3))
    with pytest.raises(ValueError, match="h: expected shape"):
        f.operator.of_image(X)
    with pytest.raises(ValueError, match="likelihood: expected Poisson noise, got Gaussian"):
        solvers.BlindRichardsonLucy(gaussian())
    blur = likelihoods.Likelihood(ops.Blur(H, IMAGE), f.noise, f.y)
    with pytest.raises(ValueError, match="likelihood: expected BlindBlur, got Blur"):
        solvers.BlindRichardsonLucy(blur)
    with pytest.raises(ValueError, match="kernel: expected non-negative"):
        solvers.BlindRichardsonLucy(f).init((jnp.asarray(X), -FLAT))
    with pytest.raises(ValueError, match=r"1 / noise.lipschitz: expected positive"):
        solvers.PALM(f, priors.Zero(), priors.Zero())
    with pytest.raises(ValueError, match=r"inertia: expected below 0.5"):
        solvers.PALM(gaussian(), priors.Zero(), priors.Zero(), inertia=0.5)
