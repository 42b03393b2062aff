"""Services of operators: trace, pseudo-inverse, norm and their derivatives, dtypes, errors, special values."""

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import operators as ops
from invjax.operators.structure import at_precision

from ..registry import OPERATORS, build, random_like
from .test_spectrum import blur, mri


def rng(seed=0):
    return np.random.default_rng(seed)


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


def test_the_pseudo_inverse_keeps_every_mode_that_rounding_does_not_swamp(float32):
    """The smallest singular value of ``D`` that is not zero is 2 sin(pi/120) = 0.05 of a norm of 2.8: far above rounding."""
    D = ops.FiniteDifferences((60, 60, 1))
    h = jnp.asarray(rng().normal(size=(60, 60, 1)), jnp.float32)
    slow = jnp.cos(jnp.pi / 60 * (jnp.arange(60, dtype=jnp.float32) + 0.5))[:, None, None] + jnp.zeros((60, 60, 1))
    for x in (h, slow):
        np.testing.assert_allclose(D.pinv(D(x)), x - x.mean(), atol=200 * jnp.finfo(jnp.float32).eps * abs(x).max())
    np.testing.assert_allclose(D.cond(), 2**0.5 / np.tan(np.pi / 120), rtol=1e-3)


@pytest.mark.parametrize(("size", "shape"), [(4, (64, 64, 1)), (3, (63, 60, 1)), (4, (8, 6, 1)), (2, (5, 4, 1))])
def test_the_pseudo_inverse_leaves_out_exact_zeros_of_a_transfer_function(size, shape, float32):
    """Some zeros of a box are about 1e-8 in float32, and would amplify what they meet by that much."""
    y = rng().normal(size=shape)
    box = np.zeros(shape[:2])
    box[:size, :size] = size**-2.0
    gain, coefficients = abs(np.fft.fft2(box)), abs(np.fft.fft2(y[..., 0]))
    kept = gain > 1e-10
    assert not kept.all()
    exact = np.linalg.norm(coefficients[kept] / gain[kept]) / np.sqrt(gain.size)
    found = jnp.linalg.norm(ops.Blur(ops.uniform_kernel(size), shape).pinv(y.astype(np.float32)))
    # rounding of the transfer function, a few eps, over its smallest value that is not zero
    np.testing.assert_allclose(found, exact, rtol=10 * jnp.finfo(jnp.float32).eps / gain[kept].min())


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


@pytest.mark.parametrize("name", ["blur_circular", "matrix", "stack_mixed"])
def test_jit_equals_eager(name):
    A = build(OPERATORS, name)
    x = jax.tree.map(jnp.asarray, random_like(rng(), at_precision(A.in_structure, "float64")))
    y = A(x)

    def program(A, x, y):
        return A(x), A.H(y), A.prox(x, y, 0.5), A.pinv(y), A.norm()

    with jax.disable_jit():  # primitive by primitive: called eagerly, each of these is a program
        eager = program(A, x, y)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), eager, eqx.filter_jit(program)(A, x, y))


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
    "width: expected positive values, got 0.0": lambda: ops.local_mean(np.ones((2, 2, 1)), 0.0),
    "weight: expected non-negative values": lambda: ops.local_mean(np.ones((2, 2, 1)), 1.0, -1.0),
    "x: expected an image (H, W, C), got shape (2, 2)": lambda: ops.local_mean(np.ones((2, 2)), 1.0),
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


@pytest.mark.parametrize(
    "name", ["matrix_complex", "blur_complex", "function_real_to_complex", "stack_mixed", "blur_valid"]
)
def test_the_transpose_is_that_of_the_matrix(name):
    A = build(OPERATORS, name)
    x, y = (random_like(rng(), at_precision(s, "float64")) for s in (A.in_structure, A.out_structure))
    M, back = eqx.filter_jit(lambda A, y: (A.dense(), A.T(y)))(A, y)
    flat = np.concatenate([np.ravel(a) for a in jax.tree.leaves(y)])
    exact = np.asarray(M).T @ flat
    exact = exact if any(np.iscomplexobj(a) for a in jax.tree.leaves(x)) else exact.real
    np.testing.assert_allclose(np.concatenate([np.ravel(a) for a in jax.tree.leaves(back)]), exact, atol=1e-12)
