"""Zernike polynomials and diffraction: published tables, orthonormality, Airy pattern, Strehl ratio, focus, pinhole."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from invjax import generators as gen
from invjax.generators.confocal import averaged_over_disc
from invjax.generators.diffraction import intensity

intensity = eqx.filter_jit(intensity)


@eqx.filter_jit
def psf(optics, coefficients):
    return optics.psf(coefficients)


# Noll (1976), table 1
PUBLISHED = {
    1: ((0, 0), lambda r, t: 1 + 0 * r),
    2: ((1, 1), lambda r, t: 2 * r * np.cos(t)),
    3: ((1, -1), lambda r, t: 2 * r * np.sin(t)),
    4: ((2, 0), lambda r, t: np.sqrt(3) * (2 * r**2 - 1)),
    5: ((2, -2), lambda r, t: np.sqrt(6) * r**2 * np.sin(2 * t)),
    6: ((2, 2), lambda r, t: np.sqrt(6) * r**2 * np.cos(2 * t)),
    7: ((3, -1), lambda r, t: np.sqrt(8) * (3 * r**3 - 2 * r) * np.sin(t)),
    8: ((3, 1), lambda r, t: np.sqrt(8) * (3 * r**3 - 2 * r) * np.cos(t)),
    9: ((3, -3), lambda r, t: np.sqrt(8) * r**3 * np.sin(3 * t)),
    10: ((3, 3), lambda r, t: np.sqrt(8) * r**3 * np.cos(3 * t)),
    11: ((4, 0), lambda r, t: np.sqrt(5) * (6 * r**4 - 6 * r**2 + 1)),
}
ANSI = [(0, 0), (1, -1), (1, 1), (2, -2), (2, 0), (2, 2), (3, -3), (3, -1), (3, 1), (3, 3), (4, -4), (4, -2), (4, 0)]


@pytest.mark.parametrize("j", PUBLISHED)
def test_noll_polynomials_equal_the_published_table(j):
    (n, m), formula = PUBLISHED[j]
    assert gen.noll_to_nm(j) == (n, m)
    r = np.random.default_rng(0)
    radius, angle = r.uniform(size=20), r.uniform(-np.pi, np.pi, 20)
    np.testing.assert_allclose(gen.zernike(n, m, radius, angle), formula(radius, angle), atol=1e-13)


def test_indices_are_a_bijection():
    assert [gen.ansi_to_nm(j) for j in range(13)] == ANSI
    for j in range(1, 200):
        assert gen.nm_to_noll(*gen.noll_to_nm(j)) == j
        assert gen.nm_to_ansi(*gen.ansi_to_nm(j - 1)) == j - 1
    pairs = {(n, m) for n in range(12) for m in range(-n, n + 1, 2)}
    assert (
        {gen.noll_to_nm(j) for j in range(1, len(pairs) + 1)} == {gen.ansi_to_nm(j) for j in range(len(pairs))} == pairs
    )


def test_zernike_polynomials_are_orthonormal_on_the_disc():
    """Products have degree up to 16 in radius and angle: exact with 10 Gauss-Legendre and 20 equidistant nodes."""
    nodes, weights = np.polynomial.legendre.leggauss(10)
    angles = 2 * np.pi * np.arange(20) / 20
    radius, angle = np.meshgrid((nodes + 1) / 2, angles, indexing="ij")
    measure = np.repeat((weights * (nodes + 1) / 2 / 20)[:, None], 20, 1)
    values = np.stack([gen.zernike(*gen.ansi_to_nm(j), radius, angle) for j in range(36)])
    np.testing.assert_allclose(np.einsum("iab,jab,ab->ij", values, values, measure), np.eye(36), atol=1e-12)


def test_without_aberration_the_pattern_is_that_of_airy():
    cutoff = 0.21
    h = np.asarray(psf(gen.Diffraction((15, 18), 0.0, cutoff), np.zeros(8)))
    x = 2 * np.pi * cutoff * np.hypot(*np.meshgrid(np.arange(15) - 7, np.arange(18) - 9, indexing="ij"))
    airy = np.divide(2 * scipy.special.j1(x), x, out=np.ones_like(x), where=x > 0) ** 2
    np.testing.assert_allclose(h / h.max(), airy, atol=1e-12)
    assert h[7, 9] == h.max()
    first_zero = 1.2196698912665045 / 2  # of J_1, over 2 pi
    ten = intensity((1, 21), np.zeros(1), ((2, 0),), first_zero / 10)
    assert ten[0, 0] < 1e-15


def test_strehl_ratio_of_small_aberrations():
    """``exp(-sigma^2)`` up to the order ``sigma^4``, ``sigma`` the root mean square of the phase in radians."""
    modes = ((2, 2), (3, -1), (3, 3))
    for scale in (0.01, 0.02):
        waves = scale * np.array([1.0, -0.5, 0.8])
        variance = np.sum((2 * np.pi * waves) ** 2)
        strehl = float(intensity((1, 1), waves, modes, 0.2)[0, 0])
        assert abs(strehl - np.exp(-variance)) < variance**2 / 4
        assert abs(strehl - 1) > variance / 2


def test_tilt_moves_the_pattern():
    """``2 a rho cos(theta)`` adds to ``cutoff rho . u``: a shift by ``2 a / cutoff`` pixels."""
    optics = gen.Diffraction((11, 11), 0.1, 0.2, (2, 4))
    still, moved = (np.asarray(psf(optics, np.array([a, 0.1]))) for a in (0.0, 0.2))
    np.testing.assert_allclose((moved / moved.max())[:-2], (still / still.max())[2:], atol=1e-11)


def test_channels_share_the_wavefront():
    cutoffs, waves = np.array([0.2, 0.15]), np.array([0.1, -0.05])
    colour = psf(gen.Diffraction((9, 9), 0.1, cutoffs, (4, 7)), waves)
    for c, cutoff in enumerate(cutoffs):
        grey = psf(gen.Diffraction((9, 9), 0.1, cutoff, (4, 7)), waves * cutoff / cutoffs[0])
        np.testing.assert_allclose(colour[..., c], grey, atol=1e-14)


def test_intensity_on_the_axis_through_focus():
    """With ``q = k_z``: ``(2 / cutoff^2) int q exp(2 pi i z q) dq`` from ``sqrt(k^2 - cutoff^2)`` to ``k``."""
    cutoff, k, planes = 0.2, 0.24, np.array([-7.0, -1.0, 0.5, 3.0])
    found = intensity((1, 1), np.zeros(1), ((2, 0),), cutoff, jnp.asarray(planes), k)[:, 0, 0]

    def antiderivative(q):
        w = 2j * np.pi * planes
        return np.exp(w * q) * (q / w - 1 / w**2)

    exact = np.abs(2 / cutoff**2 * (antiderivative(k) - antiderivative(np.sqrt(k**2 - cutoff**2)))) ** 2
    np.testing.assert_allclose(found, exact, rtol=1e-10)


def test_the_plane_in_focus_is_the_pattern_in_the_plane():
    waves = np.array([0.05, 0.1])
    stack = psf(gen.Diffraction3D((4, 9, 8), 0.1, 0.2, 0.25, 2.0, (5, 7)), waves)
    flat = psf(gen.Diffraction((9, 8), 0.1, 0.2, (5, 7)), waves)
    np.testing.assert_allclose(stack[2] / stack[2].sum(), flat, atol=1e-14)
    np.testing.assert_allclose(stack.sum(), 1, rtol=1e-13)
    still = psf(gen.Diffraction3D((5, 9, 8), indices=(4,)), np.zeros(1))
    np.testing.assert_allclose(still, still[::-1], atol=1e-15)  # an unaberrated stack is symmetric about the focus


def test_a_point_pinhole_multiplies_the_two_patterns():
    waves = np.array([0.08])
    optics = gen.Confocal((3, 9, 8), pinhole=0.0, indices=(4,))

    def stack(wavelength):
        cutoff, k = 1.37 / wavelength * 50, 1.51 / wavelength * 50
        return psf(gen.Diffraction3D((3, 9, 8), 0.1, cutoff, k, 2.0, (4,)), waves * 520 / wavelength)

    product = stack(488.0) * stack(520.0)
    np.testing.assert_allclose(psf(optics, waves), product / product.sum(), atol=1e-13)
    axial = [
        np.asarray(psf(gen.Confocal((3, 9, 8), pinhole=p, indices=(4,)), waves)).sum((1, 2)) for p in (0.0, 1.0, 3.0)
    ]
    outside = [a[0] / a[1] for a in axial]
    assert outside[0] < outside[1] < outside[2]  # a wider pinhole lets more light from out of focus pass


def test_the_pinhole_has_its_radius_in_airy_units():
    """In focus and unaberrated: the Airy pattern of the excitation times the mean of that of the emission over the pinhole."""
    h = np.asarray(psf(gen.Confocal((1, 21, 21), indices=(4,)), np.zeros(1)))[0, 10, 10:15]
    nodes, weights = np.polynomial.legendre.leggauss(30)
    radius = 0.61 * 520 / (1.37 * 50) * (nodes + 1) / 2
    x, y = (radius[:, None] * f(2 * np.pi * np.arange(40) / 40) for f in (np.cos, np.sin))

    def airy(u, wavelength):
        v = 2 * np.pi * 1.37 / wavelength * 50 * np.maximum(u, 1e-9)
        return (2 * scipy.special.j1(v) / v) ** 2

    detection = [np.average(airy(np.hypot(x + i, y), 520), 0, weights=weights * radius).mean() for i in range(5)]
    exact = airy(np.arange(5.0), 488) * detection
    np.testing.assert_allclose(h / h[0], exact / exact[0], rtol=5e-3)  # tails of the pattern wrap around the frame


def test_mean_over_a_disc_of_a_plane_wave():
    """``2 J_1(x) / x`` with ``x = 2 pi r |f|``."""
    rows, columns = np.meshgrid(np.arange(12), np.arange(10), indexing="ij")
    wave = np.cos(2 * np.pi * (3 * rows / 12 + columns / 10))
    for radius in (0.5, 4.0):
        x = 2 * np.pi * radius * np.hypot(3 / 12, 1 / 10)
        np.testing.assert_allclose(
            averaged_over_disc(jnp.asarray(wave), radius), 2 * scipy.special.j1(x) / x * wave, atol=1e-14
        )


ERRORS = {
    "j: expected an index >= 1 in Noll's order, got 0": lambda: gen.noll_to_nm(0),
    "j: expected an index >= 0 in the order of ANSI, got -1": lambda: gen.ansi_to_nm(-1),
    "n, m: expected |m| <= n of the same parity, got (2, 1)": lambda: gen.zernike(2, 1, 0.5, 0.0),
    "order: expected one of": lambda: gen.Diffraction((3, 3), order="fringe"),
    "amplitude: expected a scalar or 2 values, got (3,)": lambda: gen.Diffraction((3, 3), np.ones(3), indices=(4, 5)),
    "cutoff: expected below": lambda: gen.Diffraction((3, 3), 0.1, 0.6),
    "size: expected 3 positive sizes, got (3, 3)": lambda: gen.Diffraction3D((3, 3)),
    "cutoff / wavenumber: expected below 1": lambda: gen.Diffraction3D((3, 3, 3), 0.1, 0.3, 0.25),
    "numerical_aperture / refractive_index: expected below 1": lambda: gen.Confocal((3, 3, 3), refractive_index=1.3),
    "NA pixel / excitation: expected below 0.5": lambda: gen.Confocal((3, 3, 3), pixel=200.0),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message]()
    assert message in str(error.value)
