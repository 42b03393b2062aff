"""Space-varying and tiled blurs against direct summation with a kernel per pixel, against each other, and their reductions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal

from invjax import operators as ops

from ..registry import call, kernels

SCIPY_MODE = {"circular": "wrap", "zero": "constant", "reflect": "mirror", "replicate": "nearest"}
BOUNDARIES = ["circular", "valid", "zero", "reflect", "replicate"]
IMAGE = (11, 9, 2)
SIZE = (3, 4)


def rng(seed=0):
    return np.random.default_rng(seed)


def convolved(x, kernel, boundary):
    """SciPy's convolution of every channel."""
    kernel = np.broadcast_to(kernel if kernel.ndim == 3 else kernel[..., None], (*kernel.shape[:2], x.shape[-1]))
    if boundary == "valid":
        planes = [scipy.signal.convolve(x[..., c], kernel[..., c], mode="valid") for c in range(x.shape[-1])]
    else:
        mode = SCIPY_MODE[boundary]
        planes = [scipy.ndimage.convolve(x[..., c], kernel[..., c], mode=mode) for c in range(x.shape[-1])]
    return np.stack(planes, -1)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_sums_of_products_and_convolutions_equal_scipy(boundary):
    r = rng()
    h, x, w = r.normal(size=(3, *SIZE)), r.normal(size=IMAGE), r.normal(size=(3, 11, 9, 1))
    first = ops.SpaceVaryingBlur(h, w, IMAGE, boundary)
    exact = sum(convolved(w[k] * x, h[k], boundary) for k in range(3))
    np.testing.assert_allclose(call(first, "apply", x), exact, atol=1e-12)
    v = w[:, : exact.shape[0], : exact.shape[1]]
    second = ops.SpaceVaryingBlur(h, v, IMAGE, boundary, order="convolution_product")
    exact = sum(v[k] * convolved(x, h[k], boundary) for k in range(3))
    np.testing.assert_allclose(call(second, "apply", x), exact, atol=1e-12)


def test_direct_summation_with_a_kernel_per_pixel():
    """An input pixel spreads ``sum_k w_k h_k`` (first order), or an output pixel gathers with it (second)."""
    r = rng(1)
    h, x, w = r.normal(size=(2, *SIZE, 2)), r.normal(size=IMAGE), r.uniform(size=(2, 11, 9, 1))
    spread, gathered = np.zeros(IMAGE), np.zeros(IMAGE)
    for i, j in np.ndindex(11, 9):
        for a, b in np.ndindex(SIZE):
            p, q = i + a - SIZE[0] // 2, j + b - SIZE[1] // 2
            if 0 <= p < 11 and 0 <= q < 9:
                spread[p, q] += np.sum(w[:, i, j] * h[:, a, b], 0) * x[i, j]
                gathered[p, q] += np.sum(w[:, p, q] * h[:, a, b], 0) * x[i, j]
    for order, exact in (("product_convolution", spread), ("convolution_product", gathered)):
        A = ops.SpaceVaryingBlur(h, w, IMAGE, "zero", order=order)
        np.testing.assert_allclose(call(A, "apply", x), exact, atol=1e-12)


@pytest.mark.parametrize("boundary", ["circular", "valid"])
def test_one_kernel_with_weight_one_is_a_blur(boundary):
    r = rng(2)
    h, x = r.normal(size=SIZE), r.normal(size=IMAGE)
    A, B = ops.SpaceVaryingBlur(h[None], np.ones((1, 11, 9, 1)), IMAGE, boundary), ops.Blur(h, IMAGE, boundary)
    np.testing.assert_allclose(call(A, "apply", x), call(B, "apply", x), atol=1e-13)


def test_one_order_is_the_transpose_of_the_other():
    """``(h_k * w_k .)^T`` is ``w_k`` times the correlation with ``h_k``, here with a circular boundary and odd kernels."""
    r = rng(3)
    h, w, y = r.normal(size=(2, 3, 5)), r.normal(size=(2, 11, 9, 1)), r.normal(size=IMAGE)
    A = ops.SpaceVaryingBlur(h, w, IMAGE)
    B = ops.SpaceVaryingBlur(h[:, ::-1, ::-1], w, IMAGE, order="convolution_product")
    np.testing.assert_allclose(call(A, "adjoint", y), call(B, "apply", y), atol=1e-12)


@pytest.mark.parametrize(("size", "tiles", "overlap"), [(11, 3, 3), (9, 2, 3), (12, 4, 0), (7, 1, 2), (100, 7, 10)])
def test_windows_are_a_partition_of_unity(size, tiles, overlap):
    windows = ops.partition_windows(size, tiles, overlap)
    assert windows.shape == (tiles, size)
    np.testing.assert_allclose(windows.sum(0), 1, atol=1e-15)
    assert windows.min() >= 0
    assert np.count_nonzero(windows, axis=0).max() <= 2
    np.testing.assert_array_equal(windows.argmax(1), np.maximum.accumulate(windows.argmax(1)))


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_tiles_equal_their_definition_and_equal_tiles_are_a_blur(boundary):
    r = rng(4)
    h, x = r.normal(size=(3, 2, *SIZE)), r.normal(size=IMAGE)
    A = ops.TiledBlur(h, IMAGE, (2, 3), boundary)
    rows, columns = ops.partition_windows(11, 3, 2), ops.partition_windows(9, 2, 3)
    modes = {"circular": "wrap", "zero": "constant", "reflect": "reflect", "replicate": "edge"}
    reach = [((k - 1) // 2, k // 2) if boundary != "valid" else (0, 0) for k in SIZE]
    extended = np.pad(x, [*reach, (0, 0)], mode=modes.get(boundary, "constant"))
    rows, columns = (np.pad(v, [(0, 0), e], mode="edge") for v, e in zip((rows, columns), reach, strict=True))
    exact = sum(
        convolved(rows[i][:, None, None] * columns[j][:, None] * extended, h[i, j], "valid")
        for i, j in np.ndindex(3, 2)
    )
    np.testing.assert_allclose(call(A, "apply", x), exact, atol=1e-12)
    same = ops.TiledBlur(np.broadcast_to(h[0, 0], h.shape), IMAGE, (2, 3), boundary)
    np.testing.assert_allclose(call(same, "apply", x), call(ops.Blur(h[0, 0], IMAGE, boundary), "apply", x), atol=1e-12)


def test_tiles_of_a_volume_are_a_space_varying_blur():
    r = rng(5)
    shape, h = (4, 5, 6, 1), rng(5).normal(size=(2, 1, 2, 2, 3, 2))
    x = r.normal(size=shape)
    axes = [ops.partition_windows(*a) for a in ((4, 2, 1), (5, 1, 1), (6, 2, 1))]
    w = np.einsum("ai,bj,ck->abcijk", *axes).reshape(4, 4, 5, 6, 1)
    whole = ops.SpaceVaryingBlur(h.reshape(4, 2, 3, 2), w, shape, "zero")
    np.testing.assert_allclose(
        call(ops.TiledBlur(h, shape, 1, "zero"), "apply", x), call(whole, "apply", x), atol=1e-12
    )


def test_memory_does_not_grow_with_the_number_of_tiles():
    x = jnp.zeros((256, 256, 1), jnp.float32)

    def temporary(tiles):
        A = ops.TiledBlur(np.ones((tiles, tiles, 5, 5), np.float32), (256, 256, 1), 4)
        return eqx.filter_jit(lambda A, x: A(x)).lower(A, x).compile().compiled.memory_analysis().temp_size_in_bytes

    assert temporary(16) < 2 * temporary(4)


def test_gradients_in_kernels_and_weights_equal_central_differences():
    r = rng(6)
    h, w, x = kernels(r, (2,), SIZE), r.uniform(size=(2, 11, 9, 1)), r.normal(size=IMAGE)
    dh, dw = r.normal(size=h.shape), r.normal(size=w.shape)

    @jax.jit
    def energy(t):
        return jnp.sum(ops.SpaceVaryingBlur(h + t * dh, w + t * dw, IMAGE)(x) ** 2)

    @jax.jit
    def tiled(t):
        return jnp.sum(ops.TiledBlur((h + t * dh)[:, None], IMAGE, 2)(x) ** 2)

    for f, order in ((energy, 4), (tiled, 2)):
        step = 1e-3 if order == 4 else 1e-2
        third = (f(step) - f(-step)) / (2 * step)
        half = (f(step / 2) - f(-step / 2)) / step
        exact = (4 * half - third) / 3  # exact for polynomials of degree 4 but for rounding
        np.testing.assert_allclose(jax.grad(f)(0.0), exact, rtol=1e-9)


def test_a_valid_blur_of_awkward_size_equals_scipy():
    """The grid of the transform is then larger than the image."""
    r = rng(7)
    h, x = r.normal(size=SIZE), r.normal(size=(7, 11, 1))
    np.testing.assert_allclose(call(ops.Blur(h, x.shape, "valid"), "apply", x), convolved(x, h, "valid"), atol=1e-12)


H, W = np.ones((2, 3, 3)), np.ones((2, 8, 6, 1))
ERRORS = {
    "weights: expected shape (2, 8, 6, 1) or (2, 8, 6, 2), got (2, 8, 5, 1)": lambda: ops.SpaceVaryingBlur(
        H, W[:, :, :5], (8, 6, 2)
    ),
    "weights: expected shape (2, 6, 4, 1) or": lambda: ops.SpaceVaryingBlur(
        H, W, (8, 6, 2), "valid", order="convolution_product"
    ),
    "kernels: expected a leading axis of kernels and 2 spatial axes": lambda: ops.SpaceVaryingBlur(H[0], W, (8, 6, 2)),
    "kernel: expected 1 or 2 channels, got 3": lambda: ops.SpaceVaryingBlur(np.ones((2, 3, 3, 3)), W, (8, 6, 2)),
    "order: expected one of": lambda: ops.SpaceVaryingBlur(H, W, (8, 6, 2), order="sum"),
    "weights: expected real weights": lambda: ops.SpaceVaryingBlur(H, 1j * W, (8, 6, 2)),
    "boundary: expected one of": lambda: ops.TiledBlur(np.ones((2, 2, 3, 3)), (8, 6, 2), 1, "mirror"),
    "kernels: expected 4 or 5 axes for shape (8, 6, 2), got (2, 3, 3)": lambda: ops.TiledBlur(H, (8, 6, 2), 1),
    "kernels: expected 1 or 2 channels, got 3": lambda: ops.TiledBlur(np.ones((2, 2, 3, 3, 3)), (8, 6, 2), 1),
    "kernels: expected at most the image size": lambda: ops.TiledBlur(np.ones((1, 1, 9, 3)), (8, 6, 2), 1),
    "kernels: expected real kernels": lambda: ops.TiledBlur(1j * np.ones((1, 1, 3, 3)), (8, 6, 2), 1),
    "overlap: expected an integer or 2 of them, got (1,)": lambda: ops.TiledBlur(
        np.ones((2, 2, 3, 3)), (8, 6, 2), (1,)
    ),
    "tiles: expected tiles at least twice the overlap wide on 8 pixels, got 4 with overlap 3": lambda: ops.TiledBlur(
        np.ones((4, 1, 3, 3)), (8, 6, 2), 3
    ),
    "got 7 with overlap 0": lambda: ops.partition_windows(10, 7, 0),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message]()
    assert message in str(error.value)
