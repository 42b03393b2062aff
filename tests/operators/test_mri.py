"""Cartesian MRI against NumPy's FFT and its known spectra; coil maps against their geometry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import operators as ops

from ..registry import call

SHAPE = (8, 6, 1)


def rng(seed=0):
    return np.random.default_rng(seed)


def image(shape=SHAPE):
    r = rng(5)
    return r.normal(size=shape) + 1j * r.normal(size=shape)


def fourier(x, axes):
    return np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(x, axes), axes=axes, norm="ortho"), axes)


@pytest.mark.parametrize("shape", [(8, 6, 2), (3, 4, 5, 1)])
def test_multi_coil_equals_numpy(shape):
    axes = tuple(range(1, len(shape)))
    maps = image((3, *shape[:-1], 1))
    mask = rng().uniform(size=(*shape[:-1], 1)) > 0.4
    y = ops.multi_coil_mri(mask, maps, shape)(image(shape))
    assert y.shape == (3, *shape)
    np.testing.assert_allclose(y, mask * fourier(maps * image(shape), axes), atol=1e-13)


def test_a_full_mask_and_normalised_maps_give_an_isometry():
    maps = ops.normalise_maps(image((4, 8, 6, 1)))
    for mask in (None, np.ones(SHAPE)):
        A = ops.multi_coil_mri(mask, maps, SHAPE)
        np.testing.assert_allclose(A.gram(image()), image(), atol=1e-13)
        np.testing.assert_allclose(A.norm(), 1, rtol=1e-9)


def test_the_norm_is_that_of_the_maps_for_a_full_mask_and_below_it_otherwise():
    maps = image((4, 8, 6, 1))
    most = np.sqrt(np.max(np.sum(np.abs(maps) ** 2, axis=0)))
    np.testing.assert_allclose(ops.multi_coil_mri(None, maps, SHAPE).norm(), most, rtol=1e-13)
    mask = rng().uniform(size=SHAPE) > 0.4
    assert ops.multi_coil_mri(mask, maps, SHAPE).norm() < 0.999 * most


def test_parallel_imaging_recovers_what_one_coil_cannot():
    maps = ops.birdcage_maps(SHAPE, 4, dtype=jnp.complex128)
    mask = np.arange(6)[None, :, None] % 2 == 0
    A = ops.multi_coil_mri(mask, maps, SHAPE)
    np.testing.assert_allclose(call(A, "pinv", A(image())), image(), atol=1e-7)
    B = ops.single_coil_mri(mask, SHAPE)
    assert np.linalg.norm(B.pinv(B(image())) - image()) > 0.3 * np.linalg.norm(image())


def test_dynamic_equals_frame_by_frame():
    frames, maps = image((3, *SHAPE)), image((2, *SHAPE))
    masks = rng().uniform(size=(3, *SHAPE)) > 0.4
    one, several = ops.dynamic_mri(masks, frames.shape)(frames), ops.dynamic_mri(masks, frames.shape, maps)(frames)
    for t in range(3):
        np.testing.assert_allclose(one[t], ops.single_coil_mri(masks[t], SHAPE)(frames[t]), atol=1e-14)
        np.testing.assert_allclose(several[:, t], ops.multi_coil_mri(masks[t], maps, SHAPE)(frames[t]), atol=1e-14)


def test_sequential_averages_repeated_samples():
    masks = rng().uniform(size=(5, *SHAPE)) > 0.5
    A = ops.sequential_mri(masks, SHAPE)
    y = image((5, *SHAPE))
    count = masks.sum(0)
    mean = (masks * y).sum(0) / np.maximum(count, 1)
    np.testing.assert_allclose(fourier(np.asarray(A.pinv(y)), (0, 1)), mean, atol=1e-13)
    np.testing.assert_allclose(A.norm(), np.sqrt(count.max()), rtol=1e-6)


def test_birdcage_maps_have_the_geometry_of_wires():
    maps = np.asarray(ops.birdcage_maps((9, 9, 1), 4, dtype=jnp.complex128))[..., 0]
    np.testing.assert_allclose(np.sum(np.abs(maps) ** 2, axis=0), 1, rtol=1e-14)
    np.testing.assert_allclose(maps[:, 4, 4], 0.5, rtol=1e-14)  # equal, and in phase, at the centre
    np.testing.assert_allclose(np.abs(maps[1]), np.abs(maps[0]).T, rtol=1e-13)  # the wires on the two axes
    row, column = 7, 1
    x, y = 2 * (column - 4) / 9, 2 * (row - 4) / 9
    distance = [np.hypot(x - 1.5, y), np.hypot(x, y - 1.5), np.hypot(x + 1.5, y), np.hypot(x, y + 1.5)]
    ratio = np.abs(maps[:, row, column]) * distance
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-13)
    assert ops.birdcage_maps((5, 9, 9, 1), 3).shape == (3, 1, 9, 9, 1)


def test_rss_has_a_gradient_at_zero():
    x = image((3, 4, 1, 1))
    np.testing.assert_allclose(ops.rss(x), np.sqrt(np.sum(np.abs(x) ** 2, axis=0)), rtol=1e-14)
    np.testing.assert_array_equal(jax.grad(lambda x: ops.rss(x).sum())(jnp.zeros((2, 3))), 0)
    np.testing.assert_array_equal(ops.normalise_maps(jnp.zeros((2, 3), jnp.complex128)), 0)


def test_estimated_maps_approach_the_true_ones():
    shape = (32, 24, 1)
    maps = np.asarray(ops.birdcage_maps(shape, 4, dtype=jnp.complex128))
    rows, columns = np.meshgrid(np.arange(32) - 16, np.arange(24) - 12, indexing="ij")
    x = np.exp(-((rows / 6) ** 2) - (columns / 4) ** 2)[..., None] * np.exp(0.3j)
    errors = []
    for calibration in (8, 16, 24):
        mask = (np.abs(rows) <= calibration // 2) & (np.abs(columns) <= calibration // 2)
        y = ops.multi_coil_mri(mask, maps, shape)(x)  # nothing outside the calibration region is used
        estimate = ops.estimate_maps(y, calibration)
        np.testing.assert_allclose(ops.rss(estimate), 1, rtol=1e-12)
        errors.append(np.max(np.abs(estimate - maps * np.exp(0.3j))[:, np.abs(x)[..., 0] > 0.1]))
    # The window blurs over a width that is the inverse of its size, and smooth maps change by the square of that.
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.05


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="maps: expected a shape"):
        ops.multi_coil_mri(None, image(SHAPE), SHAPE)
    with pytest.raises(ValueError, match="maps: expected real maps"):
        ops.Modulation(image((2, *SHAPE)), SHAPE)
    with pytest.raises(ValueError, match="mask: expected"):
        ops.multi_coil_mri(np.ones((8, 5)), image((2, *SHAPE)), SHAPE)
    with pytest.raises(ValueError, match="axes: expected distinct"):
        ops.FourierTransform(SHAPE, axes=(1, 2))
    with pytest.raises(ValueError, match="radius: expected"):
        ops.birdcage_maps(SHAPE, 4, radius=1.0)
    with pytest.raises(ValueError, match="calibration: expected"):
        ops.estimate_maps(jnp.ones((2, 8, 6, 1), complex), 7)
