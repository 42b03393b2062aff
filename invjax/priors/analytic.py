"""What the analytic priors share: every view of ``alpha X + sigma n`` follows from one function, ``at``."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..paths import Path
from ..types import real, require


class Fields(NamedTuple):
    """At a point x of the law of ``alpha X + sigma n``: ``E[X | x]``, score, potential and normalised log density."""

    denoiser: Array
    score: Array
    potential: Array
    log_prob: Array


class AnalyticPrior(eqx.Module):
    """Base class: a prior defines ``at``, ``shape``, ``sample`` and ``posterior``; one point x of the event shape per call.

    The results have the dtype of x, which must be real. ``sigma`` is a non-negative scalar (``ValueError`` otherwise).
    """

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The event shape."""

    @abc.abstractmethod
    def at(self, x: Any, alpha: Any, sigma: Any) -> Fields:
        """All fields at x of the law of ``alpha X + sigma n``, with X from this prior and n ~ N(0, I)."""

    def denoiser(self, x: Float[Array, "*n"], sigma: Any) -> Float[Array, "*n"]:
        """``E[X | X + sigma n = x]``."""
        return self.at(x, 1.0, sigma).denoiser

    def score(self, x: Float[Array, "*n"], sigma: Any = 0.0) -> Float[Array, "*n"]:
        """``grad log p_sigma(x)`` of the density smoothed by N(0, sigma^2 I)."""
        self._require_density(sigma)
        return self.at(x, 1.0, sigma).score

    def potential(self, x: Float[Array, "*n"], sigma: Any = 0.0) -> Float[Array, ""]:
        """``-log p_sigma(x)`` without the terms that do not depend on x."""
        self._require_density(sigma)
        return self.at(x, 1.0, sigma).potential

    def log_prob(self, x: Float[Array, "*n"], sigma: Any = 0.0) -> Float[Array, ""]:
        """``log p_sigma(x)``, normalised."""
        self._require_density(sigma)
        return self.at(x, 1.0, sigma).log_prob

    def velocity(self, path: Path) -> PriorVelocity:
        """The exact velocity field ``v(t, x)`` that carries the noise of ``path`` to this prior."""
        return PriorVelocity(self, path)

    @abc.abstractmethod
    def _require_density(self, sigma: Any) -> None:
        """Raise ``ValueError`` when the law of X + sigma n is seen to have no density."""

    def _arguments(self, x: Any, alpha: Any, sigma: Any, name: str = "sigma") -> tuple[Array, Array, Array]:
        """Check the arguments of ``at`` and cast the levels to the precision of x."""
        x, sigma = jnp.asarray(real(x)), jnp.asarray(real(sigma))
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"x: expected a real floating dtype, got {x.dtype}")
        require(x, "x", shape=self.shape)
        require(sigma, name, shape=(), nonnegative=True)
        return x, jnp.asarray(real(alpha)).astype(x.dtype), sigma.astype(x.dtype)


class PriorVelocity(eqx.Module):
    """``v(t, x) = alpha' E[x_clean | x_t = x] - sigma sigma' score``, from closed forms that hold at both ends.

    At alpha = 0 the denoiser is the mean of the prior; at sigma = 0 the density must exist (a positive definite covariance).
    """

    prior: AnalyticPrior
    path: Path

    def __call__(self, t: Any, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        fields = self.prior.at(x, self.path.alpha(t), self.path.sigma(t))
        dtype = fields.score.dtype
        alpha_dot, noise_rate = self.path.alpha_dot(t).astype(dtype), self.path.noise_rate(t).astype(dtype)
        return alpha_dot * fields.denoiser - noise_rate * fields.score
