"""Drivers: statuses, frozen lanes, bit-identical chunks, derivatives, compile counts, transformations, messages."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array

from invjax import Fn, Status, check, iterate, sample, solve
from invjax.drive import Samples, Solution, SolveError
from invjax.implicit import _gmres
from invjax.reducers import Every, Last, Moments
from invjax.types import norm, real


class State(NamedTuple):
    position: Any
    count: Array


class Info(NamedTuple):
    residual: Array


class Scale(eqx.Module):
    """x <- rate x."""

    rate: Array = eqx.field(converter=real)

    def init(self, x, key=None):
        return State(x, jnp.zeros((), jnp.int32))

    def step(self, state):
        x = jax.tree.map(lambda a: self.rate * a, state.position)
        return State(x, state.count + 1), Info(norm(jax.tree.map(jnp.subtract, x, state.position)))


class Landweber(eqx.Module):
    """x <- x - step (M^H (M x - b) + shift x): the solution is that of (M^H M + shift) x = M^H b."""

    matrix: Array = eqx.field(converter=real)
    b: Array = eqx.field(converter=real)
    shift: Array = eqx.field(converter=real)
    step_size: Array = eqx.field(converter=real)

    def init(self, x, key=None):
        return State(x, jnp.zeros((), jnp.int32))

    def fixed_point(self, x):
        return x - self.step_size * (self.matrix.conj().T @ (self.matrix @ x - self.b) + self.shift * x)

    def step(self, state):
        x = self.fixed_point(state.position)
        return State(x, state.count + 1), Info(norm(x - state.position))


class Unknown(Landweber):
    """The same without a derivative."""

    def __getattribute__(self, name):
        if name == "fixed_point":
            raise AttributeError(name)
        return super().__getattribute__(name)

    def step(self, state):
        x = Landweber.fixed_point(self, state.position)
        return State(x, state.count + 1), Info(norm(x - state.position))


class Walk(eqx.Module):
    """x <- rate x + noise: an autoregressive chain of variance 1 / (1 - rate^2)."""

    rate: Array = eqx.field(converter=real)
    calls: Any = eqx.field(static=True, default=None)

    def init(self, x, key=None):
        return State(x + 0.1 * jax.random.normal(key, x.shape, x.dtype), jnp.zeros((), jnp.int32))

    def step(self, key, state):
        if self.calls is not None:
            self.calls.append(1)
        x = self.rate * state.position + jax.random.normal(key, state.position.shape, state.position.dtype)
        return State(x, state.count + 1), Info(norm(x))


X = jnp.array([1.0, -2.0, 0.5])


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def landweber(complex=False, seed=0, cls=Landweber):
    r = np.random.default_rng(seed)
    M, b = r.normal(size=(4, 3)), r.normal(size=4)
    if complex:
        M, b = M + 1j * r.normal(size=(4, 3)), b + 1j * r.normal(size=4)
    return cls(M / 4, b, 0.1, 0.8)


def ridge(m):
    M = m.matrix
    return jnp.linalg.solve(M.conj().T @ M + m.shift * jnp.eye(3), M.conj().T @ m.b)


# Deterministic loops ---------------------------------------------------------------------------------------------------


def test_iterate_runs_exactly_num_steps():
    state, trace, status = iterate(
        Scale(0.5), X, 7, trace={"every": Every(2), "last": Last(of=lambda s, i: i.residual)}
    )
    np.testing.assert_allclose(state.position, X / 2**7, rtol=1e-15)
    assert (int(state.count), int(status)) == (7, Status.CONVERGED)
    np.testing.assert_allclose(trace["every"], [X / 2 ** (k + 1) for k in (0, 2, 4, 6)], rtol=1e-15)
    np.testing.assert_allclose(trace["last"], jnp.linalg.norm(X) / 2**7, rtol=1e-15)
    zero = iterate(Scale(0.5), X, 0, trace=Every(1))
    equal(zero[0].position, X)
    assert zero[1].shape == (0, 3)


@pytest.mark.parametrize("num_chunks", [2, 3, 10, 50])
def test_chunks_and_resume_are_bit_identical(num_chunks):
    m, options = landweber(), {"trace": (Every(3), Moments())}
    whole = iterate(m, X, 10, **options)
    runs = []
    equal(iterate(m, X, 10, num_chunks=num_chunks, on_chunk=runs.append, **options), whole)
    assert int(runs[-1].step) == 10
    for run in (runs[0], runs[-1]):
        equal(iterate(m, X, 10, resume=run, **options), whole)


def test_solve_stops_at_the_tolerance():
    s = solve(Scale(0.5), X, rtol=0.0, atol=1e-3)
    k = int(s.num_steps)  # the residual of step k is |X| / 2^k
    assert np.linalg.norm(X) / 2**k <= 1e-3 < np.linalg.norm(X) / 2 ** (k - 1)
    assert (int(s.status), s.residual) == (Status.CONVERGED, jnp.linalg.norm(X) / 2**k)
    relative = solve(landweber(), X, rtol=1e-4, atol=0.0)
    assert relative.residual <= 1e-4 * norm(relative.position)
    assert isinstance(check(s), Solution)


def test_trace_of_a_solve_that_stops_early():
    s = solve(
        Scale(0.5), X, rtol=0.0, atol=0.1, max_steps=20, trace={"x": Every(1), "n": Every(1, of=lambda s, i: s.count)}
    )
    n = int(s.num_steps)
    np.testing.assert_allclose(s.trace["x"][:n], [X / 2 ** (k + 1) for k in range(n)])
    assert jnp.isnan(s.trace["x"][n:]).all()
    equal(s.trace["n"], [*range(1, n + 1)] + [0] * (20 - n))


# Statuses and lanes ----------------------------------------------------------------------------------------------------

RATES = jnp.array([0.5, 0.999999, 1e5, 1e200, jnp.nan, 0.7])
CODES = [Status.CONVERGED, Status.MAX_STEPS, Status.DIVERGED, Status.NON_FINITE, Status.NON_FINITE, Status.CONVERGED]


@jax.jit
def lanes(rates):
    return jax.vmap(lambda r: solve(Scale(r), X, rtol=0.0, atol=1e-9, max_steps=60))(rates)


def test_status_per_lane():
    s = lanes(RATES)
    assert s.status.tolist() == CODES
    assert s.status.dtype == jnp.int32
    assert s.num_steps.tolist()[1] == 60
    assert jnp.isfinite(s.position).all()
    np.testing.assert_array_equal(s.position[4], X)  # NaN at once: the last finite position is the start
    np.testing.assert_array_equal(s.position[3], X)  # the norm of the first change overflows
    for i in (0, 5):  # neighbours of failed lanes are bit for bit what they are alone
        alone = solve(Scale(RATES[i]), X, rtol=0.0, atol=1e-9, max_steps=60)
        equal(alone.position, s.position[i])
        equal(alone.num_steps, s.num_steps[i])


@pytest.mark.parametrize("bad", [1e200, float("nan"), float("inf")])
def test_iterate_freezes_a_failed_lane_only(bad):
    run = jax.jit(jax.vmap(lambda r: iterate(Scale(r), X, 30, trace=Last())))
    state, last, status = run(jnp.array([0.5, bad, 0.9]))
    fine, fine_last, _ = run(jnp.array([0.5, 0.5, 0.9]))
    assert status.tolist() == [0, Status.NON_FINITE, 0]
    equal((state.position[jnp.array([0, 2])], last[jnp.array([0, 2])]), (fine.position[::2], fine_last[::2]))
    assert jnp.isfinite(state.position).all()
    assert jnp.isfinite(last).all()


def test_a_start_that_is_not_finite():
    start = X.at[1].set(jnp.nan)
    assert int(iterate(Scale(0.5), start, 3)[2]) == Status.NON_FINITE
    assert int(solve(Scale(0.5), start).status) == Status.NON_FINITE
    assert int(sample(jax.random.key(0), Walk(0.5), start, 3).status) == Status.NON_FINITE


def test_check_names_lanes_cause_and_advice():
    s = lanes(RATES)
    with pytest.raises(SolveError) as error:
        check(s)
    text = str(error.value)
    for part in ("lanes 1 of 6 did not reach the tolerance", "lanes 3, 4 of 6 became non-finite", "lanes 2 of 6"):
        assert part in text
    with pytest.raises(SolveError, match="the run became non-finite"):
        check(iterate(Scale(jnp.nan), X, 2))
    with pytest.raises(SolveError, match=r"lanes \(0, 1\) of 4"):
        check(jnp.array([[0, 1], [0, 0]]))
    with pytest.raises(SolveError, match=r"lanes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 \.\.\. of 12"):
        check(np.full(12, 2, np.int32))
    with pytest.raises(ValueError, match="result: check needs concrete values; call it outside jit"):
        jax.jit(lambda r: check(solve(Scale(r), X)).position)(0.5)
    with pytest.raises(ValueError, match="result: expected a Solution"):
        check("done")
    result = iterate(Scale(0.5), X, 2)
    assert check(result) is result


# Sampling --------------------------------------------------------------------------------------------------------------


def test_keys_are_folded_with_the_step_from_the_start(key):
    got = sample(key, Walk(0.9), X, 3, burn_in=2, thinning=2)
    state, kept = Walk(0.9).init(X, jax.random.fold_in(key, 2**32 - 1)), []
    for i in range(2 + 3 * 2):
        state, info = Walk(0.9).step(jax.random.fold_in(key, i), state)
        if i >= 2 and (i - 1) % 2 == 0:
            kept.append(state.position)
    np.testing.assert_allclose(got.collected, kept, rtol=1e-12)  # eager and compiled steps round differently
    np.testing.assert_allclose(got.info.residual, info.residual, rtol=1e-12)
    assert (int(got.state.count), int(got.status)) == (8, 0)
    other = iterate(Walk(0.9), X, 8, key=key)[0]  # the same keys in iterate, in another program
    np.testing.assert_allclose(other.position, got.state.position, rtol=1e-12)


@pytest.mark.parametrize("num_chunks", [2, 3, 4])
def test_chunked_and_resumed_samples_are_bit_identical(num_chunks, key):
    options = {"burn_in": 5, "thinning": 2, "collect": {"all": Every(1), "moments": Moments()}}
    whole = sample(key, Walk(0.9), X, 6, **options)
    runs = []
    equal(sample(key, Walk(0.9), X, 6, num_chunks=num_chunks, on_chunk=runs.append, **options), whole)
    steps = [int(r.step) for r in runs]
    assert steps[-1] == 17
    assert any(s <= 5 for s in steps)
    for run in runs:  # in burn-in, at its end, in sampling, at the end
        equal(sample(key, Walk(0.9), X, 6, resume=run, **options), whole)


def test_moments_of_a_stationary_chain(key):
    keys = jax.random.split(key, 50)
    got = jax.jit(jax.vmap(lambda k: sample(k, Walk(0.5), jnp.zeros(20), 400, burn_in=20, collect=Moments())))(keys)
    # Variance 4/3; the standard error of a variance over 4e5 draws of integrated autocorrelation time 5/3 is known.
    error = 4 / 3 * np.sqrt(2 * (5 / 3) / 4e5)
    assert abs(got.collected.variance.mean() - 4 / 3 * (1 - 3 / 400)) < 5 * error
    assert isinstance(check(got), Samples)


def test_resume_refuses_a_run_of_other_shapes(key):
    runs = []
    iterate(landweber(), X, 6, trace=Every(1), num_chunks=2, on_chunk=runs.append)
    with pytest.raises(ValueError, match=r"resume: expected.*trace of shape \(9, 3\), got.*\(6, 3\); .* num_steps"):
        iterate(landweber(), X, 9, trace=Every(1), resume=runs[0])
    with pytest.raises(ValueError, match="resume: expected"):
        iterate(landweber(), X, 6, resume=runs[0])
    sample(key, Walk(0.5), X, 4, num_chunks=2, on_chunk=runs.append)
    with pytest.raises(ValueError, match=r"resume: .* num_samples"):
        sample(key, Walk(0.5), X, 8, resume=runs[-1])
    extended = iterate(landweber(), X, 9, trace=Last(), resume=iterate_run(landweber(), 6))  # no row per step: fine
    equal(extended, iterate(landweber(), X, 9, trace=Last()))


def iterate_run(method, num_steps):
    runs = []
    iterate(method, X, num_steps, trace=Last(), on_chunk=runs.append)
    return runs[-1]


# Derivatives -----------------------------------------------------------------------------------------------------------


def test_checkpointing_keeps_the_gradient_and_saves_memory():
    def loss(m, every):
        return jnp.sum(iterate(m, jnp.tile(X, (1000, 1)).T, 200, checkpoint_every=every)[0].position ** 2)

    m = Landweber(jnp.eye(3), jnp.ones((3, 1)), 0.1, 0.1)
    programs = {e: jax.jit(jax.grad(lambda m, e=e: loss(m, e))).lower(m).compile() for e in (None, 14, 15)}
    plain, *others = [programs[e](m) for e in (None, 14, 15)]
    for other in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), other, plain)
    memory = {e: p.memory_analysis().temp_size_in_bytes for e, p in programs.items()}
    assert memory[14] < 0.35 * memory[None]  # 200 states against about 200 / 14 + 14


@pytest.mark.parametrize("complex", [False, True])
def test_implicit_derivative_of_a_solution_in_all_arrays(complex):
    m = landweber(complex)
    x = X.astype(m.b.dtype)
    weight = jnp.arange(1.0, 4) * (1 + 0.5j if complex else 1)

    def solved(m):
        return jnp.vdot(weight, solve(m, x, rtol=1e-13, atol=0.0, max_steps=2000).position).real

    exact = jax.grad(lambda m: jnp.vdot(weight, ridge(m)).real)(m)
    exact = eqx.tree_at(lambda m: m.step_size, exact, jnp.zeros(()))  # the solution does not depend on it
    got = jax.jit(jax.grad(solved))(m)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9), got, exact)
    _, forward = jax.jvp(solved, (m,), (m,))
    total = sum(jnp.sum(g * a).real for g, a in zip(jax.tree.leaves(exact), jax.tree.leaves(m), strict=True))
    np.testing.assert_allclose(forward, total, atol=1e-9)


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
    np.testing.assert_allclose(value(m), 0.6, rtol=1e-12)
    got = jax.grad(value)(m)
    np.testing.assert_allclose([got.a, got.c], 0.2, rtol=1e-10)


def test_derivative_of_a_solution_with_respect_to_the_start_is_zero():
    got = jax.grad(lambda x: jnp.sum(solve(landweber(), x).position))(X)
    equal(got, jnp.zeros(3))


def test_a_method_without_fixed_point_raises_when_differentiated():
    m = landweber(cls=Unknown)
    np.testing.assert_allclose(solve(m, X, rtol=1e-10).position, ridge(m), rtol=1e-6)
    assert jax.vmap(lambda x: solve(m, x).position)(jnp.stack([X, X])).shape == (2, 3)
    with pytest.raises(
        ValueError, match="method: Unknown has no fixed_point, so solve cannot differentiate it; use iterate"
    ):
        jax.grad(lambda m: jnp.sum(solve(m, X).position))(m)


def test_a_solution_that_is_not_isolated_has_a_nan_derivative():
    """Every x is a fixed point of x <- 1 x, so no derivative exists."""

    class Still(Scale):
        def fixed_point(self, x):
            return self.rate * x

    got = jax.grad(lambda r: jnp.sum(solve(Still(r), X).position))(1.0)
    assert jnp.isnan(got)


def test_a_linear_solve_that_fails_is_nan_and_not_wrong():
    """Restarted GMRES makes no progress on a cyclic shift longer than its restart."""
    assert jnp.isnan(_gmres(lambda v: jnp.roll(v, 1), jnp.eye(60)[0])).all()
    np.testing.assert_allclose(_gmres(lambda v: jnp.roll(v, 1), jnp.eye(30)[0]), jnp.eye(30)[29], atol=1e-10)


def test_derivative_through_iterate_equals_central_differences():
    def loss(rate):
        return jnp.sum(iterate(Scale(rate), X, 6)[0].position ** 2)

    np.testing.assert_allclose(jax.grad(loss)(0.8), 12 * 0.8**11 * jnp.sum(X**2), rtol=1e-12)


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
    m, xs, keys = landweber(), jnp.stack([(k + 1) * X for k in range(8)]), jax.random.split(key, 8)
    together = jax.jit(jax.vmap(program, (None, 0, 0)))(m, xs, keys)
    alone = program(m, xs[3], keys[3])
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
    x = X.astype(dtype)
    m = Scale(0.5)
    assert iterate(m, x, 2, trace=Moments())[0].position.dtype == dtype
    s = solve(m, x, rtol=np.float64(1e-3))
    assert (s.position.dtype, s.residual.dtype) == (dtype, x.real.dtype)
    assert sample(jax.random.key(0), Walk(0.5), x, 2).collected.dtype == dtype


def test_weak_types_in_state_and_info():
    """A step that returns weakly typed scalars (jnp.where(c, 1.0, 0.0)) is fine."""

    class Weak(Scale):
        def step(self, state):
            x = self.rate * state.position
            return State(x, state.count + 1), Info(jnp.where(jnp.sum(x) > 9, 1.0, 0.0))

    assert int(solve(Weak(0.5), X.astype(jnp.float32)).num_steps) == 1
    assert int(iterate(Weak(0.5), 1.0, 3)[0].count) == 3


# Messages --------------------------------------------------------------------------------------------------------------


class Broken(Scale):
    kind: str = eqx.field(static=True, default="dtype")

    def step(self, state):
        x = {"dtype": jnp.zeros(3, jnp.float64), "shape": jnp.zeros(2, jnp.float32), "tree": (state.position,)}[
            self.kind
        ]
        return State(x, state.count), ()


MESSAGES = {
    "step: state.position changed from float32[3] to float64[3]; a hyper-parameter array of higher precision": lambda: (
        iterate(Broken(0.5), X.astype(jnp.float32), 2)
    ),
    "step: state.position changed from float32[3] to float32[2]": lambda: iterate(
        Broken(0.5, "shape"), X.astype(jnp.float32), 2
    ),
    "step: expected a state of structure": lambda: iterate(Broken(0.5, "tree"), X.astype(jnp.float32), 2),
    "step: state.position changed from float32[3] to float64[3]": lambda: iterate(
        Scale(jnp.float64(0.5)), X.astype(jnp.float32), 2
    ),
    "method: Quiet reports no residual to stop on; use iterate": lambda: solve(Quiet(0.5), X),
    "num_steps: expected an integer >= 0, got -1": lambda: iterate(Scale(0.5), X, -1),
    "num_steps: expected an integer >= 0, got 2.0": lambda: iterate(Scale(0.5), X, 2.0),
    "num_steps: expected an integer >= 0, got True": lambda: iterate(Scale(0.5), X, True),
    "checkpoint_every: expected an integer >= 1, got 0": lambda: iterate(Scale(0.5), X, 2, checkpoint_every=0),
    "num_chunks: expected an integer >= 1, got 0": lambda: iterate(Scale(0.5), X, 2, num_chunks=0),
    "max_steps: expected an integer >= 1, got 0": lambda: solve(Scale(0.5), X, max_steps=0),
    "num_samples: expected an integer >= 1, got 0": lambda: sample(jax.random.key(0), Walk(0.5), X, 0),
    "burn_in: expected an integer >= 0, got -2": lambda: sample(jax.random.key(0), Walk(0.5), X, 2, burn_in=-2),
    "thinning: expected an integer >= 1, got 0": lambda: sample(jax.random.key(0), Walk(0.5), X, 2, thinning=0),
}


class Quiet(Scale):
    def step(self, state):
        return super().step(state)[0], ()


@pytest.mark.parametrize("message", MESSAGES)
def test_messages(message):
    with pytest.raises(ValueError) as error:
        MESSAGES[message]()
    assert message in str(error.value)
