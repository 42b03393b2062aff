"""Contracts that every registered transform keeps: linear, batched, inverse, adjoint, gradients, dtype, compile count, lowering.

What they compare is computed by one compiled program per transform, because compilation takes most of the time.
"""

import functools

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import transforms as tf

from ..registry import build, strictly
from .registry import COMPLEX, TRANSFORMS, UNITARY, shape_of

every = pytest.mark.parametrize("name", TRANSFORMS)
linear = pytest.mark.parametrize("name", [name for name in TRANSFORMS if name != "noise"])
unitary = pytest.mark.parametrize("name", UNITARY)
LANES = 3
TRACES = []


def images(name):
    """A real, a complex, and a float32 image (complex where the transform wants it)."""
    r = np.random.default_rng(5)
    x, z = r.normal(size=shape_of(name)), r.normal(size=shape_of(name)) + 1j * r.normal(size=shape_of(name))
    x = z[::-1] if name in COMPLEX else x
    return {"x": x, "z": z, "single": x.astype(np.complex64 if name in COMPLEX else np.float32)}


def lane(tree, i=0):
    return jax.tree.map(lambda a: a[i], tree)


def moved(g, t, direction):
    """``g + t direction`` in its real leaves."""
    real, rest = eqx.partition(g, eqx.is_inexact_array)
    return eqx.combine(jax.tree.map(lambda a, d: a + t * d, real, direction), rest)


@eqx.filter_jit
def program(T, key, data, direction):
    """Everything a transform offers, for parameters that it draws."""
    TRACES.append(1)
    gs = jax.vmap(T.sample)(jax.random.split(key, LANES))
    g, x, z = lane(gs), data["x"], data["z"]

    def value(t):
        # 0.01: away from the kinks that interpolation has where a pixel stays on the border
        return jnp.sum(T(moved(g, 0.01 + t, direction), z) * z).real

    def adjoint_error(x):
        A = T.operator(g, x.shape, complex=jnp.iscomplexobj(x))
        Ax = A(x)
        return (
            jnp.abs(jnp.vdot(Ax, x[::-1]) - jnp.vdot(x, A.H(x[::-1])))
            / jnp.linalg.norm(Ax.ravel())
            / jnp.linalg.norm(x.ravel())
        )

    with strictly():
        single = T(g, data["single"])
    both = jax.vmap(T, (None, 0))(g, jnp.stack([z, 2 * z - 1j * x]))
    ends, slopes = jax.vmap(lambda t: jax.jvp(value, (t,), (1.0,)))(jnp.array([0, 1e-6, -1e-6]))
    out = {
        "gs": gs,
        "lanes": jax.vmap(T, (0, None))(gs, x),
        "first": T(g, x),
        "single": single,
        "complex": both[0],
        "of_sum": both[1],
        "slope": slopes[0],
        "difference": (ends[1] - ends[2]) / 2e-6,
    }
    if T.unitary or isinstance(T, tf.RandomNoise):
        out["back"] = T.apply_inverse(g, out["first"])
    if not isinstance(T, tf.RandomNoise):
        out["adjoint_errors"] = adjoint_error(x), adjoint_error(z)
    if T.unitary:
        A = T.operator(g, x.shape, complex=jnp.iscomplexobj(x))
        out["norms"] = A.norm(), jnp.linalg.norm(out["first"].ravel()) / jnp.linalg.norm(x.ravel())
        out["prox"] = A.prox(x, x[::-1], 0.7), (x + 0.7 * A.H(x[::-1])) / 1.7
    return out


@functools.cache
def results(name, seed=0):
    """The transform and the outputs of the program, in NumPy."""
    T, key = build(TRANSFORMS, name, seed), jax.random.key(seed)
    g = eqx.filter_eval_shape(T.sample, key)
    r = np.random.default_rng(8)
    direction = jax.tree.map(lambda s: r.normal(size=s.shape) if jnp.issubdtype(s.dtype, jnp.inexact) else None, g)
    out = program(T, key, images(name), direction)
    return T, out | {k: jax.tree.map(np.asarray, v) for k, v in out.items() if k != "gs"}


@linear
def test_linear_over_the_complex_numbers(name):
    _, out = results(name)
    np.testing.assert_allclose(out["of_sum"], 2 * out["complex"] - 1j * out["first"], atol=1e-13)
    assert np.linalg.norm(out["complex"]) > 0


@every
def test_vmap_equals_a_loop_and_the_pytree_round_trips(name):
    T, out = results(name)
    x = images(name)["x"]
    for i in range(LANES):
        np.testing.assert_allclose(T(lane(out["gs"], i), x), out["lanes"][i], atol=1e-13)
    leaves, tree = jax.tree.flatten(T)
    before = len(TRACES)
    results.__wrapped__(name)
    assert tree.unflatten(leaves) == T
    assert len(TRACES) == before


@pytest.mark.parametrize("name", [*UNITARY, "noise"])
def test_inverse_is_exact(name):
    T, out = results(name)
    x = images(name)["x"]
    np.testing.assert_allclose(out["back"], x, atol=1e-14 * np.abs(x).max() * 10)
    if T.permutation:
        np.testing.assert_array_equal(out["back"], x)


@linear
def test_adjoint(name):
    _, out = results(name)
    assert max(out["adjoint_errors"]) < 1e-14


@unitary
def test_unitary(name):
    T, out = results(name)
    assert T.unitary
    np.testing.assert_allclose(out["norms"], 1, rtol=1e-13)
    np.testing.assert_allclose(*out["prox"], atol=1e-13)


def test_the_others_are_not_unitary():
    for name in set(TRANSFORMS) - set(UNITARY):
        assert not results(name)[0].unitary


@every
def test_derivative_in_the_parameters(name):
    """Against central differences: their error is of order step^2, and rounding over step, about 1e-9 here."""
    _, out = results(name)
    real = [a for a in jax.tree.leaves(out["gs"]) if eqx.is_inexact_array(a)]
    np.testing.assert_allclose(out["slope"], out["difference"], rtol=1e-6, atol=1e-7)
    assert bool(real) == (out["slope"] != 0)


@every
def test_dtype_follows_the_image(name):
    _, out = results(name)
    x = images(name)["single"]
    np.testing.assert_allclose(out["single"], out["first"], atol=2e-5)
    assert (out["single"].shape, out["single"].dtype) == (x.shape, x.dtype)
    assert out["complex"].dtype == np.complex128


@every
def test_built_twice_compiles_once(name):
    results(name)
    before = len(TRACES)
    results(name, 1)
    assert len(TRACES) == before


@every
def test_lowers(name, float32):
    T = build(TRANSFORMS, name)
    arrays, static = eqx.partition(T, eqx.is_array)

    def program(arrays, key, x):
        T = eqx.combine(arrays, static)
        g = T.sample(key)
        return T(g, x), jax.grad(lambda x: jnp.sum(jnp.abs(T(g, x)) ** 2))(x)

    exported = jax.export.export(jax.jit(program), platforms=["tpu", "cuda"])(
        jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arrays),
        jax.eval_shape(lambda: jax.random.key(0)),
        images(name)["single"],
    )
    assert exported.platforms == ("tpu", "cuda")
