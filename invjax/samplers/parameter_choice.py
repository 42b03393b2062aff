"""Choosing the weight of a prior for the posterior mean, without the truth and without derivatives."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..types import inner, num_reals


def posterior_sure(likelihood: Any, mean: Float[Array, "*m"], variance: Float[Array, "*m"]) -> Float[Array, ""]:
    """Stein's unbiased estimate of the risk ``E |E[u|y] - u|^2 / m`` of a posterior mean, from draws of ``u = A(x)``.

    ``|mean - y|^2 / m - sigma^2 + (2 / m) sum variance`` with the posterior mean and variance of ``u``; ``m`` counts real numbers
    (of complex data both parts, and ``variance`` is ``E |u - mean|^2``). For Gaussian noise the derivative of the posterior mean
    is ``d E[u|y] / dy = Cov(u|y) / sigma^2``, so the divergence in Stein's formula is ``sum Var(u|y) / sigma^2``, exactly, for
    every prior and operator. Collect ``Moments(of=...)`` of ``A(x)`` along a chain, and take the weight with the smallest value.
    Sources: Stein (1981); the derivative of the posterior mean is that of an exponential family (Efron 2011).
    Raises ``ValueError`` for a ``sigma`` that is not a scalar.
    """
    y = likelihood.y
    sigma = jnp.asarray(likelihood.noise.sigma, y.real.dtype)
    if sigma.ndim:
        raise ValueError(f"likelihood: expected a scalar sigma, got sigma {sigma.shape}")
    return (inner(mean - y, mean - y) + 2 * jnp.sum(variance)) / num_reals(y) - sigma**2
