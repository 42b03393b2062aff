"""Anderson acceleration: GMRES on affine maps, the safeguard, and the derivatives of the method inside."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import iterate, priors, solve, solvers
from invjax.reducers import Every
from invjax.solvers.gradient import GradientState

from .problems import LAM, OPERATORS, SHAPE, dense_ridge, gaussian, measurement, tv_problem


class Map(eqx.Module):
    """A method whose fixed-point map is ``fn(x)`` and nothing else."""

    fn: Any

    def init(self, x, key=None):
        return GradientState(x, ())

    def fixed_point(self, x):
        return self.fn(x)


class Affine(eqx.Module):
    matrix: jax.Array
    shift: jax.Array

    def __call__(self, x):
        return self.matrix @ x + self.shift


def affine(n, complex=False):
    r = np.random.default_rng(51)
    M = r.normal(size=(n, n)) + (1j * r.normal(size=(n, n)) if complex else 0)
    M = 0.95 * M / np.linalg.norm(M, 2)
    return M, r.normal(size=n).astype(M.dtype)


def test_it_is_gmres_on_an_affine_map_and_ends_after_as_many_steps_as_dimensions():
    M, b = affine(6)
    method = solvers.Anderson(Map(Affine(jnp.asarray(M), jnp.asarray(b))), 6, ridge=0.0, safeguard=100.0)
    _, kept, _ = iterate(method, jnp.zeros(6), 8, trace=Every(1, of=_candidate))
    system, krylov = np.eye(6) - M, []
    vector = b
    for k in range(6):
        x = np.zeros(6)
        if krylov:
            K = np.stack(krylov, 1)
            x = K @ np.linalg.lstsq(system @ K, b, rcond=None)[0]
        np.testing.assert_allclose(kept[k], M @ x + b, atol=1e-6)  # T of the GMRES iterate (Walker and Ni, theorem 2.2)
        krylov.append(vector)
        vector = system @ vector / np.linalg.norm(vector)
    exact = np.linalg.solve(system, b)
    np.testing.assert_allclose(kept[7], exact, atol=1e-9)
    plain = exact.copy() * 0
    for _ in range(8):
        plain = M @ plain + b
    assert np.max(np.abs(plain - exact)) > 1e-2


def _candidate(state, info):
    return state.unknowns


def test_complex_unknowns():
    M, b = affine(5, complex=True)
    method = solvers.Anderson(Map(Affine(jnp.asarray(M), jnp.asarray(b))), 12)
    solution = solve(method, jnp.zeros(5) + 0j, rtol=1e-12, max_steps=40)
    assert solution.status == 0
    np.testing.assert_allclose(solution.position, np.linalg.solve(np.eye(5) - M, b), atol=1e-10)


def test_it_needs_far_fewer_steps_and_finds_the_same_solution():
    f, g = tv_problem("circular")

    @jax.jit
    def both(y):
        inner = solvers.CondatVu(f, g)
        fast = solve(solvers.Anderson(inner, 10), y, rtol=1e-8, max_steps=2000)
        return fast, solve(inner, y, rtol=1e-8, max_steps=20000)

    fast, slow = both(f.y)
    assert fast.status == 0
    assert fast.num_steps < slow.num_steps / 10
    np.testing.assert_allclose(fast.position, slow.position, atol=1e-5)


class Bent(eqx.Module):
    """Two slopes, so that a secant through both sides of the bend points far away: x -> x - s max(x, 0) - min(x, 0) / 50."""

    slope: jax.Array

    def __call__(self, x):
        return x - self.slope * jnp.maximum(x, 0) - 0.02 * jnp.minimum(x, 0) + 0.001


def test_the_safeguard_drops_points_that_are_worse():
    method = solvers.Anderson(Map(Bent(jnp.asarray([0.3, 0.5, 0.7]))), 3, safeguard=1.0)
    start = jnp.array([-0.4, 1.0, -2.0])
    trace = {"residual": Every(1, of=_residual), "age": Every(1, of=_age)}
    _, kept, status = iterate(method, start, 60, trace=trace)
    assert status == 0
    assert np.any(np.asarray(kept["age"]) == 0)  # something was dropped
    assert np.all(np.diff(kept["residual"]) <= 1e-15)  # and the accepted residuals never grow
    solution = solve(method, start, rtol=1e-12, max_steps=500)
    assert solution.status == 0
    np.testing.assert_allclose(solution.position, 0.001 / np.array([0.3, 0.5, 0.7]), rtol=1e-8)


def _residual(state, info):
    return info.residual


def _age(state, info):
    return state.age


def test_a_point_that_is_not_finite_is_dropped():
    class Log(eqx.Module):
        def __call__(self, x):
            return jnp.log(x) / 4 + 1

    @jax.jit
    def steps(x, bad):
        method = solvers.Anderson(Map(Log()), 2)
        state, _ = method.step(method.init(x))
        return method.step(state._replace(unknowns=bad))[0]

    state = steps(np.array([0.5]), np.array([-1.0]))  # the map gives NaN there
    assert state.age == 0
    np.testing.assert_allclose(state.unknowns, state.fallback)
    assert np.all(np.isfinite(state.position))


def test_derivative_is_that_of_the_method_inside():
    A = OPERATORS["blur"]
    y = measurement(A)
    weights = np.random.default_rng(4).normal(size=SHAPE)

    def value(lam):
        method = solvers.Anderson(solvers.DouglasRachford(gaussian(A, y), priors.Tikhonov(lam), 0.1))
        return jnp.sum(weights * solve(method, y, rtol=1e-11).position)

    gap = 1e-4
    exact = [np.sum(weights * dense_ridge(A, y, LAM + h)) / (2 * gap) for h in (gap, -gap)]
    np.testing.assert_allclose(jax.jit(jax.grad(value))(LAM), exact[0] - exact[1], rtol=1e-6)


def test_refused():
    f = gaussian(OPERATORS["blur"], measurement(OPERATORS["blur"]))
    inner = solvers.ProximalGradient(f, priors.L1())
    with pytest.raises(ValueError, match="method: expected one with fixed_point, got L1"):
        solvers.Anderson(priors.L1())
    with pytest.raises(ValueError, match="memory: expected an integer >= 1, got 0"):
        solvers.Anderson(inner, 0)
    with pytest.raises(ValueError, match="safeguard: expected at least 1"):
        solvers.Anderson(inner, safeguard=0.5)
