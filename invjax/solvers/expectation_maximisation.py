"""Expectation maximisation for Poisson data: MLEM (for a blur: Richardson-Lucy), and MAP-EM with a prior."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..likelihoods import Likelihood, Poisson
from ..likelihoods.base import as_parameter
from ..types import require
from .base import FixedPointMethod, PositionState, positive_reciprocal


class Multiplicative(FixedPointMethod):
    """Base of the methods that multiply a non-negative image."""

    def init(self, x: PyTree, key: Any = None) -> PositionState:
        """Start at ``x``, positive where the solution may be."""
        require(x, "x", nonnegative=True)
        return PositionState(x)


class MLEM(Multiplicative):
    """``x <- x / (A^T 1) A^T (y / (A x + background))`` for ``y ~ gain Poisson((A x + background) / gain)``.

    Keeps ``x >= 0``, decreases the Kullback-Leibler divergence at every step and, without background, preserves the
    count: ``sum A x_k = sum y`` for k >= 1 (a gain that varies weights both sums by ``1 / gain``). ``A`` must map
    non-negative images to non-negative data. Start from a positive image. Raises ``ValueError`` for another noise
    model or negative data. Source: Richardson (1972), Lucy (1974), Shepp and Vardi (1982).
    """

    likelihood: Any
    sensitivity: Array

    def __init__(self, likelihood: Any):
        self.likelihood, self.sensitivity = likelihood, sensitivity(likelihood)

    def fixed_point(self, x: PyTree) -> PyTree:
        """The multiplicative update."""
        return x * positive_reciprocal(self.sensitivity).astype(x.dtype) * back_projected_ratio(self.likelihood, x)


class MAPEM(Multiplicative):
    """``x <- x / (s + grad g(x)) A^T (y / (gain (A x + background)))``, ``s = A^T (1 / gain)``: one-step-late MAP-EM.

    Its fixed points are the stationary points of ``f + g`` on ``x >= 0``, for a smooth prior. It converges when the
    prior is weak (``grad g`` small against ``s``); the denominator is kept positive. Raises ``ValueError`` as
    ``MLEM``, and when the prior is not smooth. Source: Green (1990).
    """

    likelihood: Any
    prior: Any
    sensitivity: Array

    def __init__(self, likelihood: Any, prior: Any):
        require_smooth(prior)
        self.likelihood, self.prior, self.sensitivity = likelihood, prior, sensitivity(likelihood)

    def fixed_point(self, x: PyTree) -> PyTree:
        """The multiplicative update."""
        s = self.sensitivity.astype(x.dtype)
        total = jnp.maximum(s + self.prior.grad(x), jnp.finfo(x.dtype).eps ** 0.5 * s)
        return x * positive_reciprocal(total) * back_projected_ratio(self.likelihood, x)


def sensitivity(likelihood: Likelihood) -> Array:
    """``A^T (1 / gain)``. Raises ``ValueError`` for noise that is not Poisson, or negative data."""
    if not isinstance(likelihood.noise, Poisson):
        raise ValueError(f"likelihood: expected Poisson noise, got {type(likelihood.noise).__name__}")
    require(likelihood.y, "likelihood.y", nonnegative=True)
    y = likelihood.y
    return likelihood.operator.H(jnp.broadcast_to(1 / as_parameter(likelihood.noise.gain, y), y.shape))


def back_projected_ratio(likelihood: Likelihood, x: Array) -> Array:
    """``A^T (y / (gain (A x + background)))``, zero where nothing is expected."""
    A, y, noise = likelihood.operator, likelihood.y, likelihood.noise
    u = A(x)
    mean, gain = u + as_parameter(noise.background, u), as_parameter(noise.gain, u)
    tiny = jnp.finfo(u.dtype).tiny
    ratio = jnp.where(mean > tiny, y.astype(u.dtype) / jnp.maximum(mean, tiny), 0) / gain
    # A circular blur by FFT rounds to tiny negative values, which a multiplicative update would keep forever.
    return jnp.maximum(A.H(ratio), 0)


def require_smooth(prior: Any) -> None:
    """Raise ``ValueError`` for a prior without a gradient."""
    if not getattr(prior, "smooth", True):
        raise ValueError(f"prior: expected a smooth prior (Tikhonov, SmoothedTV), got {type(prior).__name__}")


def richardson_lucy(likelihood: Any) -> MLEM:
    """Richardson-Lucy deconvolution: MLEM with a blur."""
    return MLEM(likelihood)
