"""Priors given by a denoiser, against Gaussian priors, where denoiser, prox and score are closed forms of one another."""

from typing import Any

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import priors, transforms

IMAGE = (4, 4, 1)


class OnColumn(eqx.Module):
    """A denoiser of vectors, for images of one column."""

    denoiser: Any

    def __call__(self, x, sigma):
        return self.denoiser(x[:, 0, 0], sigma)[:, None, None]


def gaussian(seed=0, n=5):
    r = np.random.default_rng(seed)
    root = r.normal(size=(n, n))
    return priors.Gaussian(r.normal(size=n), root @ root.T + 0.1 * np.eye(n)), jnp.asarray(r.normal(size=n))


def network(x, sigma):
    """Something nonlinear, not a gradient, that depends on the level."""
    return jnp.tanh(jnp.roll(x, 1)) * (1 - sigma) + 0.5 * x**2


def test_plug_and_play_is_the_prox_of_a_gaussian_prior():
    """The posterior mean of a Gaussian is its mode: D(x, sqrt(lam s)) = prox of s lam g."""
    prior, x = gaussian()
    for lam, step in ((1.0, 0.3), (0.4, 2.0), (0.0, 1.0)):
        plug = priors.PlugAndPlay(prior.denoiser, lam)
        np.testing.assert_allclose(plug.prox(x, step), prior.prox(x, lam * step), rtol=1e-10)
        z, aux = plug.prox_step(x, step, plug.prox_init(x), 3)
        np.testing.assert_array_equal(z, plug.prox(x, step))
        assert aux == ()
    fixed = priors.PlugAndPlay(prior.denoiser, 7.0, sigma=0.5)
    np.testing.assert_allclose(fixed.prox(x, 3.0), prior.prox(x, 0.25), rtol=1e-10)


def test_red_is_tweedies_score():
    prior, x = gaussian()
    red = priors.RED(prior.denoiser, 0.3, 0.7)
    np.testing.assert_allclose(red.score(x), 0.7 * prior.score(x, 0.3), rtol=1e-10)
    np.testing.assert_array_equal(red.grad(x), -red.score(x))


def test_gradient_step_is_a_gradient():
    """grad = jax.grad of the potential, and the denoiser's Jacobian is symmetric although the network's is not."""
    _, x = gaussian()
    prior = priors.GradientStep(network, 0.2, 0.6)
    np.testing.assert_allclose(prior.grad(x), jax.grad(prior)(x), rtol=1e-12)
    np.testing.assert_allclose(prior.denoise(x), x - prior.grad(x) / 0.6, rtol=1e-12)
    gap = x - network(x, 0.2)
    np.testing.assert_allclose(prior(x), 0.3 * jnp.sum(gap**2), rtol=1e-12)
    jacobian, raw = jax.jacobian(prior.denoise)(x), jax.jacobian(lambda x: network(x, 0.2))(x)
    np.testing.assert_allclose(jacobian, jacobian.T, atol=1e-12)
    assert np.abs(raw - raw.T).max() > 0.1


def test_rescaled_denoiser_of_a_rescaled_gaussian():
    """If X has the exact denoiser D, then low + s X has the adapted one."""
    prior, x = gaussian()
    low, high = -1.0, 1.5
    moved = priors.Gaussian(low + 2.5 * prior.mean, 2.5**2 * prior.covariance.dense((5,)))
    adapted = priors.Rescaled(prior.denoiser, low, high)
    np.testing.assert_allclose(adapted(x, 0.4), moved.denoiser(x, 0.4), rtol=1e-10)


def test_per_channel_and_complex_parts(key):
    grey = priors.Gaussian(jnp.zeros(IMAGE), jnp.linspace(0.1, 1, 16).reshape(IMAGE)).denoiser
    colour = jax.random.normal(key, (4, 4, 3))
    out = priors.PerChannel(grey)(colour, 0.3)
    for c in range(3):
        np.testing.assert_allclose(out[..., c : c + 1], grey(colour[..., c : c + 1], 0.3), rtol=1e-12)
    parts = priors.ComplexParts(grey)
    z = jax.lax.complex(*jax.random.normal(key, (2, *IMAGE))) + 1
    np.testing.assert_allclose(parts(jnp.exp(0.7j) * z, 0.3), jnp.exp(0.7j) * parts(z, 0.3), rtol=1e-10)
    # A Gaussian of independent parts with equal variances is turned into itself, so turning back and forth changes nothing.
    np.testing.assert_allclose(parts(z, 0.3), jax.lax.complex(grey(z.real, 0.3), grey(z.imag, 0.3)), rtol=1e-10)
    np.testing.assert_array_equal(parts(jnp.zeros(IMAGE, complex), 0.3), 0)
    assert parts(z.astype(jnp.complex64), 0.3).dtype == jnp.complex64


def test_local_means_are_kept():
    """By the definition in loops; a constant error disappears, and with a wide window the weighted mean is exact."""
    r = np.random.default_rng(0)
    x, level = r.normal(size=(5, 4, 2)), r.uniform(0.1, 1, (5, 4))
    out = priors.MeanPreserving(lambda x, sigma: network(x, sigma[..., None]), 1.3)(x, level)
    cleaned = np.asarray(network(x, level[..., None]))
    places = list(np.ndindex(5, 4))
    for i in places:
        k = [np.exp(-((i[0] - j[0]) ** 2 + (i[1] - j[1]) ** 2) / (2 * 1.3**2)) / level[j] ** 2 for j in places]
        mean = sum(w * (x - cleaned)[j] for w, j in zip(k, places, strict=True)) / sum(k)
        np.testing.assert_allclose(out[i], cleaned[i] + mean, rtol=1e-10)
    moved = priors.MeanPreserving(lambda x, sigma: x + 0.3, 2.0)
    np.testing.assert_allclose(moved(x, level), x, rtol=1e-12)
    wide = priors.MeanPreserving(network, 1e6)(x, 0.2)
    np.testing.assert_allclose(wide.mean((0, 1)), x.mean((0, 1)), rtol=1e-10)
    assert np.isfinite(priors.MeanPreserving(network, 2.0)(x, 0.0)).all()


def test_random_turns_average_to_the_symmetrised_denoiser():
    turns = transforms.QuarterTurns()
    x = jax.random.normal(jax.random.key(1), IMAGE)
    many = [priors.Transformed(network, turns, g)(x, 0.2) for g in turns.elements()]
    np.testing.assert_allclose(sum(many) / len(many), transforms.Symmetrised(turns, network)(x, 0.2), rtol=1e-12)


CASES = {
    "plug": (lambda lam: priors.PlugAndPlay(MIXTURE, lam), lambda g, x: g.prox(x, 0.3)),
    "red": (lambda lam: priors.RED(MIXTURE, 0.5, lam), lambda g, x: g.score(x)),
    "gradient_step": (lambda lam: priors.GradientStep(MIXTURE, 0.5, lam), lambda g, x: g.grad(x)),
    "mean": (lambda lam: priors.MeanPreserving(OnColumn(MIXTURE), lam), lambda g, x: g(x[:, None, None], 0.3)),
    "rescaled": (lambda lam: priors.Rescaled(MIXTURE, 0.0, 1 + lam), lambda g, x: g(x, 0.3)),
}
MIXTURE = priors.GaussianMixture(None, np.random.default_rng(0).normal(size=(2, 5)), 0.3).denoiser


every = pytest.mark.parametrize("name", CASES)


@every
def test_contracts(name):
    """jit = eager, vmap = loop, the derivative in the weight, dtype, pytree round trip, one compile for all weights."""
    make, use = CASES[name]
    _, x = gaussian()
    traces = []

    @jax.jit
    def run(g, x):
        traces.append(1)
        return use(g, x)

    out = use(make(0.7), x)
    np.testing.assert_allclose(run(make(0.7), x), out, rtol=1e-11)
    leaves, tree = jax.tree.flatten(make(0.9))
    run(tree.unflatten(leaves), x)
    assert len(traces) == 1
    lams = jnp.array([0.7, 0.9])
    both = jax.jit(jax.vmap(lambda lam: use(make(lam), x)))(lams)
    np.testing.assert_allclose(both[1], use(make(0.9), x), rtol=1e-11)
    value = jax.jit(lambda lam: jnp.sum(use(make(lam), x) ** 2))
    slope = (value(0.7 + 1e-6) - value(0.7 - 1e-6)) / 2e-6
    np.testing.assert_allclose(jax.grad(value)(0.7), slope, rtol=1e-6, atol=1e-8)
    assert jax.eval_shape(use, make(0.7), x.astype(jnp.float32)).dtype == jnp.float32


@every
def test_lowers(name, float32):
    make, use = CASES[name]
    x = jnp.zeros(5, jnp.float32)
    exported = jax.export.export(jax.jit(lambda lam, x: use(make(lam), x)), platforms=("tpu", "cuda"))(0.5, x)
    assert exported.platforms == ("tpu", "cuda")


def test_refusals():
    with pytest.raises(ValueError, match="denoiser: expected a callable"):
        priors.PlugAndPlay(3)
    with pytest.raises(ValueError, match="lam: expected non-negative"):
        priors.PlugAndPlay(network, -1.0)
    with pytest.raises(ValueError, match="sigma: expected positive"):
        priors.RED(network, 0.0)
    with pytest.raises(ValueError, match="width: expected positive"):
        priors.MeanPreserving(network, 0.0)
    with pytest.raises(ValueError, match="sigma: expected non-negative"):
        priors.GradientStep(network, -0.1)
    with pytest.raises(ValueError, match="real floating"):
        priors.GradientStep(network, 0.1)(jnp.ones(3, complex))
    with pytest.raises(ValueError, match="high - low"):
        priors.Rescaled(network, 1.0, 1.0)
    with pytest.raises(ValueError, match="step_size: expected non-negative"):
        priors.PlugAndPlay(network).prox(jnp.ones(3), -1.0)
