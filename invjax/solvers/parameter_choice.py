"""Choosing a regularisation weight without the truth: discrepancy principle and Stein's unbiased risk estimate."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..likelihoods import Gaussian
from ..types import inner, num_reals
from .base import require_white


def discrepancy(likelihood: Any, x: Array) -> Array:
    """``|A x - y|^2 / (m sigma^2)``: Morozov's principle (1966) takes the weight for which it is one.

    It grows with the weight; ``m`` counts real numbers (twice the pixels for complex data). Raises ``ValueError`` for noise
    that is not Gaussian.
    """
    if not isinstance(likelihood.noise, Gaussian):
        raise ValueError(f"likelihood: expected Gaussian noise, got {type(likelihood.noise).__name__}")
    y = likelihood.y
    return 2 * likelihood.noise.potential(likelihood.operator(x), y) / num_reals(y)


def sure(key: PRNGKeyArray, reconstruct: Callable[[Array], Array], likelihood: Any, num_probes: int = 1) -> Array:
    """Stein's unbiased estimate of the predicted risk ``E |A R(y) - A x|^2 / m`` for Gaussian noise.

    ``|A R(y) - y|^2 / m - sigma^2 + (2 sigma^2 / m) div_y (A R)(y)``; the divergence is Hutchinson's estimate
    ``b^T (d A R / d y) b`` with random signs ``b`` and exact forward derivatives, so ``reconstruct(y)`` must be made of
    differentiable steps (``iterate``, or ``solve``). Take the weight that minimises it; use one key for all weights, so that they
    share the probes. ``m`` counts real numbers: complex data are their real and imaginary parts. Source: Stein (1981), Ramani,
    Blu and Unser (2008). Raises ``ValueError`` for noise that is not Gaussian with a scalar ``sigma``.
    """
    y = likelihood.y
    require_white(likelihood)
    if num_probes < 1:
        raise ValueError(f"num_probes: expected a positive integer, got {num_probes}")
    sigma, count = jnp.asarray(likelihood.noise.sigma, y.real.dtype), num_reals(y)

    def predict(y: Array) -> Array:
        return likelihood.operator(reconstruct(y))

    def probe(k: PRNGKeyArray) -> tuple[Array, Array]:
        b = _signs(k, y)
        prediction, derivative = jax.jvp(predict, (y,), (b,))
        return prediction, inner(b, derivative)

    predictions, traces = jax.lax.map(probe, jax.random.split(key, num_probes))
    gap = predictions[0] - y
    return inner(gap, gap) / count - sigma**2 + 2 * sigma**2 * jnp.mean(traces) / count


def _signs(key: PRNGKeyArray, y: Array) -> Array:
    """Random signs, for complex ``y`` in both parts."""
    if not jnp.iscomplexobj(y):
        return jax.random.rademacher(key, y.shape, y.dtype)
    parts = jax.random.rademacher(key, (2, *y.shape), y.real.dtype)
    return jax.lax.complex(parts[0], parts[1])
