"""Choosing the weight of a prior for the posterior mean, without the truth and without derivatives."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float


def posterior_sure(likelihood: Any, mean: Float[Array, "*m"], variance: Float[Array, "*m"]) -> Float[Array, ""]:
    """Stein's unbiased estimate of the risk ``E |A E[x|y] - A x|^2 / m`` of a posterior mean, from draws of ``u = A x``.

    ``|mean - y|^2 / m - sigma^2 + (2 / m) sum variance`` with the posterior mean and variance of ``u``: for Gaussian noise the
    derivative of the posterior mean is ``d E[x|y] / dy = Cov(x|y) A^H / sigma^2``, so the divergence in Stein's formula is
    ``sum Var(u|y) / sigma^2``, exactly, for every prior. Collect ``Moments(of=...)`` of ``A x`` along a chain, and take the
    weight with the smallest value. Sources: Stein (1981); the derivative of the posterior mean is that of an exponential
    family (Efron 2011). Raises ``ValueError`` for complex data or a ``sigma`` that is not a scalar.
    """
    y = likelihood.y
    sigma = jnp.asarray(likelihood.noise.sigma, y.real.dtype)
    if jnp.iscomplexobj(y) or sigma.ndim:
        raise ValueError(f"likelihood: expected real data and a scalar sigma, got {y.dtype} and sigma {sigma.shape}")
    return jnp.mean((mean - y) ** 2) - sigma**2 + 2 * jnp.mean(variance)
