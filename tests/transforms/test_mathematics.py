"""Transforms against NumPy, SciPy, closed forms of Gaussians, waves and ramps, group laws, and orders of convergence."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage

from invjax import transforms as tf
from invjax.transforms.homography import inverse

from .registry import IMAGE


def rng(seed=0):
    return np.random.default_rng(seed)


@eqx.filter_jit
def transformed(T, g, x):
    return T(g, x)


@eqx.filter_jit
def many(T, gs, x):
    return jax.vmap(T, (0, None))(gs, x)


def test_numbers_and_lists_are_parameters_too():
    x = rng().normal(size=IMAGE)
    np.testing.assert_array_equal(tf.Shift(IMAGE[:2])([1, 2], x), np.roll(x, (1, 2), (0, 1)))
    T = tf.FourierShift() @ tf.Rotate()
    np.testing.assert_array_equal(T(([0.5, 1], 0.3), x), T((jnp.array([0.5, 1]), jnp.asarray(0.3)), x))
    np.testing.assert_array_equal(T.operator(([0.5, 1], 0.3), IMAGE)(x), T(([0.5, 1], 0.3), x))


def blob(n, centre, sigma=1.0):
    """A Gaussian on an image of n x n pixels; centre (right, up) from the middle of the image, lengths in pixels."""
    right, down = np.meshgrid(*2 * [np.arange(n) - (n - 1) / 2])
    square = (right - centre[0]) ** 2 + (-down - centre[1]) ** 2
    return np.exp(-square / (2 * sigma**2))[..., None]


def turned(centre, angle):
    """A point (right, up), turned counter-clockwise."""
    c, s = np.cos(angle), np.sin(angle)
    return c * centre[0] - s * centre[1], s * centre[0] + c * centre[1]


# Finite groups ---------------------------------------------------------------------------------------------------------


def test_permutations_equal_numpy():
    x, square = rng().normal(size=IMAGE), rng().normal(size=(5, 5, 2))
    np.testing.assert_array_equal(tf.Shift(IMAGE[:2])(jnp.array([2, 7]), x), np.roll(x, (2, 7), (0, 1)))
    np.testing.assert_array_equal(tf.Reflect((0, 1))(jnp.array([0, 1]), x), x[:, ::-1])
    for k in range(4):
        np.testing.assert_array_equal(tf.QuarterTurns()(jnp.asarray(k), square), np.rot90(square, k))
    video = rng().normal(size=(5, 3, 2, 1))
    np.testing.assert_array_equal(tf.shift_time(5)(jnp.array([3]), video), np.roll(video, 3, 0))


@pytest.mark.parametrize("shift", [-9, -1, 3, 6])
def test_reflected_shift_equals_scipy(shift):
    x = rng().normal(size=(4, 3, 1))
    exact = scipy.ndimage.shift(x, (shift, 0, 0), order=0, mode="reflect")
    T = tf.Shift((4,), (0,), boundary="reflect")
    np.testing.assert_array_equal(transformed(T, jnp.array([shift]), x), exact)


@pytest.mark.parametrize("T", [tf.Reflect(), tf.QuarterTurns(), tf.Shift((3, 3))], ids=lambda T: type(T).__name__)
def test_group_laws_hold_exactly(T):
    x = rng().normal(size=(3, 3, 1))
    elements = T.elements()
    orbit = np.asarray(many(T, elements, x))
    assert len({a.tobytes() for a in orbit}) == len(elements)  # all different
    twice = np.asarray(jax.jit(jax.vmap(lambda g: jax.vmap(lambda h: T(g, T(h, x)))(elements)))(elements))
    pairs = jax.jit(jax.vmap(lambda g: jax.vmap(lambda h: T(T.compose(g, h), x))(elements)))(elements)
    np.testing.assert_array_equal(pairs, twice)
    back = jax.jit(jax.vmap(lambda g: T(T.inverse(g), T(g, x))))(elements)
    np.testing.assert_array_equal(back, np.broadcast_to(x, back.shape))


def test_the_dihedral_group_has_eight_elements_and_is_closed():
    x = rng().normal(size=(4, 4, 1))
    T = tf.dihedral()
    orbit = {a.tobytes() for a in np.asarray(many(T, T.elements(), x))}
    assert len(orbit) == 8
    again = jax.jit(jax.vmap(lambda g: jax.vmap(lambda h: T(g, T(h, x)))(T.elements())))(T.elements())
    assert {a.tobytes() for a in np.asarray(again).reshape(64, 4, 4, 1)} == orbit


# Phases in Fourier space -----------------------------------------------------------------------------------------------


def test_fourier_shift_of_whole_pixels_is_a_roll():
    x = rng().normal(size=(7, 9, 2))
    np.testing.assert_allclose(
        transformed(tf.FourierShift(), jnp.array([2.0, -3.0]), x), np.roll(x, (2, -3), (0, 1)), atol=1e-14
    )


@pytest.mark.parametrize("n", [8, 9])
@pytest.mark.parametrize("kind", [float, complex])
def test_shift_theorem(n, kind):
    """A wave below the Nyquist frequency moves by any fraction of a pixel; that frequency itself, of an even size, stays."""
    i, s = np.arange(n), np.array([0.3, 0.0])

    def wave(at):
        return (np.exp(6j * np.pi * at / n) if kind is complex else np.cos(6 * np.pi * at / n + 0.4))[:, None, None]

    y = transformed(tf.FourierShift(), s, wave(i) * np.ones((n, 2, 1)))
    np.testing.assert_allclose(y, wave(i - 0.3) * np.ones((n, 2, 1)), atol=1e-14)
    if n % 2 == 0:
        fastest = (-1.0) ** i[:, None, None] * np.ones((n, 2, 1), kind)
        np.testing.assert_allclose(transformed(tf.FourierShift(), s, fastest), fastest, atol=1e-15)


def test_fourier_shifts_add_up():
    T, x = tf.FourierShift(), rng().normal(size=(8, 6, 1))
    g, h = jnp.array([0.3, -1.7]), jnp.array([2.1, 0.4])
    np.testing.assert_allclose(T(g, T(h, x)), T(T.compose(g, h), x), atol=1e-14)


ANGLES = (0.3, 1.0, -2.0, 3.0)


@pytest.mark.parametrize("n", [40, 41])
def test_sheared_rotation_of_a_gaussian(n):
    """Closed form. The width of 2 pixels leaves exp(-2 pi^2) = 3e-9 at the Nyquist frequency, and the tails beyond the border
    (8.5 deviations away after shears of up to 3 pixels) less."""
    x = blob(n, (4, -2), 2.0)
    y = many(tf.ShearRotation(), jnp.asarray(ANGLES), x)
    exact = np.stack([blob(n, turned((4, -2), a), 2.0) for a in ANGLES])
    np.testing.assert_allclose(y, exact, atol=1e-7)


def test_sheared_rotations_compose_on_band_limited_images():
    T, x = tf.ShearRotation(), blob(41, (4, -2), 2.0)
    together = transformed(T, T.compose(jnp.asarray(0.5), jnp.asarray(0.9)), x)
    in_turn = transformed(T, jnp.asarray(0.5), transformed(T, jnp.asarray(0.9), x))
    np.testing.assert_allclose(in_turn, together, atol=1e-7)


@pytest.mark.parametrize("family", [tf.ShearRotation(), tf.Rotate()], ids=lambda T: type(T).__name__)
@pytest.mark.parametrize("n", [6, 7])
def test_quarter_turns_are_exact(family, n):
    x = rng().normal(size=(n, n, 2))
    y = many(family, jnp.arange(-2, 3) * jnp.pi / 2, x)
    for k, turned_image in zip(range(-2, 3), y, strict=True):
        np.testing.assert_allclose(turned_image, np.rot90(x, k), atol=1e-13)


def test_phase_errors_of_even_and_odd_lines():
    y = rng().normal(size=(5, 4, 1)) + 1j
    z = tf.RandomPhaseError()(jnp.array([0.2, -0.5]), y)
    np.testing.assert_allclose(z[::2], np.exp(0.2j) * y[::2], rtol=1e-14)
    np.testing.assert_allclose(z[1::2], np.exp(-0.5j) * y[1::2], rtol=1e-14)


# Warps -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("boundary", "mode"), [("zero", "grid-constant"), ("circular", "grid-wrap"), ("reflect", "mirror")]
)
@pytest.mark.parametrize("shape", [(5, 8), (1, 3)])
def test_interpolation_equals_scipy(boundary, mode, shape):
    r = rng()
    x, points = r.normal(size=shape), r.uniform(-12, 20, size=(2, 60))
    points = np.concatenate([points, [[0, 4, -1, 5], [7, 8, 0, 3]]], 1)  # on the grid and the border too
    exact = scipy.ndimage.map_coordinates(x, points, order=1, mode=mode)
    y = jax.jit(tf.interpolate, static_argnums=3)(x[..., None], *points, boundary)
    np.testing.assert_allclose(y[..., 0], exact, atol=1e-13)


def errors_and_order(error, sizes=(33, 65, 129)):
    errors = [error(n) for n in sizes]
    return errors, -np.polyfit(np.log(sizes), np.log(errors), 1)[0]


@pytest.mark.parametrize("case", ["forwards", "there and back", "composed", "scaled"])
def test_bilinear_warps_have_order_two(case):
    """Gaussians that are fixed in the unit of half the image: exact up to interpolation, whose error is of order two."""

    def error(n):
        half, centre = n / 2, (0.3, -0.1)
        x = blob(n, np.multiply(centre, half), 0.15 * half)
        if case == "scaled":
            y = transformed(tf.Scale(), jnp.asarray(1.3), x)
            exact = blob(n, np.multiply(centre, 1.3 * half), 1.3 * 0.15 * half)
        else:
            T, exact = tf.Rotate(), blob(n, np.multiply(turned(centre, 0.7), half), 0.15 * half)
            y = transformed(T, jnp.asarray(0.7), x)
            if case == "there and back":
                y, exact = transformed(T, T.inverse(jnp.asarray(0.7)), y), x
            if case == "composed":
                exact = transformed(T, jnp.asarray(0.4), transformed(T, jnp.asarray(0.3), x))
        return np.sqrt(np.mean((y - exact) ** 2))

    errors, order = errors_and_order(error)
    assert 1.8 < order < 2.2, (errors, order)
    assert errors[-1] < 1e-3


RAMP = (0.7, -0.4, 0.2)


def ramp(right, down):
    return (RAMP[0] * right + RAMP[1] * down + RAMP[2])[..., None]


def test_homographies_move_ramps_exactly():
    """Bilinear interpolation is exact on ramps: ``(T_g x)(p) = x(g^(-1) p)`` in closed form where that is inside."""
    right, down = np.meshgrid((np.arange(20) - 9.5) / 10, (np.arange(14) - 6.5) / 10)
    x = ramp(right, down)
    gs = jax.vmap(tf.Homography(max_angle=0.5, max_shift=0.1, max_zoom=1.2, max_stretch=1.1, max_pan=0.2).sample)(
        jax.random.split(jax.random.key(0), 4)
    )
    for g, y in zip(np.asarray(gs), many(tf.Homography(), gs, x), strict=True):
        c, r, w = np.einsum("ij,jhw->ihw", np.linalg.inv(g), np.stack([right, down, np.ones_like(down)]))
        inside = (np.abs(c / w) <= 0.95) & (np.abs(r / w) <= 0.65)
        assert inside.mean() > 0.4
        np.testing.assert_allclose(np.asarray(y)[inside], ramp(c / w, r / w)[inside], atol=1e-13)


def test_homographies_of_the_identity_and_of_subgroups():
    x, identity = rng().normal(size=IMAGE), jnp.eye(3)
    for boundary in ("zero", "circular", "reflect"):
        np.testing.assert_allclose(transformed(tf.Homography(boundary=boundary), identity, x), x, atol=1e-13)
    np.testing.assert_allclose(tf.Homography().sample(jax.random.key(0)), identity, atol=1e-15)
    angle = jnp.asarray(0.4)
    np.testing.assert_allclose(tf.Homography()(tf.rotation(angle), x), tf.Rotate()(angle, x), atol=1e-13)
    zoom = jnp.diag(jnp.array([1.2, 1.2, 1.0]))
    np.testing.assert_allclose(tf.Homography()(3.0 * zoom, x), tf.Scale()(jnp.asarray(1.2), x), atol=1e-13)
    np.testing.assert_allclose(
        transformed(tf.Rotate(), angle, x), transformed(tf.Rotate(), angle + 2 * jnp.pi, x), atol=1e-12
    )


def test_random_homographies_lie_in_their_groups(key):
    keys = jax.random.split(key, 50)

    def draws(family):
        g = np.asarray(jax.jit(jax.vmap(family.sample))(keys))
        return g, g[:, :2, :2], np.linalg.svd(g[:, :2, :2], compute_uv=False)

    g, linear, values = draws(tf.euclidean())
    np.testing.assert_allclose(values, 1, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.det(linear), 1, rtol=1e-12)
    assert np.all(np.abs(g[:, :2, 2]) <= 0.2)
    assert g[:, :2, 2].std() > 0.08
    _, _, values = draws(tf.similarity(max_zoom=1.3))
    np.testing.assert_allclose(values[:, 0], values[:, 1], rtol=1e-12)
    assert np.all((values <= 1.3) & (values >= 1 / 1.3))
    assert np.log(values).std() > 0.1
    g, _, values = draws(tf.affine())
    np.testing.assert_allclose(g[:, 2], np.broadcast_to([0, 0, 1], (50, 3)), atol=1e-15)
    assert np.max(values[:, 0] / values[:, 1]) > 1.1
    g, _, _ = draws(tf.pan_tilt_rotate(focal=2.0))
    bend = np.diag([1, 1, 2.0])  # K^(-1) g K is a rotation in space
    turns = np.linalg.inv(bend @ np.diag([1, 1, 0.25])) @ g @ (bend @ np.diag([1, 1, 0.25]))
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turns.shape), atol=1e-12)


def test_a_camera_that_pans_sees_the_centre_at_the_tangent():
    moved = tf.camera_view(0.3, 0.0, 2.0) @ jnp.array([0, 0, 1.0])
    np.testing.assert_allclose(moved / moved[2], [2 * np.tan(0.3), 0, 1], rtol=1e-12)
    moved = tf.camera_view(0.0, 0.3, 2.0) @ jnp.array([0, 0, 1.0])
    np.testing.assert_allclose(moved / moved[2], [0, -2 * np.tan(0.3), 1], rtol=1e-12)


def test_what_lies_behind_the_camera_is_zero_with_finite_derivatives():
    x = jnp.asarray(rng().normal(size=IMAGE))

    def value(pan):
        y = tf.Homography(boundary="circular")(tf.camera_view(pan, 0.0, 0.5), x)
        return jnp.sum(y**2), y

    (_, y), slope = jax.jit(jax.value_and_grad(value, has_aux=True))(jnp.pi)
    np.testing.assert_array_equal(y, 0)
    (_, y), slope = jax.jit(jax.value_and_grad(value, has_aux=True))(1.2)  # part of it
    assert jnp.any(jnp.all(y == 0, axis=(0, 2)))
    assert jnp.any(y != 0)
    assert jnp.isfinite(slope)


def test_inverse_of_a_matrix_equals_numpy():
    m = rng().normal(size=(3, 3))
    np.testing.assert_allclose(inverse(jnp.asarray(m)), np.linalg.inv(m), rtol=1e-12)


ERRORS = {
    "x: expected a square image (n, n, C), got shape (6, 8, 2)": lambda x: tf.QuarterTurns()(0, x),
    "x: expected sizes (6, 7) along the axes (0, 1), got shape (6, 8, 2)": lambda x: tf.Shift((6, 7))(
        jnp.zeros(2, int), x
    ),
    "x: expected axes (0, 2) among its spatial axes": lambda x: tf.Reflect((0, 2))(jnp.zeros(2, int), x),
    "x: expected a floating array, got int": lambda x: tf.Rotate()(0.1, x.astype(int)),
    "x: expected an image (H, W, C), got shape (1, 6, 8, 2)": lambda x: tf.Rotate()(0.1, x[None]),
    "x: expected complex k-space, got float64": lambda x: tf.RandomPhaseError()(jnp.zeros(2), x),
    "x: expected complex k-space, got float32": lambda x: tf.RandomPhaseError().operator(jnp.zeros(2), x.shape),
    "x: expected spatial axes and channels, got shape (2,)": lambda x: tf.RandomNoise()(
        (1, jax.random.key(0)), x[0, 0]
    ),
    "g: expected shape (), got (2,)": lambda x: tf.Rotate()(jnp.zeros(2), x),
    "g: expected shape (3, 3), got (3,)": lambda x: tf.Homography()(jnp.zeros(3), x),
    "g: expected shape (4, 4, 2), got (3, 4, 2)": lambda x: tf.CPABDiffeomorphism()(jnp.zeros((3, 4, 2)), x),
    "g: expected positive values, got 0.0": lambda x: tf.Scale()(0.0, x),
    "g: expected a transform with inverses, got Product": lambda x: tf.dihedral().inverse((0, (1,))),
    "g: expected transforms that compose to one of the same kind, got RandomNoise": lambda x: tf.RandomNoise().compose(
        1, 2
    ),
    "transform: expected a finite group, got Rotate": lambda x: tf.group_average(tf.Rotate(), jnp.tanh, x),
    "transform: expected a linear one, got RandomNoise": lambda x: tf.RandomNoise().operator((1, 0), IMAGE),
    "boundary: expected one of ('zero', 'circular', 'reflect'), got 'edge'": lambda x: tf.Rotate(boundary="edge"),
    "boundary: expected 'circular' or 'reflect', got 'zero'": lambda x: tf.Shift((3,), (0,), boundary="zero"),
    "sizes: expected one for each of the axes (0, 1), got (3,)": lambda x: tf.Shift((3,)),
    "max_shift: expected non-negative values, got -1": lambda x: tf.Shift((3, 3), max_shift=-1),
    "max_factor: expected at least 1 values, got 0.5": lambda x: tf.Scale(0.5),
    "cells, num_steps: expected positive integers, got (0, 3) and 10": lambda x: tf.CPABDiffeomorphism((0, 3)),
    "num_samples: expected an integer >= 1, got 0": lambda x: tf.random_average(
        jax.random.key(0), tf.Reflect(), jnp.tanh, x, num_samples=0
    ),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message](rng().normal(size=IMAGE))
    assert message in str(error.value)
