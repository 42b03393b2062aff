"""Contracts that every registered sampler keeps: jit, vmap, grad, dtype, compile count, lowering, reproducible runs."""

import functools

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import invjax

from ..registry import build, strictly
from .registry import SAMPLERS, start

every = pytest.mark.parametrize("name", SAMPLERS)
KEY = jax.random.key(0)
KEYS = jnp.stack([KEY, jax.random.key(1)])


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, *(jax.tree.map(data, t) for t in (a, b)))


def data(x):
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def close(a, b, rtol=1e-11):
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=rtol, atol=1e-12), a, b)


TRACES, GAP = [], 1e-6
FACTORS = jnp.array([1.0, 1 + GAP, 1 - GAP])  # of the step size


def two_steps(sampler, x, key):
    """State and info after two steps from x."""
    k0, k1, k2 = jax.random.split(key, 3)
    return sampler.step(k2, sampler.step(k1, sampler.init(x, k0))[0])


@eqx.filter_jit
def program(sampler, x, key):
    """Two steps with three step sizes: a loss, its slopes in the step size, states and infos. One program per sampler."""
    TRACES.append(1)

    def loss(factor):
        state, info = two_steps(rescaled(sampler, factor), x, key)
        return jnp.sum(jnp.abs(state.position - 0.3) ** 2), (state, info)

    (values, ends), slopes = jax.vmap(jax.value_and_grad(loss, has_aux=True))(FACTORS)
    return values, slopes, ends


@functools.cache
def results(name):
    return program(build(SAMPLERS, name), start(name), KEY)


def rescaled(sampler, factor):
    """The sampler with its step size multiplied."""
    where = (lambda s: s.method.step_size) if hasattr(sampler, "method") else (lambda s: s.step_size)
    return eqx.tree_at(where, sampler, replace_fn=lambda h: h * factor)


@pytest.mark.parametrize("name", ["mala"])
def test_eager_equals_jit_and_vmap(name):
    close(two_steps(build(SAMPLERS, name), start(name), KEY), lane(results(name)[2], 0))


@every
def test_derivative_in_the_step_size(name):
    values, slopes, _ = results(name)
    np.testing.assert_allclose(slopes[0], (values[1] - values[2]) / (2 * GAP), rtol=1e-6, atol=1e-7)


@every
def test_dtype_is_kept(name, key):
    sampler = build(SAMPLERS, name)
    narrow = jnp.complex64 if jnp.iscomplexobj(start(name)) else jnp.float32
    strong = jax.tree.map(
        lambda a: jax.lax.convert_element_type(a, np.dtype(a.dtype)), sampler
    )  # float64 arrays, not weak
    for s, dtype in ((sampler, narrow), (strong, narrow), (sampler, None)):
        x = start(name, dtype=dtype)
        with strictly():
            state = jax.eval_shape(s.init, x, key)
            after, info = jax.eval_shape(s.step, key, state)
        shapes = [jax.tree.map(lambda a: (a.shape, a.dtype), t) for t in (state, after)]
        assert shapes[0] == shapes[1]
        assert after.position.dtype == x.dtype
        wide = [a.dtype for a in jax.tree.leaves((after, info)) if a.dtype in (jnp.float64, jnp.complex128)]
        assert bool(wide) == (dtype is None)


@every
def test_built_again_or_rebuilt_from_its_leaves_compiles_once(name):
    results(name)
    before = len(TRACES)
    leaves, tree = jax.tree.flatten(build(SAMPLERS, name))
    equal(program(tree.unflatten(leaves), start(name), KEY), results(name))
    program(build(SAMPLERS, name, 1), start(name, 1), KEY)
    assert len(TRACES) == before


@every
def test_lowers(name, float32):
    arrays, static = eqx.partition(build(SAMPLERS, name), eqx.is_array)

    def program(arrays, key, x):
        return two_steps(eqx.combine(arrays, static), x, key)[0].position

    platforms = ("tpu", "cuda")
    exported = jax.export.export(jax.jit(program), platforms=platforms)(arrays, jax.random.key(0), start(name))
    assert exported.platforms == platforms


LANES = jnp.array([1.0, 0.5])


@functools.cache
def single(name, i):
    """Whole runs with the key, position and step size of two lanes."""
    sampler = rescaled(build(SAMPLERS, name), LANES[i])
    return sampler, invjax.sample(KEYS[i], sampler, start(name, i), 6)


@pytest.mark.parametrize("name", ["myula", "mala_complex", "skrock", "underdamped", "adaptation"])
def test_whole_chunked_and_resumed_chains_are_bit_identical(name):
    """One of each kind: the driver holds the loop, and a sampler only has to keep everything in its state."""
    (sampler, whole), runs = single(name, 0), []
    chunked = invjax.sample(KEYS[0], sampler, start(name), 6, num_chunks=3, on_chunk=runs.append)
    resumed = invjax.sample(KEYS[0], sampler, start(name), 6, num_chunks=2, resume=runs[0])
    assert int(runs[0].step) == 2
    equal(whole, chunked)
    equal(whole, resumed)


@every
def test_lanes_are_independent_runs(name):
    """Lanes with their own key, position and step size equal single runs, whatever happens to their neighbour."""
    sampler, good, other = build(SAMPLERS, name), start(name), np.array(start(name, 1))
    run = jax.jit(jax.vmap(lambda k, f, x: invjax.sample(k, rescaled(sampler, f), x, 6)))
    both = run(KEYS, LANES, np.stack([good, other]))
    for i in range(2):
        close(lane(both, i), single(name, i)[1])
    assert both.collected.shape == (2, 6, 3)
    assert np.unique(np.asarray(both.collected[0]), axis=0).shape[0] > 1  # it moves
    other[0] = np.nan
    failed = run(KEYS, LANES, np.stack([good, other]))
    equal(lane(both, 0), lane(failed, 0))
    assert failed.status.tolist() == [invjax.Status.CONVERGED, invjax.Status.NON_FINITE]


def lane(tree, i):
    return jax.tree.map(lambda a: a[i], tree)
