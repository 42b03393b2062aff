"""Splittings of three and more terms: Davis-Yin, PPXA, Dykstra, linearised ADMM, stochastic primal-dual."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import iterate, likelihoods, priors, solve, solvers
from invjax import operators as ops

from ..registry import call
from .problems import (
    KERNEL,
    LAM,
    OPERATORS,
    SHAPE,
    SIGMA,
    compiled,
    dense_ridge,
    gaussian,
    measurement,
    solution,
    tv_problem,
)
from .registry import halves

RIDGE = {
    "davis_yin": lambda f, g: solvers.DavisYin(f, g, priors.Zero()),
    "davis_yin_swapped": lambda f, g: solvers.DavisYin(f, priors.Zero(), g, 1.5 / f.lipschitz, 1.1),
    "ppxa": lambda f, g: solvers.PPXA((f, g), 0.05, weights=(2.0, 1.0), relaxation=1.5),
    "linearised_admm": lambda f, g: solvers.LinearisedADMM(f, g, 0.3),
    "anderson": lambda f, g: solvers.Anderson(solvers.ProximalGradient(f, g)),
}


def run(method, x, num_steps, **kwargs):
    state, status = _run(method, x, num_steps, **kwargs)
    assert status == 0
    return state


@eqx.filter_jit
def _run(method, x, num_steps, **kwargs):
    state, _, status = iterate(method, x, num_steps, **kwargs)
    return state, status


@pytest.mark.parametrize("name", RIDGE)
def test_every_solver_reaches_the_ridge_solution(name):
    A = OPERATORS["mri"]
    y = measurement(A)
    end, status = solution(RIDGE[name], gaussian(A, y), priors.Tikhonov(LAM), np.zeros(SHAPE, y.dtype), 300)
    assert status == 0
    np.testing.assert_allclose(end.position, dense_ridge(A, y, LAM), atol=1e-8)


def test_davis_yin_is_proximal_gradient_or_douglas_rachford_without_one_term():
    f, g, h = gaussian(OPERATORS["blur"], measurement(OPERATORS["blur"])), priors.L1(1.5), priors.Box(0.1, 0.6)
    zero = priors.Zero()

    class Flat:
        lipschitz = 1.0

        def grad(self, x):
            return 0 * x

    @jax.jit
    def pairs(y):
        def end(method, x, num_steps):
            return iterate(method, x, num_steps)[0]

        both = [
            (end(solvers.DavisYin(f, g, zero), y, 6).other, end(solvers.ProximalGradient(f, g), y, 6).position),
            (
                end(solvers.DavisYin(f, zero, h), y, 7).position,
                end(solvers.ProximalGradient(f, h), h.prox(y, 1), 6).position,
            ),
        ]
        three, two = solvers.DavisYin(Flat(), g, h, 0.1, 0.9), solvers.DouglasRachford(g, h, 0.1, 0.9)
        a, b = three.init(y), two.init(y)
        for _ in range(3):
            a, b = three.step(a)[0], two.step(b)[0]
            both.append((a.other, b.other))
        return both

    for left, right in pairs(f.y):
        np.testing.assert_allclose(left, right, rtol=1e-13)


def test_three_terms_satisfy_the_optimality_conditions():
    """Sparse deblurring in a box: PPXA and Davis-Yin agree, and the gradient has the right sign on every face."""
    f, g, h = gaussian(OPERATORS["blur"], measurement(OPERATORS["blur"])), priors.L1(4.0), priors.Box(-0.1, 0.5)
    end = run(compiled(solvers.DavisYin, f, g, h), f.y, 2000).position
    ppxa = compiled(lambda *terms: solvers.PPXA(terms, 0.02, weights=(1, 2, 3)), f, g, h)
    np.testing.assert_allclose(run(ppxa, f.y, 3000).position, end, atol=1e-8)
    u, gradient = np.asarray(end), np.asarray(call(f, "grad", end))
    inside = (u > 1e-9) & (u < 0.5)
    assert np.max(np.abs(gradient[inside] + 4)) < 1e-6
    assert np.all(gradient[u == 0.5] <= -4 + 1e-6)
    assert np.all(np.abs(gradient[np.abs(u) < 1e-9]) <= 4 + 1e-6)
    assert min(np.sum(inside), np.sum(u == 0.5), np.sum(np.abs(u) < 1e-9)) > 0


# Projections on the intersection of the ball |x| <= 1 and the half-space x_0 <= 0.3

BALL, HALF = priors.L2Ball(1.0), priors.Box(-jnp.inf, jnp.array([0.3, jnp.inf, jnp.inf]))
POINT = jnp.array([2.0, 1.0, -1.5])


def intersection(z):
    """Closed form where both constraints are active."""
    rest = z[1:] * jnp.sqrt(1 - 0.3**2) / jnp.linalg.norm(z[1:])
    return jnp.concatenate([jnp.array([0.3]), rest])


def test_dykstra_projects_on_an_intersection_where_alternating_projections_do_not():

    @jax.jit
    def both(point):
        end = iterate(solvers.Dykstra((HALF, BALL), point), 0 * point, 200)[0].position
        x = jax.lax.fori_loop(0, 200, lambda _, x: HALF.prox(BALL.prox(x, 1.0), 1.0), point)
        return intersection(point), end, x, (BALL(x), HALF(x))

    exact, end, x, values = (np.asarray(a) for a in both(POINT))
    np.testing.assert_allclose(end, exact, atol=1e-10)
    assert np.max(np.abs(x - exact)) > 0.05
    np.testing.assert_array_equal(values, 0)


def test_parallel_splitting_projects_on_an_intersection():
    f = likelihoods.Likelihood(ops.Identity((3,)), likelihoods.Gaussian(1.0), POINT)
    end = run(solvers.PPXA((f, BALL, HALF), 0.7), POINT, 2000)
    np.testing.assert_allclose(end.position, intersection(POINT), atol=1e-9)


def test_dykstra_is_the_prox_of_a_sum_and_differentiates_it():
    g, h = priors.L1(0.5), priors.NonNegative()
    y = jnp.array([1.0, 0.3, -2.0])
    np.testing.assert_allclose(run(solvers.Dykstra((g, h), y), y, 50).position, [0.5, 0, 0], atol=1e-12)
    weights = jnp.array([0.3, -1.0, 0.7])

    def value(point):
        return weights @ solve(solvers.Dykstra((HALF, BALL), point), point, rtol=1e-13, max_steps=3000).position

    slope, exact = jax.jit(lambda z: (jax.grad(value)(z), jax.grad(lambda z: weights @ intersection(z))(z)))(POINT)
    np.testing.assert_allclose(slope, exact, atol=1e-8)


@pytest.mark.parametrize("boundary", ["circular", "neumann"])
def test_parallel_splitting_with_operators_equals_dense(boundary):
    """f + lam |D x|^2 / 2: closed-form averages with circular differences, conjugate gradients otherwise."""
    A, D = OPERATORS["blur"], ops.FiniteDifferences(SHAPE, boundary)
    y = measurement(A)
    method = solvers.PPXA(
        (gaussian(A, y), priors.Tikhonov(LAM)), 0.05, operators=(ops.Identity(SHAPE), D), weights=(1, 3)
    )
    end = run(method, y, 500)
    M, K = np.asarray(call(A, "dense")), np.asarray(call(D, "dense"))
    exact = np.linalg.solve(M.T @ M / SIGMA**2 + LAM * K.T @ K, M.T @ np.ravel(y) / SIGMA**2)
    np.testing.assert_allclose(np.ravel(end.position), exact, atol=1e-8)


# Total variation


def tv_optimum(f, g, constraint=None):
    end = _tv_optimum(f, g, constraint)
    assert end.status == 0
    return end.position


@eqx.filter_jit
def _tv_optimum(f, g, constraint):
    method = solvers.CondatVu(f, g, constraint=constraint)
    return solve(solvers.Anderson(method, 10), f.y, rtol=1e-9, max_steps=2000)


def test_total_variation_by_linearised_admm():
    f, g = tv_problem("circular")
    exact = tv_optimum(f, g)
    end, _ = solution(lambda f, g: solvers.LinearisedADMM(f, g, 0.005), f, g, f.y, 4000)
    np.testing.assert_allclose(end.position, exact, atol=1e-5)


@eqx.filter_jit
def blocks(f, parts=3):
    """The likelihood cut into interleaved rows."""
    size = f.y.shape[0]
    masks = [ops.Mask(np.arange(size).reshape(-1, 1, 1) % parts == i, f.y.shape) for i in range(parts)]
    operator = ops.stack([m @ f.operator for m in masks])
    return likelihoods.Likelihood(operator, likelihoods.Stacked((f.noise,) * parts), tuple(m(f.y) for m in masks))


@pytest.mark.parametrize("parts", [1, 3])
def test_stochastic_primal_dual_equals_its_definition(parts, key):
    """Replayed in dense algebra with the same draws; with one block it is primal-dual with an extrapolated dual."""
    f, g = gaussian(OPERATORS["blur"], measurement(OPERATORS["blur"])), priors.L1(1.5)
    cut, q = (f, [1.0]) if parts == 1 else (blocks(f), [0.5, 0.3, 0.2])
    method = compiled(lambda f, g: solvers.SPDHG(f, g, 0.3, probabilities=q), cut, g)
    end = run(method, f.y, 4, key=key)
    operators = cut.operator.operators if parts > 1 else [cut.operator]
    M, y = [np.asarray(call(A, "dense")) for A in operators], [np.ravel(v) for v in (cut.y if parts > 1 else [cut.y])]
    tau, sigma = float(method.step_size), np.asarray(method.dual_step_sizes)
    norms = np.array([np.linalg.norm(A, 2) for A in M])
    np.testing.assert_allclose(sigma, 1 / (0.3 * norms), rtol=1e-4)
    np.testing.assert_allclose(tau, 0.3 * np.min(q / norms), rtol=1e-4)
    x, z, ahead, p = np.ravel(f.y), np.zeros(64), np.zeros(64), [np.zeros(64) for _ in M]
    for step in range(4):
        for i in jax.random.choice(jax.random.fold_in(key, step), parts, (parts,), p=jnp.array(q)):
            x = x - tau * ahead
            x = np.sign(x) * np.maximum(np.abs(x) - 1.5 * tau, 0)
            new = (p[i] + sigma[i] * (M[i] @ x - y[i])) / (
                1 + sigma[i] * SIGMA**2
            )  # f*(p) = sigma^2 |p|^2 / 2 + <p, y>
            delta = M[i].T @ (new - p[i])
            z, p[i] = z + delta, new
            ahead = z + delta / q[i]
    np.testing.assert_allclose(np.ravel(end.position), x, atol=1e-11)
    np.testing.assert_allclose(np.ravel(end.ahead), ahead, atol=1e-10)


def test_stochastic_primal_dual_converges(key):
    A = OPERATORS["blur"]
    f = gaussian(A, measurement(A))
    cut = blocks(f)
    method = compiled(lambda f: solvers.SPDHG(f, priors.Tikhonov(LAM), 0.3, probabilities=(3, 2, 1)), cut)
    end = run(method, f.y, 1500, key=key)
    np.testing.assert_allclose(end.position, dense_ridge(A, f.y, LAM), atol=1e-8)
    np.testing.assert_allclose(end.sum, compiled(lambda A, p: A.H(p), cut.operator, end.duals), atol=1e-10)


def test_stochastic_primal_dual_with_total_variation_and_a_box(key):
    f, g = tv_problem("circular")
    box = priors.Box(0.2, 0.8)
    exact = tv_optimum(f, g, box)
    assert np.any((np.asarray(exact) == 0.2) | (np.asarray(exact) == 0.8))
    end, _ = solution(lambda f, g: solvers.SPDHG(blocks(f), g, 0.003, constraint=box), f, g, f.y, 1000, key)
    np.testing.assert_allclose(end.position, exact, atol=1e-5)


def test_implicit_derivative_of_the_stochastic_method(key):
    A = ops.Blur(KERNEL, SHAPE)
    y = measurement(A)
    weights = jnp.asarray(np.random.default_rng(4).normal(size=SHAPE))

    def value(lam):
        method = solvers.SPDHG(halves(gaussian(A, y)), priors.Tikhonov(lam), 0.3)
        return jnp.sum(weights * solve(method, y, key=key, rtol=1e-10, max_steps=2000).position)

    def exact(lam):
        return jnp.sum(weights * solvers.ridge(gaussian(A, y), lam))

    slope, expected = jax.jit(lambda lam: (jax.grad(value)(lam), jax.grad(exact)(lam)))(LAM)
    np.testing.assert_allclose(slope, expected, rtol=1e-6)


def test_refused():
    f, g = gaussian(OPERATORS["blur"], measurement(OPERATORS["blur"])), priors.L1()
    with pytest.raises(ValueError, match="relaxation: expected below 2"):
        solvers.DavisYin(f, g, g, relaxation=2.0)
    with pytest.raises(ValueError, match="terms: expected at least one"):
        solvers.PPXA((), 1.0)
    with pytest.raises(ValueError, match=r"operators: expected one per term \(2\), got 1"):
        solvers.PPXA((f, g), 1.0, operators=(f.operator,))
    with pytest.raises(ValueError, match="weights: expected positive"):
        solvers.PPXA((f, g), 1.0, weights=(1.0, 0.0))
    with pytest.raises(ValueError, match=r"weights: expected shape \(2,\)"):
        solvers.PPXA((f, g), 1.0, weights=(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="terms: expected at least one"):
        solvers.Dykstra((), f.y)
    with pytest.raises(ValueError, match="x: expected shape"):
        solvers.Dykstra((g,), f.y).init(f.y[0])
    with pytest.raises(ValueError, match="constraint: expected a prior that splits"):
        solvers.SPDHG(f, g, constraint=priors.NonNegative())
    with pytest.raises(ValueError, match="probabilities: expected positive"):
        solvers.SPDHG(blocks(f), g, probabilities=(1, 1, 0))
    with pytest.raises(ValueError, match="ratio: expected positive"):
        solvers.SPDHG(f, g, 0.0)
    with pytest.raises(ValueError, match="rho: expected positive"):
        solvers.LinearisedADMM(f, g, 1.0, 0.0)
