"""Phase retrieval, coded diffraction, ptychography, haze and wrapped phases against closed forms and direct loops."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import generators, likelihoods
from invjax import operators as ops
from invjax.types import inner

from ..registry import call, complex_normal

SHAPE = (6, 5, 2)
OBJECT = (20, 17, 2)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_intensities_their_pullback_and_the_lost_phase():
    r = rng()
    B = ops.Matrix(complex_normal(r, (9, 4)))
    A, x, v = ops.PhaseRetrieval(B), jnp.asarray(complex_normal(r, 4)), r.normal(size=9)
    M, u = np.asarray(B.matrix), np.asarray(B.matrix) @ np.asarray(x)
    np.testing.assert_allclose(A(x), np.abs(u) ** 2, rtol=1e-13)
    np.testing.assert_allclose(A.vjp(x)[1](v), 2 * M.conj().T @ (v * u), rtol=1e-13)
    np.testing.assert_allclose(A(np.exp(0.7j) * x), A(x), rtol=1e-13)
    chain = A @ ops.Mask(v[:4], complex=True)
    assert isinstance(chain, ops.PhaseRetrieval)
    np.testing.assert_allclose(chain(x), A(v[:4] * x), rtol=1e-13)
    L = ops.linearise(A, x)
    np.testing.assert_allclose(L(x), 2 * A(x), rtol=1e-13)  # Euler: the model is homogeneous of degree two
    np.testing.assert_allclose(L(1j * x), 0, atol=1e-13)  # along the orbit of the global phase nothing changes


def test_the_gradient_of_a_likelihood_keeps_the_bounded_memory_of_gaussian_sensing(key):
    """Through JAX's pullback of a loop over blocks all rows would be stored: 512 x 4096 complex numbers."""
    A = ops.PhaseRetrieval(ops.GaussianSensing(key, 512, (64, 64, 1), block=8, complex=True))
    f = likelihoods.InverseProblem(A, likelihoods.Gaussian(0.1)).likelihood(jnp.ones(512))
    x = jnp.ones((64, 64, 1), complex)
    memory = eqx.filter_jit(lambda f, x: f.grad(x)).lower(f, x).compile().compiled.memory_analysis()
    assert memory.temp_size_in_bytes < 512 * 4096 * 16 / 10


@pytest.mark.parametrize(
    "noise", [likelihoods.Gaussian(0.3), likelihoods.Poisson(0.1, 0.2), likelihoods.Amplitude(0.4)]
)
def test_the_gradient_of_a_likelihood_through_a_chain(noise):
    r = rng(1)
    A = ops.Mask(r.uniform(size=(3, *SHAPE))) @ ops.PhaseRetrieval(
        ops.coded_diffraction(complex_normal(r, (3, *SHAPE)), SHAPE) @ ops.Mask(complex_normal(r, SHAPE))
    )
    x, h = (jnp.asarray(complex_normal(r, SHAPE)) for _ in range(2))
    f = likelihoods.InverseProblem(A, noise).likelihood(r.uniform(0.5, 2, (3, *SHAPE)))
    by_jax = jnp.conj(jax.jit(jax.grad(f))(x))
    np.testing.assert_allclose(call(f, "grad", x), by_jax, rtol=1e-10, atol=1e-10)
    slope = (f(x + 1e-6 * h) - f(x - 1e-6 * h)) / 2e-6
    np.testing.assert_allclose(inner(call(f, "grad", x), h), slope, rtol=1e-6)


def test_coded_diffraction_equals_numpy(key):
    r = rng(2)
    masks, x = complex_normal(r, (3, 6, 5, 1)), complex_normal(r, SHAPE)
    A = ops.coded_diffraction(masks, SHAPE)
    np.testing.assert_allclose(A(x), np.fft.fft2(masks * x, axes=(1, 2), norm="ortho"), atol=1e-13)
    np.testing.assert_allclose(A.norm() ** 2, np.max(np.sum(np.abs(masks) ** 2, 0)), rtol=1e-13)
    np.testing.assert_allclose(A.pinv(A(x)), x, atol=1e-12)
    phases = ops.coded_diffraction(generators.CodedMasks(SHAPE, 4, "phase")(key), SHAPE)
    np.testing.assert_allclose(phases.H(phases(x)), 4 * x, atol=1e-13)


def test_octanary_masks_have_their_law(key):
    masks = np.asarray(generators.CodedMasks((50, 50, 1), 40)(key)).ravel()
    size = np.abs(masks) ** 2
    rare = size > 1
    np.testing.assert_allclose(size[rare], 3, rtol=1e-6)
    np.testing.assert_allclose(size[~rare], 0.5, rtol=1e-6)
    assert abs(rare.mean() - 0.2) < 4 * np.sqrt(0.16 / masks.size)
    turns = np.round(np.angle(masks) / (np.pi / 2)) % 4
    for quarter in range(4):
        assert abs(np.mean(turns == quarter) - 0.25) < 4 * np.sqrt(0.1875 / masks.size)
    # Admissible (Candes, Li and Soltanolkotabi, section 1): E m = 0, E m^2 = 0, E |m|^4 = 2 (E |m|^2)^2.
    assert abs(masks.mean()) < 4 / np.sqrt(masks.size)
    assert abs(np.mean(masks**2)) < 4 * np.sqrt(2 / masks.size)
    np.testing.assert_allclose(np.mean(size**2), 2, atol=4 * np.sqrt(np.var(size**2) / masks.size))


# Ptychography ------------------------------------------------------------------------------------------------------------


def probe_and_shifts(r, num=7):
    corners = np.stack([r.integers(0, 13, num), r.integers(0, 12, num)], axis=-1)  # up to 20 - 8 and 17 - 6
    return complex_normal(r, (8, 6, 1)), corners


def windows(x, corners):
    return np.stack([x[i : i + 8, j : j + 6] for i, j in corners])


@eqx.filter_jit
def everything(A, x):
    y = A(x)
    return y, A.gram(x), A.illumination, A.norm(), A.pinv(y), A.prox(x, y, 0.5)


@pytest.mark.parametrize("block", [3, 32])
def test_ptychography_equals_a_loop(block):
    r = rng(3)
    probe, corners = probe_and_shifts(r)
    x = complex_normal(r, OBJECT)
    A = ops.Ptychography(probe, corners, OBJECT, block=block)
    exact = np.fft.fft2(probe * windows(x, corners), axes=(1, 2), norm="ortho")
    y, gram, map, norm, pinv, prox = everything(A, x)
    np.testing.assert_allclose(y, exact, atol=1e-12)
    illumination = np.zeros(OBJECT)
    for i, j in corners:
        illumination[i : i + 8, j : j + 6] += np.abs(probe) ** 2
    np.testing.assert_allclose(gram, illumination * x, atol=1e-12)
    np.testing.assert_allclose(map, illumination, atol=1e-12)
    np.testing.assert_allclose(norm, np.sqrt(illumination.max()), rtol=1e-13)
    np.testing.assert_allclose(np.sum(np.abs(y) ** 2), np.sum(illumination * np.abs(x) ** 2), rtol=1e-13)
    np.testing.assert_allclose(pinv, np.where(illumination > 0, x, 0), atol=1e-10)
    exact = (x + 0.5 * illumination * x) / (1 + 0.5 * illumination)
    np.testing.assert_allclose(prox, exact, atol=1e-12)


def test_near_field_ptychography_and_its_propagators():
    r = rng(4)
    probe, corners = probe_and_shifts(r)
    x = complex_normal(r, OBJECT)
    far = ops.Ptychography(probe, corners, OBJECT)
    for propagator in (
        ops.fresnel((8, 6, 2), 0.5, 3.0, 1.0),
        ops.angular_spectrum((8, 6, 2), 0.5, 3.0, 1.0, band_limit=False),
    ):
        A = ops.Ptychography(probe, corners, OBJECT, propagator)
        exact = np.stack([propagator(probe * w) for w in windows(x, corners)])
        np.testing.assert_allclose(call(A, "__call__", x), exact, atol=1e-12)
        np.testing.assert_allclose(A.gram_spectrum.values, far.gram_spectrum.values, rtol=1e-12)
    lossy = ops.Ptychography(probe, corners, OBJECT, ops.angular_spectrum((8, 6, 2), 0.5, 30.0, 1.0))
    assert lossy.gram_spectrum is None
    assert lossy.norm() < far.norm()


def test_floating_shifts_at_whole_numbers_are_the_windows():
    r = rng(5)
    probe, corners = probe_and_shifts(r)
    x = complex_normal(r, OBJECT)
    exact = call(ops.Ptychography(probe, corners, OBJECT), "__call__", x)
    np.testing.assert_allclose(
        call(ops.Ptychography(probe, corners.astype(float), OBJECT), "__call__", x), exact, atol=1e-12
    )


def test_floating_shifts_move_a_gaussian_probe():
    """A Gaussian is band-limited and vanishes at the edge to 1e-7 here, so its Fourier shift is the shifted Gaussian."""
    n, width = 32, 3.0
    shift = np.array([[2.3, 4.6]])
    A = ops.Ptychography(ops.gaussian_probe((n, n), width), shift, (40, 41, 1))
    rows, columns = np.arange(40)[:, None] - shift[0, 0] - n // 2, np.arange(41) - shift[0, 1] - n // 2
    exact = np.exp(-(rows**2 + columns**2) / width**2)
    seen = np.zeros((40, 41))
    seen[2:34, 5:37] = exact[2:34, 5:37] ** 2
    np.testing.assert_allclose(A.illumination[..., 0], seen, atol=1e-7)
    x = jnp.ones((40, 41, 1), complex)

    def value(s):
        B = ops.Ptychography(ops.gaussian_probe((n, n), width), s, (40, 41, 1))
        return jnp.sum(
            B.illumination[..., 0] * jnp.cos(jnp.arange(40.0)[:, None]) * jnp.sin(jnp.arange(41.0) / 3)
        ) + jnp.sum(jnp.abs(B(x)) ** 2)

    slope = jax.jit(jax.grad(value))(jnp.asarray(shift))
    density = np.cos(np.arange(40.0)[:, None]) * np.sin(np.arange(41.0) / 3)
    for axis, offset in enumerate((rows, columns)):
        by_hand = np.sum(density * exact**2 * 4 * offset / width**2)
        np.testing.assert_allclose(slope[0, axis], by_hand, atol=1e-5)


def test_a_sweep_over_probes_and_scans_is_one_vmap():
    r = rng(6)
    x = complex_normal(r, OBJECT)
    probes, scans = zip(*(probe_and_shifts(r) for _ in range(3)), strict=True)
    build = lambda p, s: ops.Ptychography(p, s, OBJECT)(x)  # noqa: E731
    many = jax.jit(jax.vmap(build))(np.stack(probes), np.stack(scans))
    for i in range(3):
        np.testing.assert_allclose(many[i], jax.jit(build)(probes[i], scans[i]), atol=1e-12)


def test_memory_of_ptychography_does_not_hold_all_windows():
    """400 windows of 32 x 32 over 128 x 128, in blocks of 8 and all at once, which needs all of them beside what both need."""
    corners = ops.raster_scan((128, 128), (32, 32), 5)
    assert len(corners) == 400
    x = jnp.ones((128, 128, 1), complex)
    y = jnp.ones((400, 32, 32, 1), complex)

    def temporary(program, given, block):
        A = ops.Ptychography(ops.gaussian_probe((32, 32), 8.0), corners, (128, 128, 1), block=block)
        return eqx.filter_jit(program).lower(A, given).compile().compiled.memory_analysis().temp_size_in_bytes

    real_windows, windows = y.size * 8, y.size * 16
    programs = (
        (lambda A, x: A.illumination, x, real_windows),
        (lambda A, x: A(x), x, windows),
        (lambda A, y: A.H(y), y, windows),
    )
    for program, given, saved in programs:
        assert temporary(program, given, 8) < temporary(program, given, 400) - 0.9 * saved


def test_scans_cover_the_object(key):
    shape, window = (50, 43, 1), (12, 10)
    grid = ops.raster_scan(shape, window, 7)
    assert set(np.diff(np.unique(grid[:, 0]))) == set(np.diff(np.unique(grid[:, 1]))) == {7}
    moved = ops.jitter(key, grid, 2, shape, window)
    np.testing.assert_array_equal(moved, np.clip(moved, 0, [38, 33]))
    assert set(np.unique(np.asarray(moved) - grid)) == {-2, -1, 0, 1, 2}
    spiral = ops.fermat_scan(shape, window, 3.0)
    assert np.all((spiral >= 0) & (spiral <= [38, 33]))
    # One position per 9 square pixels, but for those at the border and the rounding.
    np.testing.assert_allclose(len(spiral), 39 * 34 / 9, rtol=0.1)
    np.testing.assert_array_equal(spiral[0], [19, 16])
    A = ops.Ptychography(ops.disc_probe(window, 4.0), spiral, shape)
    assert np.asarray(A.illumination)[10:-10, 10:-10].min() > 0


def test_probes():
    disc = np.asarray(ops.disc_probe((40, 41), 12.0))
    np.testing.assert_allclose(disc.sum(), np.pi * 144, rtol=5e-3)
    assert disc[20, 20 + 11] == 1
    assert disc[20, 20 + 13] == 0
    gauss = np.asarray(ops.gaussian_probe((40, 41), 5.0))
    np.testing.assert_allclose(gauss[20 + 5, 20], np.exp(-1))
    np.testing.assert_allclose(gauss.sum(), np.pi * 25, rtol=1e-6)
    out = np.asarray(ops.defocused_probe(gauss, 0.5, 30.0, 1.0))
    np.testing.assert_allclose(np.sum(np.abs(out) ** 2), np.sum(gauss**2), rtol=1e-12)
    rayleigh = np.pi * 25 / 0.5
    np.testing.assert_allclose(np.abs(out[20, 20]), 1 / np.sqrt(1 + (30 / rayleigh) ** 2), rtol=1e-6)


def test_object_pixels_of_a_far_field_set_up():
    np.testing.assert_allclose(ops.object_pixel_size(500e-9, 0.1, 10e-6, 256), 500e-9 * 0.1 / (256 * 10e-6))


# Haze and wrapped phase ------------------------------------------------------------------------------------------------------


def test_haze():
    r = rng(7)
    image, depth, airlight = r.uniform(size=(4, 3, 3)), r.uniform(0, 5, (4, 3, 1)), r.uniform(0.7, 1, 3)
    t = np.exp(-(0.3 * depth + 0.2))
    A = ops.Haze((4, 3, 3), 0.3, 0.2)
    np.testing.assert_allclose(A((image, depth, airlight)), t * image + airlight * (1 - t), rtol=1e-13)
    np.testing.assert_allclose(ops.Haze((4, 3, 3), 0.3)((image, 0 * depth, airlight)), image, rtol=1e-13)
    np.testing.assert_allclose(A((image, 1e4 + depth, airlight)), np.broadcast_to(airlight, image.shape), rtol=1e-13)
    beta = jax.grad(lambda b: jnp.sum(ops.Haze((4, 3, 3), b, 0.2)((image, depth, airlight))))(0.3)
    np.testing.assert_allclose(beta, np.sum(depth * t * (airlight - image)), rtol=1e-12)


def test_wrapped_phase():
    x = np.linspace(-7, 9, 60).reshape(6, 10, 1)
    y = np.asarray(ops.WrappedPhase(x.shape)(x))
    np.testing.assert_allclose(np.exp(1j * y), np.exp(1j * x), atol=1e-12)
    np.testing.assert_allclose(y, np.angle(np.exp(1j * x)), atol=1e-12)
    y = np.asarray(ops.WrappedPhase(x.shape, 1.5, "floor")(x))
    np.testing.assert_allclose(y, np.mod(x, 1.5), atol=1e-12)
    np.testing.assert_array_equal(jax.grad(lambda x: jnp.sum(ops.WrappedPhase(x.shape)(x)))(jnp.asarray(x)), 1)


def test_itoh_unwraps_what_was_wrapped():
    rows, columns = np.mgrid[:12, :10]
    x = (0.05 * rows**2 + 0.4 * columns)[..., None]  # neighbours differ by less than half a period
    y = np.asarray(call(ops.WrappedPhase(x.shape), "apply", x))
    assert np.ptp(y) < 2 * np.pi < np.ptp(x)
    flat = np.asarray(call(likelihoods.Itoh(1.0), "prox", np.zeros_like(y), y, 1e9))
    np.testing.assert_allclose(flat - flat.mean(), x - x.mean(), atol=1e-5)


ERRORS = {
    "probe: expected (h, w, 1) or (h, w, C) for an object (H, W, C) = (8, 8, 2), got (4, 4, 3)": {
        "probe": np.ones((4, 4, 3))
    },
    "probe: expected at most the size of the object (8, 8, 2), got (4, 9, 1)": {"probe": np.ones((4, 9, 1))},
    "shifts: expected (L, 2), got shape (3,)": {"shifts": np.zeros(3, int)},
    "shifts: expected corners from (0, 0) to (4, 4), got (0, 0) to (5, 3)": {"shifts": [[0, 0], [5, 3]]},
    "shifts: expected corners from (0, 0) to (4, 4), got (-1.0, 0.0) to (0.0, 3.0)": {"shifts": [[0.2, 0], [-0.7, 3]]},
    "propagator: expected complex (4, 4, 2) as input": {"propagator": ops.FourierTransform((4, 4, 1))},
    "block: expected an integer >= 1, got 0": {"block": 0},
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_of_ptychography(message):
    with pytest.raises(ValueError) as error:
        ops.Ptychography(**({"probe": np.ones((4, 4, 1)), "shifts": [[0, 0]], "shape": (8, 8, 2)} | ERRORS[message]))
    assert message in str(error.value)


SCAN_ERRORS = {
    "step: expected an integer >= 1, got 0": lambda: ops.raster_scan((8, 8), (4, 4), 0),
    "window: expected at most the size of the object (8, 8), got (9, 4)": lambda: ops.raster_scan((8, 8), (9, 4), 1),
    "amount: expected a non-negative integer, got -1": lambda: ops.jitter(
        jax.random.key(0), [[0, 0]], -1, (8, 8), (4, 4)
    ),
    "step: expected positive values, got 0.0": lambda: ops.fermat_scan((8, 8), (4, 4), 0.0),
    "radius: expected positive values, got -1": lambda: ops.disc_probe((8, 8), -1),
    "width: expected positive values, got 0": lambda: ops.gaussian_probe((8, 8), 0),
}


@pytest.mark.parametrize("message", SCAN_ERRORS)
def test_errors_of_scans(message):
    with pytest.raises(ValueError) as error:
        SCAN_ERRORS[message]()
    assert message in str(error.value)
