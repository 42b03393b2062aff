"""Solvers against closed forms, dense algebra, SciPy, duality gaps and the rates of their theorems."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from invjax import iterate, likelihoods, priors, solve, solvers
from invjax import operators as ops
from invjax.reducers import Every
from invjax.types import Fn, inner

SHAPE = (8, 8, 1)
SIGMA = 0.3
LAM = 2.0
R = np.random.default_rng(11)
KERNEL = np.array([[0.02, 0.1, 0.0], [0.1, 0.5, 0.1], [0.03, 0.05, 0.1]])
X0 = jnp.asarray(R.uniform(0.2, 1, SHAPE))
OPERATORS = {
    "blur": ops.Blur(KERNEL, SHAPE),
    "blur_reflect": ops.Blur(KERNEL, SHAPE, "reflect"),
    "mask": ops.Mask(R.uniform(size=SHAPE) > 0.4),
    "mri": ops.single_coil_mri(R.uniform(size=SHAPE) > 0.4, SHAPE),
}


def gaussian(A, y, sigma=SIGMA):
    return likelihoods.InverseProblem(A, likelihoods.Gaussian(sigma)).likelihood(y)


def measurement(A, sigma=SIGMA):
    r = np.random.default_rng(3)
    clean = A(X0)
    noise = r.normal(size=SHAPE) + (1j * r.normal(size=SHAPE) if jnp.iscomplexobj(clean) else 0)
    return clean + sigma * noise


def dense_ridge(A, y, lam, sigma=SIGMA, centre=0.0):
    """(A^H A / sigma^2 + lam)^-1 (A^H y / sigma^2 + lam centre) by dense algebra."""
    M = np.asarray(A.dense())
    G = M.conj().T @ M / sigma**2 + lam * np.eye(M.shape[1])
    return np.linalg.solve(G, M.conj().T @ np.ravel(y) / sigma**2 + lam * np.ravel(centre)).reshape(SHAPE)


RIDGE = {
    "gradient": lambda f, g: solvers.GradientDescent(f, g, 1 / (f.lipschitz + LAM)),
    "proximal_gradient": solvers.ProximalGradient,
    "fista": solvers.FISTA,
    "fista_restart": lambda f, g: solvers.FISTA(f, g, restart=True),
    "admm": lambda f, g: solvers.ADMM(f, g, 0.2),
    "douglas_rachford": lambda f, g: solvers.DouglasRachford(f, g, 0.2, 1.5),
    "sdmm": lambda f, g: solvers.SDMM(f, g, 0.2, 0.7),
    "split_bregman": lambda f, g: solvers.SplitBregman(f, g, 5.0),
    "chambolle_pock": lambda f, g: solvers.ChambollePock(f, g, 0.3),
    "chambolle_pock_dual": lambda f, g: solvers.ChambollePock(f, g, 0.1, dualise=True),
    "condat_vu": solvers.CondatVu,
}


def relative(a, b):
    return np.linalg.norm(np.ravel(a - b)) / np.linalg.norm(np.ravel(b))


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", RIDGE)
def test_every_solver_reaches_the_ridge_solution(name, operator):
    A = OPERATORS[operator]
    y = measurement(A)
    f, x = gaussian(A, y), jnp.zeros(SHAPE, y.dtype)
    end, _, _ = iterate(RIDGE[name](f, priors.Tikhonov(LAM)), x, 300)
    assert relative(end.position, dense_ridge(A, y, LAM)) <= 1e-4


@pytest.mark.parametrize("operator", ["blur_reflect", "mri"])
def test_half_quadratic_splitting_solves_the_smoothed_problem(operator):
    """Its prior is the Moreau envelope of Tikhonov, lam / (1 + lam step) |x|^2 / 2; the bias vanishes with the step."""
    A = OPERATORS[operator]
    y = measurement(A)
    f, x, bias = gaussian(A, y), jnp.zeros(SHAPE, y.dtype), []
    for step in (0.3, 0.03, 0.003):
        end = solve(solvers.HQS(f, priors.Tikhonov(LAM), step), x, rtol=1e-10, max_steps=20000).position
        assert relative(end, dense_ridge(A, y, LAM / (1 + LAM * step))) <= 1e-6
        bias.append(relative(end, dense_ridge(A, y, LAM)))
    assert bias[1] < bias[0] / 5
    assert bias[2] < bias[1] / 8  # first order in the step


@pytest.mark.parametrize("name", [n for n in RIDGE if n != "gradient"])
def test_lasso_denoising_is_soft_thresholding(name):
    y = jnp.asarray(R.normal(size=SHAPE))
    exact = np.sign(y) * np.maximum(np.abs(y) - 4 * SIGMA**2, 0)
    end, _, _ = iterate(RIDGE[name](gaussian(ops.Identity(SHAPE), y), priors.L1(4.0)), 0 * y, 200)
    np.testing.assert_allclose(end.position, exact, atol=1e-8)


# Rates, on a diagonal problem with singular values from 1 to 1e-3: |S x - y|^2 / 2 + lam |x|_1, solved exactly.

SINGULAR = np.geomspace(1, 1e-3, 200).reshape(200, 1)


def diagonal(singular, lam):
    """Likelihood, prior, exact solution; the objective of the solution is far below that of zero."""
    y = singular * np.random.default_rng(5).normal(size=singular.shape)
    f = gaussian(ops.Mask(singular), y, 1.0)
    exact = np.sign(y) * np.maximum(np.abs(singular * y) - lam, 0) / singular**2
    return f, priors.L1(lam), jnp.asarray(exact)


def objective(x, f, g):
    return f(x) + g(x)


def gaps(method, num_steps, exact):
    """F(x_k) - F(x*) for k = 1 ... num_steps from zero."""
    f, g = method.likelihood, method.prior
    trace = Every(1, of=Fn(lambda state, info, f, g: objective(state.position, f, g), f, g))
    _, values, status = iterate(method, jnp.zeros_like(exact), num_steps, trace=trace)
    assert status == 0
    return np.asarray(values - objective(exact, f, g)), np.arange(1, num_steps + 1)


def test_rate_of_proximal_gradient():
    f, g, exact = diagonal(SINGULAR, 1e-6)
    gap, k = gaps(solvers.ProximalGradient(f, g), 2000, exact)
    assert np.all(gap >= -1e-14)
    assert np.all(gap <= np.sum(exact**2) / (2 * k))
    assert np.all(np.diff(gap) <= 1e-15)


@pytest.mark.parametrize("a", [2.0, 3.0])
def test_rate_of_accelerated_proximal_gradient(a):
    f, g, exact = diagonal(SINGULAR, 1e-6)
    gap, k = gaps(solvers.FISTA(f, g, a=a), 2000, exact)
    bound = a**2 * np.sum(exact**2) / (2 * (k + a - 1) ** 2)
    assert np.all(gap >= -1e-14)
    assert np.all(gap <= bound)
    assert gap[-1] < 0.05 * gaps(solvers.ProximalGradient(f, g), 2000, exact)[0][-1]


def test_restart_gives_a_linear_rate():
    """Condition number 1e4: restarts reach rounding where the plain method, at its O(1 / k^2), is far from it."""
    f, g, exact = diagonal(np.geomspace(1, 1e-2, 200).reshape(200, 1), 1e-6)
    plain, _ = gaps(solvers.FISTA(f, g), 3000, exact)
    gap, _ = gaps(solvers.FISTA(f, g, restart=True), 3000, exact)
    marks = gap[[300, 900, 1500]]
    assert np.all(marks[1:] <= marks[:-1] * np.exp(-2 * 600 / (np.e * (8 * 1e4) ** 0.5)))  # section 3.1 of the paper
    assert gap[-1] < 1e-15
    assert plain[1500] > 1e3 * max(gap[1500], 1e-16)


def test_backtracking_finds_a_valid_step():
    f, g, exact = diagonal(SINGULAR, 1e-6)
    method = solvers.FISTA(f, g, 100.0, max_backtracks=20)
    trace = {"step": Every(1, of=_step_size), "x": Every(1)}
    end, kept, _ = iterate(method, jnp.zeros_like(exact), 1500, trace=trace)
    steps = np.asarray(kept["step"])
    assert np.all(np.diff(steps) <= 0)
    assert np.all(np.isin(steps, 100.0 / 2.0 ** np.arange(21)))
    assert 0.5 < steps[-1] <= 4 / 3  # FISTA is stable up to 4 / (3 L); a valid step is never cut below 1 / (2 L)
    assert objective(end.position, f, g) - objective(exact, f, g) < 1e-5
    x = end.extrapolated  # the bound that the last step was chosen for
    z, _ = method.step(end)
    d, gradient = z.position - x, f.grad(x)
    assert f(z.position) <= f(x) + inner(gradient, d) + inner(d, d) / (2 * z.step_size) + 1e-12


def _step_size(state, info):
    return state.step_size


def test_backtracking_is_exact_for_an_isotropic_operator():
    y = jnp.asarray(R.normal(size=SHAPE))
    f = gaussian(
        2.0 * ops.Identity(SHAPE), y, 1.0
    )  # L = 4: 1 / L is met exactly from 16 / L and just missed from 15 / L
    for start, expected in ((4.0, 0.25), (3.75, 0.234375)):
        end, _, _ = iterate(solvers.FISTA(f, priors.L1(0.1), start, max_backtracks=10), 0 * y, 3)
        assert end.step_size == expected


def test_backtracking_in_float32_does_not_shrink_on_rounding():
    with jax.enable_x64(False):
        A = ops.Blur(KERNEL, (64, 64, 1))
        x = jnp.asarray(np.random.default_rng(1).uniform(size=(64, 64, 1)), jnp.float32)
        f = gaussian(A, A(x) + 0.3 * jnp.asarray(R.normal(size=x.shape), jnp.float32))
        method = solvers.FISTA(f, priors.L1(0.5), 1 / f.lipschitz, max_backtracks=30)
        end, _, _ = iterate(method, 0 * x, 1000)
    assert end.step_size >= 0.49 * method.step_size


def test_admm_and_douglas_rachford_have_the_same_iterates():
    A = OPERATORS["blur"]
    f, g = gaussian(A, measurement(A)), priors.L1(1.5)
    admm, dr = solvers.ADMM(f, g, 0.13), solvers.DouglasRachford(f, g, 0.13)
    a, b = admm.init(X0), dr.init(f.prox(X0, 0.13))
    for _ in range(12):
        u = f.prox(a.position - a.other, 0.13)
        np.testing.assert_allclose(b.other, u + a.other, atol=1e-10)
        a, b = admm.step(a)[0], dr.step(b)[0]
        np.testing.assert_allclose(a.position, b.position, atol=1e-10)


# Total-variation deblurring, 16 x 16.

TV_SHAPE = (16, 16, 1)


def tv_problem(boundary):
    r = np.random.default_rng(2)
    x = np.kron(r.uniform(size=(4, 4, 1)), np.ones((4, 4, 1)))
    A = ops.Blur(KERNEL, TV_SHAPE)
    f = gaussian(A, A(jnp.asarray(x)) + 0.05 * r.normal(size=TV_SHAPE), 0.05)
    return f, priors.TV(TV_SHAPE, 12.0, boundary=boundary, rtol=1e-12)


TV_SOLVERS = {
    "fista": lambda f, g: (solvers.FISTA(f, g, restart=True, num_inner=50), 300),
    "proximal_gradient": lambda f, g: (solvers.ProximalGradient(f, g, 1.5 / f.lipschitz, num_inner=20), 1000),
    "admm": lambda f, g: (solvers.ADMM(f, g, 0.005, num_inner=30), 600),
    "sdmm": lambda f, g: (solvers.SDMM(f, g, 0.005, 1.0), 3000),
    "split_bregman": lambda f, g: (solvers.SplitBregman(f, g, 100.0), 2000),
    "chambolle_pock": lambda f, g: (solvers.ChambollePock(f, g, 0.005), 4000),
    "chambolle_pock_dual": lambda f, g: (solvers.ChambollePock(f, g, 0.003, dualise=True), 8000),
    "condat_vu": lambda f, g: (solvers.CondatVu(f, g), 4000),
}


def primal_minus_dual(f, g, x, p):
    """Duality gap with f*(v) = |v + b|^2_{G^-1} / 2 - |y|^2 / (2 sigma^2), G = A^H A / sigma^2, b = A^H y / sigma^2."""
    s2 = float(f.noise.sigma) ** 2
    M = np.asarray(f.operator.dense())
    y = np.ravel(f.y)
    v = -np.ravel(g.operator.H(jnp.asarray(p))) + M.T @ y / s2
    conjugate = v @ np.linalg.solve(M.T @ M / s2, v) / 2 - y @ y / (2 * s2)
    assert np.max(np.sqrt(np.sum(np.asarray(p) ** 2, 0))) <= g.lam * (1 + 1e-12)
    return float(objective(x, f, g)) + conjugate


@pytest.fixture(scope="module", params=["neumann", "circular"])
def tv(request):
    """A deblurring problem and its optimum, certified by the duality gap of Chambolle-Pock."""
    f, g = tv_problem(request.param)
    method, num_steps = TV_SOLVERS["chambolle_pock"](f, g)
    gap = []
    for k in (10, 100, 1000, num_steps):
        end, _, _ = iterate(method, f.y, k)
        gap.append(primal_minus_dual(f, g, end.position, end.dual[0]))
    best = float(objective(end.position, f, g))
    assert gap[0] > gap[1] > gap[2] > gap[3] >= -1e-9 * best
    assert gap[3] <= 1e-6 * best
    return f, g, best


@pytest.mark.parametrize("name", [n for n in TV_SOLVERS if n not in ("chambolle_pock", "split_bregman")])
def test_total_variation_solvers_agree(name, tv):
    f, g, best = tv
    method, num_steps = TV_SOLVERS[name](f, g)
    end, _, status = iterate(method, f.y, num_steps)
    assert status == 0
    assert abs(float(objective(end.position, f, g)) - best) <= 1e-6 * best


@pytest.mark.parametrize("tv", ["circular"], indirect=True)  # with the other boundary its inner solves are iterative
def test_split_bregman_agrees(tv):
    test_total_variation_solvers_agree("split_bregman", tv)


def test_split_bregman_without_common_basis():
    """Blur diagonal in Fourier space, differences in cosines: conjugate gradients inside, the same iterates as dense."""
    f, g = tv_problem("neumann")
    method = solvers.SplitBregman(f, g, 100.0)
    outer, K = g.split()
    end, _, _ = iterate(method, f.y, 1)
    M, D = np.asarray(f.operator.dense()), np.asarray(K.dense())
    t = K(f.y)
    w = np.asarray(outer.prox(t, 1 / 100.0))
    rhs = M.T @ np.ravel(f.y) / 0.05**2 + 100 * D.T @ np.ravel(2 * w - t)
    x = np.linalg.solve(M.T @ M / 0.05**2 + 100 * D.T @ D, rhs)
    np.testing.assert_allclose(np.ravel(end.position), x, atol=1e-9)
    np.testing.assert_allclose(np.ravel(end.t), np.ravel(t) + 1.8 * (D @ x - np.ravel(w)), atol=1e-8)


# Poisson data

COUNTS = np.random.default_rng(8).poisson(np.random.default_rng(9).uniform(0, 6, (6, 6, 1))).astype(float)


def poisson(background=0.0):
    A = ops.Blur(KERNEL, (6, 6, 1))
    return likelihoods.InverseProblem(A, likelihoods.Poisson(1.0, background)).likelihood(COUNTS)


def scipy_poisson(lam, background):
    """Non-negative minimiser of sum(u + b - y log(u + b)) + lam |x|^2 / 2 by L-BFGS-B, then a Newton step on its support."""
    M, y = np.asarray(poisson().operator.dense()), COUNTS.ravel()

    def value(x):
        u = M @ x + background
        return np.sum(u - y * np.log(u)) + lam * x @ x / 2, M.T @ (1 - y / u) + lam * x

    box = [(0 if background else 1e-12, None)] * y.size
    options = {"maxiter": 20000, "maxfun": 100000, "ftol": 1e-16, "gtol": 1e-10}
    x = minimize(value, np.ones(y.size), jac=True, method="L-BFGS-B", bounds=box, options=options).x
    for _ in range(5):
        free = x > 1e-6
        u = M @ x + background
        H = (M.T * (y / u**2)) @ M + lam * np.eye(y.size)
        x[free] -= np.linalg.solve(H[np.ix_(free, free)], value(x)[1][free])
    assert np.all(value(x)[1][~free] > -1e-6)
    assert np.max(np.abs(value(x)[1][free])) < 1e-8
    return x.reshape(6, 6, 1)


def test_poisson_deconvolution_equals_scipy():
    f = poisson(0.1)
    method = solvers.ChambollePock(f, priors.Tikhonov(0.05), 0.8, dualise=True, constraint=priors.NonNegative())
    end, _, _ = iterate(method, jnp.ones_like(f.y), 8000)
    exact = scipy_poisson(0.05, 0.1)
    assert np.sum(exact == 0) + np.sum(exact < 1e-8) > 0  # the constraint is active
    np.testing.assert_allclose(end.position, exact, atol=1e-5)


def test_maximum_likelihood_expectation_maximisation():
    f = poisson()
    trace = {"x": Every(1), "kl": Every(1, of=Fn(lambda state, info, f: f(state.position), f))}
    end, kept, _ = iterate(solvers.MLEM(f), jnp.ones_like(f.y), 20000, trace=trace)
    x = np.asarray(kept["x"])
    counts = np.asarray(jax.vmap(f.operator)(kept["x"][:200])).sum((1, 2, 3))
    np.testing.assert_allclose(counts, COUNTS.sum(), rtol=1e-10)
    assert np.all(x >= 0)
    assert np.all(np.diff(kept["kl"]) <= 1e-12 * np.abs(kept["kl"][:-1]))
    exact = scipy_poisson(0.0, 0.0)
    np.testing.assert_allclose(f(end.position), f(jnp.asarray(np.maximum(exact, 0))), rtol=1e-7)
    np.testing.assert_allclose(end.position, exact, atol=2e-3)  # pixels that tend to zero do so as 1 / k
    assert isinstance(solvers.richardson_lucy(f), solvers.MLEM)


# Linear reconstructions and the choice of the weight


def test_landweber_filters_the_singular_values():
    singular = np.linspace(0.05, 1.3, 40).reshape(40, 1)
    y, tau = np.random.default_rng(4).normal(size=singular.shape), 0.7
    method = solvers.GradientDescent(gaussian(ops.Mask(singular), y, 1.0), priors.Zero(), tau)
    for k in (1, 2, 50):
        end, _, _ = iterate(method, jnp.zeros_like(jnp.asarray(y)), k)
        np.testing.assert_allclose(end.position, (1 - (1 - tau * singular**2) ** k) / singular * y, rtol=1e-12)


@pytest.mark.parametrize("operator", OPERATORS)
def test_ridge_equals_dense(operator):
    A = OPERATORS[operator]
    y, centre = measurement(A), jnp.asarray(R.normal(size=SHAPE))
    f = gaussian(A, y)
    np.testing.assert_allclose(solvers.ridge(f, LAM), dense_ridge(A, y, LAM), atol=1e-9)
    centred = solvers.ridge(f, LAM, centre.astype(y.dtype))
    np.testing.assert_allclose(centred, dense_ridge(A, y, LAM, centre=centre), atol=1e-9)


@pytest.mark.parametrize("operator", ["blur", "mri"])
def test_discrepancy(operator):
    A = OPERATORS[operator]
    f = gaussian(A, measurement(A))
    x = solvers.ridge(f, LAM)
    reals = 64 * (2 if operator == "mri" else 1)
    exact = np.sum(np.abs(np.asarray(A(x) - f.y)) ** 2) / (reals * SIGMA**2)
    np.testing.assert_allclose(solvers.discrepancy(f, x), exact, rtol=1e-12)
    values = [solvers.discrepancy(f, solvers.ridge(f, lam)) for lam in (0.1, 1.0, 10.0, 100.0)]
    assert np.all(np.diff(values) > 0)


def linear_risk(A, lam):
    """Matrix A W of the ridge reconstruction W, and the exact predicted risk E |A W y - A x|^2 / m at X0."""
    M = np.asarray(A.dense())
    P = M @ np.linalg.solve(M.T @ M / SIGMA**2 + lam * np.eye(64), M.T / SIGMA**2)
    clean = M @ np.ravel(X0)
    return P, (np.sum((P @ clean - clean) ** 2) + SIGMA**2 * np.sum(P**2)) / 64


def test_sure_of_a_linear_reconstruction_is_exact():
    """For a diagonal A W every random sign gives the exact divergence tr(A W), so one probe suffices."""
    A = ops.Mask(R.uniform(0.2, 1, SHAPE))
    f = gaussian(A, measurement(A))
    P, _ = linear_risk(A, LAM)
    y = np.ravel(f.y)
    exact = np.sum((P @ y - y) ** 2) / 64 - SIGMA**2 + 2 * SIGMA**2 / 64 * np.trace(P)
    value = solvers.sure(jax.random.key(1), lambda y: solvers.ridge(gaussian(A, y), LAM), f)
    np.testing.assert_allclose(value, exact, rtol=1e-10)


def test_sure_is_unbiased(key):
    A = OPERATORS["blur"]
    clean = A(X0)

    @jax.jit
    def draws(keys):
        def one(k):
            y = clean + SIGMA * jax.random.normal(jax.random.fold_in(k, 0), SHAPE)
            estimate = solvers.sure(k, lambda y: solvers.ridge(gaussian(A, y), LAM), gaussian(A, y))
            return estimate, jnp.mean((A(solvers.ridge(gaussian(A, y), LAM)) - clean) ** 2)

        return jax.lax.map(one, keys, batch_size=100)

    estimates, losses = (np.asarray(v) for v in draws(jax.random.split(key, 10000)))
    _, risk = linear_risk(A, LAM)
    for values in (estimates, losses):
        assert abs(values.mean() - risk) <= 3 * values.std(ddof=1) / 100
    assert 3 * estimates.std(ddof=1) / 100 < 0.05 * risk


@pytest.mark.parametrize("name", ["split_bregman", "fista"])
def test_sure_through_total_variation_equals_finite_differences(name, key):
    f, g = tv_problem("circular")

    def reconstruct(y):
        likelihood = gaussian(f.operator, y, 0.05)
        method = solvers.SplitBregman(likelihood, g, 100.0) if name == "split_bregman" else solvers.FISTA(likelihood, g)
        return iterate(method, jnp.zeros(TV_SHAPE), 40)[0].position

    predict = jax.jit(lambda y: f.operator(reconstruct(y)))
    value = solvers.sure(key, reconstruct, f)
    b = jax.random.rademacher(jax.random.split(key, 1)[0], TV_SHAPE, f.y.dtype)
    h = 1e-6
    divergence = jnp.sum(b * (predict(f.y + h * b) - predict(f.y - h * b))) / (2 * h)
    expected = jnp.mean((predict(f.y) - f.y) ** 2) - 0.05**2 + 2 * 0.05**2 / 256 * divergence
    np.testing.assert_allclose(value, expected, rtol=1e-6)


# What raises


def test_refused_settings():
    f, g = gaussian(ops.Identity(SHAPE), np.ones(SHAPE)), priors.L1(1.0)
    counts = likelihoods.InverseProblem(ops.Identity(SHAPE), likelihoods.Poisson()).likelihood(np.ones(SHAPE))
    for make in (solvers.HQS, solvers.ADMM, solvers.DouglasRachford, solvers.SDMM, solvers.ChambollePock):
        with pytest.raises(ValueError, match="step_size: expected positive values, got 0"):
            make(f, g, 0.0)
    for make in (solvers.FISTA, solvers.ProximalGradient, solvers.GradientDescent, solvers.CondatVu):
        with pytest.raises(ValueError, match="step_size: expected positive values, got -1"):
            make(f, g, -1.0)
        with pytest.raises(ValueError, match=r"step_size .default 1 / likelihood.lipschitz.: expected positive"):
            make(counts, g)
    with pytest.raises(ValueError, match=r"step_size .expected below 2 / likelihood.lipschitz.: the dual step"):
        solvers.CondatVu(f, g, 2.01 * SIGMA**2)
    with pytest.raises(ValueError, match="a: expected at least 2"):
        solvers.FISTA(f, g, a=1.9)
    with pytest.raises(ValueError, match=r"relaxation: expected below 1.618"):
        solvers.ADMM(f, g, 1.0, 1.7)
    for make in (solvers.DouglasRachford, lambda *a: solvers.SDMM(*a[:3], 1.0, a[3]), solvers.SplitBregman):
        with pytest.raises(ValueError, match="relaxation: expected below 2"):
            make(f, g, 1.0, 2.0)
    with pytest.raises(ValueError, match="rho: expected positive"):
        solvers.SDMM(f, g, 1.0, -1.0)
    with pytest.raises(ValueError, match="rho: expected positive"):
        solvers.SplitBregman(f, g, 0.0)
    with pytest.raises(ValueError, match="constraint: expected dualise=True"):
        solvers.ChambollePock(f, g, 1.0, constraint=priors.NonNegative())
    with pytest.raises(ValueError, match="grad: L1 is not smooth"):
        solvers.GradientDescent(f, g).step(solvers.GradientDescent(f, g).init(f.y))


def test_refused_noise():
    f = gaussian(ops.Identity(SHAPE), np.ones(SHAPE))
    counts = likelihoods.InverseProblem(ops.Identity(SHAPE), likelihoods.Poisson()).likelihood(np.ones(SHAPE))
    coloured = gaussian(ops.Identity(SHAPE), np.ones(SHAPE), np.full(SHAPE, 0.1))
    for likelihood in (counts, coloured):
        with pytest.raises(ValueError, match="likelihood: expected Gaussian noise with a scalar sigma"):
            solvers.SplitBregman(likelihood, priors.L1(), 1.0)
        with pytest.raises(ValueError, match="likelihood: expected Gaussian noise with a scalar sigma"):
            solvers.sure(jax.random.key(0), lambda y: y, likelihood)
    with pytest.raises(ValueError, match="likelihood: expected real data"):
        solvers.sure(jax.random.key(0), lambda y: y, gaussian(OPERATORS["mri"], np.ones(SHAPE) + 0j))
    with pytest.raises(ValueError, match="num_probes: expected a positive integer, got 0"):
        solvers.sure(jax.random.key(0), lambda y: y, f, 0)
    with pytest.raises(ValueError, match="likelihood: expected Gaussian noise, got Poisson"):
        solvers.discrepancy(counts, counts.y)
    with pytest.raises(ValueError, match="likelihood: expected Gaussian noise, got Poisson"):
        solvers.ridge(counts, 1.0)
    with pytest.raises(ValueError, match="lam: expected positive"):
        solvers.ridge(f, 0.0)
    with pytest.raises(ValueError, match="likelihood: expected Poisson noise, got Gaussian"):
        solvers.MLEM(f)
    with pytest.raises(ValueError, match=r"likelihood.y: expected non-negative"):
        solvers.MLEM(eqx.tree_at(lambda c: c.y, counts, -counts.y))
    with pytest.raises(ValueError, match="x: expected non-negative"):
        solvers.MLEM(counts).init(-counts.y)
