"""Contracts that every network keeps: shape, dtype, jit, vmap, derivatives, frozen, files, compile count, lowering, refusals.

One compiled program per network computes what they compare: outputs and slopes for four pairs of image and noise level.
"""

import functools

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from invjax.nn import frozen, load, save
from invjax.nn.frozen import Frozen

from ..registry import strictly
from .registry import CHANNELS, MAPS, NETWORKS, ROUGH, image, network

every = pytest.mark.parametrize("name", NETWORKS)
SIGMAS, STEP = (0.2, 0.5), 1e-6
TRACES = []


@eqx.filter_jit
def program(net, xs, sigmas, weights):
    """Outputs, the sums of outputs times ``weights``, and their slopes in image and noise level, for many at once."""
    TRACES.append(1)

    def value(x, sigma):
        y = net(x, sigma)
        return jnp.vdot(weights, y), y

    (values, outputs), slopes = jax.vmap(jax.value_and_grad(value, (0, 1), has_aux=True))(xs, sigmas)
    return outputs, values, slopes


def arguments(name):
    """An image and a level, the two neighbours of both along a direction, and others."""
    x, v, u = image(name), image(name, 1) - 0.5, image(name, 2)
    xs = np.stack([x, x + STEP * v, x - STEP * v, u])
    return xs, np.array([SIGMAS[0], SIGMAS[0] + STEP, SIGMAS[0] - STEP, SIGMAS[1]]), image(name, 3) - 0.5


def run(net, name):
    with strictly():
        return jax.tree.map(np.asarray, program(frozen(net), *arguments(name)))


@functools.cache
def results(name):
    return run(network(name), name)


@every
def test_jit_and_vmap_equal_an_eager_loop(name):
    outputs, (xs, sigmas, _) = results(name)[0], arguments(name)
    for k in (0, 3):
        with strictly():
            plain = network(name)(xs[k], sigmas[k])
        assert isinstance(plain, jax.Array)
        assert plain.shape == xs[k].shape
        np.testing.assert_allclose(outputs[k], plain, atol=0.02 if name in ROUGH else 1e-11)
    assert np.abs(outputs[0] - outputs[3]).max() > 1e-3


@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in ROUGH])
def test_slopes_equal_finite_differences(name):
    _, values, (in_x, in_sigma) = results(name)
    expected = np.vdot(in_x[0], image(name, 1) - 0.5) + in_sigma[0]
    np.testing.assert_allclose((values[1] - values[2]) / (2 * STEP), expected, rtol=1e-6, atol=1e-7)


@every
def test_dtype_is_that_of_the_image(name):
    net = frozen(network(name))
    for dtype in (jnp.float32, jnp.float64, jnp.float16):
        x = jax.ShapeDtypeStruct(image(name).shape, dtype)
        for sigma in (0.1, np.float64(0.1), np.ones(x.shape[:2]) if name in MAPS else 1):
            assert eqx.filter_eval_shape(net, x, sigma) == x
    assert {leaf.dtype for leaf in jax.tree.leaves(net.weights)} == {jnp.dtype(jnp.float32)}


@every
def test_slopes_keep_float32(name):
    xs, sigmas, weights = (a.astype(np.float32) for a in arguments(name))
    out = jax.eval_shape(lambda net: program.__wrapped__(net, xs, sigmas, weights), frozen(network(name)))
    assert {a.dtype for a in jax.tree.leaves(out)} == {jnp.dtype(np.float32)}


@pytest.mark.parametrize("name", MAPS)
def test_a_constant_map_is_a_level(name):
    x = image(name)
    for shape in (x.shape[:2], (*x.shape[:2], 1)):
        np.testing.assert_allclose(network(name)(x, np.full(shape, SIGMAS[0])), results(name)[0][0], atol=1e-11)


@every
def test_new_weights_do_not_compile_again(name):
    first, before = results(name), len(TRACES)
    other = run(network(name, 1), name)
    assert np.abs(other[0] - first[0]).max() > 1e-3
    leaves, tree = jax.tree.flatten(frozen(network(name)))
    again = tree.unflatten(leaves)
    assert isinstance(again, Frozen)
    jax.tree.map(np.testing.assert_array_equal, run(again.net, name), first)
    assert len(TRACES) == before


@every
def test_later_changes_do_not_reach_a_frozen_network(name):
    net = network(name)
    kept = frozen(net)
    before = [np.array(leaf) for leaf in jax.tree.leaves(kept.weights)]
    nnx.update(net, jax.tree.map(jnp.zeros_like, nnx.state(net)))
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(frozen(net).weights))
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(kept.weights), before)


@every
def test_files_give_it_back(name, tmp_path):
    """The same structure, so it runs in the program that is compiled already, and the same weights to the last bit."""
    net, before = network(name), (results(name), len(TRACES))
    save(net, tmp_path / "net.safetensors")
    again = load(tmp_path / "net.safetensors")
    assert type(again) is type(net)
    jax.tree.map(np.testing.assert_array_equal, run(again, name), before[0])
    assert len(TRACES) == before[1]
    save(frozen(again), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "net.safetensors").read_bytes()


@every
def test_lowers(name, float32):
    net = frozen(network(name))
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), net)
    x = jax.ShapeDtypeStruct(image(name).shape, jnp.float32)
    exported = jax.export.export(jax.jit(lambda net, x: net(x, 0.1)), platforms=["tpu", "cuda"])(shapes, x)
    assert exported.platforms == ("tpu", "cuda")


@every
def test_wrong_images_and_levels_are_refused(name):
    net, x = network(name), image(name)
    for wrong, text in (
        (x[0], "expected shape"),
        (x[None], "expected shape .*batch with jax.vmap"),
        (x[:0], "expected shape"),
        (np.ones_like(x, np.int32), "expected a real floating array, got int32"),
        (x.astype(np.complex64), "expected a real floating array, got complex64"),
    ):
        with pytest.raises(ValueError, match=f"x: {text}"):
            net(wrong, 0.1)
    if name not in ("edm", "edm_map", "gradient_step"):
        with pytest.raises(ValueError, match=rf"x: expected shape \(H, W, {CHANNELS.get(name, 1)}\), got"):
            net(np.ones((4, 4, 2)), 0.1)
    if name != "dncnn":  # which is blind
        for wrong, text in (
            (None, "expected a noise level, got None"),
            (1j, "expected real numbers, got complex"),
            (np.ones(3), r"expected a scalar.*, got shape \(3,\)"),
        ):
            with pytest.raises(ValueError, match=f"sigma: {text}"):
                net(x, wrong)
