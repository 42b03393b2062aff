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
from invjax.operators import krylov, services
from invjax.operators.spectrum import Cosine
from invjax.operators.structure import at_precision

from ..registry import OPERATORS, build, random_like, strictly

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


def test_kernels_are_normalised_and_centred():
    for name in ("gaussian", "bilinear", "bicubic", "sinc"):
        k = ops.antialias_kernel(name, 3)
        np.testing.assert_allclose(k.sum(), 1, rtol=1e-12)
        np.testing.assert_allclose(k, k[::-1, ::-1], atol=1e-15)
        assert k.shape[0] % 2 == 1
    g = np.asarray(ops.gaussian_kernel(1.3))
    offsets = np.arange(len(g)) - len(g) // 2
    np.testing.assert_allclose((g.sum(1) * offsets**2).sum(), 1.3**2, rtol=2e-3)  # truncated at four sigma
    width = jax.grad(lambda s: jnp.sum(ops.gaussian_kernel(s, 9) ** 2))(1.3)
    ends = [jnp.sum(ops.gaussian_kernel(1.3 + h, 9) ** 2) for h in (1e-5, -1e-5)]
    np.testing.assert_allclose(width, (ends[0] - ends[1]) / 2e-5, rtol=1e-7)
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
    np.testing.assert_allclose(W(jnp.asarray(x)[..., None])[..., 0], reference_wavelet(x, "db2", 2), atol=1e-12)


@pytest.mark.parametrize("name", ["haar", "db4", "sym5", "coif1"])
def test_wavelets_are_orthonormal(name):
    M = np.asarray(ops.Wavelet((8, 12, 1), name, 2).dense())
    np.testing.assert_allclose(M @ M.T, np.eye(96), atol=1e-11)  # the tables of PyWavelets hold 12 digits
    detail = ops.Wavelet((8, 12, 1), name, 2).is_detail
    assert detail.shape == (8, 12, 1)
    assert (~detail).sum() == 2 * 3
    assert not detail[:2, :3].any()


# The algebra keeps spectra ---------------------------------------------------------------------------------------------


def blur(seed=0, shape=(8, 6, 1), **options):
    return ops.Blur(rng(seed).normal(size=(3, 4)), shape, **options)


def mri():
    return ops.single_coil_mri(rng().uniform(size=(8, 6)) > 0.4, (8, 6, 1), centred=False)


DIAGONALISABLE = {
    "product": lambda: blur() @ blur(1),
    "product_with_adjoint": lambda: blur() @ blur(1).H @ (2.0 * blur(2)),
    "sum": lambda: blur() + 3.0 * blur(1) - blur(2).H,
    "complex_scale": lambda: (1 + 2j) * mri(),
    "gram": lambda: blur().gram @ blur(1),
    "gram_of_differences": lambda: ops.FiniteDifferences((8, 6, 1)).gram,
    "transpose": lambda: blur().T,
    "gram_plus_gram": lambda: blur().gram + 0.1 * ops.FiniteDifferences((8, 6, 1), "circular").gram,
    "stack": lambda: ops.stack([blur(), blur(1), ops.FiniteDifferences((8, 6, 1), "circular")]),
    "stack_after_blur": lambda: ops.stack([blur(), ops.FiniteDifferences((8, 6, 1), "circular")]) @ blur(2),
    "decimated_product": lambda: 2.0 * (ops.downsampling((8, 6, 1), 2, rng().normal(size=(3, 4))) @ blur(1)),
    "blur_after_decimation": lambda: blur(1, (8, 6, 1)) @ ops.downsampling((16, 12, 1), 2),
    "decimation_twice": lambda: ops.Decimate((8, 6, 1), 1) @ ops.downsampling((16, 12, 1), 2),
    "wavelet_of_blur": lambda: ops.Wavelet((8, 6, 1), "haar", 1) @ ops.Mask(rng().uniform(size=(8, 6, 1))),
    "decimated_identity": lambda: ops.Decimate((8, 6, 1), 2) @ ops.Wavelet((8, 6, 1), "haar", 1).H,
    "complex_blur_in_k_space": lambda: mri() @ (ops.FourierTransform((8, 6, 1)).H @ mri()),
    "blocks": lambda: ops.block_diagonal([blur(), mri()]),
}


@pytest.mark.parametrize("name", DIAGONALISABLE)
def test_diagonalisable_algebra_needs_no_iteration(name, monkeypatch):
    A = DIAGONALISABLE[name]()
    r = rng(4)
    x, y = (random_like(r, at_precision(s, "float64")) for s in (A.in_structure, A.out_structure))

    def forbidden(*args, **kwargs):
        raise AssertionError("an iterative method ran although the spectrum follows from the factors")

    monkeypatch.setattr(krylov, "_conjugate_gradients", forbidden)
    monkeypatch.setattr(services, "_lanczos_norm", forbidden)

    def flat(tree):
        return np.concatenate([np.ravel(a) for a in jax.tree.leaves(tree)])

    program = eqx.filter_jit(lambda A, x, y: (A.dense(), A.norm(), A.H(y), A.prox(x, y, 0.4), A.pinv(y)))
    M, norm, back, prox, pinv = jax.tree.map(np.asarray, program(A, x, y))
    np.testing.assert_allclose(norm, np.linalg.norm(M, 2), rtol=1e-12)
    G = M.conj().T @ M
    exact = np.linalg.solve(np.eye(len(G)) + 0.4 * G, flat(x) + 0.4 * flat(back))
    np.testing.assert_allclose(flat(prox), exact, atol=1e-10)
    np.testing.assert_allclose(flat(pinv), np.linalg.pinv(M, rcond=1e-10) @ flat(y), atol=1e-9)


# Services --------------------------------------------------------------------------------------------------------------


def test_trace_and_its_standard_error(key):
    A = ops.Matrix(rng().normal(size=(12, 12)))
    exact = jnp.trace(A.matrix)
    means, errors = jax.vmap(lambda k: A.trace(k, 16))(jax.random.split(key, 400))
    assert abs(means.mean() - exact) < 4 * means.std() / 20
    # The reported standard error squared is unbiased for the variance of the estimate: 400 draws of 15 degrees of freedom.
    np.testing.assert_allclose((errors**2).mean(), means.var(ddof=1), rtol=4 * np.sqrt(2 / 400 + 2 / (400 * 15)) + 0.05)
    mean, error = ops.Matrix(jnp.eye(5)).trace(key, 2)
    assert (mean, error) == (5, 0)


class Wrong(ops.LinearOperator):
    """A blur whose adjoint forgets to conjugate."""

    inner: ops.Blur

    @property
    def in_structure(self):
        return self.inner.in_structure

    @property
    def out_structure(self):
        return self.inner.out_structure

    def apply(self, x):
        return self.inner.apply(x)

    def adjoint(self, y):
        return self.inner.apply(y)


def test_dot_test_detects_a_wrong_adjoint(key):
    assert ops.dot_test(key, Wrong(blur())) > 0.1
    assert ops.dot_test(key, blur()) < 1e-5


def test_norm_of_zero_operators_is_zero():
    assert ops.Mask(jnp.zeros((4, 3, 1))).norm() == 0
    assert ops.Matrix(np.zeros((3, 4))).norm() == 0


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
@pytest.mark.parametrize("complex", [False, True])
def test_derivatives_of_iterative_solves_in_the_matrix(shape, complex):
    """Tall, wide and rank-deficient (along a path of constant rank): forward and reverse equal central differences."""
    r = rng(3)

    def draw(*size):
        return r.normal(size=size) + (1j * r.normal(size=size) if complex else 0)

    rank = 2 if shape == (4, 4) else min(shape)
    L, R, dL, dR = draw(shape[0], rank), draw(rank, shape[1]), draw(shape[0], rank), draw(rank, shape[1])
    x, y, dy, weight = (jnp.asarray(draw(n)) for n in (shape[1], shape[0], shape[0], shape[1]))

    @jax.jit
    def both(t):
        A = ops.Matrix((L + t * dL) @ (R + t * dR))
        return jnp.stack([jnp.vdot(weight, z).real for z in (A.pinv(y + t * dy), A.prox(x, y + t * dy, 0.5 + t))])

    h = 1e-5
    exact = (both(h) - both(-h)) / (2 * h)
    forward, reverse = jax.jit(lambda t: (jax.jvp(both, (t,), (1.0,))[1], jax.jacrev(both)(t)))(0.0)
    np.testing.assert_allclose(forward, exact, rtol=1e-6)
    np.testing.assert_allclose(reverse, exact, rtol=1e-6)


def test_derivative_of_a_solve_lowers_without_callbacks(float32):
    """A host callback in the derivative would refuse these platforms."""

    def loss(M, y):
        A = ops.Matrix(M)
        return jnp.sum(A.pinv(y)) + jnp.sum(A.prox(jnp.zeros(3), y, 0.5))

    shapes = (jax.ShapeDtypeStruct((4, 3), jnp.float32), jax.ShapeDtypeStruct((4,), jnp.float32))
    exported = jax.export.export(jax.jit(jax.grad(loss, (0, 1))), platforms=["tpu", "cuda"])(*shapes)
    assert exported.platforms == ("tpu", "cuda")


@pytest.mark.parametrize("name", OPERATORS)
def test_services_are_strict_and_keep_float32(name):
    A = build(OPERATORS, name)
    x, y = (at_precision(s, jnp.float32) for s in (A.in_structure, A.out_structure))
    with strictly():
        results = jax.eval_shape(lambda x, y: [A.prox(x, y, 0.5), A.pinv(y), (2.0 * A).H(y), A.gram(x)], x, y)
        jax.eval_shape(A.norm)
    for result in results:
        assert jax.tree.map(lambda a: a.dtype, result) == jax.tree.map(lambda a: a.dtype, x)


@pytest.mark.parametrize("name", ["blur_circular", "matrix", "stack_mixed"])
def test_jit_equals_eager(name):
    A = build(OPERATORS, name)
    x = jax.tree.map(jnp.asarray, random_like(rng(), at_precision(A.in_structure, "float64")))
    y = A(x)

    def program(A, x, y):
        return A(x), A.H(y), A.prox(x, y, 0.5), A.pinv(y), A.norm()

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), program(A, x, y), eqx.filter_jit(program)(A, x, y)
    )


# Errors and special values ---------------------------------------------------------------------------------------------

X = np.ones((8, 6, 1))
ERRORS = {
    "x: expected shape (8, 6, 1), got (5, 8, 6, 1); batch with jax.vmap": lambda: blur()(jnp.ones((5, 8, 6, 1))),
    "x: expected shape (8, 6, 1), got (8, 6)": lambda: blur()(jnp.ones((8, 6))),
    "x: expected a floating array, got int64; scale images": lambda: blur()(jnp.ones((8, 6, 1), int)),
    "x: expected a floating array, got uint8": lambda: blur()(np.ones((8, 6, 1), np.uint8)),
    "x: expected a real array, got complex128": lambda: blur()(X * 1j),
    "y: expected shape (8, 6, 1), got (3, 8, 6, 1); batch with jax.vmap": lambda: blur().prox(
        X, np.ones((3, 8, 6, 1)), 1
    ),
    "step_size: expected non-negative values, got -1.0": lambda: blur().prox(X, X, -1),
    "step_size: expected shape (), got (6, 1)": lambda: blur().prox(X, X, np.ones((6, 1))),
    "shape: expected positive integers, got (8, 0, 1)": lambda: ops.Identity((8, 0, 1)),
    "shape: expected positive integers, got (8.0, 2)": lambda: ops.Identity((8.0, 2)),
    "mask: expected a shape that broadcasts to (8, 6, 1)": lambda: ops.Mask(np.ones((6, 8, 1)), (8, 6, 1)),
    "matrix: expected two dimensions, got shape (3,)": lambda: ops.Matrix(np.ones(3)),
    "in_shape: expected a product of 4, the number of columns, got (3,)": lambda: ops.Matrix(np.ones((3, 4)), (3,)),
    "fn: expected a linear function of x, but fn(0) is not zero": lambda: ops.from_function(lambda x: x + 1, (3,)),
    "fn: expected a linear function of x, but it cannot be": lambda: ops.from_function(lambda x: x**2, (3,)),
    "boundary: expected one of": lambda: ops.Blur(np.ones((3, 3)), (8, 6, 1), "periodic"),
    "kernel: expected 2 or 3 axes for shape (8, 6, 1), got shape (3,)": lambda: ops.Blur(np.ones(3), (8, 6, 1)),
    "kernel: expected 1 or 2 channels, got 3": lambda: ops.Blur(np.ones((3, 3, 3)), (8, 6, 2)),
    "kernel: expected at most the image size (8, 6), got (9, 3)": lambda: ops.Blur(np.ones((9, 3)), (8, 6, 1)),
    "kernel: expected a real kernel for a real image": lambda: ops.Blur(np.ones((3, 3)) * 1j, (8, 6, 1)),
    "factor: expected a positive divisor of the spatial sizes (8, 6), got 3": lambda: ops.downsampling((8, 6, 1), 3),
    "factor: expected a positive divisor of the spatial sizes (8, 6), got 0": lambda: ops.Decimate((8, 6, 1), 0),
    "kernel: expected one of ['bicubic', 'bilinear', 'gaussian', 'sinc'] or an array, got 'box'": lambda: (
        ops.downsampling((8, 6, 1), 2, "box")
    ),
    "factor: expected an integer >= 1, got 0": lambda: ops.antialias_kernel("gaussian", 0),
    "size: expected a positive integer, got 0": lambda: ops.uniform_kernel(0),
    "sigma: expected positive values, got 0.0": lambda: ops.gaussian_kernel(0),
    "size: expected an integer when sigma is traced": lambda: jax.jit(ops.gaussian_kernel)(1.0),
    "boundary: expected 'neumann' or 'circular', got 'zero'": lambda: ops.FiniteDifferences((8, 6, 1), "zero"),
    "shape: expected at least one spatial axis and channels, got (8,)": lambda: ops.FiniteDifferences((8,)),
    "shape: expected at least one spatial axis and channels, got (4,)": lambda: ops.FourierTransform((4,)),
    "wavelet: expected an orthogonal wavelet such as": lambda: ops.Wavelet((8, 8, 1), "bior2.2"),
    "level: expected 1 to 2 for spatial sizes (8, 4)": lambda: ops.Wavelet((8, 4, 1), "haar", 3),
    "level: expected 1 to 0 for spatial sizes (7, 4)": lambda: ops.Wavelet((7, 4, 1)),
    "scalar: expected a scalar, got shape (2,); use Mask": lambda: np.ones(2).tolist() * blur(),
    "scalar: expected a real scalar for an operator with a real side": lambda: 1j * blur(),
    "A @ B: expected B to give": lambda: ops.Decimate((8, 6, 1), 2) @ ops.Decimate((8, 6, 1), 2),
    "A + B: expected equal structures": lambda: blur() + mri(),
    "operators: expected one common input structure": lambda: ops.stack([blur(), mri()]),
    "operators: expected at least one operator, got none": lambda: ops.stack([]),
    "operators: expected at least one operator, got none ": lambda: ops.block_diagonal([]),
    "A: expected equal input and output structures": lambda: ops.Decimate((8, 6, 1), 2).trace(jax.random.key(0)),
    "num_probes: expected an integer >= 2, got 1": lambda: blur().trace(jax.random.key(0), 1),
    "A: expected at most 67108864 matrix entries": lambda: ops.Identity((100, 100, 1)).dense(),
    "x: expected PyTreeDef((*, *)), got PyTreeDef(*)": lambda: ops.stack([blur(), blur()]).H(X),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message]()
    assert message.strip() in str(error.value)


@pytest.mark.parametrize(
    "name", ["blur_circular", "blur_reflect", "matrix", "composed", "downsampling_gaussian", "differences"]
)
def test_nan_passes_through(name):
    """A NaN in the input is a NaN in the result, not an error and not a finite number."""
    A = build(OPERATORS, name)
    (xn, yn), (x1, y1) = ([jnp.full(s.shape, v) for s in (A.in_structure, A.out_structure)] for v in (jnp.nan, 1.0))
    run = eqx.filter_jit(lambda A: (A(xn), A.H(yn), A.prox(xn, y1, 0.5), A.prox(x1, yn, 0.5), A.pinv(yn)))
    for result in run(A):
        assert jnp.isnan(result).any()


def test_a_real_image_in_a_complex_domain_is_cast():
    x = rng().normal(size=(8, 6, 1)).astype(np.float32)
    assert mri()(x).dtype == jnp.complex64
    assert ops.Identity((np.int64(8), 6, 1)).in_structure.shape == (8, 6, 1)
