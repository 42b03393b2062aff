"""Drivers: exact counts, statuses, frozen lanes, chunks that are bit for bit the same, samples, messages."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import Status, check, iterate, sample, solve
from invjax.drive import Samples, Solution, SolveError
from invjax.reducers import Every, Last, Moments

from .methods import Scale, State, Walk, X, equal, landweber

# Deterministic loops ---------------------------------------------------------------------------------------------------


def test_iterate_runs_exactly_num_steps():
    state, trace, status = iterate(
        Scale(0.5), X, 7, trace={"every": Every(2), "last": Last(of=lambda s, i: i.residual)}
    )
    x = np.asarray(X)
    np.testing.assert_allclose(state.position, x / 2**7, rtol=1e-15)
    assert (int(state.count), int(status)) == (7, Status.CONVERGED)
    np.testing.assert_allclose(trace["every"], [x / 2 ** (k + 1) for k in (0, 2, 4, 6)], rtol=1e-15)
    np.testing.assert_allclose(trace["last"], np.linalg.norm(x) / 2**7, rtol=1e-15)
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
    assert int(s.status) == Status.CONVERGED
    np.testing.assert_allclose(s.residual, np.linalg.norm(X) / 2**k, rtol=1e-15)
    relative = solve(landweber(), X, rtol=1e-4, atol=0.0)
    assert relative.residual <= 1e-4 * np.linalg.norm(relative.position)
    assert isinstance(check(s), Solution)


def test_trace_of_a_solve_that_stops_early():
    s = solve(
        Scale(0.5), X, rtol=0.0, atol=0.1, max_steps=20, trace={"x": Every(1), "n": Every(1, of=lambda s, i: s.count)}
    )
    n = int(s.num_steps)
    np.testing.assert_allclose(np.asarray(s.trace["x"])[:n], [np.asarray(X) / 2 ** (k + 1) for k in range(n)])
    assert np.isnan(np.asarray(s.trace["x"])[n:]).all()
    equal(s.trace["n"], [*range(1, n + 1)] + [0] * (20 - n))


# Statuses and lanes ----------------------------------------------------------------------------------------------------

RATES = np.array([0.5, 0.999999, 1e5, 1e200, np.nan, 0.7])
CODES = [Status.CONVERGED, Status.MAX_STEPS, Status.DIVERGED, Status.NON_FINITE, Status.NON_FINITE, Status.CONVERGED]


@jax.jit
def lanes(rates):
    return jax.vmap(lambda r: solve(Scale(r), X, rtol=0.0, atol=1e-9, max_steps=60))(rates)


def test_status_per_lane():
    s = jax.tree.map(np.asarray, lanes(RATES))
    assert s.status.tolist() == CODES
    assert s.status.dtype == np.int32
    assert s.num_steps.tolist()[1] == 60
    assert np.isfinite(s.position).all()
    np.testing.assert_array_equal(s.position[4], X)  # NaN at once: the last finite position is the start
    np.testing.assert_array_equal(s.position[3], X)  # the norm of the first change overflows
    for i in (0, 5):  # neighbours of failed lanes are bit for bit what they are alone
        alone = solve(Scale(RATES[i]), X, rtol=0.0, atol=1e-9, max_steps=60)
        equal(alone.position, s.position[i])
        equal(alone.num_steps, s.num_steps[i])


@jax.jit
def three_lanes(rates):
    return jax.vmap(lambda r: iterate(Scale(r), X, 30, trace=Last()))(rates)


@pytest.mark.parametrize("bad", [1e200, float("nan"), float("inf")])
def test_iterate_freezes_a_failed_lane_only(bad):
    state, last, status = jax.tree.map(np.asarray, three_lanes(np.array([0.5, bad, 0.9])))
    fine, fine_last, _ = jax.tree.map(np.asarray, three_lanes(np.array([0.5, 0.5, 0.9])))
    assert status.tolist() == [0, Status.NON_FINITE, 0]
    equal((state.position[::2], last[::2]), (fine.position[::2], fine_last[::2]))
    assert np.isfinite(state.position).all()
    assert np.isfinite(last).all()


def test_a_start_that_is_not_finite():
    @jax.jit
    def codes(x):
        sampled = sample(jax.random.key(0), Walk(0.5), x, 3)
        return iterate(Scale(0.5), x, 3)[2], solve(Scale(0.5), x).status, sampled.status

    assert [int(c) for c in codes(np.array([1.0, np.nan, 0.5]))] == 3 * [Status.NON_FINITE]


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

    @jax.jit
    def by_hand(key):
        state, kept = Walk(0.9).init(X, jax.random.fold_in(key, 2**32 - 1)), []
        for i in range(2 + 3 * 2):
            state, info = Walk(0.9).step(jax.random.fold_in(key, i), state)
            if i >= 2 and (i - 1) % 2 == 0:
                kept.append(state.position)
        return kept, info

    kept, info = by_hand(key)
    np.testing.assert_allclose(got.collected, kept, rtol=1e-12)  # other programs round differently
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
