"""The denoising loss against its integral over the noise levels."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from invjax.train import DenoisingLoss


class Gain(nnx.Module):
    """``w x``, whatever the level."""

    def __init__(self):
        self.w = nnx.Param(jnp.ones(()))

    def __call__(self, x, sigma):
        return self.w[...] * x


def test_the_loss_of_a_gain_is_its_integral(key):
    """Clean images of zeros: w^2 E sigma^2 / (sigma + c), sigma = s u^2; the noise is all that is random within the strata."""
    graph, params = nnx.split(Gain())
    count, pixels, top = 256, 64, 0.4
    loss = DenoisingLoss(graph, top)
    u = (np.arange(100_000) + 0.5) / 100_000
    weight = (top * u**2) ** 2 / (top * u**2 + top / 40)
    # Relative standard error of a weighted mean of chi-square means, and one stratum's width for the levels within it.
    error = np.sqrt(2 / (pixels * count) * np.mean(weight**2)) / np.mean(weight) + 2 / count
    value = loss(params, key, jnp.zeros((count, 8, 8, 1)))
    assert abs(value / np.mean(weight) - 1) <= 4 * error
    twice = jax.tree.map(lambda w: 2 * w, params)
    np.testing.assert_allclose(loss(twice, key, jnp.zeros((count, 8, 8, 1))), 4 * value, rtol=1e-6)
    perfect = jax.tree.map(jnp.zeros_like, params)
    assert loss(perfect, key, jnp.zeros((count, 8, 8, 1))) == 0
