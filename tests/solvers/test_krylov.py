"""Krylov methods against dense algebra, SciPy's LSQR, finite termination, and stopping lane by lane."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse.linalg import lsqr

from invjax import iterate, solve, solvers
from invjax import operators as ops
from invjax.drive import Status
from invjax.reducers import Every

R = np.random.default_rng(61)
N, STEPS = 8, 14  # one shape and one number of steps: one program per method


def orthogonal(n=N):
    return np.linalg.qr(R.normal(size=(n, n)) + 1j * R.normal(size=(n, n)))[0]


def hermitian(eigenvalues):
    Q = orthogonal()
    return (Q * np.asarray(eigenvalues)) @ Q.conj().T


def singular(values, rows=N):
    k = len(values)
    return (orthogonal(rows)[:, :k] * np.asarray(values)) @ orthogonal()[:, :k].conj().T


def vector(n=N):
    return R.normal(size=n) + 1j * R.normal(size=n)


def run(method, start=None):
    """Positions and residuals after 1, 2, ... steps."""
    x = jnp.zeros(N) + 0j if start is None else jnp.asarray(start)
    _, (positions, residuals), status = iterate(method, x, STEPS, trace=(Every(1), Every(1, of=_residual)))
    assert status == 0
    return np.asarray(positions), np.asarray(residuals)


def _residual(state, info):
    return info.residual


@pytest.mark.parametrize("name", ["ConjugateGradient", "MINRES"])
def test_hermitian_systems_end_after_as_many_steps_as_distinct_eigenvalues(name):
    H, b = hermitian([1, 1, 3, 3, 3, 7, 20, 20]), vector()
    x, residuals = run(getattr(solvers, name)(ops.Matrix(H), b))
    exact = np.linalg.solve(H, b)
    assert np.max(np.abs(x[2] - exact)) > 1e-3
    relative = np.linalg.norm(b - H @ x[2]) / np.linalg.norm(b) * np.linalg.norm(x[2])
    np.testing.assert_allclose(residuals[2], relative, rtol=1e-9)
    for late in (x[3], x[-1]):  # and stays there
        np.testing.assert_allclose(late, exact, atol=1e-12)


def krylov(H, b, k):
    return np.stack([np.linalg.matrix_power(H, i) @ b for i in range(k)], 1)


def test_conjugate_gradients_minimise_the_energy_over_the_krylov_space():
    H, b = hermitian(np.geomspace(1, 100, N)), vector()
    K = krylov(H, b, 3)
    best = K @ np.linalg.solve(K.conj().T @ H @ K, K.conj().T @ b)
    np.testing.assert_allclose(run(solvers.ConjugateGradient(ops.Matrix(H), b))[0][2], best, rtol=1e-9)


def test_preconditioned_iterates_are_those_of_the_transformed_system():
    H, b, d = hermitian(np.geomspace(1, 100, N)), vector(), R.uniform(0.2, 1, N)
    transformed, _ = run(solvers.ConjugateGradient(ops.Matrix(d[:, None] * H * d), d * b))
    x, _ = run(solvers.ConjugateGradient(ops.Matrix(H), b, ops.Mask(d**2 + 0j)))
    np.testing.assert_allclose(x[:6], d * transformed[:6], rtol=1e-8)


def test_minres_minimises_the_residual_of_indefinite_systems():
    H, b = hermitian([-5.0, -2.0, -1.0, 0.5, 1.0, 4.0, 6.0, 9.0]), vector()
    x, _ = run(solvers.MINRES(ops.Matrix(H), b))
    K = krylov(H, b, 3)
    np.testing.assert_allclose(x[2], K @ np.linalg.lstsq(H @ K, b, rcond=None)[0], rtol=1e-9)
    for late in (x[N - 1], x[-1]):
        np.testing.assert_allclose(late, np.linalg.solve(H, b), atol=1e-11)
    assert np.all(np.diff(np.linalg.norm(b - x @ H.T, axis=1)) <= 1e-12)


def test_singular_systems_are_solved_and_left_alone():
    H = hermitian([0.0, 0.0, 0.0, 0.0, 0.0, 1.0, -2.0, 3.0])
    b = H @ vector()
    x, _ = run(solvers.MINRES(ops.Matrix(H), b))
    for late in (x[2], x[-1]):
        np.testing.assert_allclose(late, np.linalg.pinv(H) @ b, atol=1e-11)


def test_bicgstab_solves_systems_that_are_not_symmetric():
    A, b = np.diag(np.arange(2.0, 10)) + 0.4 * (R.normal(size=(N, N)) + 1j * R.normal(size=(N, N))), vector()
    solution = solve(solvers.BiCGStab(ops.Matrix(A), b), jnp.zeros(N) + 0j, rtol=1e-12, atol=0.0, max_steps=60)
    assert solution.status == 0
    np.testing.assert_allclose(solution.position, np.linalg.solve(A, b), atol=1e-10)
    real, y = np.real(A) + 0j, np.real(b) + 0j
    x, residuals = run(solvers.BiCGStab(ops.Matrix(real), y))
    np.testing.assert_allclose(x[N - 1], np.linalg.solve(real, y), atol=1e-6)  # N steps, up to rounding
    relative = np.linalg.norm(y - real @ x[3]) / np.linalg.norm(y) * np.linalg.norm(x[3])
    np.testing.assert_allclose(residuals[3], relative, rtol=1e-8)


@pytest.mark.parametrize("rows", [N, 12, 5])
def test_lsqr_ends_after_as_many_steps_as_the_rank(rows):
    A, y = singular([5.0, 2.0, 1.0, 0.3], rows), vector(rows)
    x, residuals = run(solvers.LSQR(ops.Matrix(A), y))
    exact = np.linalg.pinv(A) @ y
    assert np.max(np.abs(x[2] - exact)) > 1e-3
    normal = np.linalg.norm(A.conj().T @ (y - A @ x[2])) / np.linalg.norm(A.conj().T @ y) * np.linalg.norm(x[2])
    np.testing.assert_allclose(residuals[2], normal, rtol=1e-9)
    for late in (x[3], x[-1]):  # and stays there, though the system is singular and inconsistent
        np.testing.assert_allclose(late, exact, atol=1e-12)


@pytest.mark.parametrize("damping", [0.0, 0.7])
def test_lsqr_iterates_equal_scipy(damping):
    A, y = singular(np.geomspace(1, 1e-3, N), 12), vector(12)
    x, _ = run(solvers.LSQR(ops.Matrix(A), y, damping))
    for num_steps in (1, 5):
        expected = lsqr(A, y, damp=damping, iter_lim=num_steps, atol=0, btol=0, conlim=0)[0]
        np.testing.assert_allclose(x[num_steps - 1], expected, atol=1e-11)


def test_lsqr_from_elsewhere_and_ill_conditioned():
    A, y = singular(np.geomspace(1, 1e-5, N), 12), vector(12)
    ridge = np.linalg.solve(A.conj().T @ A + 0.25 * np.eye(N), A.conj().T @ y)
    np.testing.assert_allclose(run(solvers.LSQR(ops.Matrix(A), y, 0.5), vector())[0][-1], ridge, atol=1e-12)
    solution = solve(solvers.LSQR(ops.Matrix(A), y), jnp.zeros(N) + 0j, rtol=1e-14, atol=0.0, max_steps=60)
    exact = np.linalg.lstsq(A, y, rcond=None)[0]
    assert np.linalg.norm(solution.position - exact) < 1e-6 * np.linalg.norm(exact)  # eps cond(A), not eps cond(A)^2


def test_lanes_stop_on_their_own_and_derivatives_are_exact():
    A, y = ops.Matrix(R.normal(size=(12, N))), jnp.asarray(R.normal(size=12))

    @eqx.filter_jit
    def lanes(dampings):
        def one(d):
            return solve(solvers.LSQR(A, y, d), jnp.zeros(N), rtol=1e-12, atol=0.0)

        return jax.vmap(one)(dampings), jax.grad(lambda d: jnp.sum(one(d).position))(1.0)

    dampings = jnp.array([0.01, 1.0, 100.0])
    solution, slope = lanes(dampings)
    assert jnp.all(solution.status == Status.CONVERGED)
    assert solution.num_steps[0] > solution.num_steps[2]
    M = np.asarray(A.matrix)
    for d, x in zip(dampings, solution.position, strict=True):
        np.testing.assert_allclose(x, np.linalg.solve(M.T @ M + d**2 * np.eye(N), M.T @ y), atol=1e-9)
    G = np.linalg.inv(M.T @ M + np.eye(N))
    np.testing.assert_allclose(slope, -2 * np.sum(G @ G @ M.T @ y), rtol=1e-8)


@pytest.mark.parametrize("name", ["ConjugateGradient", "MINRES", "BiCGStab", "LSQR"])
def test_zero_and_nan(name):
    method = getattr(solvers, name)(ops.Matrix(hermitian(np.arange(1, N + 1))), np.zeros(N) + 0j)
    np.testing.assert_array_equal(run(method)[0], 0)
    broken = eqx.tree_at(lambda m: m.operator.matrix, method, replace_fn=lambda a: a * np.nan)
    _, _, status = iterate(broken, jnp.zeros(N) + 0j, STEPS, trace=(Every(1), Every(1, of=_residual)))
    assert status == Status.NON_FINITE


def test_stacked_measurements():
    A = ops.stack([ops.Matrix(R.normal(size=(5, N))), ops.Matrix(R.normal(size=(6, N)))])
    y = tuple(jnp.asarray(R.normal(size=n)) for n in (5, 6))
    end, _, _ = iterate(solvers.LSQR(A, y), jnp.zeros(N), STEPS)
    M = np.concatenate([a.matrix for a in A.operators])
    np.testing.assert_allclose(end.position, np.linalg.lstsq(M, np.concatenate(y), rcond=None)[0], atol=1e-10)


def test_refused():
    A, y = ops.Matrix(R.normal(size=(3, 2))), np.ones(3)
    for method in (solvers.ConjugateGradient, solvers.MINRES, solvers.BiCGStab):
        with pytest.raises(ValueError, match="operator: expected equal input and output structures"):
            method(A, y)
    with pytest.raises(ValueError, match=r"y: expected shape \(3,\), got \(2,\)"):
        solvers.LSQR(A, y[:2])
    with pytest.raises(ValueError, match="damping: expected non-negative"):
        solvers.LSQR(A, y, -1.0)
