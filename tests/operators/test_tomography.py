"""X-ray transforms against closed-form line integrals and matrices from their definition; invariants; analytic reconstruction."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import data
from invjax import operators as ops
from invjax.operators.joseph import cell

from ..registry import call

DISTANCES = {"source_distance": 20.0, "detector_distance": 7.0}
FAR = {"source_distance": 80.0, "detector_distance": 30.0}
SIGMA = 5.0


reconstruct = eqx.filter_jit(ops.filtered_back_projection)


def half_turn(num):
    return np.pi * np.arange(num) / num


def frame(angles, counts, spacing):
    """``cos, sin`` and the coordinates of the detectors, shaped ``(angles, *counts)``, rows before columns."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(counts, spacing, strict=True)]
    turns = np.reshape(angles, (-1, *(1,) * len(counts)))
    return np.cos(turns), np.sin(turns), np.meshgrid(*axes, indexing="ij")


def lines(angles, counts, spacing, source=None, detector=0.0):
    """Two points on every ray, from the geometry that the module's docstring states: the source (or a point) and the detector."""
    cos, sin, (*rows, along) = frame(angles, counts, spacing)
    height = rows[0] if rows else np.zeros(())
    end = [along * cos - detector * sin, along * sin + detector * cos, height]
    start = (
        [along * cos + sin, along * sin - cos, height] if source is None else [source * sin, -source * cos, 0 * height]
    )
    return (np.stack(np.broadcast_arrays(*p, along * cos)[:3], -1)[..., : 2 + len(rows)] for p in (start, end))


def distances_to(centre, start, end):
    """Distance of a point from lines through two points."""
    d = (end - start) / np.linalg.norm(end - start, axis=-1, keepdims=True)
    v = centre - start
    return np.linalg.norm(v - np.sum(v * d, -1, keepdims=True) * d, axis=-1)


def centres(shape):
    """Coordinates ``(..., 2 or 3)`` (x, y, z) of the centres of pixels of size 1."""
    *depth, height, width = (np.arange(n) - (n - 1) / 2 for n in shape)
    grids = np.meshgrid(*depth, -height, width, indexing="ij")
    return np.stack(grids[::-1], -1)


@eqx.filter_jit
def integrals(fn, A, *arguments):
    """Closed-form line integrals along the rays of an operator."""
    return fn(*arguments, *A.rays())


def gaussian(shape, centre):
    return jnp.asarray(np.exp(-np.sum((centres(shape) - centre) ** 2, -1) / (2 * SIGMA**2)))[..., None]


CASES = {
    "parallel": ((44, 52), (60,), lambda s: ops.parallel_beam(half_turn(9), s, 60)),
    "fan": ((44, 52), (70,), lambda s: ops.fan_beam(2 * half_turn(9), s, 70, **FAR)),
    "parallel_3d": ((36, 40, 44), (38, 50), lambda s: ops.parallel_beam(half_turn(4), s, (38, 50))),
    "cone": ((36, 40, 44), (42, 56), lambda s: ops.cone_beam(2 * half_turn(5), s, (42, 56), **FAR)),
}


@pytest.mark.parametrize("name", CASES)
def test_projections_of_a_gaussian_beside_the_origin(name):
    """Fixes every sign of the geometry. Linear interpolation of a Gaussian is off by at most 1 / (8 sigma^2) along an axis."""
    shape, counts, make = CASES[name]
    A = make((*shape, 1))
    centre = np.array([4.0, -3.0, 2.0])[: len(shape)]
    spacing, distances = (1.0, ()) if "parallel" in name else (110 / 80, FAR.values())
    start, end = lines(np.asarray(A.angles), counts, [spacing] * len(counts), *distances)
    exact = np.sqrt(2 * np.pi) * SIGMA * np.exp(-(distances_to(centre, start, end) ** 2) / (2 * SIGMA**2))
    y = np.asarray(call(A, "__call__", gaussian(shape, centre)))[..., 0]
    assert np.abs(y - exact).max() <= (len(shape) - 1) * exact.max() / (8 * SIGMA**2)
    points, directions = (np.asarray(a) for a in call(A, "rays"))
    for p in (start, end):  # the rays that the operator names are these
        v = p - points
        np.testing.assert_allclose(v - np.sum(v * directions, -1, keepdims=True) * directions, 0, atol=1e-11)
    assert np.all(np.sum((end - start) * directions, -1) > 0)


def hat(t):
    return np.maximum(0, 1 - np.abs(t))


@pytest.mark.parametrize("name", ["parallel", "fan", "cone"])
def test_the_matrix_is_that_of_joseph(name):
    """Every entry, from the definition: step length times the hat of the distance from the crossing of the pixel's line."""
    shape = (2, 4, 5) if name == "cone" else (4, 5)
    counts, angles = ((4, 6) if name == "cone" else (7,)), 2 * half_turn(3) + 0.3
    make = {"parallel": ops.parallel_beam, "fan": ops.fan_beam, "cone": ops.cone_beam}[name]
    geometry = {} if name == "parallel" else DISTANCES
    A = make(angles, (*shape, 1), counts if name == "cone" else 7, pixel_size=0.5, detector_spacing=0.6, **geometry)
    start, end = lines(angles, counts, [0.6] * len(counts), *DISTANCES.values() if geometry else ())
    d, pixels = (end - start)[..., None, :], 0.5 * centres(shape).reshape(-1, len(shape))
    offset = pixels - start[..., None, :]
    vertical = np.abs(d[..., 1]) >= np.abs(d[..., 0])
    t = np.where(
        vertical, offset[..., 1] / d[..., 1], offset[..., 0] / d[..., 0]
    )  # where the ray meets the line of the pixel
    beside = (offset - t[..., None] * d) / 0.5
    matrix = np.prod(hat(beside), -1) * 0.5 * np.linalg.norm(d, axis=-1) / np.abs(d[..., :2]).max(-1)
    np.testing.assert_allclose(A.dense(), matrix.reshape(-1, len(pixels)), atol=1e-12)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_closed_form_line_integrals(dimensions):
    """Disc and ball of radius r and value v: ``2 v sqrt(r^2 - d^2)`` at the distance d, for directions of any length."""
    r = np.random.default_rng(0)
    points, ends = r.normal(size=(2, 50, dimensions))
    centre = np.array([0.1, -0.2, 0.3])
    ball = [[3.0, 0.8, 0.8, 0.8, *centre, 20.0]]
    d = distances_to(centre[:dimensions], points, ends)
    exact = 6 * np.sqrt(np.maximum(0.64 - d**2, 0))
    found = data.ellipsoid_line_integrals(ball, jnp.asarray(points), jnp.asarray(2 * (ends - points)))
    np.testing.assert_allclose(found[:, 0], exact, atol=1e-12)
    assert 5 < np.count_nonzero(exact) < 50


def test_shepp_logan():
    """Relative L2 error at most 2 % at 256, at least first-order decay; mass within 0.5 % at every angle."""
    errors = []
    for size in (64, 256):
        A = ops.parallel_beam(half_turn(30), (size, size, 1), size, pixel_size=2 / size)
        x = data.shepp_logan(size, supersample=4)
        y, exact = call(A, "__call__", x), integrals(data.shepp_logan_line_integrals, A)
        errors.append(float(jnp.linalg.norm(y - exact) / jnp.linalg.norm(exact)))
        np.testing.assert_allclose(y.sum((1, 2)) * 2 / size, x.sum() * (2 / size) ** 2, rtol=0.005)
    assert errors[1] <= 0.02
    assert errors[0] / errors[1] >= 4
    np.testing.assert_allclose(exact.sum((1, 2)) / 128, x.sum() / 128**2, rtol=0.005)


def test_rotation_slice_and_norm():
    """90 degrees of the image are 90 degrees of theta; the Fourier slice theorem within 2 %; ``|A|^2 = 0.966 x 60 x 64``."""
    n, angles = 64, half_turn(60)
    A = ops.parallel_beam(angles, (n, n, 1), n)
    x = data.random_ellipses(jax.random.key(0), n, dtype=jnp.float64)
    y = np.asarray(call(A, "__call__", x))
    turned = np.asarray(call(A, "__call__", jnp.rot90(x)))  # counter-clockwise
    np.testing.assert_allclose(turned[30:], y[:30], atol=1e-10)
    places, s = centres((n, n)), np.arange(n) - (n - 1) / 2
    for k, theta in enumerate(angles[:: len(angles) // 6]):
        u = np.array([np.cos(theta), np.sin(theta)])
        f = np.arange(12)[:, None] / (2 * n)
        slice_ = np.exp(-2j * np.pi * f * s) @ y[10 * k, :, 0]
        plane = np.exp(-2j * np.pi * f * (places @ u).ravel()) @ np.ravel(x)
        assert np.linalg.norm(slice_ - plane) <= 0.02 * np.linalg.norm(plane)
    np.testing.assert_allclose(A.norm() ** 2, 0.966 * 60 * 64, rtol=0.02)


def test_a_fan_of_a_distant_source_is_parallel():
    """The difference falls as 1 / distance."""
    x = gaussian((20, 20), np.array([3.0, 2.0]))
    parallel = call(ops.parallel_beam(2 * half_turn(7), (20, 20, 1), 24), "__call__", x)
    fans = [
        ops.fan_beam(2 * half_turn(7), (20, 20, 1), 24, source_distance=d, detector_distance=10.0) for d in (1e3, 1e4)
    ]
    near, far = (np.linalg.norm(call(A, "__call__", x) - parallel) for A in fans)
    assert 9 < near / far < 11
    assert far < 1e-2 * np.linalg.norm(parallel)


def relative_error(x, clean):
    return np.linalg.norm(np.asarray(x) - np.asarray(clean)) / np.linalg.norm(clean)


BEAMS = {
    "parallel": lambda s: ops.parallel_beam(half_turn(180), s, 64),
    "parallel, whole turn": lambda s: ops.parallel_beam(
        2 * half_turn(180), s, 90, detector_spacing=0.35, pixel_size=0.5
    ),
    "fan": lambda s: ops.fan_beam(2 * half_turn(180), s, 84, source_distance=45.0, detector_distance=20.0),
    "complex": lambda s: ops.parallel_beam(half_turn(180), s, 64, complex=True),
}


@pytest.mark.parametrize("name", BEAMS)
def test_filtered_back_projection(name):
    """Within the error of linear interpolation, ``1 / (8 sigma^2)`` to and fro: 1 % (over 45 dB) in the inscribed disc."""
    A = BEAMS[name]((48, 48, 1))
    x = gaussian((48, 48), np.array([10.0, -8.0])) * (1 + 2j if name == "complex" else 1)
    seen = np.linalg.norm(centres((48, 48)), axis=-1)[..., None] < 24
    assert relative_error(seen * reconstruct(A, call(A, "__call__", x)), seen * x) <= 1 / (4 * SIGMA**2)


WINDOWS = {"shepp-logan": 1 / 12, "cosine": 1 / 4, "hann": 1 / 2, "hamming": 0.46}


@pytest.mark.parametrize("filter", WINDOWS)
def test_windows_blur_by_their_curvature(filter):
    """A window ``1 - 2 pi^2 v f^2`` is a blur of variance v: a Gaussian changes by ``v / (sqrt(2) sigma^2)`` to first order."""
    A = BEAMS["parallel"]((48, 48, 1))
    y = call(A, "__call__", gaussian((48, 48), np.array([4.0, -3.0])))
    change = relative_error(reconstruct(A, y, filter), reconstruct(A, y))
    np.testing.assert_allclose(change, WINDOWS[filter] / (np.sqrt(2) * SIGMA**2), rtol=3 / SIGMA**2)


def test_weights_of_views_count():
    """Half of the angles twice as dense: with their weights the reconstruction is as good, without them it is not."""
    first, second = np.pi / 2 * (np.arange(90) + 0.5) / 90, np.pi / 2 + np.pi / 2 * (np.arange(45) + 0.5) / 45
    A = ops.parallel_beam(np.concatenate([first, second]), (48, 48, 1), 64)
    x = gaussian((48, 48), np.array([4.0, -3.0]))
    y = call(A, "__call__", x)
    weights = np.repeat([np.pi / 180, np.pi / 90], [90, 45])[:, None]
    assert relative_error(reconstruct(A, y, weights=weights), x) <= 1 / (4 * SIGMA**2)
    assert relative_error(reconstruct(A, y), x) > 0.1


def test_feldkamp_reconstructs_a_ball_from_exact_data():
    """In the plane of the source, away from the edge: 1 and 0 within 2 % in root mean square, their means within 0.5 %."""
    n = 32
    A = ops.cone_beam(
        2 * half_turn(90), (9, n, n, 1), (19, 48), pixel_size=2 / n, source_distance=5.0, detector_distance=3.0
    )
    y = integrals(data.ellipsoid_line_integrals, A, np.array([[1.0, 0.5, 0.5, 0.5, 0.2, -0.1, 0.0, 0.0]]))
    x = np.asarray(reconstruct(A, y, "hann"))[4, ..., 0]
    distance = np.linalg.norm(2 / n * centres((n, n)) - [0.2, -0.1], axis=-1)
    for region, value in ((distance < 0.35, 1), ((distance > 0.65) & (distance < 0.9), 0)):
        np.testing.assert_allclose(np.sqrt(np.mean((x[region] - value) ** 2)), 0, atol=0.02)
        np.testing.assert_allclose(np.mean(x[region]), value, atol=0.005)


def test_wide_detectors_see_every_pixel_when_oversampled():
    angles, shape = half_turn(3) + 0.1, (12, 12, 1)
    coarse, fine = (ops.parallel_beam(angles, shape, n, detector_spacing=s) for n, s in ((4, 4.0), (24, 4 / 6)))
    several = ops.parallel_beam(angles, shape, 4, detector_spacing=4.0, oversample=6)
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape))
    np.testing.assert_allclose(
        call(several, "apply", x), call(fine, "apply", x).reshape(3, 4, 6, 1).mean(2), atol=1e-12
    )
    ones = jnp.ones((3, 4, 1))
    assert call(coarse, "adjoint", ones).min() == 0
    assert call(several, "adjoint", ones).min() > 0


@pytest.mark.parametrize("name", ["fan", "cone"])
def test_reverse_derivatives_in_the_geometry(name):
    """Of ``|A x|^2 / 2`` in angles, spacing, pixel size and distances, against central differences in a random direction."""
    if name == "fan":
        A = ops.fan_beam(half_turn(3) + 0.3, (4, 5, 1), 6, **DISTANCES)
    else:
        A = ops.cone_beam(half_turn(3) + 0.3, (3, 4, 5, 1), (4, 6), **DISTANCES)
    r = np.random.default_rng(0)
    x = jnp.asarray(r.normal(size=A.in_structure.shape))
    energy = eqx.filter_jit(eqx.filter_value_and_grad(lambda A: jnp.sum(A(x) ** 2) / 2))
    gradient = energy(A)[1]
    leaves, tree = jax.tree.flatten(A)
    direction = [r.normal(size=a.shape) for a in leaves]
    up, down = (
        energy(tree.unflatten([a + t * d for a, d in zip(leaves, direction, strict=True)]))[0] for t in (1e-6, -1e-6)
    )
    slope = sum(np.vdot(g, d) for g, d in zip(jax.tree.leaves(gradient), direction, strict=True))
    np.testing.assert_allclose(slope, (up - down) / 2e-6, rtol=1e-6)


def test_memory_is_that_of_input_and_output():
    """A loop that kept its steps would need 128 times the output. The matched adjoint serves ``grad``, without the geometry's."""

    def temporary(fn, num):
        A = ops.parallel_beam(half_turn(num), (128, 128, 1), 128)
        x, y = jnp.zeros((128, 128, 1), jnp.float32), jnp.zeros((num, 128, 1), jnp.float32)
        return eqx.filter_jit(fn).lower(A, x, y).compile().compiled.memory_analysis().temp_size_in_bytes

    def loss(A, x, y):
        return jnp.vdot(A(x), y)

    programs = {
        "forward": (lambda A, x, y: A(x), 12),
        "adjoint": (lambda A, x, y: A.H(y), 6),
        "in x": (lambda A, x, y: jax.grad(loss, 1)(A, x, y), 6),
        "in the geometry": (lambda A, x, y: eqx.filter_grad(loss)(A, x, y), 40),
    }
    for fn, images in programs.values():
        growth = temporary(fn, 240) - temporary(fn, 60)
        assert growth <= images * 180 * 128 * 4


def test_a_position_that_rounds_up_to_an_entry_is_still_below_it(float32):
    """Index and fraction give the exact sum in float64 to the rounding of a fraction, and no fraction is negative."""
    position = jnp.array([3.0, -2.0, 0.25, 3.0], jnp.float32)
    rest = jnp.array([-1e-8, -1e-9, 0.5, 1e-8], jnp.float32)
    index, fraction = cell(position, -0.5, 9, rest)
    np.testing.assert_array_equal(index, np.floor(np.float64(position) - 0.5 + np.float64(rest)) + 5)
    found, exact = np.float64(index) - 5 + np.float64(fraction), np.float64(position) - 0.5 + np.float64(rest)
    np.testing.assert_allclose(found, exact, rtol=0, atol=np.finfo(np.float32).eps)
    index, fraction = cell(position, 0.0, 9, rest)  # where the sums round to whole numbers
    np.testing.assert_array_equal(index, [7, 2, 5, 8])
    np.testing.assert_allclose(fraction, [1, 1, 0.75, 0], rtol=0, atol=np.finfo(np.float32).eps)
    assert fraction.min() >= 0


def test_weights_of_parallel_rays_are_those_of_their_transpose(float32):
    """As a user compiles them, to the rounding of ``1 - (1 - w)`` at step lengths up to the root of 2; none is negative."""
    A = ops.parallel_beam(jnp.array([0.3, 0.79, 1.2, 2.5]), (128, 128, 1), 180)
    pixels = np.random.default_rng(0).choice(128**2, 200, replace=False)
    units = (np.arange(128**2) == pixels[:, None]).astype(np.float32)
    rays = np.eye(4 * 180, dtype=np.float32)

    def optimised(fn, batch):
        program = jax.jit(lambda batch: jax.lax.map(fn, batch)).lower(batch)
        return np.asarray(program.compile(compiler_options={"xla_backend_optimization_level": 3})(batch))

    forward = optimised(A.apply, units.reshape(-1, 128, 128, 1)).reshape(200, -1)
    back = optimised(A.adjoint, rays.reshape(-1, 4, 180, 1)).reshape(-1, 128**2)[:, pixels].T
    np.testing.assert_allclose(forward, back, rtol=0, atol=2**0.5 * 2 * np.finfo(np.float32).eps)
    assert np.count_nonzero(forward) > 1000
    assert forward.min() >= 0


@pytest.mark.parametrize("beam", ["parallel", "fan"])
def test_dot_test_at_a_realistic_size_in_float32(key, beam):
    """Projection and transpose compute their weights alike, so rounding of positions does not part them."""
    if beam == "parallel":
        A = ops.parallel_beam(half_turn(20), (128, 128, 1), 180)
    else:
        A = ops.fan_beam(2 * half_turn(20), (128, 128, 1), 160, source_distance=300.0, detector_distance=100.0)
    assert eqx.filter_jit(ops.dot_test)(key, A) <= 5e-6


ERRORS = {
    "num_detectors: expected a number for an image": lambda: ops.parallel_beam(half_turn(3), (4, 4, 1), (3, 4)),
    "angles: expected 1 dimensions, got shape ()": lambda: ops.parallel_beam(0.0, (4, 4, 1), 4),
    "shape: expected positive integers": lambda: ops.parallel_beam(half_turn(0), (4, 4, 1), 4),
    "pixel_size: expected positive values, got 0.0": lambda: ops.parallel_beam(
        half_turn(3), (4, 4, 1), 4, pixel_size=0.0
    ),
    "detector_spacing: expected positive values": lambda: ops.parallel_beam(
        half_turn(3), (4, 4, 1), 4, detector_spacing=-1.0
    ),
    "detector_spacing: expected a scalar, got": lambda: ops.parallel_beam(
        half_turn(3), (4, 4, 1), 4, detector_spacing=(1.0, 2.0)
    ),
    "oversample: expected an integer >= 1, got 0": lambda: ops.parallel_beam(half_turn(3), (4, 4, 1), 4, oversample=0),
    "source_distance: expected at least": lambda: ops.fan_beam(
        half_turn(3), (8, 8, 1), 4, source_distance=5.0, detector_distance=5.0
    ),
    "detector_distance: expected non-negative": lambda: ops.fan_beam(
        half_turn(3), (8, 8, 1), 4, source_distance=50.0, detector_distance=-5.0
    ),
    "images need a fan_beam": lambda: ops.cone_beam(half_turn(3), (8, 8, 1), (4, 4), **DISTANCES),
    "volumes need a cone_beam": lambda: ops.fan_beam(half_turn(3), (8, 8, 8, 1), 4, **DISTANCES),
    "replace the leaves by eqx.tree_at": lambda: jax.vmap(
        lambda d: ops.fan_beam(half_turn(3), (8, 8, 1), 4, source_distance=d, detector_distance=1.0).angles
    )(jnp.arange(20.0, 22.0)),
    "filter: expected one of": lambda: ops.filtered_back_projection(
        ops.parallel_beam(half_turn(3), (4, 4, 1), 4), jnp.zeros((3, 4, 1)), "sharp"
    ),
    "y: expected shape (3, 4, 1), got (3, 5, 1)": lambda: ops.filtered_back_projection(
        ops.parallel_beam(half_turn(3), (4, 4, 1), 4), jnp.zeros((3, 5, 1))
    ),
    "ellipsoids: expected shape (n, 8), got (1, 7)": lambda: data.ellipsoid_line_integrals(
        np.ones((1, 7)), jnp.zeros((3, 2)), jnp.ones((3, 2))
    ),
    "points: expected two equal shapes": lambda: data.shepp_logan_line_integrals(jnp.zeros((3, 2)), jnp.ones((3, 3))),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message]()
    assert message in str(error.value)
