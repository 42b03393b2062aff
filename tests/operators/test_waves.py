"""Propagation against plane waves, the Gaussian beam, self-imaging, direct summation; energy and composition.

Lengths are in wavelengths unless a test says otherwise.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import operators as ops
from invjax.types import inner

from ..registry import call, complex_normal

N = 64
SHAPE = (N, 48, 1)


def grid(shape, pixel_size):
    """Coordinates with the axis at index n // 2."""
    sizes = np.broadcast_to(pixel_size, (2,))
    rows, columns = ((np.arange(n) - n // 2) * d for n, d in zip(shape, sizes, strict=False))
    return rows[:, None, None], columns[None, :, None]


def beam(shape, pixel_size, waist, distance, wavelength=1.0):
    """The Gaussian beam without exp(i k z): (w0 / w) exp(-r^2 / w^2 + i k r^2 / (2 R) - i atan(z / zR))."""
    y, x = grid(shape, pixel_size)
    r2 = y**2 + x**2
    rayleigh = np.pi * waist**2 / wavelength
    width = waist * np.sqrt(1 + (distance / rayleigh) ** 2)
    curvature = distance / (distance**2 + rayleigh**2)  # 1 / R
    phase = np.pi / wavelength * r2 * curvature - np.arctan(distance / rayleigh)
    return waist / width * np.exp(-r2 / width**2 + 1j * phase)


@pytest.mark.parametrize("distance", [150.0, -150.0])
def test_fresnel_propagates_the_gaussian_beam(distance):
    """The waist of 10 pixels vanishes at the edge (1e-10 at the far plane) and in frequency: the discrete beam is exact."""
    shape, pixel = (96, 90, 1), 1.3
    start = beam(shape, pixel, 10.0, 0.0)
    end = ops.fresnel(shape, 1.0, distance, pixel)(start)
    np.testing.assert_allclose(end, beam(shape, pixel, 10.0, distance), atol=1e-9)


def test_one_transform_propagates_the_gaussian_beam_to_larger_pixels():
    shape, pixels, distance = (96, 90, 1), (1.3, 1.4), 400.0
    start = beam(shape, pixels, 10.0, 0.0)
    y = ops.fresnel_transform(shape, 1.0, distance, pixels)(start)
    new = [ops.object_pixel_size(1.0, distance, d, n) for d, n in zip(pixels, shape, strict=False)]
    field = y * np.sqrt(np.prod(pixels) / np.prod(new))
    np.testing.assert_allclose(field, beam(shape, new, 10.0, distance), atol=1e-9)
    with pytest.raises(ValueError, match="distance: expected positive values, got -1"):
        ops.fresnel_transform(shape, 1.0, -1.0, pixels)


def test_both_fresnel_forms_are_equal_at_the_critical_distance():
    """At z = N d^2 / wavelength on both axes the pixels are equal, and for even N the two discrete operators are the same."""
    shape, distance = (24, 16, 2), 96.0
    pixels = tuple(np.sqrt(distance / np.array(shape[:2])))
    x = complex_normal(np.random.default_rng(0), shape)
    one, two = ops.fresnel_transform(shape, 1.0, distance, pixels), ops.fresnel(shape, 1.0, distance, pixels)
    np.testing.assert_allclose(one(x), two(x), atol=1e-11)


def test_angular_spectrum_multiplies_plane_waves():
    """A plane wave of direction sines (a, b) gains k z (cos - 1); colours have their own wavelength."""
    shape, pixel, distance, wavelengths = (20, 30, 2), 0.8, 7.0, np.array([0.9, 1.1])
    A = ops.angular_spectrum(shape, wavelengths, distance, pixel, band_limit=False)
    for m, n in ((0, 0), (3, -4), (-6, 5)):
        wave = np.exp(2j * np.pi * (m * np.arange(20)[:, None] / 20 + n * np.arange(30) / 30))[..., None] * np.ones(2)
        f2 = (m / (20 * pixel)) ** 2 + (n / (30 * pixel)) ** 2
        gain = np.exp(2j * np.pi * distance / wavelengths * (np.sqrt(1 - wavelengths**2 * f2) - 1))
        np.testing.assert_allclose(A(wave), gain * wave, atol=1e-11)


def test_evanescent_waves_decay_both_ways():
    shape, pixel = (16, 18, 1), 0.3
    m = 6  # 6 / (16 * 0.3) = 1.25 periods per wavelength
    wave = np.exp(2j * np.pi * m * np.arange(16) / 16)[:, None, None] * np.ones(shape)
    decay = np.exp(-2 * np.pi * 0.2 * np.sqrt(1.25**2 - 1))
    for distance in (0.2, -0.2):
        A = ops.angular_spectrum(shape, 1.0, distance, pixel, band_limit=False)
        np.testing.assert_allclose(A(wave), decay * np.exp(-2j * np.pi * distance) * wave, atol=1e-12)
        np.testing.assert_allclose(A.norm(), 1, rtol=1e-14)
    np.testing.assert_allclose(ops.angular_spectrum(shape, 1.0, 0.2, pixel)(wave), 0, atol=1e-12)
    np.testing.assert_allclose(ops.angular_spectrum(shape, 1.0, 0.0, pixel)(wave), wave, atol=1e-12)


def test_angular_spectrum_equals_the_rayleigh_sommerfeld_integral():
    """Direct summation of h = z e^{ikr} (1/r - ik) / (2 pi r^2), exact for a beam that both grids resolve, padded in space."""
    n, pixel, distance, waist = 64, 0.45, 12.0, 2.5
    y, x = grid((n, n), pixel)
    start = np.exp(-(y**2 + x**2) / waist**2)
    end = np.asarray(ops.angular_spectrum((n, n, 1), 1.0, distance, pixel)(start))
    k = 2 * np.pi
    for i, j in ((32, 32), (38, 29), (25, 44)):
        r = np.sqrt((y - y[i]) ** 2 + (x - x[:, j]) ** 2 + distance**2)
        h = distance * np.exp(1j * k * r) * (1 / r - 1j * k) / (2 * np.pi * r**2)
        exact = np.sum(h * start) * pixel**2 * np.exp(-1j * k * distance)
        np.testing.assert_allclose(end[i, j, 0], exact, atol=2e-4)


def test_angular_spectrum_tends_to_fresnel_for_narrow_angles():
    """The phases differ by k z s^4 / 8 to leading order, s the direction sine."""
    shape, distance = (32, 32, 1), 50.0
    gaps = []
    for pixel in (4.0, 8.0):
        a = ops.angular_spectrum(shape, 1.0, distance, pixel, band_limit=False).phase
        b = ops.fresnel(shape, 1.0, distance, pixel).phase
        gaps.append(np.abs(a - b).max())
        s2 = 2 / (2 * pixel) ** 2
        np.testing.assert_allclose(gaps[-1], 2 * np.pi * distance * s2**2 / 8, rtol=s2)


PROPAGATIONS = {
    "angular_spectrum": lambda z: ops.angular_spectrum(SHAPE, 1.0, z, (1.2, 1.3), band_limit=False),
    "angular_spectrum_evanescent": lambda z: ops.angular_spectrum(SHAPE, 1.0, z, (0.4, 0.3), band_limit=False),
    "fresnel": lambda z: ops.fresnel(SHAPE, 1.0, z, (1.2, 1.3)),
}


@pytest.mark.parametrize("name", PROPAGATIONS)
def test_distances_add(name):
    make = PROPAGATIONS[name]
    two, one = make(3.0) @ make(1.5), make(4.5)
    np.testing.assert_allclose(two.spectrum.values, one.spectrum.values, atol=1e-12)
    np.testing.assert_allclose(make(-3.0).spectrum.values, make(3.0).H.spectrum.values, atol=1e-12)
    np.testing.assert_allclose(make(0.0).spectrum.values, np.ones(()), atol=1e-15)


def test_energy_is_kept_and_known_to_be():
    x = complex_normal(np.random.default_rng(1), SHAPE)
    operators = [PROPAGATIONS["angular_spectrum"](9.0), PROPAGATIONS["fresnel"](9.0)]
    operators += [ops.fresnel_transform(SHAPE, 1.0, 90.0, 1.0), ops.PhaseScreen(np.abs(x), SHAPE)]
    for A in operators:
        np.testing.assert_allclose(np.linalg.norm(A(x)), np.linalg.norm(x), rtol=1e-12)
        assert A.gram_spectrum.values.size == A.cogram_spectrum.values.size == 1
    lossy = PROPAGATIONS["angular_spectrum_evanescent"](0.3)
    assert lossy.gram_spectrum.values.size > 1
    assert np.linalg.norm(lossy(x)) < np.linalg.norm(x)


def test_the_band_limit_is_that_of_matsushima_and_shimobaba():
    """Along an axis: f_limit = 1 / (wavelength sqrt((2 df z)^2 + 1)), df = 1 / (N d); at all distances |H| is 0 or 1."""
    shape, pixel = (64, 64, 1), 0.7
    df = 1 / (64 * pixel)
    frequencies = np.abs(np.fft.fftfreq(64, pixel))
    for distance in (5.0, 40.0, 300.0):
        values = np.abs(ops.angular_spectrum(shape, 1.0, distance, pixel).spectrum.values)[..., 0]
        assert set(np.round(np.unique(values), 12)) <= {0, 1}
        limit = 1 / np.sqrt((2 * df * distance) ** 2 + 1)
        np.testing.assert_array_equal(values[:, 0] > 0.5, frequencies <= limit)
        np.testing.assert_array_equal(values[0, :] > 0.5, frequencies <= limit)
        phase = np.asarray(ops.angular_spectrum(shape, 1.0, distance, pixel).phase)[..., 0]
        kept = (values[1:] > 0.5) & (values[:-1] > 0.5)
        steps = np.abs(np.diff(phase, axis=0))[: N // 2 - 1][kept[: N // 2 - 1]]
        assert steps.max() <= np.pi * (1 + 1e-12)  # no aliasing of the phase


@pytest.mark.parametrize("paraxial", [True, False])
def test_talbot_images_of_a_grating(paraxial):
    """Orders 0 and +-1: an image at z_T, moved by half a period at z_T / 2; z_T = 2 p^2 / wavelength if paraxial."""
    pixel, period = 0.5, 8
    p = period * pixel
    x = 1 + 0.7 * np.cos(2 * np.pi * np.arange(N) / period)[:, None, None] * np.ones((N, 4, 1))
    talbot = 2 * p**2 if paraxial else 1 / (1 - np.sqrt(1 - 1 / p**2))
    make = ops.fresnel if paraxial else lambda *a: ops.angular_spectrum(*a, band_limit=False)
    np.testing.assert_allclose(make((N, 4, 1), 1.0, talbot, pixel)(x), x, atol=1e-10)
    np.testing.assert_allclose(make((N, 4, 1), 1.0, talbot / 2, pixel)(x), np.roll(x, period // 2, 0), atol=1e-10)
    quarter = make((N, 4, 1), 1.0, talbot / 4, pixel)(x)
    np.testing.assert_allclose(np.abs(quarter), np.sqrt(1 + (x - 1) ** 2), atol=1e-10)  # the phase image


@pytest.mark.parametrize("make", [ops.angular_spectrum, ops.fresnel, ops.fresnel_transform])
def test_derivative_in_the_lengths_and_a_sweep_over_distances(make):
    """A focus is found by differentiating; operators are built inside the function."""
    r = np.random.default_rng(2)
    shape = (12, 10, 1)
    x, v = complex_normal(r, shape), complex_normal(r, shape)

    def value(lengths):
        return inner(v, make(shape, *lengths)(x))

    lengths = jnp.array([1.0, 30.0, 2.1])
    slope = jax.jit(jax.grad(value))(lengths)
    run = jax.jit(value)
    for i in range(3):
        move = np.zeros(3)
        move[i] = 1e-6
        np.testing.assert_allclose(slope[i], (run(lengths + move) - run(lengths - move)) / 2e-6, rtol=1e-5, atol=1e-6)
    many = jax.jit(jax.vmap(lambda z: make(shape, 1.0, z, 2.1)(x)))(jnp.array([20.0, 30.0]))
    np.testing.assert_allclose(many[1], call(make(shape, 1.0, 30.0, 2.1), "__call__", x), atol=1e-10)


@pytest.mark.parametrize("band_limit", [True, False])
def test_derivatives_are_finite_where_waves_become_evanescent(band_limit):
    """Pixels of half a wavelength: the highest frequency has s = 1 exactly."""
    x = complex_normal(np.random.default_rng(3), (8, 6, 1))

    def value(lengths):
        return jnp.sum(ops.angular_spectrum((8, 6, 1), *lengths, band_limit=band_limit)(x).real)

    for distance in (0.0, 1.5):
        assert jnp.all(jnp.isfinite(jax.jit(jax.grad(value))(jnp.array([1.0, distance, 0.5]))))


def test_a_lens_focuses_in_float32():
    """A lens of focal length f, then the distance f: the Airy peak is area / (wavelength f), to float32 at phases of 100."""
    shape, pixel, wavelength, focus = (128, 128, 1), 10e-6, 500e-9, 0.05
    y, x = grid(shape, pixel)
    lens = ops.PhaseScreen(np.float32(-np.pi / (wavelength * focus) * (y**2 + x**2)), shape)
    aperture = np.asarray((y**2 + x**2 <= (30 * pixel) ** 2), np.float32)
    end = (ops.fresnel_transform(shape, wavelength, focus, pixel) @ lens)(aperture)
    assert end.dtype == jnp.complex64
    peak = np.abs(end[64, 64, 0]) * pixel / ops.object_pixel_size(wavelength, focus, pixel, 128)
    np.testing.assert_allclose(peak, aperture.sum() * pixel**2 / (wavelength * focus), rtol=1e-4)
    assert np.abs(end).argmax() == 64 * 128 + 64


ERRORS = {
    "shape: expected (H, W, C), got (8, 8)": lambda: ops.fresnel((8, 8), 1.0, 1.0, 1.0),
    "wavelength: expected positive values, got 0.0": lambda: ops.angular_spectrum(SHAPE, 0, 1.0, 1.0),
    "wavelength: expected a scalar or 1 values, got shape (2,)": lambda: ops.fresnel(SHAPE, [1.0, 2.0], 1.0, 1.0),
    "pixel_size: expected positive values, got": lambda: ops.fresnel(SHAPE, 1.0, 1.0, (1.0, -1.0)),
    "pixel_size: expected a scalar or two values, got shape (3,)": lambda: ops.fresnel(
        SHAPE, 1.0, 1.0, (1.0, 1.0, 1.0)
    ),
    "distance: expected shape (), got (2,)": lambda: ops.fresnel(SHAPE, 1.0, (1.0, 2.0), 1.0),
    "phase: expected a real array that broadcasts to (8, 8, 1), got": lambda: ops.PhaseScreen(
        np.ones((8, 7, 1)), (8, 8, 1)
    ),
    "phase: expected a real array that broadcasts": lambda: ops.PhaseScreen(np.ones((8, 8, 1)) * 1j, (8, 8, 1)),
    "attenuation: expected a real array": lambda: ops.FourierFilter(np.ones((8, 8, 1)), (8, 8, 1), np.ones((8, 8))),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message]()
    assert message in str(error.value)
