"""Maximum-likelihood expectation maximisation for Poisson data: MLEM, which for a blur is Richardson-Lucy."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..likelihoods import Poisson
from ..types import require
from .base import Info, change


class MLEMState(NamedTuple):
    """The image."""

    position: PyTree


class MLEM(eqx.Module):
    """``x <- x / (A^T 1) A^T (y / (A x + background))`` for ``y ~ gain Poisson((A x + background) / gain)``.

    Keeps ``x >= 0``, decreases the Kullback-Leibler divergence at every step and, without background, preserves the count:
    ``sum A x_k = sum y`` for k >= 1. ``A`` must map non-negative images to non-negative data. Start from a positive image.
    Raises ``ValueError`` for another noise model or negative data. Source: Richardson (1972), Lucy (1974), Shepp and
    Vardi (1982).
    """

    likelihood: Any
    sensitivity: Array

    def __init__(self, likelihood: Any):
        if not isinstance(likelihood.noise, Poisson):
            raise ValueError(f"likelihood: expected Poisson noise, got {type(likelihood.noise).__name__}")
        require(likelihood.y, "likelihood.y", nonnegative=True)
        self.likelihood = likelihood
        self.sensitivity = likelihood.operator.H(jnp.ones_like(likelihood.y))

    def init(self, x: PyTree, key: Any = None) -> MLEMState:
        """Start at ``x``, positive where the solution may be."""
        require(x, "x", nonnegative=True)
        return MLEMState(x)

    def step(self, state: MLEMState) -> tuple[MLEMState, Info]:
        """One multiplicative update."""
        position = self.fixed_point(state.position)
        return MLEMState(position), change(position, state.position)

    def fixed_point(self, x: PyTree) -> PyTree:
        """The multiplicative update."""
        A, y = self.likelihood.operator, self.likelihood.y
        mean = A(x) + jnp.asarray(self.likelihood.noise.background, x.dtype)
        tiny = jnp.finfo(x.dtype).tiny
        ratio = jnp.where(mean > tiny, y.astype(x.dtype) / jnp.maximum(mean, tiny), 0)
        seen = self.sensitivity > tiny
        weight = jnp.where(seen, 1 / jnp.where(seen, self.sensitivity, 1), 0).astype(x.dtype)
        # A circular blur by FFT rounds to tiny negative values, which a multiplicative update would keep forever.
        return x * weight * jnp.maximum(A.H(ratio), 0)


def richardson_lucy(likelihood: Any) -> MLEM:
    """Richardson-Lucy deconvolution: MLEM with a blur."""
    return MLEM(likelihood)
