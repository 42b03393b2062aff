"""Contracts that every registered generator keeps: keys, shapes, dtype, jit, vmap, gradients, compile count, lowering."""

import functools

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from ..registry import build, strictly
from .registry import BOOLEAN, COMPLEX, EAGER, GENERATORS, KERNELS, SHAPES, SIZE, SMOOTH

every = pytest.mark.parametrize("name", GENERATORS)
TRACES = []


@eqx.filter_jit
def program(generator, keys, direction):
    """One draw, a batch of draws, and the derivative of a draw in all hyper-parameters."""
    TRACES.append(1)
    arrays, static = eqx.partition(generator, eqx.is_inexact_array)

    def moved(t):
        return eqx.combine(jax.tree.map(lambda a: a * (1 + t * direction), arrays), static)(keys[0])

    def forward(t):
        return jax.jvp(moved, (t,), (1.0,))

    with strictly():
        out = {"one": generator(keys[0]), "batch": jax.vmap(generator)(keys)}
    if not any(a.dtype == bool for a in jax.tree.leaves(out)):
        ends, slopes = jax.vmap(forward)(jnp.array([0, 1e-6, -1e-6]))
        out["slope"] = jax.tree.map(lambda a: a[0], slopes)
        out["difference"] = jax.tree.map(lambda a: (a[1] - a[2]) / 2e-6, ends)
    return out


def keys(seed=0):
    return jax.random.split(jax.random.key(seed), 3)


@functools.cache
def results(name):
    return jax.tree.map(np.asarray, program(build(GENERATORS, name), keys(), 1.0))


def check(a, b, **tolerance):
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, **tolerance), a, b)


def kinds(draw):
    return [(a.shape, np.dtype(a.dtype)) for a in jax.tree.leaves(draw)]


def expected(name, real, complex):
    dtype = bool if name in BOOLEAN else complex if name in COMPLEX else real
    return [(shape, np.dtype(dtype)) for shape in SHAPES.get(name, [SIZE])]


@every
def test_shapes_and_dtypes(name):
    assert kinds(results(name)["one"]) == expected(name, np.float64, np.complex128)


@pytest.mark.parametrize("name", EAGER)
def test_jit_equals_eager(name):
    check(build(GENERATORS, name)(keys()[0]), results(name)["one"], rtol=1e-9, atol=1e-12)


@every
def test_vmap_over_keys_equals_a_loop(name):
    out, generator = results(name), build(GENERATORS, name)
    batch = program(generator, keys()[::-1], 1.0)
    check(jax.tree.map(lambda a: a[0], out["batch"]), out["one"], rtol=1e-9, atol=1e-12)
    check(jax.tree.map(lambda a: a[2], out["batch"]), batch["one"], rtol=1e-9, atol=1e-12)


@every
def test_the_same_key_gives_the_same_draw_and_another_one_another(name):
    again = program(build(GENERATORS, name), keys(), 1.0)
    check(again, results(name), rtol=0, atol=0)
    draws = jax.tree.leaves(results(name)["batch"])
    if name == "constant":
        assert all(np.all(a == a[0]) for a in draws)
    elif name == "phase2phase":  # two values only: a dozen equal keys have odds of 2^-11
        many = jax.vmap(build(GENERATORS, name))(jax.random.split(jax.random.key(3), 12))
        assert np.any(many.kept != many.kept[0])
    else:
        assert any(np.any(a[i] != a[j]) for a in draws for i, j in ((0, 1), (1, 2), (0, 2)))


@every
def test_built_twice_compiles_once(name):
    results(name)
    before = len(TRACES)
    program(build(GENERATORS, name, 1), keys(1), 1.0)
    assert len(TRACES) == before


@pytest.mark.parametrize("name", SMOOTH)
def test_derivative_in_the_hyper_parameters_equals_central_differences(name):
    out = results(name)
    check(out["slope"], out["difference"], rtol=1e-5, atol=1e-7)
    moving = [np.any(a != 0) for a in jax.tree.leaves(out["slope"])]
    assert any(moving)


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_non_negative_and_sum_to_one(name):
    batch = results(name)["batch"]
    axes = (1, 2) if name == "diffraction_colour" else tuple(range(1, batch.ndim))
    np.testing.assert_allclose(batch.sum(axes), 1, rtol=1e-12)
    assert batch.min() >= 0


@every
def test_pytree_round_trip(name, key):
    leaves, tree = jax.tree.flatten(build(GENERATORS, name))
    before = len(TRACES)
    program(tree.unflatten(leaves), keys(), 1.0)
    assert len(TRACES) == before


@every
def test_lowers_and_keeps_float32(name, float32):
    """For TPU and CUDA, under strict rules of promotion."""
    arrays, static = eqx.partition(build(GENERATORS, name), eqx.is_array)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arrays)

    def draw(arrays, data):
        return jax.tree.leaves(eqx.combine(arrays, static)(jax.random.wrap_key_data(data)))

    with strictly():
        exported = jax.export.export(jax.jit(draw), platforms=["tpu", "cuda"])(
            shapes, jax.ShapeDtypeStruct((2,), jnp.uint32)
        )
    assert exported.platforms == ("tpu", "cuda")
    assert kinds(exported.out_avals) == expected(name, np.float32, np.complex64)
