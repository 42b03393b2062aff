"""Plug-and-play half-quadratic splitting for ptychography and rPIE, against brute force, dense algebra and each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import data, iterate, likelihoods, metrics, operators, solvers

SHAPE, WINDOW = (12, 12, 1), (6, 6)


@functools.cache
def scene(counts=None):
    """A random smooth object, a complex probe, overlapping positions; intensities without noise, or photon counts."""
    r = np.random.default_rng(0)
    x = 0.6 + 0.3 * r.uniform(size=SHAPE) + 0j
    x = x * np.exp(1j * r.uniform(0, 1, size=SHAPE))
    grid = np.hypot(*np.meshgrid(*[np.arange(6) - 2.5] * 2, indexing="ij"))[..., None]
    probe = np.exp(-(grid**2) / 8) * np.exp(0.3j * grid**2)
    shifts = np.array([(i, j) for i in (0, 2, 4, 6) for j in (0, 2, 4, 6)])
    A = operators.Ptychography(probe, shifts, SHAPE)
    y = jnp.abs(A(x)) ** 2
    if counts is not None:
        y = jnp.asarray(r.poisson(counts * y) / counts)
    return jnp.asarray(x), A, y


def likelihood(counts=None, noise=None):
    _, A, y = scene(counts)
    noise = likelihoods.Amplitude(0.1) if noise is None else noise
    return likelihoods.InverseProblem(operators.PhaseRetrieval(A), noise).likelihood(y)


@pytest.mark.parametrize("counts", [False, True])
def test_the_exit_waves_are_the_exact_prox(counts):
    """Against a fine grid of amplitudes, and stationary to rounding; rho -> 0 projects, rho -> infinity is the identity."""
    f = likelihood(noise=likelihoods.Poisson(1.0) if counts else None)
    size = jnp.abs(scene()[1](1.3 * scene()[0]))
    y = f.y

    def data_term(a):
        return (a**2 - 2 * y * jnp.log(a)) / 4 if counts else (a - jnp.sqrt(y)) ** 2 / 2

    for rho in (0.1, 1.0, 20.0):
        a = solvers.PtychographyHQS(f, rho=rho).amplitude_prox(size)
        cost = lambda a, rho=rho: data_term(a) + rho * (a - size) ** 2 / 2  # noqa: E731
        grid = jnp.linspace(1e-4, 4, 4001).reshape(-1, 1, 1, 1, 1)
        best = jax.lax.map(cost, grid).min(0)
        assert jnp.all(cost(a) <= best + 1e-9)
        slope = (a - y / a) / 2 if counts else a - jnp.sqrt(y)
        np.testing.assert_allclose(slope + rho * (a - size), 0, atol=1e-9)
    np.testing.assert_allclose(solvers.PtychographyHQS(f, rho=1e-9).amplitude_prox(size), jnp.sqrt(y), atol=1e-7)
    np.testing.assert_allclose(solvers.PtychographyHQS(f, rho=1e9).amplitude_prox(size), size, atol=1e-7)


def test_the_object_solves_the_normal_equations():
    """Without denoiser: (sum S^T |p|^2 S) x = sum S^T conj(p) u, with a dense matrix, where light falls."""
    x0, A, _ = scene()
    f = likelihood(counts=50.0)
    method = solvers.PtychographyHQS(f, rho=0.7)
    x = x0 * 1.1 + 0.05j
    new = method.step(method.init(x))[0].position
    w = A(x)
    u = method.amplitude_prox(jnp.abs(w)) * w / jnp.abs(w)
    dense = A.dense()
    exact = np.linalg.lstsq(dense, np.asarray(u).ravel(), rcond=None)[0].reshape(SHAPE)
    seen = method.illumination >= 1e-3 * method.illumination.max()
    assert jnp.all(seen)
    np.testing.assert_allclose(new, exact, atol=1e-9)


def test_pixels_in_the_dark_keep_their_value_and_levels_follow_the_light():
    _, A, y = scene()
    wide = operators.Ptychography(A.probe, A.shifts, (12, 16, 1))
    f = likelihoods.InverseProblem(operators.PhaseRetrieval(wide), likelihoods.Amplitude(0.1)).likelihood(y)
    levels = []

    def denoiser(z, sigma):
        levels.append(sigma)
        return z

    method = solvers.PtychographyHQS(f, denoiser, lam=0.02, rho=0.5)
    x = jnp.full((12, 16, 1), 0.3 + 0.2j)
    new = method.step(method.init(x))[0].position
    np.testing.assert_array_equal(new[:, 12:], x[:, 12:])
    seen = np.asarray(method.illumination[..., 0] >= 1e-3 * method.illumination.max())
    expected = np.sqrt(0.02 / (0.5 * np.asarray(method.illumination[..., 0])[seen]))
    np.testing.assert_allclose(np.asarray(levels[0])[seen], expected, rtol=1e-6)
    assert np.all(np.isfinite(levels[0]))


@pytest.mark.parametrize("noise", [likelihoods.Amplitude(0.1), likelihoods.Poisson(1.0)])
def test_energy_never_grows_at_fixed_rho(noise):
    method = solvers.PtychographyHQS(likelihood(20.0, noise), rho=0.5)
    _, trace, _ = iterate(method, jnp.ones(SHAPE, complex), 60, trace=energies())
    assert jnp.all(jnp.diff(trace) <= 1e-9 * jnp.abs(trace[:-1]))
    assert trace[-1] < trace[0]


def energies():
    from invjax.reducers import Every

    return Every(1, of=_energy)


def _energy(state, info):
    return info.energy


def test_the_truth_is_a_fixed_point_and_the_phase_is_free():
    x, _, y = scene()
    f = likelihood()
    method = solvers.PtychographyHQS(f, rho=0.5)
    moved = method.step(method.init(x))[0].position
    np.testing.assert_allclose(moved, x, atol=1e-10)
    sweep = solvers.RPIE(f)
    np.testing.assert_allclose(sweep.step(jax.random.key(0), sweep.init(x))[0].position, x, atol=1e-10)
    start, turn = x[::-1], jnp.exp(0.8j)  # no wave of a real symmetric start vanishes up to rounding
    a, b = (iterate(method, s, 5)[0].position for s in (start, turn * start))
    np.testing.assert_allclose(b, turn * a, rtol=1e-8)
    np.testing.assert_allclose(jnp.sum(y), jnp.sum(method.illumination * jnp.abs(x) ** 2), rtol=1e-10)  # Parseval


@pytest.mark.parametrize("engine", ["hqs", "rpie"])
def test_the_object_is_found_without_noise(engine):
    x, _, _ = scene()
    f = likelihood()
    method, num_steps = (solvers.PtychographyHQS(f, rho=0.2), 2000) if engine == "hqs" else (solvers.RPIE(f), 500)
    key = None if engine == "hqs" else jax.random.key(1)
    state, _, _ = iterate(method, jnp.ones(SHAPE, complex), num_steps, key=key)
    aligned = metrics.align_phase(state.position, x)
    assert metrics.nrmse(aligned, x) < 1e-3


def test_two_modes_share_the_intensity():
    """One auxiliary wave per mode: with the truth as start nothing moves, and the amplitude of each mode is scaled alike."""
    x, A, _ = scene()
    second = operators.Ptychography(0.4j * A.probe[::-1] * np.linspace(-1, 1, 6).reshape(6, 1, 1), A.shifts, SHAPE)
    y = jnp.abs(A(x)) ** 2 + jnp.abs(second(x)) ** 2
    f = likelihoods.InverseProblem(operators.PhaseRetrieval(A), likelihoods.Amplitude(0.1)).likelihood(y)
    method = solvers.PtychographyHQS(f, rho=0.5, modes=(second,))
    np.testing.assert_allclose(method.step(method.init(x))[0].position, x, atol=1e-10)
    _, trace, _ = iterate(method, jnp.ones(SHAPE, complex), 40, trace=energies())
    assert jnp.all(jnp.diff(trace) <= 1e-9 * trace[:-1])


def test_refusals():
    _, A, _ = scene()
    f = likelihood()
    with pytest.raises(ValueError, match="PhaseRetrieval"):
        solvers.RPIE(likelihoods.InverseProblem(A, likelihoods.Gaussian(0.1)).likelihood(A(scene()[0])))
    B = operators.PhaseRetrieval(operators.FourierTransform(SHAPE))
    other = likelihoods.InverseProblem(B, likelihoods.Gaussian(0.1)).likelihood(jnp.ones(SHAPE))
    with pytest.raises(ValueError, match="of Ptychography"):
        solvers.PtychographyHQS(other)
    with pytest.raises(ValueError, match="rho: expected positive"):
        solvers.PtychographyHQS(f, rho=0.0)
    with pytest.raises(ValueError, match="1 - alpha"):
        solvers.RPIE(f, 1.5)


def test_photographs_with_few_photons():
    """Amplitude and phase from photographs, 2 photons: splitting beats rPIE by more than 4 dB of complex PSNR."""
    size = 96
    amplitude = 0.3 + 0.7 * np.asarray(data.photograph("camera", size, grey=True))
    phase = np.pi / 2 * np.asarray(data.photograph("chelsea", size, grey=True))
    x = amplitude * np.exp(1j * phase)
    m = 32
    radius = np.hypot(*np.meshgrid(*[np.arange(m) - m / 2 + 0.5] * 2, indexing="ij"))[..., None]
    probe = np.where(radius < 15, np.exp(-(radius**2) / (2 * 10.0**2)) * np.exp(1j * radius**2 / 40), 0)
    shifts = operators.raster_scan(x.shape, (m, m), 8)
    A = operators.Ptychography(probe, shifts, x.shape)
    counts = 2.0
    r = np.random.default_rng(0)
    y = r.poisson(counts * np.abs(np.asarray(A(x))) ** 2) / counts
    f = likelihoods.InverseProblem(operators.PhaseRetrieval(A), likelihoods.Amplitude(0.1)).likelihood(y)
    light = np.asarray(A.illumination)
    inside = light > 0.2 * light.max()

    def quality(position):
        aligned = np.asarray(metrics.align_phase(jnp.where(inside, position, 0), jnp.where(inside, x, 0)))
        return -10 * np.log10(np.mean(np.abs(aligned - x)[inside] ** 2))

    start = jnp.ones(x.shape, complex)
    rpie = quality(iterate(solvers.RPIE(f), start, 40, key=jax.random.key(0))[0].position)
    method = solvers.Continuation(solvers.PtychographyHQS(f), _rho, jnp.geomspace(0.3, 1.0, 60))
    hqs = quality(iterate(method, start, 60)[0].position)
    assert hqs > rpie + 4


def _rho(method):
    return method.rho
