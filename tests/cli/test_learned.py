"""The settings of ``invjax restore`` with the shipped denoiser, on denoisers whose answer is known."""

import jax.numpy as jnp
import numpy as np
import pytest

import invjax
from invjax import likelihoods, operators
from invjax.cli.forward import forward_model
from invjax.cli.learned import LearnedDenoiser
from invjax.cli.options import Spec

from ..samplers.test_skrock import propagator

SHAPE = (16, 16, 1)


def denoising(sigma):
    return likelihoods.Likelihood(operators.Identity(SHAPE), likelihoods.Gaussian(sigma), jnp.full(SHAPE, 0.5))


def half_way(x, sigma):
    """x - D(x) = 1.1 (x - 1/2), the steepest that is allowed for: the prior N(1/2, level^2 / 1.1)."""
    return x - 1.1 * (x - 0.5)


def test_chain_is_stable_for_the_steepest_prior_allowed(key):
    """Its variance is the stationary one of the recursion x -> A x + B n that the method is on a Gaussian."""
    f = denoising(0.5)  # weak beside the prior
    precision = 1.1 / (10 / 255) ** 2 + 1 / 0.5**2
    for method in ("skrock", "pnp-ula"):
        sampler, burn_in, thinning = LearnedDenoiser(f.lipschitz, half_way).sampler(method, f, None, 50)
        out = invjax.check(invjax.sample(key, sampler, f.y, 50, burn_in=burn_in, thinning=thinning))
        h = float(sampler.step_size)
        a, b = propagator(-h * precision, 10, 0.05) if method == "skrock" else (1 - h * precision, 1.0)
        variance = 2 * h * b**2 / (1 - a**2)
        np.testing.assert_allclose(out.collected.mean(), 0.5, atol=5 * np.sqrt(variance / 256))
        np.testing.assert_allclose(out.collected.var(), variance, rtol=5 * np.sqrt(2 / out.collected.size))


def test_levels_never_rise_when_the_noise_is_strong():
    f = denoising(0.6)
    approach = LearnedDenoiser(f.lipschitz, lambda x, sigma: jnp.where(sigma < 0.6 - 1e-6, jnp.nan, x))
    image, status, _ = approach.map_estimate(f, f.y, 0.23)
    assert status == 0
    assert jnp.isfinite(image).all()


@pytest.mark.parametrize("fraction", [0.5, 0.05])
def test_the_first_image_of_inpainting_has_no_holes(fraction, key, float32):
    """A ramp, measured without noise: kept where it was measured, elsewhere from pixels within about three widths."""
    ramp = jnp.broadcast_to(jnp.linspace(0.2, 0.8, 32)[:, None, None], (32, 32, 3))
    model = forward_model(Spec("inpaint", fraction), ramp.shape, key)
    first = model.start(model.operator(ramp))
    mask = model.operator(jnp.ones(ramp.shape)) > 0
    np.testing.assert_array_equal(first[mask], ramp[mask])
    slope, width = 0.6 / 31, fraction**-0.5
    assert jnp.max(jnp.abs(first - ramp)) < 3 * width * slope
