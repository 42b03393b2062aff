"""Solvers against closed forms, dense algebra and the rates of their theorems."""

import functools

import equinox as eqx
import jax
import numpy as np
import pytest

from invjax import iterate, priors, solve, solvers
from invjax import operators as ops
from invjax.reducers import Every
from invjax.types import inner

from .problems import KERNEL, LAM, OPERATORS, SHAPE, SIGMA, X0, dense_ridge, gaussian, measurement, objective, solution

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


# Each solver on the complex operator and on one of the real ones in turn: what depends on the operator is its prox and norm,
# which the contracts of the operators prove.
PAIRS = [(name, kind) for i, name in enumerate(RIDGE) for kind in ("mri", ("blur", "blur_reflect", "mask")[i % 3])]


@pytest.mark.parametrize(("name", "operator"), PAIRS)
def test_every_solver_reaches_the_ridge_solution(name, operator):
    A = OPERATORS[operator]
    y = measurement(A)
    end, _ = solution(RIDGE[name], gaussian(A, y), priors.Tikhonov(LAM), np.zeros(SHAPE, y.dtype), 300)
    assert relative(end.position, dense_ridge(A, y, LAM)) <= 1e-4


@pytest.mark.parametrize("operator", ["blur_reflect", "mri"])
def test_half_quadratic_splitting_solves_the_smoothed_problem(operator):
    """Its prior is the Moreau envelope of Tikhonov, lam / (1 + lam step) |x|^2 / 2; the bias vanishes with the step.

    The iteration contracts by 1 / (1 + lam step) at least, so it ends within rtol / (lam step) = 2e-7 of the solution.
    """
    A = OPERATORS[operator]
    y = measurement(A)
    f, x, bias = gaussian(A, y), np.zeros(SHAPE, y.dtype), []
    for step in (0.3, 0.03, 0.003):
        end = solve(solvers.HQS(f, priors.Tikhonov(LAM), step), x, rtol=1e-9, max_steps=20000).position
        assert relative(end, dense_ridge(A, y, LAM / (1 + LAM * step))) <= 1e-6
        bias.append(relative(end, dense_ridge(A, y, LAM)))
    assert bias[1] < bias[0] / 5
    assert bias[2] < bias[1] / 8  # first order in the step


@pytest.mark.parametrize("name", [n for n in RIDGE if n != "gradient"])
def test_lasso_denoising_is_soft_thresholding(name):
    y = np.random.default_rng(12).normal(size=SHAPE)
    exact = np.sign(y) * np.maximum(np.abs(y) - 4 * SIGMA**2, 0)
    end, _ = solution(RIDGE[name], gaussian(ops.Identity(SHAPE), y), priors.L1(4.0), 0 * y, 200)
    np.testing.assert_allclose(end.position, exact, atol=1e-8)


# Rates, on a diagonal problem with singular values from 1 to 1e-3: |S x - y|^2 / 2 + lam |x|_1, solved exactly.

SINGULAR = np.geomspace(1, 1e-3, 200).reshape(200, 1)


def diagonal(singular, lam):
    """Likelihood, prior, exact solution; the objective of the solution is far below that of zero."""
    y = singular * np.random.default_rng(5).normal(size=singular.shape)
    f = gaussian(ops.Mask(singular), y, 1.0)
    exact = np.sign(y) * np.maximum(np.abs(singular * y) - lam, 0) / singular**2
    return f, priors.L1(lam), exact


def gaps(method, num_steps, exact):
    """F(x_k) - F(x*) for k = 1 ... num_steps from zero."""
    _, values, status = _values(method, np.zeros(exact.shape), num_steps)
    assert status == 0
    best = objective(exact, method.likelihood, method.prior)
    return np.asarray(values) - float(best), np.arange(1, num_steps + 1)


@eqx.filter_jit
def _values(method, x, num_steps):
    f, g = method.likelihood, method.prior
    return iterate(method, x, num_steps, trace=Every(1, of=lambda state, info: objective(state.position, f, g)))


@functools.cache
def proximal_gradient():
    f, g, exact = diagonal(SINGULAR, 1e-6)
    return (f, g), exact, *gaps(solvers.ProximalGradient(f, g), 2000, exact)


def test_rate_of_proximal_gradient():
    _, exact, gap, k = proximal_gradient()
    assert np.all(gap >= -1e-14)
    assert np.all(gap <= np.sum(exact**2) / (2 * k))
    assert np.all(np.diff(gap) <= 1e-15)


@pytest.mark.parametrize("a", [2.0, 3.0])
def test_rate_of_accelerated_proximal_gradient(a):
    (f, g), exact, slow, _ = proximal_gradient()
    gap, k = gaps(solvers.FISTA(f, g, a=a), 2000, exact)
    bound = a**2 * np.sum(exact**2) / (2 * (k + a - 1) ** 2)
    assert np.all(gap >= -1e-14)
    assert np.all(gap <= bound)
    assert gap[-1] < 0.05 * slow[-1]


@pytest.mark.parametrize("a", [2.0, 4.0])
def test_accelerated_iterates_equal_their_definition(a):
    """The form with t_k = (k + a - 1) / a and momentum (t_k - 1) / t_{k+1} (Chambolle and Dossal 2015), in NumPy."""
    f, g, exact = diagonal(SINGULAR, 1e-3)
    x, z = np.zeros(SINGULAR.shape), np.zeros(SINGULAR.shape)
    for k in range(1, 21):
        moved = z - SINGULAR * (SINGULAR * z - np.asarray(f.y))
        new = np.sign(moved) * np.maximum(np.abs(moved) - 1e-3, 0)
        z = new + ((k + a - 1) / a - 1) / ((k + a) / a) * (new - x)
        x = new
    end, _, _ = iterate(solvers.FISTA(f, g, a=a), 0 * exact, 20)
    np.testing.assert_allclose(end.position, x, atol=1e-13)


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
    end, kept, _ = iterate(method, 0 * exact, 1500, trace=trace)
    steps = np.asarray(kept["step"])
    assert np.all(np.diff(steps) <= 0)
    assert np.all(np.isin(steps, 100.0 / 2.0 ** np.arange(21)))
    assert 0.5 < steps[-1] <= 4 / 3  # FISTA is stable up to 4 / (3 L); a valid step is never cut below 1 / (2 L)
    assert objective(end.position, f, g) - objective(exact, f, g) < 1e-5

    @jax.jit
    def bound(end):  # that the last step was chosen for
        x, (z, _) = end.extrapolated, method.step(end)
        d = z.position - x
        return f(z.position), f(x) + inner(f.grad(x), d) + inner(d, d) / (2 * z.step_size)

    value, most = bound(end)
    assert value <= most + 1e-12


def _step_size(state, info):
    return state.step_size


def test_backtracking_is_exact_for_an_isotropic_operator():
    y = np.random.default_rng(12).normal(size=SHAPE)
    f = gaussian(
        2.0 * ops.Identity(SHAPE), y, 1.0
    )  # L = 4: 1 / L is met exactly from 16 / L and just missed from 15 / L
    for start, expected in ((4.0, 0.25), (3.75, 0.234375)):
        end, _, _ = iterate(solvers.FISTA(f, priors.L1(0.1), start, max_backtracks=10), 0 * y, 3)
        assert end.step_size == expected


def test_backtracking_in_float32_does_not_shrink_on_rounding():
    r, q = np.random.default_rng(1), np.random.default_rng(12)
    x, noise = (a.astype(np.float32) for a in (r.uniform(size=(64, 64, 1)), 0.3 * q.normal(size=(64, 64, 1))))

    @jax.jit
    def steps(kernel, x, noise):
        A = ops.Blur(kernel, (64, 64, 1))
        f = gaussian(A, A(x) + noise)
        method = solvers.FISTA(f, priors.L1(0.5), 1 / f.lipschitz, max_backtracks=30)
        return iterate(method, 0 * x, 1000)[0].step_size, method.step_size

    with jax.enable_x64(False):
        last, first = steps(np.float32(KERNEL), x, noise)
    assert last.dtype == np.float32
    assert last >= 0.49 * first


def test_admm_and_douglas_rachford_have_the_same_iterates():
    A = OPERATORS["blur"]
    f, g = gaussian(A, measurement(A)), priors.L1(1.5)
    admm, dr = solvers.ADMM(f, g, 0.13), solvers.DouglasRachford(f, g, 0.13)

    @jax.jit
    def both(x):
        a, b, pairs = admm.init(x), dr.init(f.prox(x, 0.13)), []
        for _ in range(12):
            u = f.prox(a.position - a.other, 0.13)
            pairs.append((b.other, u + a.other))
            a, b = admm.step(a)[0], dr.step(b)[0]
            pairs.append((a.position, b.position))
        return pairs

    for left, right in both(X0):
        np.testing.assert_allclose(left, right, atol=1e-10)
