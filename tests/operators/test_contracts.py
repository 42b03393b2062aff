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


def rows(batch):
    """The entries of a batch of pytrees as a NumPy matrix, one row each."""
    return np.concatenate([a.reshape(PAIRS, -1) for a in jax.tree.leaves(batch)], axis=1)


def squares(tree):
    return sum(jnp.sum(jnp.abs(a) ** 2) for a in jax.tree.leaves(tree))


def energy(A, x):
    return squares(A(x)) / 2


@eqx.filter_jit
def program(A, xs, ys, direction):
    """Everything an operator offers, for batches of inputs at two precisions and a direction in its own arrays."""
    TRACES.append(1)
    x, y = lane(xs["float64"]), lane(ys["float64"])
    arrays, static = eqx.partition(A, eqx.is_inexact_array)
    wide = jax.tree.map(lambda a: a.astype(np.promote_types(a.dtype, np.float64)), arrays)

    def moved(x, t):
        return energy(eqx.combine(jax.tree.map(lambda a, d: a + t.astype(a.dtype) * d, wide, direction), static), x)

    ends = jnp.array([0, -SHORT, SHORT])  # short, because some operators have kinks
    values, (gradients, slopes) = jax.vmap(jax.value_and_grad(moved, (0, 1)), (None, 0))(x, ends)
    derivatives = {
        "gradient": jax.tree.map(jnp.conj, lane(gradients)),  # JAX gives the conjugate of the gradient
        "slope": slopes[0],
        "difference": (values[2] - values[1]) / (2 * SHORT),
    }
    with strictly():
        offered = {
            "apply": jax.vmap(A)(xs["float32"]),
            "adjoint": {p: jax.vmap(A.H)(batch) for p, batch in ys.items()},
            "prox": A.prox(x, y, STEP),
            "norm": A.norm(),
            "pinv": A.pinv(y),
        }
    known = A.gram_spectrum is not None or A.cogram_spectrum is not None
    return offered | derivatives | {"dense": A.dense(), "known": known}


def run(A, given):
    """The outputs of the program in NumPy."""
    return jax.tree.map(np.asarray, program(A, *given))


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
def results(name):
    """The operator, all that the program takes besides it, and the outputs of the program."""
    A = build(OPERATORS, name)
    given = inputs(A)
    return A, given, run(A, given)


def lane(batch, i=0):
    return jax.tree.map(lambda a: a[i], batch)


def gram_matrix(A, M):
    """``A^H A`` as it acts on the domain: its real part where the domain is real."""
    G = M.conj().T @ M
    return G if any(np.issubdtype(s.dtype, np.complexfloating) for s in jax.tree.leaves(A.in_structure)) else G.real


@every
def test_adjoint(name):
    """The dot test in float32: RMS of ``<v, A u> - <A^H v, u>`` over RMS of ``<v, A u>``, real parts."""
    _, (xs, ys, _), out = results(name)
    u, v, Au, Av = map(rows, (xs["float32"], ys["float32"], out["apply"], out["adjoint"]["float32"]))
    left, right = np.sum(v.conj() * Au, axis=1).real, np.sum(Av.conj() * u, axis=1).real
    assert np.sqrt(np.mean((left - right) ** 2) / np.mean(left**2)) <= 1e-5


@every
def test_apply_and_adjoint_equal_the_matrix(name):
    """Also: eager equals jit, and a batch equals a loop, because the matrix is a batch of products in a compiled program."""
    A, (xs, ys, _), out = results(name)
    M = out["dense"]
    x = lane(xs["float64"])
    np.testing.assert_allclose(vector(A(jax.tree.map(jnp.asarray, x))), M @ vector(x), rtol=1e-11, atol=1e-12)
    back = rows(ys["float64"]) @ M.conj()
    back = back if np.iscomplexobj(vector(x)) else back.real
    np.testing.assert_allclose(rows(out["adjoint"]["float64"]), back, rtol=1e-11, atol=1e-12)


@every
def test_pytree_round_trip(name):
    A, given, out = results(name)
    leaves, tree = jax.tree.flatten(A)
    before = len(TRACES)
    again = run(tree.unflatten(leaves), given)
    assert len(TRACES) == before
    jax.tree.map(np.testing.assert_array_equal, again, out)


def least_squares(name):
    """The program's outputs, ``A^H A``, a point and ``A^H y`` in dense algebra."""
    A, (xs, ys, _), out = results(name)
    x, back = vector(lane(xs["float64"])), out["dense"].conj().T @ vector(lane(ys["float64"]))
    return out, gram_matrix(A, out["dense"]), x, back if np.iscomplexobj(x) else back.real


@every
def test_prox_equals_dense_algebra(name):
    out, G, x, back = least_squares(name)
    exact = np.linalg.solve(np.eye(len(G)) + STEP * G, x + STEP * back)
    np.testing.assert_allclose(vector(out["prox"]), exact, rtol=1e-9, atol=1e-9)


@every
def test_norm_and_pinv_equal_dense_algebra(name):
    out, G, _, back = least_squares(name)
    exact = np.sqrt(np.linalg.eigvalsh(G)[-1])
    np.testing.assert_allclose(out["norm"], exact, rtol=1e-12 if out["known"] else 5e-3)
    assert out["norm"] >= exact * (1 - 1e-9)
    least = np.linalg.pinv(G, rcond=1e-10, hermitian=True) @ back
    np.testing.assert_allclose(vector(out["pinv"]), least, rtol=1e-7, atol=1e-7 * max(1, np.linalg.norm(least)))


@every
def test_gradients(name):
    """In the input: ``A^H A x``. In the operator's own arrays: central differences, exact for a quadratic but for rounding."""
    A, (xs, _, direction), out = results(name)
    x, G = vector(lane(xs["float64"])), gram_matrix(A, out["dense"])
    np.testing.assert_allclose(vector(out["gradient"]), G @ x, rtol=1e-11, atol=1e-11)
    if jax.tree.leaves(direction):
        largest = np.linalg.eigvalsh(G)[-1]
        rounding = 4 * np.finfo(np.float64).eps * np.vdot(x, x).real * largest / SHORT  # of the energy over the step
        np.testing.assert_allclose(out["slope"], out["difference"], rtol=1e-6, atol=rounding)
    else:  # nothing there to differentiate in
        assert not [a for a in jax.tree.leaves(A) if eqx.is_inexact_array(a)]


def kinds(tree):
    return jax.tree.map(lambda a: (a.shape, a.dtype), tree)


@every
def test_dtype_follows_the_input(name):
    _, (xs, ys, _), out = results(name)
    assert kinds(out["apply"]) == kinds(ys["float32"])
    assert kinds(out["adjoint"]) == kinds(xs)
    assert kinds(out["gradient"]) == kinds(out["prox"]) == kinds(lane(xs["float64"]))


@every
def test_lowers_and_keeps_float32(name):
    """For TPU and CUDA, under strict rules of promotion, with 64-bit types enabled and nothing but single precision given."""
    A = results(name)[0]
    arrays, static = eqx.partition(A, eqx.is_array)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arrays)
    x, y = (at_precision(s, jnp.float32) for s in (A.in_structure, A.out_structure))

    def services(arrays, x, y):
        A = eqx.combine(arrays, static)
        return A.prox(x, A(x), 0.5), A.pinv(y), A.gram(x)

    with strictly():
        exported = jax.export.export(jax.jit(services), platforms=["tpu", "cuda"])(shapes, x, y)
    assert exported.platforms == ("tpu", "cuda")
    for result in jax.tree.unflatten(exported.out_tree, exported.out_avals):
        assert kinds(result) == kinds(x)


@every
def test_built_twice_compiles_once(name):
    results(name)
    before = len(TRACES)
    A = build(OPERATORS, name, 1)
    run(A, inputs(A))
    # A Python function is new each time: one compilation per function object.
    assert len(TRACES) == before + name.startswith("function")


def test_the_vector_of_a_pytree_is_that_of_jax():
    tree = {"b": np.arange(6.0).reshape(2, 3), "a": np.ones(2)}
    np.testing.assert_array_equal(vector(tree), ravel_pytree(tree)[0])
