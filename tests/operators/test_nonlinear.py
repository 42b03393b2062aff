"""Contracts that every registered nonlinear model keeps: derivatives, dtype, jit, vmap, compile count, lowering.

What they compare is computed by one compiled program per operator, because compilation takes most of the time.
"""

import functools

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import operators as ops
from invjax.operators.operator import vjp
from invjax.operators.structure import at_precision

from ..registry import NONLINEAR, build, random_like, strictly
from .test_contracts import inputs, kinds, lane, vector

every = pytest.mark.parametrize("name", NONLINEAR)
BATCH = 4
STEP = 1e-5
TRACES = []


@eqx.filter_jit
def program(A, xs, ys, direction):
    """Everything a nonlinear operator offers, for a batch at both precisions and a direction in its own arrays."""
    TRACES.append(1)
    x, h, y = lane(xs["float64"]), lane(xs["float64"], 1), lane(ys["float64"])
    arrays, static = eqx.partition(A, eqx.is_inexact_array)
    wide = jax.tree.map(lambda a: a.astype(jnp.promote_types(a.dtype, jnp.float64)), arrays)

    def at(t):
        return A(jax.tree.map(lambda a, d: a + t * d, x, h))

    def moved(t):
        return eqx.combine(jax.tree.map(lambda a, d: a + t * d, wide, direction), static)(x)

    def difference(fn):
        return jax.tree.map(lambda a, b: (a - b) / (2 * STEP), fn(STEP), fn(-STEP))

    L = ops.linearise(A, x)
    return {
        "apply": {p: jax.vmap(A)(batch) for p, batch in xs.items()},
        "pullback": {p: jax.vmap(lambda x, y: A.vjp(x)[1](y))(batch, ys[p]) for p, batch in xs.items()},
        "by_jax": vjp(A.apply, x)[1](y),
        "derivative": L(h),
        "adjoint": L.H(y),
        "difference": difference(at),
        "own_derivative": jax.jvp(moved, (0.0,), (1.0,))[1],
        "own_difference": difference(moved),
    }


@functools.cache
def results(name, seed=0):
    """The operator, its inputs and the outputs of the program, in NumPy."""
    A = build(NONLINEAR, name, seed)
    given = inputs(A)
    return A, given, jax.tree.map(np.asarray, program(A, *given))


def close(a, b, rtol, atol):
    np.testing.assert_allclose(vector(a), vector(b), rtol=rtol, atol=atol)


@every
def test_derivatives_equal_central_differences(name):
    """In the input and in the own arrays; outputs are of order one to ten, so that rounding costs 1e-15 / STEP."""
    _, (_, _, direction), out = results(name)
    close(out["derivative"], out["difference"], 1e-6, 1e-8)
    if jax.tree.leaves(direction):
        close(out["own_derivative"], out["own_difference"], 1e-6, 1e-8)
        assert np.linalg.norm(vector(out["own_derivative"])) > 1e-2


@every
def test_adjoint_of_the_derivative(name):
    """Dot test, and the operator's own pullback against JAX's."""
    _, (xs, ys, _), out = results(name)
    h, y = vector(lane(xs["float64"], 1)), vector(lane(ys["float64"]))
    left, right = np.vdot(y, vector(out["derivative"])).real, np.vdot(vector(out["adjoint"]), h).real
    np.testing.assert_allclose(left, right, rtol=1e-11, atol=1e-11)
    close(out["by_jax"], out["adjoint"], 1e-11, 1e-12)
    close(lane(out["pullback"]["float64"]), out["adjoint"], 1e-11, 1e-12)


@every
def test_vmap_equals_a_loop_and_eager_equals_jit(name):
    A, (xs, *_), out = results(name)
    for i in (0, BATCH - 1):
        x = jax.tree.map(jnp.asarray, lane(xs["float64"], i))
        close(A(x), lane(out["apply"]["float64"], i), 1e-11, 1e-12)


@every
def test_dtype_follows_the_input(name):
    A, (xs, ys, _), out = results(name)
    for precision in ("float32", "float64"):
        x, y = lane(xs[precision]), lane(ys[precision])
        with strictly():
            assert kinds(jax.eval_shape(A, x)) == kinds(lane(out["apply"][precision])) == kinds(y)
            pulled = jax.eval_shape(lambda x, y: A.vjp(x)[1](y), x, y)
        assert kinds(pulled) == kinds(lane(out["pullback"][precision])) == kinds(x)


@every
def test_pytree_round_trip_and_built_twice_compiles_once(name):
    A, given, out = results(name)
    leaves, tree = jax.tree.flatten(A)
    before = len(TRACES)
    jax.tree.map(np.testing.assert_array_equal, program(tree.unflatten(leaves), *given), out)
    B = build(NONLINEAR, name, 1)
    program(B, *inputs(B))
    assert len(TRACES) == before


@every
def test_lowers(name, float32):
    A = build(NONLINEAR, name)
    arrays, static = eqx.partition(A, eqx.is_array)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arrays)

    def program(arrays, x):
        y, pullback = eqx.combine(arrays, static).vjp(x)
        return y, pullback(y)

    exported = jax.export.export(jax.jit(program), platforms=["tpu", "cuda"])(
        shapes, at_precision(A.in_structure, jnp.float32)
    )
    assert exported.platforms == ("tpu", "cuda")


@every
def test_refuses_another_input(name):
    A = build(NONLINEAR, name)
    wrong = random_like(
        np.random.default_rng(0), jax.tree.map(lambda s: jax.ShapeDtypeStruct((2, *s.shape), s.dtype), A.in_structure)
    )
    with pytest.raises(ValueError, match=r"x: expected shape .*; batch with jax\.vmap"):
        A(wrong)


ERRORS = {
    "operator: expected a LinearOperator, got Haze": lambda: ops.PhaseRetrieval(ops.Haze((2, 2, 1))),
    "operator: expected a LinearOperator, got function": lambda: ops.PhaseRetrieval(lambda x: x),
    "A @ B: expected B to give": lambda: ops.Identity((2, 3, 1)) @ ops.Haze((2, 2, 1)),
    "maps: expected a shape (N, ...) that broadcasts to (N, *(4, 3, 1)), got (4, 3, 1)": lambda: ops.coded_diffraction(
        np.ones((4, 3, 1)), (4, 3, 1)
    ),
    "maps: expected a shape (N, ...) that broadcasts to (N, *(4, 3, 1)), got (2, 4, 4, 1)": lambda: (
        ops.coded_diffraction(np.ones((2, 4, 4, 1)), (4, 3, 1))
    ),
    "shape: expected (H, W, C), got (4, 4)": lambda: ops.Haze((4, 4)),
    "beta: expected non-negative values, got -1.0": lambda: ops.Haze((4, 4, 1), -1),
    "offset: expected shape (), got (2,)": lambda: ops.Haze((4, 4, 1), 1, np.ones(2)),
    "period: expected positive values, got 0.0": lambda: ops.WrappedPhase((4, 4, 1), 0),
    "rounding: expected one of ('round', 'floor'), got 'ceil'": lambda: ops.WrappedPhase((4, 4, 1), rounding="ceil"),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message]()
    assert message in str(error.value)
