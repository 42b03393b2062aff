"""Rules of the algebra that no single operator owns, and the operators that build others from small ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import operators as ops
from invjax.operators import services
from invjax.operators.spectrum import Pixel, Spectrum

from ..registry import call


def rng(seed=0):
    return np.random.default_rng(seed)


# Precision and inputs of what was there -------------------------------------------------------------------------------


def test_pushed_spectra_keep_the_wider_precision():
    third = Spectrum(jnp.asarray(1 / 3), Pixel(), Pixel())  # float64 under float32 weights
    A = ops.ChannelMatrix(np.array([[1, 2]], np.float32), (2, 3, 2))
    B = ops.Mask(np.full((2, 3, 2), 0.5, np.float32))
    np.testing.assert_allclose(A.push_spectrum(third).values.ravel()[0], 5 / 3, rtol=1e-15)
    np.testing.assert_allclose(B.push_spectrum(third).values.ravel()[0], 1 / 12, rtol=1e-15)
    full = third.map(lambda v: jnp.full((2, 3, 2), v))
    np.testing.assert_allclose(A.push_spectrum(full).values, 5 / 3, rtol=1e-15)


def test_solves_with_an_ill_conditioned_channel_matrix():
    """Backward stable, which products with an inverse are not: the residual is of rounding size although |z| is small."""
    M = np.array([[1, 1], [1, 1 + 1e-5], [1, 1 - 1e-5]])
    A = ops.ChannelMatrix(M, (3, 4, 2))
    rhs = jnp.asarray(1 + 1e-6 * rng().normal(size=(3, 4, 2)))  # close to the largest singular vector
    z = np.asarray(call(A, "shifted_solve", rhs, 1e11))
    inside = np.eye(2) + 1e11 * M.T @ M
    size = np.linalg.norm(inside) * np.linalg.norm(z) + np.linalg.norm(rhs)
    assert np.linalg.norm(z @ inside - rhs) < 10 * np.finfo(float).eps * size


def test_integer_matrices_are_those_of_floats():
    x = jnp.asarray(rng().normal(size=(2, 3, 3)))
    B = ops.ChannelMatrix(np.array([[1.0, 2, 3]]), x.shape)
    for weights in ([[1, 2, 3]], ((1, 2, 3),), np.array([[1, 2, 3]])):
        A = ops.ChannelMatrix(weights, x.shape)
        np.testing.assert_allclose(A(x), B(x), rtol=1e-12)
        np.testing.assert_allclose((A @ ops.Mask(np.full(x.shape, 0.5))).norm(), np.sqrt(14) / 2, rtol=1e-6)
    np.testing.assert_allclose(ops.decolorise(x.shape, [1, 2, 3])(x), B(x), rtol=1e-12)


# Kronecker products ----------------------------------------------------------------------------------------------------


def factors(complex=False):
    r = rng()
    matrices = [r.normal(size=(3, 4)), r.normal(size=(5, 2)), r.normal(size=(2, 2))]
    return [m * (1 + 0.5j) + 1j * m[::-1] for m in matrices] if complex else matrices


@pytest.mark.parametrize("complex", [False, True])
def test_kronecker_products_equal_those_of_numpy(complex):
    """C order: the first factor is the leftmost. Norm, condition number, pseudo-inverse and prox against the dense matrix."""
    matrices = factors(complex)
    A = ops.kronecker(matrices, (4, 2, 2), complex=complex)
    M = np.kron(np.kron(matrices[0], matrices[1]), matrices[2])
    np.testing.assert_allclose(A.dense(), M, atol=1e-14)
    values = np.linalg.svd(M, compute_uv=False)
    rank = 3 * 2 * 2
    np.testing.assert_allclose(A.norm(), values[0], rtol=1e-13)
    np.testing.assert_allclose(A.cond(), values[0] / values[rank - 1], rtol=1e-12)
    y = rng(1).normal(size=(3, 5, 2)) * (1j if complex else 1)
    np.testing.assert_allclose(call(A, "pinv", y).ravel(), np.linalg.pinv(M) @ y.ravel(), atol=1e-12)
    with_channels = ops.kronecker(matrices[:2], (4, 2, 2), complex=complex)
    np.testing.assert_allclose(with_channels.dense(), np.kron(np.kron(*matrices[:2]), np.eye(2)), atol=1e-14)


@pytest.mark.parametrize("complex", [False, True])
def test_derivatives_of_a_kronecker_prox(complex):
    """In the factors and the step, where eigenvalues coincide (an orthogonal factor) or vanish; against central differences."""
    r = rng(2)
    orthogonal = np.linalg.qr(r.normal(size=(3, 3)))[0]
    matrices = [orthogonal, np.outer(r.normal(size=2), r.normal(size=2) + (1j * r.normal(size=2) if complex else 0))]
    matrices = [jnp.asarray(m, jnp.complex128 if complex else float) for m in matrices]
    directions = [r.normal(size=m.shape) for m in matrices]
    x, y = r.normal(size=(2, 3, 2))

    @jax.jit
    def value(t):
        moved = [m + t * d for m, d in zip(matrices, directions, strict=True)]
        z = ops.kronecker(moved, (3, 2), complex=complex).prox(x, y, 0.7 + t)
        return jnp.sum(jnp.abs(z) ** 2 * (1 + jnp.arange(2)))

    exact = (value(1e-5) - value(-1e-5)) / 2e-5
    np.testing.assert_allclose(jax.jit(jax.grad(value))(0.0), exact, rtol=1e-8)
    np.testing.assert_allclose(jax.jit(lambda: jax.jvp(value, (0.0,), (1.0,))[1])(), exact, rtol=1e-8)


def test_a_kronecker_product_of_operators_is_separable_blur():
    """Two one-dimensional blurs, as circulant matrices, make a separable two-dimensional blur."""
    r = rng()
    kernels = r.uniform(size=(2, 3))
    circulant = [
        ops.from_function(lambda x, k: sum(k[j] * jnp.roll(x, j - 1) for j in range(3)), (n,), k)
        for k, n in zip(kernels, (6, 4), strict=True)
    ]
    A = ops.kronecker(circulant, (6, 4, 2))
    B = ops.Blur(np.outer(*kernels), (6, 4, 2))
    x = jnp.asarray(r.normal(size=(6, 4, 2)))
    np.testing.assert_allclose(call(A, "apply", x), B(x), atol=1e-13)
    np.testing.assert_allclose(call(A, "norm"), B.norm(), rtol=1e-12)
    np.testing.assert_allclose(call(A, "prox", x, x, 0.5), B.prox(x, x, 0.5), atol=1e-12)


# Rearrangements, patches, batches, scales -------------------------------------------------------------------------------


def test_rearrangements_equal_numpy_and_keep_what_is_diagonal():
    x = rng().normal(size=(4, 3, 2))
    np.testing.assert_array_equal(ops.Reshape((4, 3, 2), (6, 4))(x), x.reshape(6, 4))
    P = ops.Permute((4, 3, 2), (2, 0, 1))
    np.testing.assert_array_equal(P(x), x.transpose(2, 0, 1))
    np.testing.assert_array_equal(P.H(P(x)), x)
    mask = np.abs(x)
    A = P @ ops.Mask(mask)
    np.testing.assert_array_equal(A.cogram_spectrum.values, mask.transpose(2, 0, 1) ** 2)
    B = ops.Mask(mask) @ ops.Permute((2, 4, 3), (1, 2, 0))
    np.testing.assert_array_equal(B.gram_spectrum.values, mask.transpose(2, 0, 1) ** 2)


@pytest.mark.parametrize(("size", "stride", "boundary"), [(3, 2, "valid"), (2, 1, "valid"), (3, 2, "circular")])
def test_patches_equal_slices(size, stride, boundary):
    x = rng().normal(size=(6, 7, 2))
    wide = np.pad(x, ((0, size - 1), (0, size - 1), (0, 0)), mode="wrap") if boundary == "circular" else x
    starts = [range(0, n - size + 1, stride) for n in wide.shape[:2]]
    exact = np.stack([wide[i : i + size, j : j + size] for i in starts[0] for j in starts[1]])
    A = ops.Patches(x.shape, size, stride, boundary)
    np.testing.assert_array_equal(A(x), exact)
    np.testing.assert_allclose(A.gram_spectrum.apply(x), A.H(A(x)), atol=1e-14)
    seen = np.broadcast_to(A.gram_spectrum.values > 0, x.shape)
    np.testing.assert_allclose(call(A, "pinv", exact), np.where(seen, x, 0), atol=1e-14)


def test_patches_of_volumes_equal_slices():
    x = rng().normal(size=(3, 4, 3, 1))
    exact = [x[i : i + 2, j : j + 2, k : k + 2] for i in range(2) for j in range(3) for k in range(2)]
    np.testing.assert_array_equal(ops.Patches(x.shape, 2)(x), exact)


def test_the_adjoint_of_patches_has_no_scatter():
    A = ops.Patches((16, 16, 1), 4, 2)
    text = jax.jit(lambda y: A.H(y)).lower(jnp.zeros(A.out_structure.shape)).as_text()
    assert "scatter" not in text


@pytest.mark.parametrize("batch_size", [None, 1, 3, 4, 9])
def test_a_batch_of_operators_equals_a_stack(batch_size):
    kernels, x = rng().uniform(size=(7, 3, 2)), jnp.asarray(rng(1).normal(size=(6, 5, 1)))
    A = ops.batched(lambda k: ops.Blur(k, x.shape), kernels, batch_size=batch_size)
    B = ops.stack([ops.Blur(k, x.shape) for k in kernels])
    y = jnp.stack(B(x))
    np.testing.assert_allclose(call(A, "apply", x), y, atol=1e-14)
    np.testing.assert_allclose(call(A, "adjoint", y), B.H(tuple(y)), atol=1e-13)
    np.testing.assert_allclose(A.norm(), B.norm(), rtol=1e-13)
    np.testing.assert_allclose(call(A, "prox", x, y, 0.5), B.prox(x, tuple(y), 0.5), atol=1e-13)


def test_batches_of_random_matrices_and_of_functions():
    keys = jax.random.split(jax.random.key(0), 3)
    x = jnp.asarray(rng().normal(size=(2, 3, 1)))
    A = ops.batched(lambda k: ops.GaussianSensing(k, 4, x.shape), keys, batch_size=2)
    np.testing.assert_allclose(A(x), [ops.GaussianSensing(k, 4, x.shape)(x) for k in keys], atol=1e-6)
    weights = rng().normal(size=(3, 2, 3, 1))
    B = ops.batched(lambda w: ops.from_function(lambda x, w: (x * w).sum(0), x.shape, w), weights)
    assert B.out_structure == ops.structure((3, 3, 1))
    np.testing.assert_allclose(B(x), (x * weights).sum(1), atol=1e-14)


def test_the_memory_of_a_batch_is_bounded():
    """The adjoint of 64 blurs of 64 x 64: all at once holds 64 spectra, four at a time few."""

    def temporary(batch_size):
        A = ops.batched(lambda k: ops.Blur(k, (64, 64, 1)), np.ones((64, 3, 3)), batch_size=batch_size)
        compiled = jax.jit(lambda A, y: A.H(y)).lower(A, jnp.zeros((64, 64, 64, 1))).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(4) < temporary(None) / 4


def test_coarse_scales_interpolate_constants_and_ramps():
    """Constants and, inside, ramps are interpolated exactly by the bilinear kernel."""
    A = ops.at_scale(ops.Identity((12, 12, 1)), 3, "bilinear")
    assert A.in_structure == ops.structure((4, 4, 1))
    np.testing.assert_allclose(A(jnp.full((4, 4, 1), 0.7)), 0.7, rtol=1e-12)
    ramp = jnp.broadcast_to(jnp.arange(4.0)[:, None, None], (4, 4, 1))
    np.testing.assert_allclose(A(ramp)[:10, 0, 0], np.arange(10) / 3, atol=1e-12)  # then it wraps around
    blur = ops.Blur(rng().uniform(size=(3, 3)), (12, 12, 1))
    np.testing.assert_allclose(ops.at_scale(blur, 3, "bilinear")(ramp), blur(A(ramp)), atol=1e-12)


# Estimates and condition numbers ---------------------------------------------------------------------------------------


def spectrum_of(M):
    values = np.linalg.svd(M, compute_uv=False)
    return values[values > 1e-10 * values[0]]


CONDITIONS = {
    "spectrum": lambda: ops.Blur(rng().uniform(size=(3, 3)), (7, 5, 1)),
    "spectrum with zeros": lambda: ops.FiniteDifferences((5, 4, 1)),
    "cogram": lambda: ops.Mask(rng().uniform(1, 2, (4, 3, 1))) @ ops.Crop((5, 4, 1), (4, 3, 1)),
    "dense": lambda: ops.Matrix(rng().normal(size=(5, 7))),
    "dense complex": lambda: ops.Matrix(rng().normal(size=(5, 4)) + 1j * rng(1).normal(size=(5, 4))),
    "batch": lambda: ops.batched(lambda m: ops.ChannelMatrix(m, (2, 2, 3)), rng().normal(size=(2, 2, 3))),
    "scaled": lambda: 3.0 * ops.Matrix(rng().normal(size=(4, 4))),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_condition_number(name, monkeypatch):
    A = CONDITIONS[name]()
    values = spectrum_of(np.asarray(A.dense()))
    np.testing.assert_allclose(call(A, "cond"), values[0] / values[-1], rtol=1e-9)
    if name.startswith(
        "dense"
    ):  # and by iteration, as of large operators: the error of Ritz values and conjugate gradients
        monkeypatch.setattr(services, "_SMALL", 0)
        np.testing.assert_allclose(A.cond(), values[0] / values[-1], rtol=5e-3)


def test_condition_number_over_the_reals():
    """Of a complex measurement of real images: that of the real and imaginary parts together."""
    A = ops.from_function(
        lambda x, w: w @ x.astype(w.dtype), (4,), rng().normal(size=(3, 4)) * (1 + 2j * rng(1).normal(size=(3, 4)))
    )
    M = np.asarray(A.dense())
    values = spectrum_of(np.concatenate([M.real, M.imag]))
    np.testing.assert_allclose(A.cond(), values[0] / values[-1], rtol=1e-12)


def positive(rank, n=60):
    Q = np.linalg.qr(rng().normal(size=(n, rank)))[0]
    return (Q * np.linspace(1, 5, rank)) @ Q.T


def test_hutch_pp_is_exact_for_low_rank(key):
    A = ops.Matrix(positive(rank=8))
    estimate, error = ops.hutch_pp(key, A, 24)
    np.testing.assert_allclose(estimate, np.linspace(1, 5, 8).sum(), rtol=1e-12)
    assert error < 1e-12
    z = ops.Matrix(positive(rank=8) * (1 + 1j))  # of complex matrices: the real part
    np.testing.assert_allclose(ops.hutch_pp(key, z, 24)[0], np.linspace(1, 5, 8).sum(), rtol=1e-12)


def test_hutch_pp_is_unbiased_and_better_than_hutchinson(key):
    values = 1 / np.arange(1, 61) ** 2
    Q = np.linalg.qr(rng().normal(size=(60, 60)))[0]
    A, keys = ops.Matrix((Q * values) @ Q.T), jax.random.split(key, 300)
    ours, errors = jax.vmap(lambda k: ops.hutch_pp(k, A, 30))(keys)
    theirs, _ = jax.vmap(lambda k: A.trace(k, 30))(keys)
    assert abs(ours.mean() - values.sum()) < 5 * ours.std() / np.sqrt(300)
    assert ours.std() < theirs.std() / 5
    # the reported variance is unbiased: its mean has a relative error of about sqrt(2 / 9 / 300) times a factor for the tails
    np.testing.assert_allclose(np.mean(errors**2), ours.var(), rtol=0.5)


def test_diagonal_estimate(key):
    r = rng()
    M = r.normal(size=(12, 12)) + 1j * r.normal(size=(12, 12))
    A = ops.Matrix(M)
    estimate, error = ops.diagonal(key, A, 400)
    exact = np.sqrt((np.sum(np.abs(M) ** 2, 1) - np.abs(np.diag(M)) ** 2) / 400)
    np.testing.assert_allclose(error, exact, rtol=5 * np.sqrt(2 / 400))
    assert np.all(np.abs(estimate - np.diag(M)) < 5 * exact)
    _, errors = jax.vmap(lambda k: ops.diagonal(k, A, 3))(jax.random.split(key, 2000))
    # the reported variance is unbiased for few probes too: that of one has two degrees of freedom
    np.testing.assert_allclose(np.mean(errors**2, 0), exact**2 * 400 / 3, rtol=5 / np.sqrt(2000))
    mask = r.normal(size=(4, 3, 1))
    pair = ops.block_diagonal([ops.Mask(mask), 2.0 * ops.Identity((2, 2, 1))])
    (first, second), errors = ops.diagonal(key, pair, 2)
    np.testing.assert_allclose(first, mask, rtol=1e-12)
    np.testing.assert_allclose(second, 2, rtol=1e-12)
    assert max(jnp.max(e) for e in errors) < 1e-15


ERRORS = {
    "y: expected shape (4, 5, 2), got (4, 5, 3)": lambda: ops.ChannelMatrix(np.ones((2, 3)), (4, 5, 3)).pinv(
        jnp.ones((4, 5, 3))
    ),
    "y: expected PyTreeDef((*,)), got PyTreeDef((*, *))": lambda: ops.block_diagonal([ops.Identity((2, 2, 1))]).pinv(
        (jnp.ones((2, 2, 1)), jnp.ones((2, 2, 1)))
    ),
    "factors[1]: expected real vectors (3,) to vectors": lambda: ops.kronecker([np.eye(4), np.eye(2)], (4, 3)),
    "factors: expected 1 to 2 for shape (4, 3), got 3": lambda: ops.kronecker([np.eye(4)] * 3, (4, 3)),
    "out_shape: expected 24 entries as in (4, 3, 2), got (5, 5)": lambda: ops.Reshape((4, 3, 2), (5, 5)),
    "axes: expected a permutation of (0, 1), got (0, 0)": lambda: ops.Permute((4, 3), (0, 0)),
    "size: expected 1 to the smallest spatial size of (4, 3, 2), got 4": lambda: ops.Patches((4, 3, 2), 4),
    "stride: expected an integer >= 1, got 0": lambda: ops.Patches((4, 3, 2), 2, 0),
    "boundary: expected 'valid' or 'circular', got 'zero'": lambda: ops.Patches((4, 3, 2), 2, 1, "zero"),
    "arrays: expected one common leading axis, got shapes [(2, 3), (3,)]": lambda: ops.batched(
        lambda a, b: ops.Mask(a), np.ones((2, 3)), np.ones(3)
    ),
    "batch_size: expected an integer >= 1, got 0": lambda: ops.batched(ops.Mask, np.ones((2, 3)), batch_size=0),
    "num_products: expected an integer >= 6, got 5": lambda: ops.hutch_pp(jax.random.key(0), ops.Identity((3,)), 5),
    "A: expected arrays that are all real or all complex": lambda: ops.hutch_pp(
        jax.random.key(0), ops.block_diagonal([ops.Identity((3,)), ops.Identity((3,), complex=True)])
    ),
    "A: expected equal input and output structures": lambda: ops.diagonal(jax.random.key(0), ops.Crop((3, 1), (2, 1))),
    "num_measurements: expected an integer >= 1, got 0": lambda: ops.GaussianSensing(jax.random.key(0), 0, (2, 2, 1)),
    "out_shape: expected 3 axes, got (4, 4)": lambda: ops.structured_random(jax.random.key(0), (4, 4, 1), (4, 4)),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message]()
    assert message in str(error.value)
