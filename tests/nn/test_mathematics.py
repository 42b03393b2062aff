"""What each network is: homogeneity and translation of DRUNet, preconditioning, the potential of a gradient step, attention."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from invjax.nn import DnCNN, DRUNet, EDMDenoiser, Frozen, GradientStep, UNet, frozen, light_drunet
from invjax.nn.blocks import to_depth, to_space
from invjax.nn.unet import Attention

from .registry import NETWORKS, image, network


@functools.cache
def initial(build):
    """The network that ``build(rngs)`` makes, with its own initial weights, drawn in one program."""
    graph = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))[0]
    return nnx.merge(graph, jax.jit(lambda: nnx.to_pure_dict(nnx.state(build(nnx.Rngs(0)))))())


@eqx.filter_jit
def outputs(net, xs, sigmas):
    return jax.vmap(net)(xs, sigmas)


@pytest.mark.parametrize("name", ["drunet", "drunet_patch"])
def test_drunet_without_biases_is_homogeneous(name):
    """D(c x, c sigma) = c D(x, sigma) for c > 0."""
    x, scale = image(name), np.array([1, 0.01, 30])
    y = outputs(frozen(network(name)), scale[:, None, None, None] * x, 0.2 * scale)
    np.testing.assert_allclose(y, scale[:, None, None, None] * y[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["drunet", "drunet_patch"])
def test_drunet_commutes_with_translation_by_its_divisor(name):
    """Away from the borders: with squares, six convolutions reach 2 pixels each and two reach 4, and squares have 4 pixels."""
    net, wide = network(name), image(name, size=(64, 68))
    step = net.divisor
    y = outputs(frozen(net), np.stack([wide[:-step, :-step], wide[step:, step:]]), np.full(2, 0.2))
    a, b = (np.asarray(u) for u in (y[0][step:, step:], y[1][:-step, :-step]))
    border = slice(26, -26)
    np.testing.assert_allclose(a[border, border], b[border, border], atol=1e-12)
    assert np.abs(a - b).max() > 1e-3


def test_drunet_pads_by_repeating_the_edge():
    net, x = frozen(network("drunet")), image("drunet")
    padded = np.pad(x, ((0, 1), (0, 0), (0, 0)), mode="edge")
    np.testing.assert_allclose(net(x, 0.2), net(padded, 0.2)[:7], atol=1e-12)


def test_squares_as_channels_are_ordered_row_column_channel():
    x = np.arange(4 * 6 * 2.0).reshape(4, 6, 2)
    y = np.asarray(to_depth(jnp.asarray(x), 2))
    np.testing.assert_array_equal(y[1, 2], [*x[2, 4], *x[2, 5], *x[3, 4], *x[3, 5]])
    np.testing.assert_array_equal(to_space(jnp.asarray(y), 2), x)


def test_initial_networks_begin_near_the_identity():
    """Residual denoisers begin near the identity."""
    x = image("dncnn")
    for build in (NETWORKS["drunet_patch"], lambda rngs: DnCNN(1, 8, 4, rngs=rngs)):
        y = np.asarray(frozen(initial(build))(x, 0.1))
        assert 1e-5 < np.abs(y - x).mean() < 0.3


def test_drunets_have_the_sizes_of_their_docstrings():
    for build, size in ((light_drunet, 2.4e6), (DRUNet, 33e6)):
        net = nnx.eval_shape(lambda build=build: build(3, rngs=nnx.Rngs(0)))
        assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(net))) == pytest.approx(size, rel=0.02)


class Constant(nnx.Module):
    """A network whose output is a constant, and that remembers nothing."""

    def __init__(self, value):
        self.value = value

    def __call__(self, x, sigma):
        return jnp.full_like(x, self.value)


def test_edm_without_noise_is_the_identity():
    """To the last bit, with finite slopes in image and level."""
    for name in ("edm", "edm_map"):
        net, x = frozen(network(name)), image(name)
        np.testing.assert_array_equal(net(x, 0.0), x)
        slopes = jax.jit(jax.grad(lambda net, x, s: jnp.sum(net(x, s) ** 2), (1, 2)))(net, x, 0.0)
        assert all(np.all(np.isfinite(slope)) for slope in slopes)


def test_edm_of_zero_is_the_posterior_mean_of_gaussian_data():
    x, sigma, spread, mean = image("edm"), 0.3, 0.2, 0.4
    expected = mean + spread**2 / (spread**2 + sigma**2) * (x - mean)
    np.testing.assert_allclose(EDMDenoiser(Constant(0.0), spread, mean)(x, sigma), expected, rtol=1e-12)


def test_edm_tends_to_mean_plus_spread_times_the_network():
    x = image("edm").astype(np.float32)
    for sigma in (1e6, 1e30):  # whose square overflows
        np.testing.assert_allclose(EDMDenoiser(Constant(2.0), 0.2, 0.4)(x, sigma), 0.4 + 0.2 * 2.0, rtol=1e-5)


def test_edm_is_that_of_the_paper_in_its_units():
    """On u = 2 x - 1 with twice the noise: D_u = c_skip u + c_out F(c_in u), Karras et al. 2022, equation 7 and table 1."""
    F = network("dncnn")
    x, sigma, spread = image("edm"), 0.2, 0.25
    u, s, d = 2 * x - 1, 2 * sigma, 2 * spread
    total = np.sqrt(s**2 + d**2)
    expected = d**2 / total**2 * u + s * d / total * F(u / total)
    np.testing.assert_allclose(2 * EDMDenoiser(F, spread)(x, sigma) - 1, expected, rtol=1e-12)


def test_edm_refuses_a_spread_that_is_not_positive():
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="sigma_data: expected a positive number, got"):
            EDMDenoiser(Constant(0.0), wrong)


def test_gradient_step_descends_its_potential():
    """D = x - grad g with g = |x - N|^2 / 2; grad g = x - N - J^T (x - N), whose Jacobian is symmetric, a Hessian."""
    net, x = network("gradient_step"), image("gradient_step", size=(4, 6))

    @jax.jit
    def views(x):
        def denoise(x):
            return net(x, 0.2)

        slope = jax.grad(lambda x: net.potential(x, 0.2))(x)
        return denoise(x), slope, net.grad(x, 0.2), net.potential(x, 0.2), net.net(x, 0.2), jax.jacobian(denoise)(x)

    y, slope, grad, potential, inner, jacobian = (np.asarray(a) for a in views(x))
    np.testing.assert_allclose(grad, slope, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(y, x - slope, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(potential, np.sum((x - inner) ** 2) / 2, rtol=1e-12)
    matrix = jacobian.reshape(x.size, x.size)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-11)
    assert np.abs(matrix - np.diag(np.diag(matrix))).max() > 1e-3


def test_gradient_step_of_a_linear_map_is_closed_form():
    """N = c x: g = (1 - c)^2 |x|^2 / 2 and D = (1 - (1 - c)^2) x."""
    x = image("gradient_step")
    np.testing.assert_allclose(GradientStep(lambda x, sigma: 0.7 * x)(x, 0.1), (1 - 0.3**2) * x, rtol=1e-12)


def test_attention_is_the_softmax_of_products():
    layer = Attention(4, rngs=nnx.Rngs(0))
    layer.project.kernel[...] = jnp.asarray(np.random.default_rng(0).normal(size=(4, 12)), jnp.float32)
    layer.out.kernel[...] = jnp.eye(4, dtype=jnp.float32)
    x = np.random.default_rng(1).normal(size=(2, 3, 4))
    tokens = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5)  # four groups of one channel
    q, k, v = np.split(tokens.reshape(6, 4) @ np.asarray(layer.project.kernel[...]), 3, -1)
    logits = q @ k.T / 2
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(layer(jnp.asarray(x)), x + (weights @ v).reshape(2, 3, 4), rtol=1e-6)


def test_unet_tells_noise_levels_apart_and_has_finite_slopes_at_none():
    net, x = frozen(network("unet")), image("unet")
    levels = np.array([0.0, 1e-8, 0.002, 0.1, 0.11, 80.0])
    y = np.asarray(outputs(net, np.stack([x] * 6), levels))
    np.testing.assert_allclose(y[1], y[0], atol=1e-5)
    assert all(np.abs(a - b).max() > 1e-4 for a, b in itertools.pairwise(y[1:]))
    assert np.isfinite(jax.jit(jax.grad(lambda s: jnp.sum(net(x, s) ** 2)))(0.0))


def test_frozen_works_in_scan_under_vmap_and_grad():
    """Plug-and-play in one program: iterates of many images with many noise levels, and the slope in the level."""
    net, xs = frozen(network("dncnn_map")), np.stack([image("dncnn_map", k) for k in range(2)])

    @eqx.filter_jit
    def end(net, x, sigma):
        return jax.lax.scan(lambda x, _: (net(x, sigma), None), x, length=2)[0]

    def loss(sigma, x):
        return jnp.sum(end(net, x, sigma))

    slopes = jax.jit(jax.vmap(jax.grad(loss)))(np.array([0.1, 0.2]), xs)
    expected = net(net(xs[1], 0.2), 0.2)
    np.testing.assert_allclose(end(net, xs[1], 0.2), expected, atol=1e-12)
    assert np.all(np.isfinite(slopes))
    assert np.all(slopes != 0)


CALLS = []


class Counted(nnx.Module):
    """A network that notes each time Python runs it."""

    def __init__(self, factor):
        self.factor = nnx.Param(jnp.asarray(factor))

    def __call__(self, x, sigma):
        CALLS.append(1)
        return self.factor[...] * x * sigma


def test_frozen_compiles_once_for_all_weights_and_noise_levels():
    """Called eagerly, with Python numbers too."""
    x, before = np.ones((2, 2, 1)), len(CALLS)
    for factor, sigma in ((1.0, 0.1), (2.0, 0.2), (3.0, 1)):
        np.testing.assert_allclose(frozen(Counted(factor))(x, sigma), factor * sigma * x, rtol=1e-12)
    assert len(CALLS) == before + 1


class Noisy(nnx.Module):
    def __init__(self, rngs):
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.norm = nnx.BatchNorm(1, rngs=rngs)

    def __call__(self, x, sigma):
        return self.norm(self.drop(x))


def test_frozen_refuses_train_mode_and_other_things():
    net = Noisy(nnx.Rngs(0))
    with pytest.raises(
        ValueError, match=r"net: expected evaluation mode, got drop, norm in train mode; call net\.eval"
    ):
        frozen(net)
    net.eval()
    assert isinstance(frozen(net), Frozen)
    x = np.ones((2, 2, 1), np.float32)
    np.testing.assert_allclose(frozen(net)(x, 0.1), x, rtol=1e-4)
    with pytest.raises(ValueError, match=r"net: expected a network \(flax.nnx.Module\), got function"):
        frozen(image)


def test_constructors_refuse_what_makes_no_network():
    rngs = nnx.Rngs(0)
    for build, text in (
        (lambda: DRUNet(1, (4,), rngs=rngs), "features: expected at least 2 scales"),
        (lambda: DRUNet(1, (4, 0), rngs=rngs), "features: expected positive integers"),
        (lambda: DRUNet(0, rngs=rngs), "channels: expected positive integers, got 0"),
        (lambda: DRUNet(1, (4, 4), 0, rngs=rngs), "num_blocks: expected positive integers"),
        (lambda: DRUNet(1, (4, 4), patch=1.5, rngs=rngs), "patch: expected positive integers, got 1.5"),
        (lambda: DRUNet(1, (4, 4), activation="sine", rngs=rngs), "activation: expected one of relu, .*got 'sine'"),
        (lambda: DRUNet(1, (4, 4), dtype=jnp.int32, rngs=rngs), "dtype: expected None or a floating dtype"),
        (lambda: DnCNN(1, 4, 1, rngs=rngs), "num_layers: expected at least 2, got 1"),
        (lambda: UNet(1, (4,), rngs=rngs), "features: expected at least 2 scales"),
    ):
        with pytest.raises(ValueError, match=text):
            build()
