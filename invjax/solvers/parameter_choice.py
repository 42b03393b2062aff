"""Choosing a regularisation weight without the truth: discrepancy principle and Stein's unbiased risk estimate."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..likelihoods import Gaussian
from ..types import inner
from .base import require_white


def discrepancy(likelihood: Any, x: Array) -> Array:
    """``|A x - y|^2 / (m sigma^2)``: Morozov's principle (1966) takes the weight for which it is one.

    It grows with the weight; ``m`` counts real numbers (twice the pixels for complex data). Raises ``ValueError`` for noise
    that is not Gaussian.
    """
    if not isinstance(likelihood.noise, Gaussian):
        raise ValueError(f"likelihood: expected Gaussian noise, got {type(likelihood.noise).__name__}")
    y = likelihood.y
    count = y.size * (2 if jnp.iscomplexobj(y) else 1)
    return 2 * likelihood.noise.potential(likelihood.operator(x), y) / count


def sure(key: PRNGKeyArray, reconstruct: Callable[[Array], Array], likelihood: Any, num_probes: int = 1) -> Array:
    """Stein's unbiased estimate of the predicted risk ``E |A R(y) - A x|^2 / m`` for Gaussian noise.

    ``|A R(y) - y|^2 / m - sigma^2 + (2 sigma^2 / m) div_y (A R)(y)``; the divergence is Hutchinson's estimate
    ``b^T (d A R / d y) b`` with random signs ``b`` and exact forward derivatives, so ``reconstruct(y)`` must be made of
    differentiable steps (``iterate``, or ``solve``). Take the weight that minimises it; use one key for all weights, so that they
    share the probes. Source: Stein (1981), Ramani, Blu and Unser (2008). Raises ``ValueError`` for complex data and for
    noise that is not Gaussian with a scalar ``sigma``.
    """
    y = likelihood.y
    require_white(likelihood)
    if jnp.iscomplexobj(y):
        raise ValueError(f"likelihood: expected real data, got {y.dtype}")
    if num_probes < 1:
        raise ValueError(f"num_probes: expected a positive integer, got {num_probes}")
    sigma = jnp.asarray(likelihood.noise.sigma, y.dtype)

    def predict(y: Array) -> Array:
        return likelihood.operator(reconstruct(y))

    def probe(k: PRNGKeyArray) -> tuple[Array, Array]:
        b = jax.random.rademacher(k, y.shape, y.dtype)
        prediction, derivative = jax.jvp(predict, (y,), (b,))
        return prediction, inner(b, derivative)

    predictions, traces = jax.lax.map(probe, jax.random.split(key, num_probes))
    misfit = jnp.mean((predictions[0] - y) ** 2)
    return misfit - sigma**2 + 2 * sigma**2 * jnp.mean(traces) / y.size
