"""Drivers: derivatives of runs and of solutions, compile counts, transformations, lowering, dtypes."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array

from invjax import Fn, iterate, sample, solve
from invjax.implicit import _gmres
from invjax.reducers import Last, Moments
from invjax.types import norm, real

from .methods import Info, Landweber, Scale, State, Unknown, Walk, X, equal, landweber, ridge

# Derivatives -----------------------------------------------------------------------------------------------------------


def test_checkpointing_keeps_the_gradient_and_saves_memory():
    def loss(m, every):
        return jnp.sum(iterate(m, jnp.tile(X, (1000, 1)).T, 200, checkpoint_every=every)[0].position ** 2)

    m = Landweber(jnp.eye(3), jnp.ones((3, 1)), 0.1, 0.1)
    programs = {e: jax.jit(jax.grad(lambda m, e=e: loss(m, e))).lower(m).compile() for e in (None, 14)}
    plain, other = (program(m) for program in programs.values())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), other, plain)
    memory = {e: p.memory_analysis().temp_size_in_bytes for e, p in programs.items()}
    assert memory[14] < 0.35 * memory[None]  # 200 states against about 200 / 14 + 14


@pytest.mark.parametrize("complex", [False, True])
def test_implicit_derivative_of_a_solution_in_all_arrays(complex):
    m = landweber(complex)
    x = np.array([1.0, -2.0, 0.5]).astype(m.b.dtype)
    weight = np.arange(1.0, 4) * (1 + 0.5j if complex else 1)

    def solved(m):
        return jnp.vdot(weight, solve(m, x, rtol=1e-13, atol=0.0, max_steps=2000).position).real

    @jax.jit
    def derivatives(m):
        exact = jax.grad(lambda m: jnp.vdot(weight, ridge(m)).real)(m)
        return exact, jax.grad(solved)(m), jax.jvp(solved, (m,), (m,))[1]

    exact, got, forward = jax.tree.map(np.asarray, derivatives(m))
    exact = eqx.tree_at(lambda m: m.step_size, exact, np.zeros(()))  # the solution does not depend on it
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9), got, exact)
    pairs = zip(jax.tree.leaves(exact), jax.tree.leaves(m), strict=True)
    np.testing.assert_allclose(forward, sum(np.sum(g * np.asarray(a)).real for g, a in pairs), atol=1e-9)


class Pair(eqx.Module):
    """Gauss-Seidel on position = (p, q): p = (a + q) / 3, q = p / 2 + c; the dual variable is part of the unknowns."""

    a: Array = eqx.field(converter=real)
    c: Array = eqx.field(converter=real)

    def init(self, x, key=None):
        return DualState(x, jnp.zeros(()))

    def unknowns(self, state):
        return state.position, state.dual

    def fixed_point(self, u):
        dual = u[1]
        p = (self.a + dual) / 3
        return {"p": p, "half": 0.5 * p}, 0.5 * p + self.c

    def step(self, state):
        position, dual = self.fixed_point(self.unknowns(state))
        return DualState(position, dual), Info(jnp.abs(dual - state.dual))


class DualState(NamedTuple):
    position: Any
    dual: Array


def test_implicit_derivative_with_unknowns_and_pytrees():
    def value(m):
        return solve(m, {"p": jnp.zeros(()), "half": jnp.zeros(())}, rtol=1e-14, atol=0.0).position["half"]

    m = Pair(1.0, 2.0)  # p = (a + p / 2 + c) / 3 = 2 (a + c) / 5
    half, got = jax.jit(jax.value_and_grad(value))(m)
    np.testing.assert_allclose(half, 0.6, rtol=1e-12)
    np.testing.assert_allclose([got.a, got.c], 0.2, rtol=1e-10)


def test_second_derivatives_of_a_solution():
    """Against those of the linear solve, in both orders of the modes; nothing of the derivative is traced without one."""
    m, weights = landweber(), np.array([1.0, -2.0, 0.5])

    def value(shift, b):
        there = eqx.tree_at(lambda m: (m.shift, m.b), m, (shift, b))
        return jnp.sum(weights * solve(there, X, rtol=1e-13, atol=0.0, max_steps=20_000).position ** 3)

    def exact(shift, b):
        M = m.matrix
        return jnp.sum(weights * jnp.linalg.solve(M.T @ M + shift * jnp.eye(3), M.T @ b) ** 3)

    for derivative in (jax.hessian, lambda f, argnums: jax.jacrev(jax.jacfwd(f, argnums), argnums)):
        got, expected = (jax.jit(derivative(f, (0, 1)))(m.shift, m.b) for f in (value, exact))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)
    assert "custom_linear_solve" not in str(jax.make_jaxpr(value)(m.shift, m.b))


def test_derivative_of_a_solution_with_respect_to_the_start_is_zero():
    m = landweber()
    got = jax.jit(jax.grad(lambda x: jnp.sum(solve(m, x).position)))(X)
    equal(got, np.zeros(3))


def test_a_method_without_fixed_point_raises_when_differentiated():
    m = landweber(cls=Unknown)
    ends = jax.jit(jax.vmap(lambda x: solve(m, x, rtol=1e-10).position))(np.stack([X, X]))
    M = np.asarray(m.matrix)
    exact = np.linalg.solve(M.T @ M + 0.1 * np.eye(3), M.T @ np.asarray(m.b))
    np.testing.assert_allclose(ends, [exact, exact], rtol=1e-6)
    with pytest.raises(
        ValueError, match="method: Unknown has no fixed_point, so solve cannot differentiate it; use iterate"
    ):
        jax.grad(lambda m: jnp.sum(solve(m, X).position))(m)


def test_a_solution_that_is_not_isolated_has_a_nan_derivative():
    """Every x is a fixed point of x <- 1 x, so no derivative exists."""

    class Still(Scale):
        def fixed_point(self, x):
            return self.rate * x

    got = jax.jit(jax.grad(lambda r: jnp.sum(solve(Still(r), X).position)))(1.0)
    assert jnp.isnan(got)


def test_a_linear_solve_that_fails_is_nan_and_not_wrong():
    """Restarted GMRES makes no progress on a cyclic shift longer than its restart."""

    @jax.jit
    def unshifted(b):
        return _gmres(lambda v: jnp.roll(v, 1), b)

    assert np.isnan(unshifted(np.eye(60)[0])).all()
    np.testing.assert_allclose(unshifted(np.eye(30)[0]), np.eye(30)[29], atol=1e-10)


def test_derivative_through_iterate_equals_its_closed_form():
    def loss(rate):
        return jnp.sum(iterate(Scale(rate), X, 6)[0].position ** 2)

    exact = 12 * 0.8**11 * np.sum(np.asarray(X) ** 2)
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(0.8), exact, rtol=1e-12)


# Compilation and transformations ---------------------------------------------------------------------------------------


def test_new_arrays_compile_nothing(key):
    traces = []

    def count(x, w):
        traces.append(1)
        return w * x

    class Counted(eqx.Module):
        fn: Fn

        def init(self, x, key=None):
            return State(x, jnp.zeros((), jnp.int32))

        def step(self, state):
            x = self.fn(state.position)
            return State(x, state.count + 1), Info(norm(x - state.position))

    def run(w, x, tol):
        m = Counted(Fn(count, w))
        solve(m, x, rtol=tol, max_steps=50)
        iterate(m, x, 5, trace=Moments())

    run(0.5, X, 1e-3)
    first = len(traces)
    assert first > 0
    run(0.6, 2 * X, 1e-4)
    run(np.float64(0.7), np.ones(3), np.float64(1e-2))
    assert len(traces) == first
    calls = []
    for rate in (0.5, 0.6):
        sample(jax.random.fold_in(key, int(10 * rate)), Walk(rate, Counter(calls)), rate * X, 4, burn_in=2)
        if rate == 0.5:
            first = len(calls)
    assert len(calls) == first > 0


class Counter:
    """A static, hashable counter: all compare equal."""

    def __init__(self, calls):
        self.calls = calls

    def append(self, x):
        self.calls.append(x)

    def __eq__(self, other):
        return isinstance(other, Counter)

    def __hash__(self):
        return 0


def program(m, x, key):
    return (
        iterate(m, x, 5, trace=Moments())[0].position,
        solve(m, x, max_steps=30).position,
        sample(key, Walk(0.5), x, 4, burn_in=1, collect=Last()).collected,
    )


def test_inside_jit_vmap_and_shard_map(key):
    m, xs, keys = landweber(), np.stack([(k + 1) * np.asarray(X) for k in range(8)]), jax.random.split(key, 8)
    together = jax.jit(jax.vmap(program, (None, 0, 0)))(m, xs, keys)
    alone = jax.jit(program)(m, xs[3], keys[3])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[3], b, rtol=1e-12), together, alone)
    mesh, spread = Mesh(np.array(jax.devices()), ("d",)), PartitionSpec("d")
    spread_out = jax.jit(
        jax.shard_map(
            jax.vmap(program, (None, 0, 0)),
            mesh=mesh,
            in_specs=(PartitionSpec(), spread, spread),
            out_specs=spread,
            check_vma=False,
        )
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), spread_out(m, xs, keys), together)


def test_lowers_for_accelerators_with_gradient(float32):
    def all_of_it(M, b, x, key):
        m = Landweber(M, b, 0.1, 0.5)
        grads = jax.grad(lambda m: jnp.sum(solve(m, x).position) + jnp.sum(iterate(m, x, 4)[0].position))(m)
        return program(m, x, jax.random.wrap_key_data(key)), grads

    f = jnp.float32
    shapes = [jax.ShapeDtypeStruct(*s) for s in (((4, 3), f), ((4,), f), ((3,), f), ((2,), jnp.uint32))]
    assert jax.export.export(jax.jit(all_of_it), platforms=["tpu", "cuda"])(*shapes).platforms == ("tpu", "cuda")


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.complex64])
def test_python_hyper_parameters_keep_the_dtype(dtype, strict):
    def results(x):
        s = solve(Scale(0.5), x, rtol=np.float64(1e-3))
        end = iterate(Scale(0.5), x, 2, trace=Moments())[0].position
        return end, s.position, sample(jax.random.key(0), Walk(0.5), x, 2).collected, s.residual

    *images, residual = jax.eval_shape(results, jax.ShapeDtypeStruct((3,), dtype))
    assert [a.dtype for a in images] == 3 * [dtype]
    assert residual.dtype == np.finfo(dtype).dtype


def test_weak_types_in_state_and_info():
    """A step that returns weakly typed scalars (jnp.where(c, 1.0, 0.0)) is fine."""

    class Weak(Scale):
        def step(self, state):
            x = self.rate * state.position
            return State(x, state.count + 1), Info(jnp.where(jnp.sum(x) > 9, 1.0, 0.0))

    assert int(solve(Weak(0.5), X.astype(jnp.float32)).num_steps) == 1
    assert int(iterate(Weak(0.5), 1.0, 3)[0].count) == 3
