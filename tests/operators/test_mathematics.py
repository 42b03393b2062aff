"""Operators against direct summation, SciPy, PyWavelets, dense algebra and exact formulas; the algebra keeps known spectra."""

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import pywt
import scipy.ndimage
import scipy.signal

from invjax import operators as ops
from invjax.operators.spectrum import Cosine

from ..registry import call, strictly

SCIPY_MODE = {"circular": "wrap", "zero": "constant", "reflect": "mirror", "replicate": "nearest"}
IMAGE = (9, 8, 1)


def rng(seed=0):
    return np.random.default_rng(seed)


@eqx.filter_jit
def convolved(kernel, x, boundary="circular"):
    return ops.Blur(kernel, x.shape, boundary)(x)


# Blur ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("boundary", SCIPY_MODE)
@pytest.mark.parametrize("size", [(3, 4), (4, 3)])
def test_blur_equals_scipy_convolution(boundary, size):
    r = rng()
    kernel, x = r.normal(size=size), r.normal(size=IMAGE)
    y = convolved(kernel, x, boundary)
    exact = scipy.ndimage.convolve(x[..., 0], kernel, mode=SCIPY_MODE[boundary])
    np.testing.assert_allclose(y[..., 0], exact, atol=1e-13)


def test_circular_blur_equals_direct_summation():
    r = rng()
    kernel, x = r.normal(size=(3, 4)), r.normal(size=IMAGE)
    exact = np.zeros(IMAGE)
    for i in np.ndindex(kernel.shape):
        exact += kernel[i] * np.roll(x, (i[0] - 3 // 2, i[1] - 4 // 2), (0, 1))
    np.testing.assert_allclose(convolved(kernel, x), exact, atol=1e-13)


@pytest.mark.parametrize("size", [(3, 4), (9, 8), (1, 1)])
def test_valid_blur_equals_scipy(size):
    r = rng()
    kernel, x = r.normal(size=size), r.normal(size=IMAGE)
    y = convolved(kernel, x, "valid")
    np.testing.assert_allclose(y[..., 0], scipy.signal.convolve(x[..., 0], kernel, mode="valid"), atol=1e-12)


@pytest.mark.parametrize("boundary", SCIPY_MODE)
def test_volume_blur_equals_scipy(boundary):
    r = rng()
    kernel, x = r.normal(size=(2, 3, 3)), r.normal(size=(4, 5, 6))
    y = convolved(kernel, x[..., None], boundary)
    exact = scipy.ndimage.convolve(x, kernel, mode=SCIPY_MODE[boundary])
    np.testing.assert_allclose(y[..., 0], exact, atol=1e-12)


def test_blur_acts_channel_by_channel():
    r = rng()
    kernel, x = r.normal(size=(3, 3, 2)), r.normal(size=(8, 6, 2))
    y = convolved(kernel, x, "reflect")
    for c in range(2):
        exact = scipy.ndimage.convolve(x[..., c], kernel[..., c], mode="mirror")
        np.testing.assert_allclose(y[..., c], exact, atol=1e-13)


@pytest.mark.parametrize("boundary", ["circular", "valid", "replicate"])
def test_gradient_in_the_kernel_equals_central_differences(boundary):
    r = rng()
    kernel, x, direction = r.normal(size=(3, 4)), r.normal(size=IMAGE), r.normal(size=(3, 4))

    @jax.jit
    def energy_and_gradient(k):
        return jax.value_and_grad(lambda k: jnp.sum(ops.Blur(k, IMAGE, boundary)(x) ** 2))(k)

    slope, h = np.vdot(energy_and_gradient(kernel)[1], direction), 1e-4
    ends = [energy_and_gradient(kernel + s * h * direction)[0] for s in (1, -1)]
    exact = (ends[0] - ends[1]) / (2 * h)
    np.testing.assert_allclose(slope, exact, rtol=1e-8)


def test_vmap_over_kernels_equals_a_loop():
    r = rng()
    kernels, x = r.normal(size=(3, 3, 4)), r.normal(size=IMAGE)
    together = jax.jit(jax.vmap(lambda k: ops.Blur(k, IMAGE)(x)))(kernels)
    for k, y in zip(kernels, together, strict=True):
        np.testing.assert_allclose(y, convolved(k, x), atol=1e-14)
    # a batch of operators is one operator with axes
    operators = eqx.filter_jit(eqx.filter_vmap(lambda k: ops.Blur(k, IMAGE)))(kernels)
    again = eqx.filter_jit(lambda many: eqx.filter_vmap(lambda A: A(jnp.asarray(x)))(many))(operators)
    np.testing.assert_allclose(again, together, atol=1e-14)


def test_norm_of_a_positive_kernel_of_sum_one_is_one():
    kernel = rng().uniform(size=(4, 5))
    np.testing.assert_allclose(ops.Blur(kernel / kernel.sum(), IMAGE).norm(), 1, rtol=1e-14)


def test_local_mean():
    """By its definition in loops; holes of a constant image are filled by the constant, out of reach by the mean."""
    r = np.random.default_rng(0)
    x, weight = r.normal(size=(5, 4, 2)) + 1j * r.normal(size=(5, 4, 2)), r.uniform(size=(5, 4))
    places = list(np.ndindex(5, 4))
    k = np.array(
        [[weight[j] * np.exp(-((i[0] - j[0]) ** 2 + (i[1] - j[1]) ** 2) / 2.88) for j in places] for i in places]
    )
    expected = (k @ x.reshape(20, 2) / k.sum(1, keepdims=True)).reshape(x.shape)
    np.testing.assert_allclose(ops.local_mean(x, 1.2, weight), expected, rtol=1e-12)
    assert ops.local_mean(x.astype(np.complex64), 1.2).dtype == np.complex64
    mask = np.zeros((60, 50, 1))
    mask[0, :3] = 1
    filled = jax.jit(ops.local_mean)(jnp.asarray(mask * 0.3, jnp.float32), 1.0, mask)
    np.testing.assert_allclose(filled, 0.3, rtol=1e-5)
    np.testing.assert_array_equal(ops.local_mean(x, 1.0, 0.0), 0)
    widths = jnp.array([0.5, 2.0])
    both = jax.vmap(lambda w: ops.local_mean(jnp.asarray(x), w, weight))(widths)
    np.testing.assert_allclose(both[1], ops.local_mean(x, 2.0, weight), rtol=1e-12)


def test_kernels_are_normalised_and_centred():
    for name in ("gaussian", "bilinear", "bicubic", "sinc"):
        k = np.asarray(ops.antialias_kernel(name, 3))
        np.testing.assert_allclose(k.sum(), 1, rtol=1e-12)
        np.testing.assert_allclose(k, k[::-1, ::-1], atol=1e-15)
        assert k.shape[0] % 2 == 1
    g = np.asarray(ops.gaussian_kernel(1.3))
    offsets = np.arange(len(g)) - len(g) // 2
    np.testing.assert_allclose((g.sum(1) * offsets**2).sum(), 1.3**2, rtol=2e-3)  # truncated at four sigma
    energy = jax.vmap(jax.value_and_grad(lambda s: jnp.sum(ops.gaussian_kernel(s, 9) ** 2)))
    values, slopes = jax.jit(energy)(np.array([1.3, 1.3 + 1e-5, 1.3 - 1e-5]))
    np.testing.assert_allclose(slopes[0], (values[1] - values[2]) / 2e-5, rtol=1e-7)
    # Keys' cubic is exact for quadratics: its second moment over the grid vanishes.
    cubic = np.asarray(ops.antialias_kernel("bicubic", 1, 1))
    np.testing.assert_allclose(cubic, [0, 0, 1, 0, 0], atol=1e-15)


# Downsampling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "factor", "complex"), [((8, 6, 1), 2, False), ((6, 9, 2), 3, False), ((8, 6, 1), 2, True)]
)
def test_downsampling_norm_is_the_largest_mean_of_aliases(shape, factor, complex):
    kernel = rng().normal(size=(3, 4))
    A = ops.downsampling(shape, factor, kernel, complex=complex)
    centred = np.roll(np.pad(kernel, [(0, shape[0] - 3), (0, shape[1] - 4)]), (-1, -2), (0, 1))
    power = np.abs(np.fft.fft2(centred)) ** 2
    aliases = power.reshape(factor, shape[0] // factor, factor, shape[1] // factor).mean((0, 2))
    np.testing.assert_allclose(A.norm() ** 2, aliases.max(), rtol=1e-12)
    np.testing.assert_allclose(A.norm(), np.linalg.norm(A.dense(), 2), rtol=1e-12)


@pytest.mark.parametrize("name", ["gaussian", "bilinear", "bicubic", "sinc"])
def test_downsampling_norm_with_the_shipped_kernels(name):
    A = ops.downsampling((18, 20, 1), 2, name)
    np.testing.assert_allclose(A.norm(), np.linalg.norm(A.dense(), 2), rtol=1e-12)
    assert A.norm() ** 2 >= 1 / 4 - 1e-12  # the mean of four aliases at zero frequency, where |h| = 1


def test_downsampling_prox_is_the_published_closed_form():
    shape, s, step = (8, 6, 1), 2, 0.7
    r = rng()
    kernel, x, y = r.normal(size=(3, 4)), r.normal(size=shape), r.normal(size=(4, 3, 1))
    A = ops.downsampling(shape, s, kernel)
    centred = np.roll(np.pad(kernel, [(0, 5), (0, 2)]), (-1, -2), (0, 1))
    h, rho = np.fft.fft2(centred), 1 / step
    up = np.zeros(shape[:2])
    up[::s, ::s] = y[..., 0]
    b = np.conj(h) * np.fft.fft2(up) + rho * np.fft.fft2(x[..., 0])

    def mean(v):
        return v.reshape(s, 4, s, 3).mean((0, 2))

    exact = np.fft.ifft2((b - np.conj(h) * np.tile(mean(h * b) / (mean(np.abs(h) ** 2) + rho), (s, s))) / rho)
    np.testing.assert_allclose(A.prox(jnp.asarray(x), jnp.asarray(y), step)[..., 0], exact.real, atol=1e-12)


# Masks, MRI, differences -----------------------------------------------------------------------------------------------


def test_binary_mask_is_a_projection():
    mask = rng().uniform(size=IMAGE) > 0.5
    A, x = ops.Mask(mask), jnp.asarray(rng(1).normal(size=IMAGE))
    for z in (A.H(x), A.pinv(x), A(A(x))):
        np.testing.assert_array_equal(z, mask * x)
    assert A.norm() == 1


@pytest.mark.parametrize("centred", [True, False])
def test_mri_identities(centred):
    r = rng()
    shape = (7, 6, 2)
    mask = r.uniform(size=(7, 6)) > 0.4
    mask[0, 0] = True
    A = ops.single_coil_mri(mask, shape, centred=centred)
    x = jnp.asarray(r.normal(size=shape) + 1j * r.normal(size=shape))
    y = jnp.asarray(r.normal(size=shape) + 1j * r.normal(size=shape))
    axes = (0, 1)
    if centred:
        k = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x, axes), axes=axes, norm="ortho"), axes)
    else:
        k = np.fft.fft2(x, axes=axes, norm="ortho")
    np.testing.assert_allclose(A(x), mask[..., None] * k, atol=1e-13)
    np.testing.assert_allclose(A.norm(), 1, rtol=1e-14)
    np.testing.assert_allclose(A.pinv(y), A.H(y), atol=1e-13)
    exact = np.linalg.solve(np.eye(84) + 0.3 * (D := np.asarray(A.dense())).conj().T @ D, np.ravel(x + 0.3 * A.H(y)))
    np.testing.assert_allclose(np.ravel(A.prox(x, y, 0.3)), exact, atol=1e-12)


@pytest.mark.parametrize("shape", [(5, 8, 1), (4, 3, 6, 2), (1, 7, 1)])
def test_norm_of_differences(shape):
    exact = sum(4 * np.sin(np.pi * (n - 1) / (2 * n)) ** 2 for n in shape[:-1])
    np.testing.assert_allclose(ops.FiniteDifferences(shape).norm() ** 2, exact, rtol=1e-13)
    x = jnp.asarray(rng().normal(size=shape))
    for axis, part in enumerate(ops.FiniteDifferences(shape)(x)):
        np.testing.assert_allclose(part, np.diff(x, axis=axis, append=np.take(x, [-1], axis)), atol=1e-15)


def test_laplacian_is_diagonal_in_the_cosine_basis():
    D = ops.FiniteDifferences((5, 4, 1))
    M, s = np.asarray(D.dense()), D.gram_spectrum
    assert isinstance(s.left, Cosine)
    basis = np.stack([np.ravel(s.left.forward(e)) for e in jnp.eye(20).reshape(20, 5, 4, 1)], 1)
    np.testing.assert_allclose(basis @ M.T @ M @ basis.T, np.diag(np.ravel(s.values)), atol=1e-13)


# Wavelets --------------------------------------------------------------------------------------------------------------


def reference_wavelet(x, name, level):
    """PyWavelets' coefficients in Mallat's layout."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # long filters on small images: exact, but PyWavelets warns
        coefficients = pywt.wavedecn(x, name, mode="periodization", level=level)
    return pywt.coeffs_to_array(coefficients)[0]


@pytest.mark.parametrize("name", ["haar", "db2", "db4", "sym5", "coif1"])
@pytest.mark.parametrize("level", [1, 3])
def test_wavelet_equals_pywavelets(name, level):
    x = rng().normal(size=(16, 24))
    W = ops.Wavelet((16, 24, 1), name, level)
    with strictly():
        y = W(jnp.asarray(x)[..., None])
    np.testing.assert_allclose(y[..., 0], reference_wavelet(x, name, level), atol=1e-12)


def test_wavelet_of_complex_volumes_equals_pywavelets():
    r = rng()
    x = r.normal(size=(4, 8, 12)) + 1j * r.normal(size=(4, 8, 12))
    W = ops.Wavelet((4, 8, 12, 1), "db2", 2, complex=True)
    np.testing.assert_allclose(call(W, "apply", x[..., None])[..., 0], reference_wavelet(x, "db2", 2), atol=1e-12)


@pytest.mark.parametrize("name", ["haar", "db4", "sym5", "coif1"])
def test_wavelets_are_orthonormal(name):
    M = np.asarray(ops.Wavelet((8, 12, 1), name, 2).dense())
    np.testing.assert_allclose(M @ M.T, np.eye(96), atol=1e-11)  # the tables of PyWavelets hold 12 digits
    detail = ops.Wavelet((8, 12, 1), name, 2).is_detail
    assert detail.shape == (8, 12, 1)
    assert (~detail).sum() == 2 * 3
    assert not detail[:2, :3].any()
