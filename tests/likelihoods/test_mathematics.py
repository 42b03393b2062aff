"""Noise models against their moments, normalisation, score identities and proxes; likelihoods against dense algebra."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from invjax import Fn, InverseProblem, Likelihood, types
from invjax import operators as ops
from invjax.likelihoods import Gaussian, NoiseModel, Poisson, PoissonGaussian

from ..registry import build, call
from .registry import LIKELIHOODS, NONCONVEX, SHAPE, SMOOTH, clean, measured

DRAWS = 1_000_000

SCALAR = {
    "gaussian": (Gaussian(0.4), lambda z: 0.4**2),
    "poisson": (Poisson(0.1), lambda z: 0.1 * z),
    "poisson_background": (Poisson(0.1, 0.3), lambda z: 0.1 * (z + 0.3)),
    "poisson_gaussian": (PoissonGaussian(0.1, 0.2), lambda z: 0.1 * z + 0.2**2),
}


@pytest.mark.parametrize("name", SCALAR)
def test_moments_of_a_million_samples(name, key):
    noise, variance = SCALAR[name]
    z = 0.8
    y = eqx.filter_jit(noise.sample)(key, jnp.full(DRAWS, z))
    mean = z + getattr(noise, "background", 0.0)
    np.testing.assert_allclose(y.mean(), mean, rtol=0.01)
    np.testing.assert_allclose(y.var(), variance(z), rtol=0.02)


def test_moments_of_complex_gaussian_noise(key):
    """sigma is that of each part, and the parts are independent."""
    y = Gaussian(0.4).sample(key, jnp.full(DRAWS, 0.3 + 0.2j)) - (0.3 + 0.2j)
    np.testing.assert_allclose([y.real.var(), y.imag.var()], 0.16, rtol=0.02)
    assert abs(jnp.mean(y.real * y.imag)) < 5 * 0.16 / 1000
    assert abs(y.mean()) < 5 * 0.4 * np.sqrt(2) / 1000


@pytest.mark.parametrize(
    ("name", "fisher"),
    [
        ("gaussian", lambda z: 1 / 0.16),
        ("poisson", lambda z: 1 / (0.1 * z)),
        ("poisson_background", lambda z: 1 / (0.1 * (z + 0.3))),
        ("poisson_gaussian", None),
    ],
)
def test_score_has_mean_zero_and_variance_fisher(name, fisher, key):
    """E[score] = 0 and Var[score] = Fisher information, within 5 Monte Carlo standard errors."""
    noise, _ = SCALAR[name]
    z = jnp.full(DRAWS, 0.8)
    y = call(noise, "sample", key, z)
    score = eqx.filter_jit(noise.score)(z, y)
    if fisher is None:  # the heteroscedastic Gaussian: same mean and variance, so the mean of the score is exactly zero
        v = 0.1 * 0.8 + 0.04
        expected = None
        curvature = -jax.jit(jax.grad(lambda u: jnp.sum(noise.score(u, y))))(z)
        np.testing.assert_allclose(curvature.mean(), 1 / v + 0.01 / (2 * v**2), rtol=0.01)
    else:
        expected = fisher(0.8)
    assert abs(score.mean()) < 5 * score.std() / np.sqrt(DRAWS)
    if expected is not None:
        np.testing.assert_allclose(score.var(), expected, atol=5 * (score**2).std() / np.sqrt(DRAWS))


def test_exact_series_has_the_score_identities(key):
    noise = PoissonGaussian(0.2, 0.15, num_terms=40)
    z = jnp.full(100_000, 0.8)
    y = call(noise, "sample", key, z)
    score = eqx.filter_jit(noise.score)(z, y)
    curvature = jax.jit(lambda u: jax.jvp(lambda v: noise.grad(v, y), (u,), (jnp.ones_like(u),))[1])(z)
    assert abs(score.mean()) < 5 * score.std() / np.sqrt(len(z))
    gap = score**2 - curvature
    assert abs(gap.mean()) < 5 * gap.std() / np.sqrt(len(z))


@pytest.mark.parametrize(
    "noise", [Gaussian(0.3), PoissonGaussian(0.2, 0.3), PoissonGaussian(0.2, 0.15, num_terms=80)], ids=str
)
def test_continuous_log_prob_integrates_to_one(noise):
    y = jnp.linspace(-4, 8, 20_001)
    density = jnp.exp(jax.vmap(lambda v: noise.log_prob(jnp.array([0.7]), v[None]))(y))
    np.testing.assert_allclose(np.trapezoid(density, y), 1, rtol=1e-9)


def test_complex_log_prob_integrates_to_one():
    axis = jnp.linspace(-3, 3, 301)
    y = axis[:, None] + 1j * axis
    density = jnp.exp(jax.vmap(lambda v: Gaussian(0.3).log_prob(jnp.array([0.2 + 0.1j]), v[None]))(y.ravel()))
    np.testing.assert_allclose(density.sum() * (axis[1] - axis[0]) ** 2, 1, rtol=1e-9)


@pytest.mark.parametrize("background", [0.0, 0.4])
def test_poisson_log_prob_is_the_probability_of_the_counts(background):
    noise, counts = Poisson(0.2, background), np.arange(60)
    got = jax.vmap(lambda k: noise.log_prob(jnp.array([0.7]), k[None]))(jnp.asarray(0.2 * counts))
    np.testing.assert_allclose(got, scipy.stats.poisson.logpmf(counts, (0.7 + background) / 0.2), rtol=1e-10)


def test_series_equals_summation_with_scipy():
    noise, u, y = PoissonGaussian(0.2, 0.15, num_terms=60), 0.7, np.array([-0.2, 0.1, 0.75, 2.0])
    k = np.arange(60)[:, None]
    exact = np.log(np.sum(scipy.stats.poisson.pmf(k, u / 0.2) * scipy.stats.norm.pdf(y, 0.2 * k, 0.15), axis=0))
    got = jax.vmap(lambda v: noise.log_prob(jnp.array([u]), v[None]))(jnp.asarray(y))
    np.testing.assert_allclose(got, exact, rtol=1e-12)


@pytest.mark.parametrize(("counts", "bound"), [(10, 0.14), (100, 0.04), (1000, 0.011)])
def test_error_of_the_heteroscedastic_approximation(counts, bound):
    """The numbers of the docstring: gain = sigma, within two standard deviations; tight, and of order 1 / sqrt(counts)."""
    gain = 0.1
    u, width = counts * gain, np.sqrt(gain * counts * gain + gain**2)
    y = jnp.linspace(u - 2 * width, u + 2 * width, 41)
    models = PoissonGaussian(gain, gain), PoissonGaussian(gain, gain, num_terms=int(counts + 12 * counts**0.5 + 20))
    logs = [jax.jit(jax.vmap(lambda v, m=m: m.log_prob(jnp.array([u]), v[None])))(y) for m in models]
    error = jnp.abs(logs[0] - logs[1]).max()
    assert 0.8 * bound < error <= bound


def density(noise, u, y):
    return noise.log_prob(u, y) if isinstance(noise, NoiseModel) else -noise.potential(u, y)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_equals_autodiff_and_normalisation_is_free_of_u(name, key):
    noise, r = build(LIKELIHOODS, name), np.random.default_rng(1)
    u, other = clean(r, name), clean(r, name)

    @eqx.filter_jit
    def views(noise, u, other):
        y = measured(key, noise, u)
        constants = [density(noise, v, y) + noise.potential(v, y) for v in (u, other)]
        slopes = noise.grad(u, y), types.grad(lambda v: noise.potential(v, y), u)
        return slopes, noise.score(u, y), constants

    slopes, score, constants = views(noise, u, other)
    np.testing.assert_allclose(*slopes, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(score, -slopes[0])
    np.testing.assert_allclose(*constants, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["gaussian_per_pixel", "gaussian_complex", "poisson_background", "poisson_gaussian"])
def test_lipschitz_bounds_the_gradient(name, key):
    noise, r = build(LIKELIHOODS, name), np.random.default_rng(2)
    shape = (500, *SHAPE)
    us, vs = (clean(r, name, shape) * jnp.asarray(r.uniform(0, 1, (500, 1, 1, 1))) for _ in range(2))
    y = call(noise, "sample", key, us[0])
    ratio = jax.jit(jax.vmap(lambda a, b: types.norm(noise.grad(a, y) - noise.grad(b, y)) / types.norm(a - b)))(us, vs)
    assert ratio.max() <= noise.lipschitz(y) * (1 + 1e-12)
    assert Poisson(0.1).lipschitz(y.real) == jnp.inf
    if name == "poisson_background":  # tight at u = 0
        h = 1e-6 * jnp.ones(SHAPE)
        steepest = jnp.max(jnp.abs(noise.grad(h, y) - noise.grad(0 * h, y))) / 1e-6
        np.testing.assert_allclose(steepest, noise.lipschitz(y), rtol=1e-4)


# Prox ------------------------------------------------------------------------------------------------------------------

PROX = [n for n in SMOOTH if n != "poisson_gaussian_exact"]


@pytest.mark.parametrize("name", PROX)
def test_prox_is_optimal_and_firmly_non_expansive(name, key):
    """step grad f(p) + p - u = 0, and |Pu - Pv|^2 <= <u - v, Pu - Pv>, on convex potentials (small steps)."""
    noise, r, step = build(LIKELIHOODS, name), np.random.default_rng(1), 0.2
    u, v = clean(r, name), clean(r, name)
    y = eqx.filter_jit(measured)(key, noise, u)
    p, q = (call(noise, "prox", w, y, jnp.asarray(step)) for w in (u, v))
    gradient = call(noise, "grad", p, y)
    slope = step * gradient + p - u
    np.testing.assert_allclose(
        jnp.where(jnp.abs(p) > 0, slope, jnp.minimum(slope, 0)), 0, atol=1e-9
    )  # p >= 0 at no count
    if name not in NONCONVEX:
        assert types.inner(p - q, p - q) <= types.inner(u - v, p - q) + 1e-12
    # Moreau: prox of the conjugate at u / step, from its own optimality: w = (u - p) / step must be grad f(p).
    np.testing.assert_allclose(jnp.where(jnp.abs(p) > 0, (u - p) / step - gradient, 0), 0, atol=1e-8)


@pytest.mark.parametrize(
    ("noise", "u", "y"),
    [
        (Gaussian(0.3), 0.2, 0.9),
        (Poisson(0.2), 0.3, 0.8),
        (Poisson(0.2), -0.5, 0.2),
        (Poisson(0.2), -0.5, 0.0),
        (Poisson(0.2, 0.3), -0.5, 0.4),
        (PoissonGaussian(0.2, 0.3), 0.3, 1.1),
        (PoissonGaussian(0.2, 0.3), 2.0, -0.5),
        (PoissonGaussian(100.0, 40.0), 1500.0, 900.0),
    ],
    ids=str,
)
def test_prox_equals_numerical_minimisation(noise, u, y):
    step = 0.4 * float(jnp.asarray(getattr(noise, "sigma", 0.5))) ** 2
    objective = jax.jit(lambda v: step * noise.potential(v[None], jnp.array([y])) + 0.5 * (v - u) ** 2)
    background = float(getattr(noise, "background", 0.0))
    scale = max(abs(u), abs(y))
    low = -background if isinstance(noise, Poisson) else -2 * scale
    best = scipy.optimize.minimize_scalar(
        lambda v: float(objective(v)), bounds=(low, low + 4 * scale), method="bounded", options={"xatol": 1e-10 * scale}
    )
    got = noise.prox(jnp.array([u]), jnp.array([y]), step)[0]
    assert float(objective(got)) <= best.fun + 1e-9 * max(1, abs(best.fun))
    np.testing.assert_allclose(got, best.x, atol=2e-5 * scale)


def test_poisson_gaussian_prox_far_outside_the_domain_is_a_local_minimum():
    noise, u, y, step = PoissonGaussian(1.0, 0.5), jnp.array([0.0]), jnp.array([-10.0]), 0.1
    p = noise.prox(u, y, step)
    np.testing.assert_allclose(step * noise.grad(p, y) + p - u, 0, atol=1e-12)


def test_poisson_prox_closed_form():
    r = np.random.default_rng(0)
    z, y, step = r.normal(size=20), r.uniform(0, 3, 20), 0.7
    exact = 0.5 * (z - step + np.sqrt((z - step) ** 2 + 4 * step * y))
    np.testing.assert_allclose(Poisson().prox(jnp.asarray(z), jnp.asarray(y), step), exact, rtol=1e-12)


def test_poisson_prox_is_accurate_far_below_zero_in_float32():
    """The naive root cancels to 0 here."""
    u, y, step = -4000.0, 2.0, 0.5
    got = Poisson().prox(jnp.array([u], jnp.float32), jnp.array([y], jnp.float32), step)[0]
    w = np.float64(u) - step
    np.testing.assert_allclose(got, 2 * step * y / (np.sqrt(w**2 + 4 * step * y) - w), rtol=1e-5)


@pytest.mark.parametrize("u", [0.5, -0.3])
def test_gradient_of_the_poisson_prox_is_finite_without_counts(u):
    """With y = 0 and u = step the root sits at sqrt(0)."""
    slope = jax.grad(lambda v: Poisson().prox(v[None], jnp.zeros(1), 0.5)[0])(u)
    assert jnp.isfinite(slope)


@pytest.mark.parametrize("name", ["gaussian", "poisson_background", "poisson_gaussian"])
def test_derivatives_of_the_prox_equal_central_differences(name):
    noise = build(LIKELIHOODS, name)
    arrays, static = eqx.partition(noise, eqx.is_array)

    def value(t):
        moved = eqx.combine(jax.tree.map(lambda a: a * (1 + t), arrays), static)
        return moved.prox(jnp.array([0.7 + t]), jnp.array([0.9 - 2 * t]), 0.05 * (1 + t))[0]

    h = 1e-5
    np.testing.assert_allclose(jax.grad(value)(0.0), (value(h) - value(-h)) / (2 * h), rtol=1e-7)


def test_known_value_of_the_gaussian_potential():
    assert Gaussian(0.5).potential(jnp.zeros(4), jnp.ones(4)) == 8


def test_poisson_potential_at_the_border():
    p = Poisson()
    assert p.potential(jnp.zeros(1), jnp.zeros(1)) == 0
    assert p.potential(jnp.zeros(1), jnp.ones(1)) == jnp.inf
    assert p.potential(-jnp.ones(1), jnp.zeros(1)) == jnp.inf
    assert jnp.isfinite(p.grad(jnp.zeros(1), jnp.ones(1))).all()


# Likelihood ------------------------------------------------------------------------------------------------------------

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
