"""Sinkhorn-Newton-Sparse: the optimum of Sinkhorn's iteration, at Newton's rate, with a sparse Hessian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import check, iterate, ot, solve
from invjax.drive import Status
from invjax.reducers import Every

from .test_sinkhorn import problem


def errors(method, g, num_steps):
    """Marginal errors after every step."""
    _, trace, _ = iterate(method, g, num_steps, trace=Every(of=lambda state, info: info.residual))
    return np.asarray(trace)


def plane(n, seed=0):
    """Squared distances of points in the unit square, the largest of which is one."""
    r = np.random.default_rng(seed)
    cost = np.sum((r.uniform(size=(n, 2))[:, None] - r.uniform(size=(n, 2))[None]) ** 2, -1)
    return ot.Problem(cost / cost.max())


@pytest.mark.parametrize("num_kept", [3, 20])
def test_reaches_the_optimum_of_sinkhorn(num_kept):
    p, epsilon = problem(), 1 / 50
    exact = check(ot.sinkhorn(p, epsilon, atol=1e-13))
    found = check(ot.sinkhorn_newton(p, epsilon, num_kept=num_kept, atol=1e-12, max_steps=300))
    np.testing.assert_allclose(found.matrix, exact.matrix, atol=1e-10)
    np.testing.assert_allclose(found.value, exact.value, atol=1e-12)
    assert found.marginal_error < 1e-11


def test_dense_newton_converges_quadratically():
    """``err_{k+1} <= K err_k^2`` down to rounding: squared distances, 200 points, eta = 200, from a rough start."""
    p, epsilon = plane(200), 1 / 200
    method = ot.Sinkhorn(p, epsilon)
    g = iterate(method, jnp.zeros(200), 3)[0].position
    found = errors(ot.SinkhornNewton(method, 200), g, 6)
    assert found[0] > 1e-3
    assert found[-1] < 1e-13
    constants = [found[k + 1] / found[k] ** 2 for k in range(5) if found[k + 1] > 1e-13]
    assert len(constants) >= 2
    assert max(constants) < 10


def test_direction_is_newtons():
    """Gradient and Hessian of the semi-dual by differentiation; shifts are in the kernel of the Hessian."""
    p, epsilon = plane(30), 1 / 50
    method = ot.SinkhornNewton(ot.Sinkhorn(p, epsilon), 30)
    g = 0.05 * jnp.asarray(np.random.default_rng(0).normal(size=30))

    def semi_dual(g):
        z = (g[None] - p.matrix) / epsilon + jnp.log(p.b)[None]
        return -epsilon * jnp.vdot(p.a, jax.scipy.special.logsumexp(z, axis=1)) + jnp.vdot(p.b, g)

    state = method.init(g)
    np.testing.assert_allclose(p.b - state.columns, jax.grad(semi_dual)(g), atol=1e-12)
    hessian = jax.hessian(semi_dual)(g)
    np.testing.assert_allclose(hessian @ jnp.ones(30), 0, atol=1e-11)
    direction = method._direction(state, jnp.asarray(1e-12))
    np.testing.assert_allclose(-hessian @ direction, p.b - state.columns, atol=1e-11)


def test_the_semi_dual_never_falls():
    p, epsilon = plane(60, 1), 1 / 300
    method = ot.SinkhornNewton(ot.Sinkhorn(p, epsilon), 10)
    state, step = method.init(jnp.zeros(60)), jax.jit(lambda method, state: method.step(state))
    values = []
    for _ in range(15):
        state, _ = step(method, state)
        values.append(float(jnp.vdot(p.a, state.f) + jnp.vdot(p.b, state.position)))
    assert np.all(np.diff(values) > -1e-13)
    assert values[-1] - values[0] > 1e-4


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_random_assignment_at_the_published_regularisation(seed):
    """n = 200, eta = 1200: 1e-8 within 300 iterations of both kinds, where 5000 of Sinkhorn's have not reached 1e-6."""
    p, epsilon = ot.Problem(np.random.default_rng(seed).uniform(size=(200, 200))), 1 / 1200
    found = check(ot.sinkhorn_newton(p, epsilon, num_kept=5, num_warm=10, atol=1e-9, max_steps=200))
    assert found.marginal_error < 1e-8
    assert 10 * 10 + int(found.num_steps) <= 300
    sinkhorn = ot.sinkhorn(p, epsilon, atol=1e-12, max_steps=500)
    assert sinkhorn.marginal_error > 1e-6


def test_a_plan_that_is_not_sparse_needs_more_entries():
    """Squared distances at eta = 200: five entries a row stall far from the solution, 64 do not."""
    p = plane(200)
    few, many = (ot.sinkhorn_newton(p, 1 / 200, num_kept=k, atol=1e-10, max_steps=15) for k in (5, 64))
    assert few.status == Status.MAX_STEPS
    assert few.marginal_error > 1e-5
    assert many.status == Status.CONVERGED


def test_no_dense_linear_solve():
    """The step of a sparse Hessian factors no matrix, and holds nothing of the size of a square of n + m."""
    p = ot.Problem(np.random.default_rng(0).uniform(size=(64, 64)))
    method = ot.SinkhornNewton(ot.Sinkhorn(p, 0.01), 4)
    text = jax.jit(lambda m, s: m.step(s)).lower(method, method.init(jnp.zeros(64))).as_text()
    for word in ("cholesky", "triangular", "getrf", "potrf", "128x128"):
        assert word not in text
    assert "64x4x" in text


def test_discarded_mass_is_reported():
    p = plane(30)
    method = ot.SinkhornNewton(ot.Sinkhorn(p, 0.05), 2)
    state, info = method.step(method.init(jnp.zeros(30)))
    P = np.asarray(ot.EntropicCoupling(p, jnp.asarray(0.05), state.f, state.position, *[jnp.zeros(())] * 5).matrix)
    kept = np.sort(P, 1)[:, -2:].sum()
    np.testing.assert_allclose(info.discarded, 1 - kept, atol=1e-12)


def test_points_without_mass_and_a_warm_start():
    p, epsilon = problem(), 0.01
    a = p.a * (np.arange(len(p.a)) % 3 > 0)
    b = p.b * (np.arange(len(p.b)) % 4 > 0)
    p = ot.Problem(p.matrix, a / a.sum(), b / b.sum())
    found = check(ot.sinkhorn_newton(p, epsilon, atol=1e-11))
    np.testing.assert_allclose(found.matrix, ot.sinkhorn(p, epsilon, atol=1e-12).matrix, atol=1e-10)
    again = check(ot.sinkhorn_newton(p, epsilon, init=found.g, num_warm=0, atol=1e-10))
    assert again.num_steps == 1


def test_is_a_method():
    """In a driver of one's own, with a trace; it can be differentiated as Sinkhorn's."""
    p = problem()
    newton = ot.SinkhornNewton(ot.Sinkhorn(p, 0.02), 8)
    g = iterate(newton.sinkhorn, jnp.zeros(20), 3)[0].position
    found = check(solve(newton, g, rtol=0.0, atol=1e-12, trace=Every(of=lambda state, info: info.residual)))
    np.testing.assert_allclose(found.position, newton.fixed_point(found.position), atol=1e-10)


@pytest.mark.parametrize("num_kept", [0, 21, 2.0])
def test_bad_number_of_entries(num_kept):
    with pytest.raises(ValueError, match="num_kept: expected an integer in"):
        ot.sinkhorn_newton(problem(), 0.1, num_kept=num_kept)
