"""Blind deconvolution: the bilinear model, blind Richardson-Lucy and PALM."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import iterate, likelihoods, priors, solve, solvers
from invjax import operators as ops
from invjax.reducers import Every
from invjax.types import Fn

from ..registry import call
from .problems import compiled

R = np.random.default_rng(41)
IMAGE = (6, 7, 2)
X, H = R.uniform(0.2, 1, IMAGE), R.uniform(size=(3, 2))


@pytest.mark.parametrize("boundary", ["circular", "valid", "zero"])
@pytest.mark.parametrize("channels", [(), (1,), (2,)])
def test_model_is_the_blur_from_both_sides(boundary, channels):
    h = R.uniform(size=(3, 2, *channels))
    model = ops.BlindBlur(IMAGE, h.shape, boundary)

    @jax.jit
    def results(x, h):
        A, B, blur = model.of_image(h), model.of_kernel(x), ops.Blur(h, IMAGE, boundary)
        assert model.out_structure == blur.out_structure
        return blur(x), [model((x, h)), A(x), B(h)], model.norms(x, h), (A.dense(), B.dense())

    expected, others, bounds, matrices = jax.tree.map(np.asarray, results(X, h))
    for other in others:
        np.testing.assert_allclose(other, expected, rtol=1e-13)
    bounds, norms = np.array(bounds), np.array([np.linalg.norm(M, 2) for M in matrices])
    assert np.all(norms <= bounds * (1 + 1e-12))
    assert np.all(norms >= 0.4 * bounds)
    assert boundary != "circular" or norms[0] == pytest.approx(bounds[0])


def poisson(background, boundary="circular"):
    model = ops.BlindBlur(IMAGE, H.shape, boundary)
    clean = 20 * np.asarray(call(model, "__call__", (X, H / H.sum())))
    y = R.poisson(clean + background).astype(float)
    return compiled(lambda y: likelihoods.Likelihood(model, likelihoods.Poisson(1.0, background), y), y)


FLAT = np.full(H.shape, 1 / 6)


@pytest.mark.parametrize("boundary", ["circular", "zero"])
def test_blind_richardson_lucy_descends_and_keeps_its_invariants(boundary):
    f = poisson(0.5, boundary)
    values = Every(1, of=Fn(lambda state, info, f: (f(state.position), *state.position), f))
    start = (np.full(IMAGE, 3.0), 5 * FLAT)
    first = call(f, "__call__", start)
    method = compiled(solvers.BlindRichardsonLucy, f, 2)
    _, (kl, x, h), status = jax.tree.map(np.asarray, iterate(method, start, 60, trace=values))
    assert status == 0
    assert first > kl[0]
    assert np.all(np.diff(kl) <= 1e-12 * np.abs(kl[:-1]))
    assert np.min(x) >= 0
    assert np.min(h) >= 0
    np.testing.assert_allclose(np.sum(h, (1, 2)), 1, rtol=1e-12)


def test_blind_richardson_lucy_equals_alternating_mlem():
    f = poisson(0.0)

    @jax.jit
    def both(x, h):
        end, _, _ = iterate(solvers.BlindRichardsonLucy(f, 3), (x, h), 1)
        em = solvers.MLEM(likelihoods.Likelihood(f.operator.of_kernel(x), f.noise, f.y))
        h = iterate(em, h, 3)[0].position
        total = jnp.sum(h)
        em = solvers.MLEM(likelihoods.Likelihood(f.operator.of_image(h / total), f.noise, f.y))
        alternating = iterate(em, x * total, 3)[0].position, h / total
        return end.position, alternating, jnp.sum(f.operator(end.position))

    position, alternating, count = both(X, FLAT)
    np.testing.assert_allclose(count, np.sum(f.y), rtol=1e-12)
    for a, b in zip(position, alternating, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11)


def test_blind_richardson_lucy_scales_every_channel():
    model = ops.BlindBlur(IMAGE, (3, 2, 2))
    h = R.uniform(size=(3, 2, 2))

    @jax.jit
    def started(x, h):
        f = likelihoods.Likelihood(model, likelihoods.Poisson(), model((x, h)))
        position = solvers.BlindRichardsonLucy(f).init((x, h)).position
        return position, model(position), f.y

    position, predicted, y = started(X, h)
    np.testing.assert_allclose(np.sum(position[1], (0, 1)), 1, rtol=1e-13)
    np.testing.assert_allclose(predicted, y, rtol=1e-12)


def gaussian():
    model = ops.BlindBlur(IMAGE, H.shape)
    y = np.asarray(call(model, "__call__", (X, H / H.sum()))) + 0.02 * R.normal(size=IMAGE)
    return compiled(lambda y: likelihoods.Likelihood(model, likelihoods.Gaussian(0.1), y), y)


def objective(state, info, f, g):
    return f(state.position) + g(state.position[0])


@pytest.mark.parametrize("gamma", [1.0, 1.5])
def test_palm_descends(gamma):
    f, g = gaussian(), priors.Tikhonov(0.5)
    trace = Every(1, of=Fn(objective, f, g))
    method = compiled(solvers.PALM, f, g, priors.Simplex(), gamma)
    _, values, status = iterate(method, (f.y, FLAT), 1000, trace=trace)
    assert status == 0
    values = np.asarray(values)
    assert np.all(np.diff(values) <= 1e-12 * np.abs(values[:-1]))
    assert values[-1] < 0.7 * values[0]


def test_palm_ends_at_a_critical_point():
    f, g = gaussian(), priors.Tikhonov(0.5)

    @jax.jit
    def results(start):
        method = solvers.Anderson(solvers.PALM(f, g, priors.Simplex()), 8)
        end = solve(method, start, rtol=1e-9, max_steps=5000)
        (x, h), (gx, gh) = end.position, f.grad(end.position)
        return end.status, gx + g.grad(x), h, gh

    status, slope, h, gh = jax.tree.map(np.asarray, results((f.y, FLAT)))
    assert status == 0
    np.testing.assert_allclose(slope, 0, atol=1e-5)
    # On the simplex: equal derivatives where the kernel is positive, none smaller elsewhere.
    level = np.max(gh[h > 1e-6])
    assert np.max(level - gh[h > 1e-6]) < 1e-3
    assert np.all(gh >= level - 1e-3)
    assert np.min(h) >= 0


def test_inertial_steps_equal_their_definition():
    f, g, alpha = gaussian(), priors.Tikhonov(0.5), 0.3
    model, y, weight = f.operator, np.ravel(f.y), 100.0
    end, _, _ = iterate(compiled(solvers.PALM, f, g, priors.Zero(), 1.2, alpha), (f.y, FLAT), 3)
    x, h = np.asarray(f.y), np.asarray(FLAT)
    x_old, h_old = x, h
    image_matrix = jax.jit(lambda h: model.of_image(h).dense())
    kernel_matrix = jax.jit(lambda x: model.of_kernel(x).dense())
    for _ in range(3):
        A, z = np.asarray(image_matrix(h)), np.ravel(x + alpha * (x - x_old))
        c = 1.2 * weight * np.linalg.norm(A, 2) ** 2 * (1 + 2 * alpha) / (1 - 2 * alpha)
        x_new = (z - weight * A.T @ (A @ z - y) / c) / (1 + 0.5 / c)
        x, x_old = x_new.reshape(IMAGE), x
        B, z = np.asarray(kernel_matrix(x)), np.ravel(h + alpha * (h - h_old))
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
