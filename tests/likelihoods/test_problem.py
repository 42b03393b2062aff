"""Likelihoods of images against dense algebra: gradient, prox, nonlinear operators, stacked measurements; their refusals."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import Fn, InverseProblem, Likelihood, types
from invjax import operators as ops
from invjax.likelihoods import Gaussian, GaussNewton, Poisson, PoissonGaussian

IMAGE = (6, 5, 1)


def blur(boundary="circular"):
    r = np.random.default_rng(5)
    return ops.Blur(r.uniform(size=(3, 4)), IMAGE, boundary)


def image(seed=0, complex=False):
    r = np.random.default_rng(seed)
    return jnp.asarray(r.normal(size=IMAGE) + (1j * r.normal(size=IMAGE) if complex else 0))


OPERATORS = {
    "circular": lambda: blur(),
    "replicate": lambda: blur("replicate"),
    "mri": lambda: ops.single_coil_mri(np.random.default_rng(0).uniform(size=(6, 5)) > 0.4, IMAGE),
    "to_complex": lambda: ops.from_function(lambda x: jnp.fft.rfft2(x, axes=(0, 1)), IMAGE),
}


@pytest.mark.parametrize("sigma", ["scalar", "per_pixel"])
@pytest.mark.parametrize("name", OPERATORS)
def test_likelihood_gradient_and_prox_equal_dense_algebra(name, sigma):
    A = OPERATORS[name]()
    complex_side = "mri" in name
    x = image(complex=complex_side)
    out = A.out_structure.shape
    s = 0.3 if sigma == "scalar" else np.random.default_rng(1).uniform(0.2, 0.5, out)
    problem = InverseProblem(A, Gaussian(s))
    y = A(image(1, complex_side)) + 0.3
    f = problem.likelihood(y)
    assert (f.back_projection is not None) == (name in ("circular", "mri") and sigma == "scalar")
    slopes, value, lipschitz = eqx.filter_jit(lambda f: ((f.grad(x), types.grad(f, x)), f.prox(x, 0.2), f.lipschitz))(f)
    np.testing.assert_allclose(*slopes, atol=1e-10)  # fast path = slow path
    M = np.asarray(A.dense())
    W = np.diag(1 / np.broadcast_to(s, out).ravel() ** 2)
    G, b = M.conj().T @ W @ M, M.conj().T @ W @ np.ravel(y)
    if not complex_side:
        G, b = G.real, b.real
    np.testing.assert_allclose(np.ravel(slopes[0]), G @ np.ravel(x) - b, atol=1e-10)
    ridge = np.linalg.solve(np.eye(len(G)) + 0.2 * G, np.ravel(x) + 0.2 * b)
    np.testing.assert_allclose(np.ravel(value), ridge, atol=1e-9)
    assert lipschitz >= np.linalg.eigvalsh(G)[-1] * (1 - 1e-9)


@pytest.mark.parametrize(
    "A",
    [
        ops.Identity(IMAGE),
        2.0 * ops.Identity(IMAGE),
        3.0 * ops.Wavelet((6, 4, 1), "haar", 1).H,
        ops.Decimate((6, 4, 1), 2),
    ],
    ids=["identity", "scaled", "wavelet", "decimation"],
)
def test_poisson_prox_where_the_operator_is_a_scaled_isometry(A):
    """Optimality: step grad f(p) + p - x = 0, in the range of the constraint."""
    r = np.random.default_rng(3)
    x = jnp.asarray(1 + np.abs(r.normal(size=A.in_structure.shape)))

    @eqx.filter_jit
    def optimality(A, counts):
        f = Likelihood(A, Poisson(0.1, 5.0), 0.1 * counts)
        p = f.prox(x, 0.3)
        return 0.3 * f.grad(p) + p - x

    counts = r.poisson(60, size=A.out_structure.shape).astype(float)
    np.testing.assert_allclose(optimality(A, counts), 0, atol=1e-10)


def test_prox_error_names_solvers_that_split():
    f = Likelihood(blur(), Poisson(), jnp.ones(IMAGE))
    with pytest.raises(ValueError, match=r"not available for Poisson noise .* use ChambollePock"):
        f.prox(image(), 0.1)


def nonlinear(x, w):
    return jnp.abs(x * w) ** 2 + 1j * x.imag


@pytest.mark.parametrize("complex", [True, False])
def test_nonlinear_operator(complex, key):
    """The gradient of a likelihood through |w x|^2 (real or complex output) equals finite differences."""
    w = jnp.asarray(np.random.default_rng(1).uniform(size=IMAGE))
    x, direction = image(2, complex=True), image(3, complex=True)
    fn = nonlinear if complex else lambda x, w: jnp.abs(x * w) ** 2
    problem = InverseProblem(Fn(fn, w), Gaussian(0.4))
    f = problem.likelihood(problem.measure(key, image(4, complex=True)))
    h = 1e-6
    slope = (f(x + h * direction) - f(x - h * direction)) / (2 * h)
    np.testing.assert_allclose(types.inner(f.grad(x), direction), slope, rtol=1e-7)
    np.testing.assert_array_equal(f.score(x), -f.grad(x))
    with pytest.raises(ValueError, match="prox needs a LinearOperator, got Fn"):
        f.prox(x, 0.1)
    with pytest.raises(ValueError, match="lipschitz needs a LinearOperator, got Fn"):
        _ = f.lipschitz


def test_counts_may_be_integers():
    y = np.arange(30).reshape(IMAGE)
    f = Likelihood(blur(), Poisson(1.0, 0.5), y)
    x = jnp.ones(IMAGE, jnp.float32)
    assert f.grad(x).dtype == jnp.float32
    np.testing.assert_allclose(f(x), Likelihood(blur(), Poisson(1.0, 0.5), y.astype(float))(x), rtol=1e-6)


def test_derivative_of_the_likelihood_in_the_measurement():
    """A likelihood built inside the function: the back-projection follows y."""
    A, x, y, d = blur(), image(), image(1), image(2)
    slope = jax.jvp(lambda y: Likelihood(A, Gaussian(0.5), y).grad(x), (y,), (d,))[1]
    np.testing.assert_allclose(slope, -A.H(d) / 0.25, atol=1e-12)
    sigmas = jnp.array([0.2, 0.7])
    together = jax.vmap(lambda s: Likelihood(A, Gaussian(s), y).prox(x, 0.1))(sigmas)
    np.testing.assert_allclose(together[1], Likelihood(A, Gaussian(0.7), y).prox(x, 0.1), atol=1e-12)


ERRORS = {
    "sigma: expected positive values, got 0.0": lambda: Gaussian(0.0),
    "sigma: expected positive values, got nan": lambda: Gaussian(float("nan")),
    "sigma: expected positive values, got an array of shape (2,) with minimum -1.0": lambda: Gaussian([1.0, -1.0]),
    "sigma: expected real values, got complex128": lambda: Gaussian(1j),
    "gain: expected positive values, got -1.0": lambda: Poisson(-1),
    "background: expected non-negative values, got -0.5": lambda: Poisson(1, -0.5),
    "gain: expected positive values, got 0.0": lambda: PoissonGaussian(0, 1),
    "num_terms: expected a positive integer or None, got 0": lambda: PoissonGaussian(1, 1, num_terms=0),
    "prox: expected the Gaussian approximation": lambda: PoissonGaussian(1, 1, 9).prox(jnp.ones(2), jnp.ones(2), 1),
    "noise parameter: expected a shape that broadcasts to (6, 5, 1), got (2, 6, 5, 1)": lambda: Gaussian(
        np.ones((2, 6, 5, 1))
    ).potential(image(), image()),
    "noise parameter: expected a shape that broadcasts to (6, 5, 1), got (3,)": lambda: Poisson(np.ones(3)).grad(
        image(), image()
    ),
    "y: expected shape (6, 5, 1), got (6, 5)": lambda: Likelihood(blur(), Gaussian(1), np.ones((6, 5))),
    "y: expected shape (6, 5, 1), got (4, 6, 5, 1); batch with jax.vmap": lambda: Likelihood(
        blur(), Gaussian(1), np.ones((4, 6, 5, 1))
    ),
    "y: expected a real array, got complex128": lambda: Likelihood(blur("valid"), Gaussian(1), np.ones((4, 2, 1)) * 1j),
    "x: expected shape (6, 5, 1), got (2, 6, 5, 1); batch": lambda: Likelihood(blur(), Gaussian(1), image()).grad(
        jnp.ones((2, *IMAGE))
    ),
    "x: expected a real array, got complex128": lambda: Likelihood(blur(), Gaussian(1), image()).grad(image() * 1j),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message]()
    assert message in str(error.value)


def test_gauss_newton_prox_is_that_of_the_linearised_model():
    """Against the normal equations with the Jacobian ``2 diag(B x) B`` of ``(B x)^2``; exact for a linear operator."""
    B = np.random.default_rng(0).normal(size=(9, 30))
    A = ops.PhaseRetrieval(ops.Matrix(B) @ ops.Reshape(IMAGE, (30,)))
    complex_model = ops.PhaseRetrieval(ops.Matrix(B + 0j) @ ops.Reshape(IMAGE, (30,), complex=True))
    x, sigma, step = image(), 0.3, 0.02
    y = A(image(1)) + 0.1
    f = InverseProblem(A, Gaussian(sigma)).likelihood(y)
    g = GaussNewton(f)
    J = 2 * (B @ np.ravel(x))[:, None] * B
    residual = np.asarray(y) - (B @ np.ravel(x)) ** 2
    moved = np.linalg.solve(np.eye(30) + step / sigma**2 * J.T @ J, step / sigma**2 * J.T @ residual)
    np.testing.assert_allclose(np.ravel(g.prox(x, step) - x), moved, atol=1e-8)
    np.testing.assert_array_equal(g(x), f(x))
    np.testing.assert_array_equal(g.grad(x), -g.score(x))
    # Of a complex image the model is differentiable in the real sense: real and imaginary part are unknowns of their own.
    z = image(complex=True)
    u, step = B @ np.ravel(z), 0.003
    J = 2 * np.concatenate([(u.conj()[:, None] * B).real, (-u.conj()[:, None] * B).imag], 1)
    moved = np.linalg.solve(
        np.eye(60) + step / sigma**2 * J.T @ J, step / sigma**2 * J.T @ (np.asarray(y) - np.abs(u) ** 2)
    )
    change = np.ravel(GaussNewton(InverseProblem(complex_model, Gaussian(sigma)).likelihood(y)).prox(z, step) - z)
    np.testing.assert_allclose(np.concatenate([change.real, change.imag]), moved, atol=1e-8)
    linear = InverseProblem(blur(), Gaussian(sigma)).likelihood(image(1))
    np.testing.assert_allclose(GaussNewton(linear).prox(x, step), linear.prox(x, step), atol=1e-12)


def test_gauss_newton_needs_an_operator():
    f = InverseProblem(Fn(nonlinear, jnp.ones(IMAGE)), Gaussian(0.4)).likelihood(jnp.ones(IMAGE, complex))
    with pytest.raises(
        ValueError, match=r"likelihood: expected an operator to linearise \(operators.Operator\), got Fn"
    ):
        GaussNewton(f)
    with pytest.raises(ValueError, match="likelihood: expected a Likelihood, got Gaussian"):
        GaussNewton(Gaussian(1.0))
