"""Phase retrieval: exact recovery, the asymptotic law of the spectral start, monotone errors, fixed points, ambiguities."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from invjax import generators, iterate, likelihoods, metrics, priors, solve, solvers
from invjax import operators as ops
from invjax.reducers import Every

from ..registry import complex_normal

SHAPE = (8, 8, 1)
OVERSAMPLING = 6


def problem(r, shape=SHAPE, oversampling=OVERSAMPLING, noise=None):
    """A complex image seen through a Gaussian matrix with B^H B close to I: likelihood and truth."""
    n = int(np.prod(shape))
    m = oversampling * n
    M = complex_normal(r, (m, n)) / np.sqrt(2 * m)
    x = complex_normal(r, shape)
    return _sensed(M, x, noise), jnp.asarray(x)


@eqx.filter_jit
def _sensed(M, x, noise):
    return likelihood(ops.PhaseRetrieval(ops.Matrix(M, x.shape)), x, noise)


@eqx.filter_jit
def likelihood(A, x, noise=None):
    return likelihoods.InverseProblem(A, noise or likelihoods.Gaussian(1.0)).likelihood(A(x))


def error(x, truth):
    """Relative error after alignment of the global phase."""
    return float(_error(x, truth))


@jax.jit
def _error(x, truth):
    return metrics.nrmse(metrics.align_phase(x, truth), truth)


@eqx.filter_jit
def end(method, x, num_steps):
    """The last position of a run."""
    return iterate(method, x, num_steps)[0].position


@eqx.filter_jit
def amplitude_error(f, x):
    """``| |B x| - sqrt(y) |``."""
    return jnp.linalg.norm(jnp.abs(f.operator.operator(x)) - jnp.sqrt(f.y))


# Spectral start and Wirtinger flow -------------------------------------------------------------------------------------------


def squared_correlation(T, delta, top):
    """Limit of |<x, v>|^2 for unit vectors, many unknowns and complex Gaussian B (Lu and Li 2020, theorem 1).

    ``phi(l) = l E[z y / (l - z)]``, ``psi(l) = l (1 / delta + E[z / (l - z)])``, z = T(y), y ~ Exp(1); psi is made increasing
    from its minimum on; at the crossing of the two the squared correlation is ``psi' / (psi' - phi')``.
    """
    y = np.linspace(0, 60, 200_001)
    p, z = np.exp(-y) * (y[1] - y[0]), T(y)

    def phi(level):
        return level * np.sum(p * z * y / (level - z))

    def psi(level):
        return level * (1 / delta + np.sum(p * z / (level - z)))

    def slope(fn, level):
        return (fn(level + 1e-5) - fn(level - 1e-5)) / 2e-5

    low, high = 1.001 * top, 100 * top
    least = scipy.optimize.brentq(lambda v: slope(psi, v), low, high) if slope(psi, low) < 0 else low
    crossing = scipy.optimize.brentq(lambda v: psi(max(v, least)) - phi(v), low, high)
    assert crossing > least
    return slope(psi, crossing) / (slope(psi, crossing) - slope(phi, crossing))


LAWS = {
    "optimal": (lambda y: (y - 1) / (y + np.sqrt(OVERSAMPLING) - 1), 1.0),
    "truncated": (lambda y: np.where(y <= 9, y, 0), 9.0),
}


@pytest.mark.parametrize("preprocessing", LAWS)
def test_the_spectral_start_has_its_asymptotic_correlation(preprocessing, key):
    """Eight draws of 144 unknowns: the mean within four standard errors, and a bias of the order of one unknown."""

    @jax.jit
    def started(f):
        start = solvers.spectral_start(key, f, 300, preprocessing=preprocessing)
        return start, jnp.sum(f.operator(start)), jnp.sum(f.y)

    values = []
    for seed in range(8):
        f, x = problem(np.random.default_rng(seed), (12, 12, 1))
        start, total, count = jax.tree.map(np.asarray, started(f))
        values.append((np.abs(np.vdot(start, x)) / np.linalg.norm(start) / np.linalg.norm(x)) ** 2)
        np.testing.assert_allclose(total, count, rtol=1e-12)
    exact = squared_correlation(LAWS[preprocessing][0], OVERSAMPLING, LAWS[preprocessing][1])
    assert abs(np.mean(values) - exact) < 4 * np.std(values, ddof=1) / np.sqrt(8) + 1 / 144


@pytest.mark.parametrize("preprocessing", LAWS)
def test_the_spectral_start_is_the_leading_eigenvector(preprocessing, key):
    f, _ = problem(np.random.default_rng(0))
    start = np.asarray(solvers.spectral_start(key, f, 3000, preprocessing=preprocessing)).ravel()
    M = np.asarray(f.operator.operator.matrix)
    weights = LAWS[preprocessing][0](np.asarray(f.y / f.y.mean()))
    values, vectors = np.linalg.eigh(M.conj().T @ (weights[:, None] * M))
    assert abs(values[0]) < 10 * values[-1]
    np.testing.assert_allclose(np.abs(np.vdot(vectors[:, -1], start)), np.linalg.norm(start), rtol=1e-8)


FLOWS = {
    "intensity": (likelihoods.Gaussian(0.7), {}, 2500),
    "amplitude": (likelihoods.Amplitude(0.7, 1e-16), {"limit": 1.0, "ramp": 1.0}, 500),
}


@pytest.mark.parametrize("kind", FLOWS)
def test_wirtinger_flow_recovers_exactly(kind, key):
    """Six times oversampled, from the spectral start: every one of four draws."""
    noise, settings, num_steps = FLOWS[kind]

    @jax.jit
    def flow(f):
        start = solvers.spectral_start(key, f)
        return start, end(solvers.WirtingerFlow(f, **settings), start, num_steps)

    for seed in range(4):
        f, x = problem(np.random.default_rng(seed), noise=noise)
        start, last = flow(f)
        assert error(start, x) > 0.1
        assert error(last, x) < 1e-5


def test_wirtinger_flow_from_coded_diffraction(key):
    """Twelve octanary masks, with the same settings as for Gaussian sensing."""
    r = np.random.default_rng(3)
    x = complex_normal(r, (8, 6, 1))

    @jax.jit
    def flow(x):
        masks = generators.CodedMasks(x.shape, 12)(key)
        f = likelihood(ops.PhaseRetrieval(ops.coded_diffraction(masks, x.shape)), x)
        return end(solvers.WirtingerFlow(f), solvers.spectral_start(key, f), 2500)

    assert error(flow(x), x) < 1e-5


def test_the_schedule_and_default_step_of_wirtinger_flow():
    """First steps against the paper's formula, mu = min(1 - exp(-t / 330), 0.2), for B^H B = I and z_0 of the right norm."""
    r = np.random.default_rng(4)
    n, m = 64, 256
    M = np.linalg.qr(complex_normal(r, (m, n)))[0]  # orthonormal columns
    x, z = complex_normal(r, n), complex_normal(r, n)
    f = _sensed(M, x, likelihoods.Gaussian(0.3))
    positions = np.asarray(jax.jit(lambda f: iterate(solvers.WirtingerFlow(f), z, 120, trace=Every(1))[1])(f))
    a, y = np.sqrt(m) * M, m * np.asarray(f.y)  # the paper's normalisation: |a|^2 = n on average
    for t in range(1, 121):
        u = a @ z
        z = z - min(1 - np.exp(-t / 330), 0.2) / np.linalg.norm(x) ** 2 * (a.conj().T @ ((np.abs(u) ** 2 - y) * u)) / m
        np.testing.assert_allclose(positions[t - 1], z, rtol=1e-6, atol=1e-8)
    assert 1 - np.exp(-120 / 330) > 0.2 > 1 - np.exp(-60 / 330)


def test_an_amplitude_step_is_one_of_gerchberg_saxton():
    """For B^H B = I: x - B^H (B x - sqrt(y) B x / |B x|)."""
    r = np.random.default_rng(5)
    M = np.linalg.qr(complex_normal(r, (96, 16)))[0]
    x, z = (complex_normal(r, 16) for _ in range(2))

    @jax.jit
    def both(x, z):
        f = _sensed(M, x, likelihoods.Amplitude(0.3, 1e-16))
        methods = solvers.WirtingerFlow(f, limit=1.0, ramp=1e-3), solvers.gerchberg_saxton(f)
        return [m.step(m.init(z))[0].position for m in methods]

    np.testing.assert_allclose(*both(x, z), atol=1e-7)


# Projections -----------------------------------------------------------------------------------------------------------------


def triangle(n):
    """A triangular support in the corner of an image twice as large: it is not its own mirror image."""
    rows, columns = np.mgrid[: 2 * n, : 2 * n]
    return ((rows < n) & (columns < n) & (rows + columns < n + 2))[..., None]


def real_image(r, n=10):
    """A positive image on the triangle, its twice oversampled Fourier intensities, and starting images."""
    mask = triangle(n)
    x = jnp.asarray(r.uniform(0.1, 1, mask.shape) * mask)
    return _fourier_of_real(x), x, mask, jnp.asarray(r.uniform(size=(8, *mask.shape)) * mask)


@jax.jit
def _fourier_of_real(x):
    return likelihood(ops.PhaseRetrieval(ops.FourierTransform(x.shape) @ ops.as_complex(x.shape)), x)


@eqx.filter_jit
def recovered(make, f, S, x, starts, num_steps):
    """Final positions from many starts, their errors and their distance from the support."""
    ends = jax.vmap(lambda start: iterate(make(f, S), start, num_steps)[0].position)(starts)
    return jax.vmap(lambda z: _error(z, x))(ends), jax.vmap(S)(ends)


RECOVERY = {
    "hybrid_input_output": lambda f, S: solvers.HybridInputOutput(f, S),
    "averaged_reflections": lambda f, S: solvers.AveragedReflections(f, S, 0.95),
}


@pytest.mark.parametrize(("name", "nonnegative"), [("hybrid_input_output", True), ("averaged_reflections", False)])
def test_feedback_recovers_a_real_image_where_error_reduction_stagnates(name, nonnegative):
    """Of eight random starts, up to the sign that a support alone leaves open: at least six against at most two."""
    f, x, mask, starts = real_image(np.random.default_rng(0))
    S = priors.Support(mask, nonnegative=nonnegative)
    errors, outside = recovered(RECOVERY[name], f, S, x, starts, 2000)
    assert sum(np.asarray(errors) < 1e-3) >= 6
    np.testing.assert_array_equal(outside, 0)
    stuck, _ = recovered(solvers.ErrorReduction, f, S, x, starts, 2000)
    assert sum(np.asarray(stuck) > 1e-3) >= 6


ERROR_REDUCTION = {
    "support": lambda r: (real_image(r)[0], priors.Support(triangle(10))),
    "support and sign": lambda r: (real_image(r)[0], priors.Support(triangle(10), nonnegative=True)),
    "gaussian": lambda r: (problem(r)[0], None),
    "coded diffraction": lambda r: (_coded(complex_normal(r, (3, 8, 6, 1)), complex_normal(r, (8, 6, 1))), None),
    "ptychography": lambda r: (_scanned(complex_normal(r, (4, 4, 1)), complex_normal(r, SHAPE)), None),
}


@jax.jit
def _coded(masks, x):
    return likelihood(ops.PhaseRetrieval(ops.coded_diffraction(masks, x.shape)), x)


@jax.jit
def _scanned(probe, x):
    return likelihood(ops.PhaseRetrieval(ops.Ptychography(probe, ops.raster_scan(SHAPE, (4, 4), 2), SHAPE)), x)


@pytest.mark.parametrize("name", ERROR_REDUCTION)
def test_the_error_never_grows_in_error_reduction(name):
    """Fienup (1982). Without a constraint B^H B may be any matrix."""
    r = np.random.default_rng(1)
    f, constraint = ERROR_REDUCTION[name](r)
    f = eqx.tree_at(lambda f: f.y, f, np.asarray(f.y) * r.uniform(0.5, 1.5, f.y.shape))  # no exact solution
    structure = f.operator.in_structure
    x = r.normal(size=structure.shape)
    x = x if structure.dtype == jnp.float32 else x + 1j * r.normal(size=x.shape)

    @jax.jit
    def run(f, x):
        trace = Every(1, of=lambda state, info: amplitude_error(f, state.position))
        return iterate(solvers.ErrorReduction(f, constraint), x, 101, trace=trace)[1][1:]

    errors = np.asarray(run(f, x))
    assert np.all(np.diff(errors) <= 1e-12 * errors[0])
    assert errors[-1] < 0.95 * errors[0]


def test_gerchberg_saxton_is_error_reduction_without_constraint_and_for_unitary_b_one_step():
    r = np.random.default_rng(2)
    f, x = problem(r)
    z = complex_normal(r, SHAPE)
    M, y = np.asarray(f.operator.operator.matrix), np.asarray(f.y)
    u = M @ z.ravel()
    exact = np.linalg.lstsq(M, np.sqrt(y) * u / np.abs(u), rcond=None)[0].reshape(SHAPE)
    saxton = solvers.gerchberg_saxton(f)
    ends = [end(m, z, 1) for m in (saxton, solvers.ErrorReduction(f))]
    np.testing.assert_allclose(ends[0], exact, atol=1e-7)  # conjugate gradients to eps^0.75
    np.testing.assert_array_equal(ends[0], ends[1])
    fourier = likelihood(ops.PhaseRetrieval(ops.FourierTransform(SHAPE)), x)
    last = end(solvers.gerchberg_saxton(fourier), z, 1)
    assert amplitude_error(fourier, last) < 1e-12 * np.linalg.norm(x)  # any phase is a solution

    @jax.jit
    def recovery(f):
        return end(saxton, solvers.spectral_start(jax.random.key(0), f), 400)

    assert error(recovery(f), x) < 1e-5


METHODS = {
    "wirtinger": lambda f, S: solvers.WirtingerFlow(f),
    "error_reduction": solvers.ErrorReduction,
    "hybrid_input_output": solvers.HybridInputOutput,
    "averaged_reflections": solvers.AveragedReflections,
}


@pytest.mark.parametrize("name", METHODS)
def test_the_truth_is_a_fixed_point_and_so_is_its_negative(name):
    f, x, mask, _ = real_image(np.random.default_rng(3))

    @jax.jit
    def step(x):
        method = METHODS[name](f, priors.Support(mask))
        return method.step(method.init(x))

    for point in (np.asarray(x), -np.asarray(x)):
        state, info = step(point)
        np.testing.assert_allclose(state.position, point, atol=1e-13)
        assert info.residual < 1e-13 * x.size


@pytest.mark.parametrize("name", METHODS)
def test_a_global_phase_of_the_start_is_that_of_the_result(name):
    r = np.random.default_rng(6)
    masks = complex_normal(r, (4, *SHAPE))
    mask = np.arange(8)[:, None, None] < 6
    f = _coded(masks, complex_normal(r, SHAPE) * mask)
    start = complex_normal(r, SHAPE)
    run = jax.jit(lambda f, x: end(METHODS[name](f, priors.Support(mask)), x, 15))
    one, two = (np.asarray(run(f, s)) for s in (start, np.exp(0.8j) * start))
    np.testing.assert_allclose(two, np.exp(0.8j) * one, atol=1e-9)


def test_dark_pixels_and_zeros_are_harmless():
    """B x = 0 gets phase one, y < 0 counts as zero, and derivatives are finite."""
    f = likelihood(ops.PhaseRetrieval(ops.FourierTransform((2, 2, 1))), np.ones((2, 2, 1)))
    y, zero = np.array([4.0, -1.0, 0.0, 0.0]).reshape(2, 2, 1), np.zeros((2, 2, 1), complex)

    def value(y, x):
        m = solvers.gerchberg_saxton(eqx.tree_at(lambda f: f.y, f, y))
        position = m.step(m.init(x))[0].position
        return jnp.sum(position.real), position

    (_, position), slopes = jax.jit(jax.value_and_grad(value, argnums=(0, 1), has_aux=True))(y, zero)
    np.testing.assert_allclose(position, np.ones((2, 2, 1)), atol=1e-14)
    for slope in slopes:
        assert np.all(np.isfinite(slope))


def test_solutions_have_no_implicit_derivative(key):
    f, x = problem(np.random.default_rng(8))

    def value(y):
        g = eqx.tree_at(lambda f: f.y, f, y)
        return jnp.sum(jnp.abs(solve(solvers.WirtingerFlow(g, 0.5), x, max_steps=3).position))

    with pytest.raises(ValueError, match="WirtingerFlow has no fixed_point"):
        jax.grad(value)(f.y)


def blur():
    return likelihoods.InverseProblem(ops.Identity((2, 2, 1)), likelihoods.Gaussian(1.0)).likelihood(
        jnp.ones((2, 2, 1))
    )


def fourier(noise=likelihoods.Gaussian(1.0)):
    A = ops.PhaseRetrieval(ops.FourierTransform((2, 2, 1)))
    return likelihoods.InverseProblem(A, noise).likelihood(jnp.ones((2, 2, 1)))


S = priors.Support(np.ones((2, 2, 1)))
ERRORS = {
    "likelihood: expected a PhaseRetrieval operator, got Identity": lambda: solvers.ErrorReduction(blur()),
    "likelihood: expected a PhaseRetrieval": lambda: solvers.HybridInputOutput(blur(), S),
    "likelihood: expected a PhaseRetrieval operator, got": lambda: solvers.AveragedReflections(blur(), S),
    "likelihood: expected a PhaseRetrieval operator": lambda: solvers.WirtingerFlow(blur()),
    "likelihood: expected a Phase": lambda: solvers.spectral_start(jax.random.key(0), blur()),
    "beta: expected positive values, got 0.0": lambda: solvers.HybridInputOutput(fourier(), S, 0),
    "1 - beta: expected non-negative values, got": lambda: solvers.AveragedReflections(fourier(), S, 1.5),
    "step_size: expected positive values, got -1.0": lambda: solvers.WirtingerFlow(fourier(), -1),
    "limit: expected positive values, got 0.0": lambda: solvers.WirtingerFlow(fourier(), limit=0),
    "step_size: expected a value for Poisson noise": lambda: solvers.WirtingerFlow(fourier(likelihoods.Poisson())),
    "preprocessing: expected more measurements than unknowns for 'optimal', got 4 and 4": lambda: (
        solvers.spectral_start(jax.random.key(0), fourier())
    ),
    "preprocessing: expected one of ('optimal', 'truncated'), got 'none'": lambda: solvers.spectral_start(
        jax.random.key(0), fourier(), preprocessing="none"
    ),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message]()
    assert message in str(error.value)
