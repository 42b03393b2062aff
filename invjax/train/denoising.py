"""The loss with which denoisers are trained."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree


class DenoisingLoss(eqx.Module):
    """``E w(sigma) |D(x + sigma n, sigma) - x|^2``, so that ``D`` tends to the posterior mean at every noise level.

    Per pixel and channel. The levels are ``sigma_max u^2`` with ``u`` uniform in [0, 1), one in each of as many equal parts
    as the batch has samples: half of them lie below a quarter of ``sigma_max``. The weight ``1 / (sigma + sigma_max / 40)``
    balances them: errors grow about as sigma. For Gaussian noise the minimiser does not depend on the weight.
    """

    graph: Any = eqx.field(static=True)
    sigma_max: float = eqx.field(static=True, default=0.4)

    def __call__(self, params: PyTree, key: PRNGKeyArray, clean: Float[Array, "B H W C"]) -> Float[Array, ""]:
        """The loss of a batch of clean images."""
        level_key, noise_key = jax.random.split(key)
        count = clean.shape[0]
        u = (jnp.arange(count) + jax.random.uniform(level_key, (count,), clean.dtype)) / count
        sigma = self.sigma_max * u.astype(clean.dtype) ** 2
        noisy = clean + sigma[:, None, None, None] * jax.random.normal(noise_key, clean.shape, clean.dtype)
        net = nnx.merge(self.graph, params)
        error = jnp.mean((jax.vmap(net)(noisy, sigma) - clean) ** 2, (1, 2, 3))
        return jnp.mean(error / (sigma + self.sigma_max / 40))
