"""The certified bound of convolutions and denoisers against dense matrices and power iterations; the local estimate."""

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from invjax.nn import LipschitzDenoiser, certified_bound, convolution_bound, frozen
from invjax.nn.symbol import GRID
from invjax.priors.lipschitz import residual_lipschitz

from .registry import image, network

SIZES = ((1, 1), (1, 5), (3, 4), (8, 6))
bound = jax.jit(convolution_bound)


def kernels():
    """Random, smooth, a single tap, and the worst case of the grid: one shape, so that one program serves them all.

    In the worst case the taps are rotations, which act as complex numbers: the largest value is half a step off the grid.
    """
    r = np.random.default_rng(0)
    smooth = np.ones((3, 3))[..., None, None] * r.uniform(size=(3, 2))
    tap = np.zeros((3, 3, 3, 2))
    tap[2, 0] = r.normal(size=(3, 2))
    checkers = (-1.0) ** np.add.outer(np.arange(3), np.arange(3))[..., None, None] * r.uniform(size=(3, 2))
    worst = np.zeros((3, 3, 3, 2))
    for i, k in ((0, 1), (2, -1)):
        for j, m in ((0, 1), (2, -1)):
            angle = (k + m) * np.pi / GRID
            worst[i, j, :2] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    return {"random": r.normal(size=(3, 3, 3, 2)), "smooth": smooth, "tap": tap, "checkers": checkers, "worst": worst}


def symbol_norm(kernel, num=40):
    """The norm on an infinite image, by a fine grid of frequencies: at most 0.6 % low, since 1 / cos(pi / 40)^2 = 1.0062."""
    w, k = 2 * np.pi * np.arange(num) / num, np.arange(-1, 2)
    waves = np.exp(1j * np.outer(w, k))
    return np.linalg.norm(np.einsum("ak,bl,klio->abio", waves, waves, kernel), 2, (-2, -1)).max()


def dense(kernel, size):
    """The matrix of the zero-padded convolution, written out tap by tap."""
    height, width = size
    num_in, num_out = kernel.shape[2:]
    matrix = np.zeros((height, width, num_out, height, width, num_in))
    for i, j, k, m in np.ndindex(height, width, 3, 3):
        a, b = i + k - 1, j + m - 1
        if 0 <= a < height and 0 <= b < width:
            matrix[i, j, :, a, b] += kernel[k, m].T
    return matrix.reshape(height * width * num_out, -1)


@pytest.mark.parametrize("name", kernels())
def test_bound_of_a_convolution_holds_at_every_size(name):
    kernel = kernels()[name]
    certified, infinite = float(bound(kernel)), symbol_norm(kernel)
    for size in SIZES:
        assert np.linalg.norm(dense(kernel, size), 2) <= certified
    assert infinite <= certified <= 1.06 * infinite
    assert name != "worst" or certified >= 4  # the norm there; the grid shows 4 cos(pi / n)^2
    np.testing.assert_allclose(bound(kernel.astype(np.float32)), certified, rtol=1e-5)


def test_bound_is_near_what_images_reach():
    kernel = kernels()["smooth"]
    assert bound(kernel) <= 1.1 * np.linalg.norm(dense(kernel, (14, 15)), 2)


def test_the_constant_of_the_grid_is_an_inequality():
    """Degree 1 in each variable: max |q| <= max over the grid / cos(pi / n)^2, whatever the phase; attained in the worst case."""
    r, n = np.random.default_rng(1), GRID
    grid = 2 * np.pi * np.arange(n) / n
    fine = 2 * np.pi * np.arange(8 * n) / (8 * n)

    def largest(c, w):
        waves = np.exp(1j * np.outer(w, np.arange(-1, 2)))
        return np.abs(np.einsum("ak,bl,kl->ab", waves, waves, c).real).max()

    limit = 1 / np.cos(np.pi / n) ** 2
    for _ in range(200):
        c = r.normal(size=(3, 3)) + 1j * r.normal(size=(3, 3))
        assert largest(c, fine) <= limit * largest(c, grid)
    worst = np.zeros(3, complex)
    worst[[0, 2]] = np.exp([1j * np.pi / n, -1j * np.pi / n])
    worst = np.outer(worst, worst)  # 4 cos(t - pi / n) cos(s - pi / n): half a step off the grid
    assert largest(worst, fine) == pytest.approx(limit * largest(worst, grid), rel=1e-12)


def test_bound_is_homogeneous_and_finite_at_extremes(float32):
    kernel = kernels()["random"].astype(np.float32)
    once = float(bound(kernel))
    for scale in (1e-30, 1e-12, 1e12, 1e30):
        np.testing.assert_allclose(bound(np.float32(scale) * kernel), scale * once, rtol=1e-5)
    value, slope = jax.jit(jax.value_and_grad(convolution_bound))(0 * kernel)
    assert 0 <= value < 1e-6
    assert np.all(np.isfinite(slope))
    assert np.isnan(bound(kernel * np.nan))


def test_bound_has_the_right_derivative():
    kernel, v = kernels()["random"], kernels()["smooth"]
    value, slope = jax.jit(jax.value_and_grad(convolution_bound))(kernel)
    np.testing.assert_allclose(np.vdot(slope, kernel), value, rtol=1e-9)  # Euler, degree 1
    expected = (bound(kernel + 1e-5 * v) - bound(kernel - 1e-5 * v)) / 2e-5
    np.testing.assert_allclose(np.vdot(slope, v), expected, rtol=1e-6)


def denoiser():
    return network("lipschitz")


def tight():
    """A denoiser whose layers all pass the mean of the channels on: where the activations are linear, norms multiply."""
    net = denoiser()
    for layer in net.layers:
        layer.kernel[...] = jnp.zeros_like(layer.kernel[...]).at[1, 1].set(1)
    return net


@eqx.filter_jit
def jacobian(net, x, sigma):
    return jax.jacobian(lambda x: x - net(x, sigma))(x)


@pytest.mark.parametrize("size", [(1, 3), (6, 5)])
def test_residual_is_lipschitz_with_the_certified_constant(size):
    """Dense Jacobians and power iterations at random points, large ones too, where activations switch."""
    for net, least in ((denoiser(), 0.0), (tight(), 0.85)):  # four slacks of at most 4 % each
        certified = float(certified_bound(net))
        assert certified == pytest.approx(net.lipschitz, rel=1e-5)
        for seed, x in enumerate((image("lipschitz", 0, size), 100 * (image("lipschitz", 1, size) - 0.5))):
            exact = np.linalg.norm(np.asarray(jacobian(frozen(net), x, 0.1)).reshape(x.size, x.size), 2)
            estimate = residual_lipschitz(jax.random.key(seed), frozen(net), x, 0.1, 200)
            assert exact <= certified
            assert 0.98 * exact <= estimate <= exact * (1 + 1e-9)
            assert seed or exact >= least * certified


def test_differences_of_the_residual_are_bounded():
    net, r = frozen(denoiser()), np.random.default_rng(0)
    x, u = image("lipschitz", 0), image("lipschitz", 1)
    residual = jax.jit(lambda x, sigma: x - net(x, sigma))
    for scale in r.uniform(1e-3, 10, 5):
        moved = residual(x + scale * u, 0.3) - residual(x, 0.3)
        assert np.linalg.norm(moved) <= net.net.lipschitz * scale * np.linalg.norm(u)


def test_folding_keeps_function_and_constant():
    net, x = denoiser(), image("lipschitz")
    before = np.asarray(net.layers[0].kernel[...])
    folded = net.folded()
    np.testing.assert_allclose(frozen(folded)(x, 0.2), frozen(net)(x, 0.2), atol=1e-6)
    np.testing.assert_array_equal(net.layers[0].kernel[...], before)
    assert certified_bound(folded) == pytest.approx(net.lipschitz, rel=1e-5)
    jax.tree.map(np.testing.assert_array_equal, frozen(folded.folded()).weights, frozen(folded).weights)
    text = jax.jit(folded).lower(x, 0.2).as_text()
    assert "log" not in text  # no bound is computed: that of a network in training takes logarithms
    assert "log" in jax.jit(net).lower(x, 0.2).as_text()


def test_the_bound_follows_weights_that_are_changed_after_folding():
    folded = network("lipschitz_folded")
    before = float(certified_bound(folded))
    folded.layers[0].kernel[...] = 3 * folded.layers[0].kernel[...]
    assert certified_bound(folded) == pytest.approx(3 * before, rel=1e-5)


def test_wrong_arguments_are_refused():
    rngs = nnx.Rngs(0)
    for arguments, text in (
        ({"lipschitz": 0.0}, "lipschitz: expected a positive number, got 0.0"),
        ({"lipschitz": float("nan")}, "lipschitz: expected a positive number, got nan"),
        ({"activation": "silu"}, "activation: expected one of relu, leaky_relu, elu, softplus, got 'silu'"),
        ({"num_layers": 1}, "num_layers: expected at least 2, got 1"),
    ):
        with pytest.raises(ValueError, match=text):
            LipschitzDenoiser(1, **arguments, rngs=rngs)
    with pytest.raises(ValueError, match="net: expected a LipschitzDenoiser, got DnCNN"):
        certified_bound(network("dncnn"))


@pytest.mark.parametrize("complex", [False, True])
def test_local_constant_of_a_linear_denoiser_is_its_norm(complex):
    """D = x - M x, on real and on complex images; the estimate rises to the largest singular value and never above."""
    r = np.random.default_rng(0)
    matrix = r.normal(size=(6, 6)) + 1j * r.normal(size=(6, 6)) * complex
    matrix = matrix if complex else matrix.real
    x = np.zeros((2, 3, 1), matrix.dtype)
    exact = np.linalg.norm(matrix, 2)

    def denoise(x, sigma):
        return x - (jnp.asarray(matrix) @ x.ravel()).reshape(x.shape)

    few, many = (residual_lipschitz(jax.random.key(0), denoise, x, 0.1, n) for n in (2, 300))
    assert few <= many <= exact * (1 + 1e-12)
    assert many == pytest.approx(exact, rel=1e-6)
    assert many.dtype == np.float64


def test_local_constant_is_pure_and_has_limits(strict):
    x = np.ones((3, 3, 1), np.float32)

    def denoise(x, sigma):
        return x - sigma.astype(x.dtype) * jnp.tanh(x)

    key = jax.random.key(3)
    once = residual_lipschitz(key, denoise, x, 0.5)
    assert once == residual_lipschitz(key, denoise, x, 0.5)
    assert once.dtype == np.float32
    np.testing.assert_allclose(once, 0.5 * (1 - np.tanh(1) ** 2), rtol=1e-5)
    many = jax.vmap(lambda x, s: residual_lipschitz(key, denoise, x, s))(np.stack([x, 0 * x]), np.array([0.5, 2.0]))
    np.testing.assert_allclose(many, [once, 2], rtol=1e-5)
    slope = jax.grad(lambda s: residual_lipschitz(key, denoise, x, s))(0.5)
    np.testing.assert_allclose(slope, once / 0.5, rtol=1e-4)
    assert residual_lipschitz(key, lambda x, sigma: x, x, 0.1) == 0
    assert np.isnan(residual_lipschitz(key, lambda x, sigma: x * jnp.nan, x, 0.1))


def test_local_constant_refuses():
    x, key = np.ones((3, 3, 1)), jax.random.key(0)
    for arguments, text in (
        ((lambda x, s: x, x, 0.1, 0), "num_steps: expected a positive integer, got 0"),
        ((lambda x, s: x[:2], x, 0.1), "denoiser: expected a result of float64"),
        ((lambda x, s: x.astype(jnp.float32), x, 0.1), "denoiser: expected a result of float64.*got float32"),
        ((lambda x, s: x, np.ones((3, 3, 1), int), 0.1), "x: expected a floating or complex dtype"),
    ):
        with pytest.raises(ValueError, match=text):
            residual_lipschitz(key, *arguments)


def test_local_constant_lowers(float32):
    shape = jax.ShapeDtypeStruct((3, 4, 1), jnp.float32)
    program = jax.jit(lambda x: residual_lipschitz(jax.random.key(0), lambda x, s: jnp.sin(x), x, 0.1, 3))
    assert jax.export.export(program, platforms=["tpu", "cuda"])(shape).platforms == ("tpu", "cuda")
