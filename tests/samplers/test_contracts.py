"""Contracts that every registered sampler keeps: jit, vmap, grad, dtype, compile count, lowering, reproducible runs."""

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


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, *(jax.tree.map(data, t) for t in (a, b)))


def data(x):
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def close(a, b, rtol=1e-11):
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=rtol, atol=1e-12), a, b)


TRACES = []


@eqx.filter_jit
def two_steps(sampler, x, key):
    """State and info after two steps from x: one program per sampler, which several contracts share."""
    TRACES.append(type(sampler).__name__)
    return eager_steps(sampler, x, key)


def eager_steps(sampler, x, key):
    k0, k1, k2 = jax.random.split(key, 3)
    return sampler.step(k2, sampler.step(k1, sampler.init(x, k0))[0])


def rescaled(sampler, factor):
    """The sampler with its step size multiplied."""
    where = (lambda s: s.method.step_size) if hasattr(sampler, "method") else (lambda s: s.step_size)
    return eqx.tree_at(where, sampler, replace_fn=lambda h: h * factor)


@pytest.mark.parametrize("name", ["mala"])
def test_eager_equals_jit(name, key):
    sampler, x = build(SAMPLERS, name), start(name)
    close(eager_steps(sampler, x, key), two_steps(sampler, x, key))


@every
def test_derivative_in_the_step_size(name, key):
    sampler, x = build(SAMPLERS, name), start(name)

    def loss(factor):
        return jnp.sum(jnp.abs(eager_steps(rescaled(sampler, factor), x, key)[0].position - 0.3) ** 2)

    value_and_slope = jax.jit(jax.value_and_grad(loss))
    (_, slope), gap = value_and_slope(1.0), 1e-6
    difference = (value_and_slope(1 + gap)[0] - value_and_slope(1 - gap)[0]) / (2 * gap)
    np.testing.assert_allclose(slope, difference, rtol=1e-6, atol=1e-7)


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
def test_built_twice_compiles_once(name, key):
    two_steps(build(SAMPLERS, name), start(name), key)
    TRACES.clear()
    two_steps(build(SAMPLERS, name, 1), start(name, 1), key)
    assert not TRACES


@every
def test_pytree_round_trip(name, key):
    sampler = build(SAMPLERS, name)
    leaves, tree = jax.tree.flatten(sampler)
    equal(two_steps(tree.unflatten(leaves), start(name), key), two_steps(sampler, start(name), key))


@every
def test_lowers(name, float32):
    arrays, static = eqx.partition(build(SAMPLERS, name), eqx.is_array)

    def program(arrays, key, x):
        return eager_steps(eqx.combine(arrays, static), x, key)[0].position

    platforms = ("tpu", "cuda")
    exported = jax.export.export(jax.jit(program), platforms=platforms)(arrays, jax.random.key(0), start(name))
    assert exported.platforms == platforms


@every
def test_whole_chunked_and_resumed_chains_are_bit_identical(name, key):
    sampler, x = build(SAMPLERS, name), start(name)
    runs = []
    whole = invjax.sample(key, sampler, x, 6)
    chunked = invjax.sample(key, sampler, x, 6, num_chunks=3, on_chunk=runs.append)
    resumed = invjax.sample(key, sampler, x, 6, num_chunks=2, resume=runs[0])
    assert int(runs[0].step) == 2
    equal(whole, chunked)
    equal(whole, resumed)
    assert whole.collected.shape == (6, 3)
    assert np.unique(np.asarray(whole.collected), axis=0).shape[0] > 1  # it moves


@every
def test_lanes_are_independent_runs(name, key):
    """Lanes with their own key, position and step size equal single runs, whatever happens to their neighbour."""
    sampler, keys = build(SAMPLERS, name), jax.random.split(key, 2)
    factors, good, other = jnp.array([1.0, 0.5]), start(name), start(name, 1)
    run = jax.jit(jax.vmap(lambda k, f, x: invjax.sample(k, rescaled(sampler, f), x, 6)))
    both = run(keys, factors, jnp.stack([good, other]))
    failed = run(keys, factors, jnp.stack([good, other.at[0].set(jnp.nan)]))
    equal(lane(both, 0), lane(failed, 0))
    assert failed.status.tolist() == [invjax.Status.CONVERGED, invjax.Status.NON_FINITE]
    for i, x in enumerate((good, other)):
        close(lane(both, i), invjax.sample(keys[i], rescaled(sampler, factors[i]), x, 6))


def lane(tree, i):
    return jax.tree.map(lambda a: a[i], tree)
