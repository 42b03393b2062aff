"""Non-uniform Fourier transforms against direct sums; density compensation, trajectories and radio interferometry."""

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import operators as ops

from ..registry import call


def rng(seed=0):
    return np.random.default_rng(seed)


def complex_normal(r, shape):
    return r.normal(size=shape) + 1j * r.normal(size=shape)


def direct(points, x):
    """``N^(-1/2) sum_r x_r exp(-i <k, r>)`` for ``(*before, *grid, C)``."""
    d = points.shape[1]
    grid = x.shape[-1 - d : -1]
    r = np.stack(np.meshgrid(*(np.arange(n) - n // 2 for n in grid), indexing="ij"), -1).reshape(-1, d)
    M = np.exp(-1j * points @ r.T) / np.sqrt(len(r))
    return np.einsum("mp,...pc->...mc", M, x.reshape(*x.shape[: -1 - d], -1, x.shape[-1]))


def relative(a, b):
    return np.linalg.norm(np.asarray(a) - b) / np.linalg.norm(b)


@eqx.filter_jit
def normal(A, x):
    """``A^H A x`` in one piece and in two, and ``A x``."""
    y = A(x)
    return A.gram(x), A.H(y), y


CASES = {"2d": ((20, 33, 2), 2), "coils": ((3, 9, 8, 1), 2), "3d": ((6, 5, 7, 1), 3)}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_direct_sum(case):
    shape, d = CASES[case]
    points, x = rng().uniform(-np.pi, np.pi, (50, d)), complex_normal(rng(1), shape)
    exact = direct(points, x)
    A = ops.NUFFT(points, shape)
    assert relative(call(A, "apply", jnp.asarray(x)), exact) <= 1e-11
    single = call(A, "apply", jnp.asarray(x, jnp.complex64))
    assert single.dtype == jnp.complex64
    assert relative(single, exact) <= 1e-5  # 1e-4 is asked for
    y = complex_normal(rng(2), exact.shape)
    back = call(A, "adjoint", jnp.asarray(y))
    np.testing.assert_allclose(np.vdot(back, x), np.vdot(y, exact), rtol=1e-11)


def test_accuracy_follows_eps():
    shape, points = (16, 12, 1), rng().uniform(-np.pi, np.pi, (40, 2))
    x = complex_normal(rng(1), shape)
    coarse, fine = (
        relative(call(ops.NUFFT(points, shape, eps=eps), "apply", x), direct(points, x)) for eps in (1e-3, 1e-9)
    )
    assert 1e-6 < coarse <= 1e-2  # the kernel is chosen by a rule of thumb, good to a small factor
    assert fine <= 1e-8


def test_points_on_the_grid_give_the_fft_and_are_periodic():
    shape = (8, 6, 2)
    grid = [2 * np.pi * (np.arange(n) - n // 2) / n for n in shape[:2]]
    points = np.stack(np.meshgrid(*grid, indexing="ij"), -1).reshape(-1, 2)
    x = complex_normal(rng(), shape)
    exact = np.asarray(call(ops.FourierTransform(shape, centred=True), "apply", x)).reshape(-1, 2)
    for shift in (0, 2 * np.pi):
        np.testing.assert_allclose(call(ops.NUFFT(points + shift, shape), "apply", x), exact, atol=1e-11)


def test_gradients_in_the_points_equal_the_direct_ones():
    """Of the transform and of the adjoint, on the grid too, and once more."""
    shape, x = (6, 5, 1), jnp.asarray(complex_normal(rng(1), (6, 5, 1)))
    points = jnp.asarray(rng().uniform(-np.pi, np.pi, (7, 2))).at[0].set(0.0)
    y = jnp.asarray(complex_normal(rng(2), (7, 1)))
    rows, columns = np.meshgrid(np.arange(6) - 3, np.arange(5) - 2, indexing="ij")

    def matrix(points):
        phase = points[:, 0, None] * rows.ravel() + points[:, 1, None] * columns.ravel()
        return jnp.exp(-1j * phase) / np.sqrt(30)

    def fast(points):
        A = ops.NUFFT(points, shape)
        return jnp.sum(jnp.abs(A(x) - y) ** 4) + jnp.sum(jnp.abs(A.H(y) - x) ** 4)

    def slow(points):
        M = matrix(points)
        return jnp.sum(jnp.abs(M @ x.reshape(-1, 1) - y) ** 4) + jnp.sum(
            jnp.abs(M.conj().T @ y - x.reshape(-1, 1)) ** 4
        )

    direction = jnp.asarray(rng(3).normal(size=(7, 2)))
    (first, second), (exact_first, exact_second) = (
        jax.jit(lambda p, f=f: jax.jvp(jax.grad(f), (p,), (direction,)))(points) for f in (fast, slow)
    )
    np.testing.assert_allclose(first, exact_first, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(second, exact_second, rtol=1e-9, atol=1e-8)


def test_batches_of_batches_and_of_points():
    shape = (2, 6, 5, 1)
    points, x = jnp.asarray(rng().uniform(-3, 3, (2, 7, 2))), jnp.asarray(complex_normal(rng(1), (2, 3, *shape)))
    many = jax.jit(jax.vmap(lambda p, x: jax.vmap(ops.NUFFT(p, shape))(x)))(points, x)
    for i in range(2):
        np.testing.assert_allclose(many[i], direct(np.asarray(points[i]), np.asarray(x[i])), atol=1e-11)


@pytest.mark.parametrize("complex", [True, False])
def test_the_normal_operator_is_a_convolution(complex):
    shape = (9, 8, 2)
    points, weights = rng().uniform(-np.pi, np.pi, (60, 2)), rng(1).uniform(0.5, 2, 60)
    A = ops.NUFFT(points, shape, weights, complex=complex)
    x = complex_normal(rng(2), shape) if complex else rng(2).normal(size=shape)
    for dtype, tolerance in ((jnp.complex128, 1e-11), (jnp.complex64, 1e-5)):  # 1e-3 is asked for in float32
        u = jnp.asarray(x, dtype if complex else jnp.finfo(dtype).dtype)
        gram, exact, _ = normal(A, u)
        assert relative(gram, np.asarray(exact)) <= tolerance
        assert gram.dtype == u.dtype
    assert isinstance(eqx.filter_eval_shape(lambda A: A.gram, A), ops.Toeplitz)


def test_the_normal_operator_of_coils_is_fast_too_and_solves_use_it():
    shape = (9, 8, 1)
    maps = complex_normal(rng(1), (3, *shape))
    A = ops.non_cartesian_mri(rng().uniform(-np.pi, np.pi, (60, 2)), shape, maps)
    x, y = complex_normal(rng(2), shape), complex_normal(rng(3), (3, 60, 1))
    gram, exact, seen = normal(A, x)
    np.testing.assert_allclose(gram, exact, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(seen, direct(A.outer.points, maps * x), atol=1e-11)
    program = jax.make_jaxpr(lambda A, x, y: A.prox(x, y, 0.5))(A, x, y)
    # One transform for A^H y and one for the kernel; inside the loop of the solver there are only FFTs.
    assert str(program).count("nufft_spread[") == 2
    assert "nufft_interpolate[" not in str(program)


def test_least_squares_by_the_normal_operator_equals_dense_algebra():
    shape = (6, 5, 1)
    points, weights = rng().uniform(-np.pi, np.pi, (90, 2)), rng(1).uniform(0.5, 2, 90)
    A = ops.NUFFT(points, shape, weights)
    M = weights[:, None] * direct(points, np.eye(30).reshape(30, *shape)).squeeze(-1).T
    y = complex_normal(rng(2), (90, 1))
    exact = np.linalg.lstsq(M, y[:, 0])[0]
    np.testing.assert_allclose(np.ravel(call(A, "pinv", y)), exact, rtol=1e-8, atol=1e-8)


def blob(n, dtype=np.float64):
    g = np.arange(n) - n // 2
    return np.exp(-((g[:, None] - 3) ** 2 + (g + 4) ** 2 / 2) / 8)[..., None].astype(dtype)


@eqx.filter_jit
def compensated(density, points, x):
    """A density, and the image that it gives back."""
    A, weights = ops.NUFFT(points, x.shape), density(points, x.shape)
    return weights, A.H(weights[:, None] * A(x))


def test_density_compensation_inverts_what_is_sampled_well():
    n, x, errors = 32, blob(32), {}
    for samples in (64, 128):  # spokes and samples twice and four times as dense as the pixels need
        points = ops.radial_trajectory(104 * samples // 64, samples)
        ramp, back = compensated(ops.ramp_density, points, x)
        np.testing.assert_allclose(ramp.sum(), np.pi / 4 * n**2, rtol=1e-12)
        errors[samples] = relative(back, x)
    assert errors[64] <= 0.03
    assert errors[128] <= errors[64] / 3  # second order in the spacing
    points = ops.radial_trajectory(104, 64)
    assert relative(compensated(ops.pipe_menon_density, points, x)[1], x) <= 2e-3


def test_the_density_of_a_cartesian_grid_is_one():
    grid = np.stack(np.meshgrid(np.arange(8) - 4, np.arange(6) - 3, indexing="ij"), -1).reshape(-1, 2)
    points = 2 * np.pi * grid / np.array([8, 6])
    np.testing.assert_allclose(ops.pipe_menon_density(points, (8, 6, 1), 3), 1, atol=1e-10)
    twice = np.concatenate([points, points])  # every point twice: half the weight
    np.testing.assert_allclose(ops.pipe_menon_density(twice, (8, 6, 1), 3), 0.5, atol=1e-10)


def test_trajectories(key):
    radial = np.asarray(ops.radial_trajectory(4, 6)).reshape(4, 6, 2)
    np.testing.assert_allclose(radial[0], np.stack([np.zeros(6), np.pi * np.arange(-3, 3) / 3], 1), atol=1e-15)
    np.testing.assert_allclose(radial[2], radial[0][:, ::-1], atol=1e-15)  # a quarter turn
    golden = np.asarray(ops.golden_angle_trajectory(55, 2)).reshape(55, 2, 2)[:, 0]
    angles = np.sort(np.arctan2(golden[:, 0], golden[:, 1]) % np.pi)
    gaps = np.diff(np.append(angles, angles[0] + np.pi))
    # For a Fibonacci number of spokes there are two gaps, in the golden ratio.
    np.testing.assert_allclose(gaps.max() / gaps.min(), (1 + np.sqrt(5)) / 2, rtol=1e-9)
    spiral = np.asarray(ops.spiral_trajectory(3, 200, 5.0)).reshape(3, 200, 2)
    radius = np.linalg.norm(spiral, axis=-1)
    np.testing.assert_allclose(radius, np.broadcast_to(np.pi * np.arange(200) / 200, (3, 200)), atol=1e-14)
    np.testing.assert_allclose(
        spiral[0, 40:80] @ [1, 0],
        spiral[0, :40] @ [1, 0] + np.pi / 5 * np.sin(2 * np.pi * 5 * np.arange(40) / 200),
        atol=1e-12,
    )
    drawn = np.asarray(ops.random_trajectory(key, 1000, 3))
    assert drawn.shape == (1000, 3)
    assert np.all(np.abs(drawn) <= np.pi)
    assert np.all(np.abs(drawn.mean(0)) <= 4 * np.pi / np.sqrt(3 * 1000))


def test_a_point_source_has_a_known_visibility():
    shape, pixel = (12, 16, 1), 2e-6
    sky = np.zeros(shape)
    sky[8, 5] = 3.0
    uv = rng().uniform(-2e5, 2e5, (30, 2))
    uv[0] = 0
    east, north = (5 - 8) * pixel, (8 - 6) * pixel
    exact = 3 * np.exp(-2j * np.pi * uv @ [east, north])
    y = call(ops.radio_interferometry(uv, shape, pixel), "apply", sky)
    np.testing.assert_allclose(y[:, 0], exact, atol=1e-10)
    assert jax.eval_shape(ops.radio_interferometry(uv, shape, pixel).H, y).dtype == jnp.float64
    weights = rng(1).uniform(size=30)
    y = call(ops.radio_interferometry(uv, shape, pixel, weights), "apply", sky)
    np.testing.assert_allclose(y[:, 0], weights * exact, atol=1e-10)


def test_baselines_draw_ellipses():
    antennas, hours = rng().normal(size=(4, 3)) * 100, np.linspace(-2, 2, 9)
    dec, lat, wavelength = 0.6, 0.9, 0.21
    uv = np.asarray(ops.earth_rotation_uv(antennas, hours, declination=dec, latitude=lat, wavelength=wavelength))
    assert uv.shape == (9 * 6, 2)
    first, second = np.triu_indices(4, 1)
    east, north, up = (antennas[second] - antennas[first]).T / wavelength
    z = north * np.cos(lat) + up * np.sin(lat)
    across = east**2 + (up * np.cos(lat) - north * np.sin(lat)) ** 2
    u, v = uv.reshape(9, 6, 2).transpose(2, 0, 1)
    np.testing.assert_allclose(u**2 + ((v - z * np.cos(dec)) / np.sin(dec)) ** 2, np.tile(across, (9, 1)), rtol=1e-11)
    # At transit u is the component to the east; at the pole in the zenith v is that to the north.
    np.testing.assert_allclose(u[4], east, rtol=1e-12)
    zenith = np.asarray(ops.earth_rotation_uv(antennas, 0.0, declination=lat, latitude=lat, wavelength=wavelength))
    np.testing.assert_allclose(zenith, np.stack([east, north], 1), atol=1e-9)


def test_wrong_input_is_refused():
    shape = (6, 5, 1)
    with pytest.raises(ValueError, match=r"points: expected a shape \(M, 2\) or \(M, 3\)"):
        ops.NUFFT(np.zeros((4, 1)), shape)
    with pytest.raises(ValueError, match="with M > 0"):
        ops.NUFFT(np.zeros((0, 2)), shape)
    with pytest.raises(ValueError, match="shape: expected 3 spatial axes"):
        ops.NUFFT(np.zeros((4, 3)), shape)
    with pytest.raises(ValueError, match="weights: expected shape"):
        ops.NUFFT(np.zeros((4, 2)), shape, np.ones(3))
    with pytest.raises(ValueError, match="eps: expected positive"):
        ops.NUFFT(np.zeros((4, 2)), shape, eps=0.0)
    with pytest.raises(ValueError, match="kernel: expected twice"):
        ops.Toeplitz(np.zeros((6, 5)), shape)
    with pytest.raises(ValueError, match="pixel_size: expected positive"):
        ops.radio_interferometry(np.zeros((4, 2)), shape, -1.0)


def test_without_the_optional_package_the_message_says_what_to_install():
    code = """
import sys
sys.modules["nufftax"] = None
from invjax.operators import NUFFT
A = NUFFT([[0.0, 0.0]], (4, 4, 1))
try:
    A(__import__("jax").numpy.ones((4, 4, 1)))
except ImportError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'invjax[nufft]'" in ran.stdout


def test_points_are_leaves():
    A = ops.NUFFT(np.zeros((4, 2), int), (6, 5, 1), np.ones(4))
    assert len(jax.tree.leaves(eqx.filter(A, eqx.is_inexact_array))) == 2
