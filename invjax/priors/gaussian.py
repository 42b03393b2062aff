"""The Gaussian prior: every view, the prox and the posterior in closed form."""

from __future__ import annotations

import math
from typing import Any

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from ..operators.covariance import Covariance, as_covariance, floating, from_root
from .analytic import AnalyticPrior, Fields
from .conditioning import condition, gaussian_fields, require_regular, whiten


class Gaussian(AnalyticPrior):
    """``N(mean, C)`` on events of the shape of ``mean``.

    ``covariance`` is a scalar, the variances (event-shaped), a matrix (n, n) on raveled events, or a ``Covariance``. A
    matrix is factorised once, here. It may be singular; then only sigma > 0 is meaningful, except for ``prox``,
    ``denoiser``, ``sample`` and ``posterior``. Derivatives with respect to a matrix need distinct eigenvalues.

    Raises ``ValueError`` for an asymmetric or negative covariance, and at singular covariances when sigma is zero.
    """

    mean: Float[Array, "*n"]
    covariance: Covariance

    def __init__(self, mean: Any, covariance: Any):
        self.mean = floating(mean, "mean")
        if not isinstance(covariance, Covariance):
            covariance = as_covariance(covariance, self.mean.shape, "covariance")
        self.covariance = covariance.astype(self.mean.dtype)

    def __check_init__(self):
        n, basis = self.mean.size, self.covariance.basis
        shapes = ((), self.mean.shape) if basis is None else ((n,),)
        if self.covariance.eigenvalues.shape not in shapes or (basis is not None and basis.shape != (n, n)):
            raise ValueError(f"covariance: expected one of events of shape {self.mean.shape}, got {self.covariance}")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mean.shape

    def __call__(self, x: Float[Array, "*n"]) -> Float[Array, ""]:
        """``(x - mean)^T C^-1 (x - mean) / 2``."""
        return self.potential(x)

    def at(self, x: Any, alpha: Any, sigma: Any) -> Fields:
        x, alpha, sigma = self._arguments(x, alpha, sigma)
        f = gaussian_fields(self.mean, self.covariance, x, alpha, sigma**2)
        log_prob = -(f.square + f.log_det + x.size * math.log(2 * math.pi)) / 2
        return Fields(f.denoiser, f.score, f.square / 2, log_prob)

    def prox(self, x: Float[Array, "*n"], step_size: Any) -> Float[Array, "*n"]:
        """``argmin_z step_size g(z) + |z - x|^2 / 2 = mean + C (C + step_size I)^-1 (x - mean)``; C may be singular."""
        x, alpha, step_size = self._arguments(x, 1.0, step_size, "step_size")
        return gaussian_fields(self.mean, self.covariance, x, alpha, step_size).denoiser

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*n"]:
        """One draw, in the dtype of the mean."""
        z = jax.random.normal(key, self.shape, self.mean.dtype)
        scaled = self.covariance.deviations * (z if self.covariance.basis is None else z.reshape(-1))
        return self.mean + self.covariance.rotate_back(scaled, self.shape)

    def _require_density(self, sigma):
        require_regular(self.covariance, sigma)

    def posterior(self, likelihood: Any) -> Gaussian:
        """The exact posterior under ``y ~ N(A x, diag(noise.sigma^2))``, ``likelihood.operator`` = A linear.

        Square-root form: accurate for small noise, exact for singular covariances. Complex measurements count as two real
        ones with deviation sigma each. Raises ``ValueError`` for events of more than 4096 entries.
        """
        data = whiten(likelihood, self.shape, self.mean.dtype)
        mean, root, _ = condition(self.mean, self.covariance, data)
        return Gaussian(mean, from_root(root))
