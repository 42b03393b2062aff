"""Contracts of everything in ``ot``: derivatives, batches, bad lanes, dtypes, compile counts, lowering."""

import contextlib
import functools

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from invjax.drive import Status

from ..registry import strictly
from .registry import CASES

every = pytest.mark.parametrize("name", CASES)
SHORT = 1e-5
TRACES = []


def guard(name):
    return strictly() if CASES[name].strict else contextlib.nullcontext()


def given(name, seed=0, dtype=np.float64):
    made = CASES[name].make(np.random.default_rng(seed))
    return {k: jnp.asarray(v, dtype) for k, v in made.items()}


def tangent(name, seed=5):
    """A direction in the arrays that are differentiated, along which masses keep their sums and matrices their symmetry."""
    r = np.random.default_rng(seed)
    moves = {}
    for k, v in given(name).items():
        move = r.normal(size=v.shape) if k in CASES[name].along else np.zeros(v.shape)
        if k in ("a", "b", "measures", "weights"):
            move = (move - move.mean(-1, keepdims=True)) * 0.1
        if k in ("s0", "s1"):
            move = (move + move.T) / 2
        moves[k] = jnp.asarray(move)
    return moves


@eqx.filter_jit
def everything(name, arrays, others, move):
    """Outputs of a batch of three, and the slope of the value along a direction: forward, reverse, by differences."""
    TRACES.append(1)
    case = CASES[name]

    def run(arrays):
        return eqx.filter(case.run(**arrays), eqx.is_array)

    batch = jax.vmap(run)(jax.tree.map(lambda *v: jnp.stack(v), arrays, *others))
    if case.value is None:
        return batch, None

    def value(t):
        return case.value(case.run(**jax.tree.map(lambda v, d: v + t * d, arrays, move)))

    steps = jax.vmap(value)(jnp.array([-2.0, -1.0, 1.0, 2.0]) * SHORT)
    by_differences = (8 * (steps[2] - steps[1]) - (steps[3] - steps[0])) / (12 * SHORT)
    forward = jax.jvp(value, (0.0,), (1.0,))[1]
    gradient = jax.grad(lambda arrays: case.value(case.run(**arrays)))(arrays)
    reverse = sum(jnp.vdot(g, d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(move), strict=True))
    return batch, (forward, reverse, by_differences)


@functools.cache
def computed(name):
    others = given(name, 1), given(name, 2)
    with guard(name):
        return jax.tree.map(np.asarray, everything(name, given(name), others, tangent(name)))


def arrays_of(out):
    return jax.tree.leaves(eqx.filter(out, eqx.is_array))


@every
def test_eager_calls_equal_lanes_of_a_batch(name):
    batch, _ = computed(name)
    for lane in (0, 2):
        out = CASES[name].run(**given(name, lane))
        for got, expected in zip(arrays_of(out), jax.tree.leaves(batch), strict=True):
            np.testing.assert_allclose(got, expected[lane], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.value])
def test_derivatives(name):
    """Both modes agree to rounding; differences of fourth order are as good as the tolerance of the solver over ``SHORT``."""
    forward, reverse, by_differences = computed(name)[1]
    np.testing.assert_allclose(forward, reverse, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(forward, by_differences, rtol=2e-5, atol=2e-5)
    assert abs(forward) > 1e-4


@every
def test_new_values_do_not_compile(name):
    computed(name)
    traces = len(TRACES)
    with guard(name):
        everything(name, given(name, 3), (given(name, 4), given(name, 5)), tangent(name, 6))
    assert len(TRACES) == traces


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.finite])
def test_a_lane_that_is_not_finite_says_so_and_stays_alone(name):
    arrays = jax.tree.map(lambda *v: jnp.stack(v), given(name), given(name, 1))
    first = next(iter(arrays))
    arrays[first] = arrays[first].at[(1, *(0,) * (arrays[first].ndim - 1))].set(jnp.nan)
    out = jax.jit(jax.vmap(lambda arrays: eqx.filter(CASES[name].run(**arrays), eqx.is_array)))(arrays)
    assert out.status[0] == Status.CONVERGED
    assert out.status[1] == Status.NON_FINITE


@every
def test_float32_is_kept_and_lowers(name, float32):
    arrays = given(name, dtype=np.float32)

    def run(arrays):
        return eqx.filter(CASES[name].run(**arrays), eqx.is_array)

    with guard(name):
        exported = jax.export.export(jax.jit(run), platforms=["tpu", "cuda"])(arrays)
    kinds = {a.dtype for a in exported.out_avals}
    assert kinds <= {jnp.dtype(jnp.float32), jnp.dtype(jnp.int32), jnp.dtype(bool)}
    out = run(arrays)
    for a in arrays_of(out):
        assert np.all(np.isfinite(a))
    if hasattr(out, "status"):
        assert out.status == Status.CONVERGED
