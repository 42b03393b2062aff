"""Hadamard transforms against SciPy; operators across channels against direct sums."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from invjax import operators as ops
from invjax.operators.hadamard import sequency


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("shape", [(16, 1, 1), (4, 8, 1)])
def test_hadamard_equals_the_matrix_of_scipy(shape):
    exact = np.kron(scipy.linalg.hadamard(shape[0]), scipy.linalg.hadamard(shape[1])) / np.sqrt(shape[0] * shape[1])
    A = ops.Hadamard(shape)
    np.testing.assert_allclose(A.dense(), exact, atol=1e-14)
    x = jnp.asarray(rng().normal(size=shape))
    np.testing.assert_allclose(A(A(x)), x, atol=1e-13)


@pytest.mark.parametrize("n", [1, 2, 8, 32])
def test_sequency_counts_sign_changes(n):
    changes = (np.diff(scipy.linalg.hadamard(n), axis=1) != 0).sum(1)
    np.testing.assert_array_equal(sequency(n), changes)


def test_orders():
    H = scipy.linalg.hadamard(8)
    patterns = H[:, None, :, None] * H[None, :, None, :]  # (i, j, rows, columns)
    across = (np.diff(patterns, axis=3) != 0)[:, :, 0].sum(-1)
    down = (np.diff(patterns, axis=2) != 0)[..., 0].sum(-1)
    for name, blocks in (
        ("cake_cutting", (down + 1) * (across + 1)),
        ("xy", down * across),
        ("zig_zag", down + across),
    ):
        rank = ops.hadamard_order((8, 8), name)
        assert sorted(rank.ravel()) == list(range(64))
        assert np.all(np.diff(blocks.ravel()[np.argsort(rank.ravel())]) >= 0)
    raster = (np.diff(patterns.reshape(64, 64), axis=1) != 0).sum(1)
    np.testing.assert_array_equal(ops.hadamard_order((8, 8)).ravel(), raster)
    first = np.argsort(ops.hadamard_order((8, 8), "zig_zag").ravel())[:6]
    steps = [(down.ravel()[i], across.ravel()[i]) for i in first]
    assert steps == [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1), (2, 0)]


@pytest.mark.parametrize("ordering", ["sequency", "cake_cutting", "zig_zag", "xy"])
def test_single_pixel_camera(ordering):
    A = ops.single_pixel_camera((8, 8, 1), 20, ordering)
    M = np.asarray(A.dense())
    assert np.linalg.matrix_rank(M) == 20
    np.testing.assert_allclose(A.norm(), 1, rtol=1e-14)
    y = jnp.asarray(rng().normal(size=(8, 8, 1)))
    np.testing.assert_allclose(A.pinv(y), A.H(y), atol=1e-14)
    constant = A(jnp.ones((8, 8, 1)))
    np.testing.assert_allclose(constant[0, 0, 0], 8, rtol=1e-14)  # the mean is measured first


def test_decolorise_has_the_known_norm():
    A = ops.decolorise((4, 5, 3))
    np.testing.assert_allclose(A.norm() ** 2, 0.447, atol=5e-4)
    x = rng().uniform(size=(4, 5, 3))
    exact = 0.299 * x[..., 0] + 0.587 * x[..., 1] + 0.114 * x[..., 2]
    np.testing.assert_allclose(A(jnp.asarray(x))[..., 0], exact, rtol=1e-6)


@pytest.mark.parametrize(("pattern", "colours"), [("RGGB", (0, 1, 1, 2)), ("GRBG", (1, 0, 2, 1))])
def test_demosaicing(pattern, colours):
    x = rng().uniform(size=(4, 6, 3))
    packed = np.asarray(ops.demosaicing((4, 6, 3), pattern, packed=True)(jnp.asarray(x)))[..., 0]
    for i, (row, column) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        np.testing.assert_allclose(packed[row::2, column::2], x[row::2, column::2, colours[i]], rtol=1e-15)
    spread = ops.demosaicing((4, 6, 3), pattern)
    np.testing.assert_allclose(spread(jnp.asarray(x)).sum(-1), packed, rtol=1e-15)
    assert spread.norm() == ops.demosaicing((4, 6, 3), pattern, packed=True).norm() == 1


def test_unmixing_inverts_the_endmembers():
    endmembers = rng().uniform(size=(7, 3))
    A = ops.ChannelMatrix(endmembers, (4, 5, 3))
    x = rng(1).uniform(size=(4, 5, 3))
    y = np.einsum("kc,hwc->hwk", endmembers, x)
    np.testing.assert_allclose(A(jnp.asarray(x)), y, rtol=1e-14)
    np.testing.assert_allclose(A.pinv(jnp.asarray(y)), x, atol=1e-12)
    np.testing.assert_allclose(A.norm(), np.linalg.norm(endmembers, 2), rtol=1e-12)


def test_pansharpening_stacks_both_images():
    A = ops.pansharpening((12, 10, 3), 2, (0.2, 0.3, 0.5))
    x = jnp.asarray(rng().uniform(size=(12, 10, 3)))
    low, pan = A(x)
    np.testing.assert_allclose(low, ops.downsampling((12, 10, 3), 2)(x), atol=1e-14)
    np.testing.assert_allclose(pan[..., 0], x @ jnp.array([0.2, 0.3, 0.5]), atol=1e-7)


@pytest.mark.parametrize("per_channel", [False, True])
def test_snapshot_spectral_equals_the_double_sum(per_channel):
    r = rng()
    mask, x = r.uniform(size=(4, 5, 3 if per_channel else 1)), r.uniform(size=(4, 5, 3))
    y = np.zeros((4, 7, 1))
    for c in range(3):
        for w in range(5):
            y[:, w + c, 0] += mask[:, w, c if per_channel else 0] * x[:, w, c]
    A = ops.SnapshotSpectral(mask, (4, 5, 3))
    np.testing.assert_allclose(A(jnp.asarray(x)), y, rtol=1e-14)
    np.testing.assert_allclose(A.norm(), np.linalg.norm(A.dense(), 2), rtol=1e-12)
    assert A.norm() ** 2 <= 3 * mask.max() ** 2
    np.testing.assert_allclose(ops.SnapshotSpectral(np.ones((4, 5, 1)), (4, 5, 3)).norm() ** 2, 3, rtol=1e-14)


ERRORS = {
    "shape: expected spatial sizes that are powers of two, and channels, got (6, 8, 1)": lambda: ops.Hadamard(
        (6, 8, 1)
    ),
    "num_measurements: expected 1 to the number of pixels": lambda: ops.single_pixel_camera((4, 4, 1), 17),
    "ordering: expected one of": lambda: ops.single_pixel_camera((4, 4, 1), 3, "random"),
    "matrix: expected a matrix with 3 columns, got shape (2, 2)": lambda: ops.ChannelMatrix(np.ones((2, 2)), (4, 5, 3)),
    "matrix: expected a real matrix for real images": lambda: ops.ChannelMatrix(np.ones((2, 3)) * 1j, (4, 5, 3)),
    "shape: expected (H, W, 3), got (4, 5, 1)": lambda: ops.demosaicing((4, 5, 1)),
    "pattern: expected one of": lambda: ops.demosaicing((4, 5, 3), "RGB"),
    "mask: expected shape (4, 5, 1) or (4, 5, 3), got (5, 4, 1)": lambda: ops.SnapshotSpectral(
        np.ones((5, 4, 1)), (4, 5, 3)
    ),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message]()
    assert message in str(error.value)
