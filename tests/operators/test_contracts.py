"""Contracts that every registered operator keeps: adjoint, matrix, services, dtype, jit, vmap, grad, compile count, lowering.

What they compare is computed by one compiled program per operator, because compilation takes most of the time.
"""

import functools

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from invjax.operators.structure import at_precision

from ..registry import OPERATORS, build, random_like, strictly

every = pytest.mark.parametrize("name", OPERATORS)
PAIRS = 4
STEP = 0.7
SHORT = 1e-6  # of central differences
TRACES = []


def vector(tree):
    """All entries of a pytree as one NumPy vector."""
    return np.concatenate([np.ravel(a) for a in jax.tree.leaves(tree)])


def squares(tree):
    return sum(jnp.sum(jnp.abs(a) ** 2) for a in jax.tree.leaves(tree))


def energy(A, x):
    return squares(A(x)) / 2


@eqx.filter_jit
def program(A, xs, ys, direction):
    """Everything an operator offers, for a batch of inputs at both precisions and a direction in its own arrays."""
    TRACES.append(1)
    x, y = lane(xs["float64"]), lane(ys["float64"])
    arrays, static = eqx.partition(A, eqx.is_inexact_array)
    wide = jax.tree.map(lambda a: a.astype(jnp.promote_types(a.dtype, jnp.float64)), arrays)

    def moved(t):
        return energy(eqx.combine(jax.tree.map(lambda a, d: a + t * d, wide, direction), static), x)

    return {
        "apply": {p: jax.vmap(A)(batch) for p, batch in xs.items()},
        "adjoint": {p: jax.vmap(A.H)(batch) for p, batch in ys.items()},
        "transpose": A.T(y),
        "dense": A.dense(),
        "norm": A.norm(),
        "prox": A.prox(x, y, STEP),
        "pinv": A.pinv(y),
        "grad": jax.tree.map(jnp.conj, jax.grad(lambda x: energy(A, x))(x)),  # JAX gives the conjugate of the gradient
        "slope": jax.jvp(moved, (0.0,), (1.0,))[1],
        "difference": (moved(SHORT) - moved(-SHORT)) / (2 * SHORT),  # short, because some operators have kinks,
    }


def inputs(A):
    """Batches of random inputs at both precisions, and a direction in the operator's own arrays."""
    r = np.random.default_rng(11)
    xs, ys = (
        {p: random_like(r, at_precision(s, p), (PAIRS,)) for p in ("float64", "float32")}
        for s in (A.in_structure, A.out_structure)
    )
    own = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), eqx.filter(A, eqx.is_inexact_array))
    return xs, ys, random_like(r, at_precision(own, "float64"))


@functools.cache
def results(name, seed=0):
    """The operator, its inputs and the outputs of the program, in NumPy."""
    A = build(OPERATORS, name, seed)
    given = inputs(A)
    return A, given, jax.tree.map(np.asarray, program(A, *given))


def lane(batch, i=0):
    return jax.tree.map(lambda a: a[i], batch)


def gram_matrix(A, M):
    """``A^H A`` as it acts on the domain: its real part where the domain is real."""
    G = M.conj().T @ M
    return G if any(np.issubdtype(s.dtype, np.complexfloating) for s in jax.tree.leaves(A.in_structure)) else G.real


@every
def test_adjoint(name):
    """The dot test: RMS of ``<A u, v> - <u, A^H v>`` over RMS of ``<A u, v>``, real parts."""
    _, (xs, ys, _), out = results(name)
    for precision, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        four = [t[precision] for t in (xs, ys, out["apply"], out["adjoint"])]
        left, right = np.empty(PAIRS), np.empty(PAIRS)
        for i in range(PAIRS):
            u, v, Au, Av = (vector(lane(batch, i)) for batch in four)
            left[i], right[i] = np.vdot(v, Au).real, np.vdot(Av, u).real
        assert np.sqrt(np.mean((left - right) ** 2) / np.mean(left**2)) <= tolerance


@every
def test_apply_and_adjoint_equal_the_matrix(name):
    _, (xs, ys, _), out = results(name)
    M = out["dense"]
    x, y = vector(lane(xs["float64"])), vector(lane(ys["float64"]))
    for i in range(PAIRS):  # the batch too: vmap equals a loop
        u = vector(lane(xs["float64"], i))
        np.testing.assert_allclose(vector(lane(out["apply"]["float64"], i)), M @ u, rtol=1e-11, atol=1e-12)
    real = (lambda a: a) if np.iscomplexobj(x) else np.real
    np.testing.assert_allclose(vector(lane(out["adjoint"]["float64"])), real(M.conj().T @ y), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(vector(out["transpose"]), real(M.T @ y), rtol=1e-11, atol=1e-12)


@every
def test_eager_equals_jit_and_pytree_round_trip(name):
    A, given, out = results(name)
    x = jax.tree.map(jnp.asarray, lane(given[0]["float64"]))
    np.testing.assert_allclose(vector(A(x)), vector(lane(out["apply"]["float64"])), rtol=1e-11, atol=1e-12)
    leaves, tree = jax.tree.flatten(A)
    before = len(TRACES)
    again = program(tree.unflatten(leaves), *given)
    assert len(TRACES) == before
    jax.tree.map(np.testing.assert_array_equal, again, out)


@every
def test_norm(name):
    A, _, out = results(name)
    exact = np.sqrt(np.linalg.eigvalsh(gram_matrix(A, out["dense"]))[-1])
    closed = A.gram_spectrum is not None or A.cogram_spectrum is not None
    np.testing.assert_allclose(out["norm"], exact, rtol=1e-12 if closed else 5e-3)
    assert out["norm"] >= exact * (1 - 1e-9)


@every
def test_prox_and_pinv_equal_dense_algebra(name):
    A, (xs, ys, _), out = results(name)
    G = gram_matrix(A, out["dense"])
    x, y = vector(lane(xs["float64"])), vector(lane(ys["float64"]))
    back = out["dense"].conj().T @ y
    back = back if np.iscomplexobj(x) else back.real
    exact = np.linalg.solve(np.eye(len(G)) + STEP * G, x + STEP * back)
    np.testing.assert_allclose(vector(out["prox"]), exact, rtol=1e-9, atol=1e-9)
    least = np.linalg.pinv(G, rcond=1e-10, hermitian=True) @ back
    np.testing.assert_allclose(vector(out["pinv"]), least, rtol=1e-7, atol=1e-7 * max(1, np.linalg.norm(least)))


@every
def test_gradients(name):
    """In the input: ``A^H A x``. In the operator's own arrays: central differences, exact for a quadratic but for rounding."""
    A, (xs, _, direction), out = results(name)
    x = vector(lane(xs["float64"]))
    np.testing.assert_allclose(vector(out["grad"]), gram_matrix(A, out["dense"]) @ x, rtol=1e-11, atol=1e-11)
    if jax.tree.leaves(direction):
        rounding = (
            4 * np.finfo(np.float64).eps * np.vdot(x, x).real * out["norm"] ** 2 / SHORT
        )  # of the energy over the step
        np.testing.assert_allclose(out["slope"], out["difference"], rtol=1e-6, atol=rounding)
    else:  # nothing there to differentiate in
        assert not [a for a in jax.tree.leaves(A) if eqx.is_inexact_array(a)]


@every
def test_dtype_follows_the_input(name):
    A, (xs, ys, _), out = results(name)
    for precision in ("float32", "float64"):
        x, y = lane(xs[precision]), lane(ys[precision])
        with strictly():
            assert kinds(jax.eval_shape(A, x)) == kinds(lane(out["apply"][precision])) == kinds(y)
            assert kinds(jax.eval_shape(A.H, y)) == kinds(lane(out["adjoint"][precision])) == kinds(x)


def kinds(tree):
    return jax.tree.map(lambda a: (a.shape, a.dtype), tree)


@every
def test_built_twice_compiles_once(name):
    results(name)
    before = len(TRACES)
    A = build(OPERATORS, name, 1)
    program(A, *inputs(A))
    # A Python function is new each time: one compilation per function object.
    assert len(TRACES) == before + name.startswith("function")


@every
def test_lowers(name, float32):
    A = build(OPERATORS, name)
    arrays, static = eqx.partition(A, eqx.is_array)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arrays)

    def program(arrays, x):
        B = eqx.combine(arrays, static)
        return B.H(B(x)), B.prox(x, B(x), 0.5)

    exported = jax.export.export(jax.jit(program), platforms=["tpu", "cuda"])(
        shapes, at_precision(A.in_structure, jnp.float32)
    )
    assert exported.platforms == ("tpu", "cuda")


def test_the_vector_of_a_pytree_is_that_of_jax():
    tree = {"b": np.arange(6.0).reshape(2, 3), "a": np.ones(2)}
    np.testing.assert_array_equal(vector(tree), ravel_pytree(tree)[0])
