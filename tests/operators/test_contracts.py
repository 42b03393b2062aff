"""Contracts that every registered operator keeps: adjoint, matrix, services, dtype, jit, vmap, grad, compile count, lowering."""

import functools

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from invjax import operators as ops
from invjax.operators.services import random_like
from invjax.operators.structure import at_precision

from ..registry import OPERATORS, build, strictly

every = pytest.mark.parametrize("name", OPERATORS)


def vector(tree):
    return ravel_pytree(tree)[0]


@functools.cache
def dense(name):
    """Dense matrix of a registered operator, computed once."""
    return np.asarray(build(OPERATORS, name).dense())


@every
def test_adjoint(name, key):
    A = build(OPERATORS, name)
    assert ops.dot_test(key, A, dtype=jnp.float64) <= 1e-12
    assert ops.dot_test(key, A, dtype=jnp.float32) <= 1e-5


@every
def test_apply_and_adjoint_equal_the_matrix(name, key):
    A, M = build(OPERATORS, name), dense(name)
    x = random_like(key, A.in_structure, jnp.float64)
    y = random_like(key, A.out_structure, jnp.float64)
    np.testing.assert_allclose(vector(A(x)), M @ vector(x), atol=1e-12)
    back = M.conj().T @ np.asarray(vector(y))
    real_domain = not np.iscomplexobj(vector(x))
    np.testing.assert_allclose(vector(A.H(y)), back.real if real_domain else back, atol=1e-12)
    plain = M.T @ np.asarray(vector(y))
    np.testing.assert_allclose(vector(A.T(y)), plain.real if real_domain else plain, atol=1e-12)


def gram_matrix(A, M):
    """``A^H A`` as it acts on the domain: its real part where the domain is real."""
    G = M.conj().T @ M
    return G if any(np.issubdtype(s.dtype, np.complexfloating) for s in jax.tree.leaves(A.in_structure)) else G.real


@every
def test_norm(name):
    A, M = build(OPERATORS, name), dense(name)
    exact = np.sqrt(np.linalg.eigvalsh(gram_matrix(A, M))[-1])
    closed = A.gram_spectrum is not None or A.cogram_spectrum is not None
    np.testing.assert_allclose(A.norm(), exact, rtol=1e-12 if closed else 5e-3)
    assert A.norm() >= exact * (1 - 1e-9)


@every
def test_prox_and_pinv_equal_dense_algebra(name, key):
    A, M = build(OPERATORS, name), dense(name)
    G = gram_matrix(A, M)
    x = random_like(key, A.in_structure, jnp.float64)
    y = random_like(jax.random.fold_in(key, 1), A.out_structure, jnp.float64)
    back = np.asarray(vector(A.H(y)))
    exact = np.linalg.solve(np.eye(len(G)) + 0.7 * G, np.asarray(vector(x)) + 0.7 * back)
    np.testing.assert_allclose(vector(A.prox(x, y, 0.7)), exact, atol=1e-9)
    least = np.linalg.pinv(G, rcond=1e-10, hermitian=True) @ back
    np.testing.assert_allclose(vector(A.pinv(y)), least, atol=1e-7 * max(1, np.linalg.norm(least)))


@every
def test_dtype_follows_the_input(name, key):
    A = build(OPERATORS, name)
    for precision in (jnp.float32, jnp.float64):
        x = random_like(key, A.in_structure, precision)
        with strictly():
            y = jax.eval_shape(A, x)
            back = jax.eval_shape(A.H, y)
        assert jax.tree.map(lambda s: s.dtype, y) == jax.tree.map(
            lambda s: s.dtype, at_precision(A.out_structure, precision)
        )
        assert jax.tree.map(lambda s: s.dtype, back) == jax.tree.map(lambda s: s.dtype, x)


@every
def test_jit_vmap_grad(name, key):
    A = build(OPERATORS, name)
    xs = [random_like(k, A.in_structure, jnp.float64) for k in jax.random.split(key, 2)]
    batch = jax.tree.map(lambda *a: jnp.stack(a), *xs)
    together = eqx.filter_jit(lambda A, b: jax.vmap(A)(b))(A, batch)
    for i, x in enumerate(xs):
        np.testing.assert_allclose(vector(jax.tree.map(lambda a, i=i: a[i], together)), vector(A(x)), atol=1e-12)

    def energy(x):
        return sum(jnp.sum(jnp.abs(a) ** 2) for a in jax.tree.leaves(A(x))) / 2

    g = jax.tree.map(jnp.conj, jax.grad(energy)(xs[0]))  # JAX returns the conjugate of the gradient
    np.testing.assert_allclose(vector(g), vector(A.H(A(xs[0]))), atol=1e-11)


@every
def test_derivative_in_own_arrays(name, key):
    A = build(OPERATORS, name)
    arrays, static = eqx.partition(A, eqx.is_inexact_array)
    if not jax.tree.leaves(arrays):
        assert not [a for a in jax.tree.leaves(A) if eqx.is_array(a)]  # nothing to differentiate in
        return
    x = random_like(key, A.in_structure, jnp.float64)

    def energy(arrays):
        return sum(jnp.sum(jnp.abs(a) ** 2) for a in jax.tree.leaves(eqx.combine(arrays, static)(x)))

    wide = jax.tree.map(lambda a: a.astype(jnp.promote_types(a.dtype, jnp.float64)), arrays)
    direction = jax.tree.map(lambda a: jax.random.normal(key, a.shape, a.dtype), wide)
    _, slope = jax.jvp(energy, (wide,), (direction,))
    h = 1e-4
    ends = [energy(jax.tree.map(lambda a, d, s=s: a + s * h * d, wide, direction)) for s in (1, -1)]
    np.testing.assert_allclose(
        slope, (ends[0] - ends[1]) / (2 * h), rtol=1e-6
    )  # exact for a quadratic but for rounding


@every
def test_built_twice_compiles_once(name, key):
    traces = []

    @eqx.filter_jit
    def run(A, x):
        traces.append(1)
        return A.H(A(x))

    for seed in range(2):
        A = build(OPERATORS, name, seed)
        run(A, random_like(key, A.in_structure, jnp.float64))
    if name.startswith("function"):  # its Python function is new each time: one compilation per function object
        assert len(traces) == 2
    else:
        assert len(traces) == 1


@every
def test_pytree_round_trip(name, key):
    A = build(OPERATORS, name)
    leaves, tree = jax.tree.flatten(A)
    B = tree.unflatten(leaves)
    x = random_like(key, A.in_structure, jnp.float64)
    np.testing.assert_array_equal(vector(A(x)), vector(B(x)))


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
