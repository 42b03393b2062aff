"""The Gaussian mixture prior: every view and the posterior in closed form."""

from __future__ import annotations

import math
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..operators.covariance import Covariance, diagonal, floating, from_root, full
from ..types import require
from .analytic import AnalyticPrior, Fields
from .conditioning import Conditioned, GaussianFields, condition, gaussian_fields, require_regular, whiten
from .gaussian import Gaussian

Kind = Literal["full", "diagonal", "shared"]


class GaussianMixture(AnalyticPrior):
    """``sum_j weights_j N(means_j, C_j)`` with ``means`` of shape (k, *event); the weights (k,) are normalised.

    ``covariances``: "full" (k, n, n) and "shared" (n, n) on raveled events, "diagonal" (k, *event) variances, or a scalar,
    shared and isotropic. The kind follows from the shape; ``kind`` is needed only when k = n > 1 and events are vectors,
    where (n, n) could be "diagonal" or "shared". Matrices are factorised once, here, and may be singular (see ``Gaussian``).

    Raises ``ValueError`` for inconsistent or ambiguous shapes, negative weights, asymmetric or negative covariances.
    """

    log_weights: Float[Array, " k"]
    means: Array
    covariance: Covariance
    shared: bool = eqx.field(static=True)

    def __init__(self, weights: Any, means: Any, covariances: Any, kind: Kind | None = None):
        self.means = floating(means, "means")
        if self.means.ndim == 0:
            raise ValueError("means: expected shape (k, *event), got ()")
        self.log_weights = log_normalised(weights, self.means.shape[0]).astype(self.means.dtype)
        covariance, shared = _covariances(covariances, self.means.shape, kind)
        self.covariance, self.shared = covariance.astype(self.means.dtype), shared

    @property
    def shape(self) -> tuple[int, ...]:
        return self.means.shape[1:]

    @property
    def weights(self) -> Float[Array, " k"]:
        """The normalised weights."""
        return jnp.exp(self.log_weights)

    def __call__(self, x: Float[Array, "*n"]) -> Float[Array, ""]:
        """``potential(x)``: -log p(x) up to a constant such that one component gives the potential of ``Gaussian``."""
        return self.potential(x)

    def at(self, x: Any, alpha: Any, sigma: Any) -> Fields:
        x, alpha, sigma = self._arguments(x, alpha, sigma)
        f = self._components(x, alpha, sigma)
        level = self.log_weights.astype(x.dtype) - f.log_det / 2
        joint = level - f.square / 2
        responsibility, log_sum = jax.nn.softmax(joint), jax.nn.logsumexp(joint)
        return Fields(
            denoiser=jnp.tensordot(responsibility, f.denoiser, 1, precision="highest"),
            score=jnp.tensordot(responsibility, f.score, 1, precision="highest"),
            potential=jax.nn.logsumexp(level) - log_sum,
            log_prob=log_sum - x.size * math.log(2 * math.pi) / 2,
        )

    def responsibilities(self, x: Any, sigma: Any = 0.0) -> Float[Array, " k"]:
        """``P(component | X + sigma n = x)``."""
        x, alpha, sigma = self._arguments(x, 1.0, sigma)
        f = self._components(x, alpha, sigma)
        return jax.nn.softmax(self.log_weights.astype(x.dtype) - (f.log_det + f.square) / 2)

    def component(self, j: Any) -> Gaussian:
        """The j-th component (j may be traced)."""
        covariance = self.covariance if self.shared else jax.tree.map(lambda a: a[j], self.covariance)
        return Gaussian(self.means[j], covariance)

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*n"]:
        """One draw, in the dtype of the means."""
        which, within = jax.random.split(key)
        return self.component(jax.random.categorical(which, self.log_weights)).sample(within)

    def posterior(self, likelihood: Any) -> GaussianMixture:
        """The exact posterior under ``y ~ N(A x, diag(noise.sigma^2))``: the components' posteriors, weighted by evidence.

        See ``Gaussian.posterior``. Covariances stay shared when they were. Raises ``ValueError`` above 4096 entries.
        """
        data = whiten(likelihood, self.shape, self.means.dtype)
        one = jax.vmap(condition, in_axes=(0, self._axis, None), out_axes=Conditioned._make((0, self._axis, 0)))
        means, root, log_evidence = one(self.means, self.covariance, data)
        log_weights = jax.nn.log_softmax(self.log_weights + log_evidence)
        # Logarithms replace the weights: one that underflows now may matter again after the next measurement.
        fields = (log_weights, means, from_root(root))
        return eqx.tree_at(lambda m: (m.log_weights, m.means, m.covariance), self, fields)

    def _require_density(self, sigma):
        require_regular(self.covariance, sigma)

    def _components(self, x: Array, alpha: Array, sigma: Array) -> GaussianFields:
        one = jax.vmap(gaussian_fields, in_axes=(0, self._axis, None, None, None))
        return one(self.means, self.covariance, x, alpha, sigma**2)

    @property
    def _axis(self) -> int | None:
        return None if self.shared else 0


def log_normalised(weights: Any, num: int) -> Float[Array, " k"]:
    """Logarithms of the normalised weights; None is uniform. Raises ``ValueError`` for negative weights or another length."""
    if weights is None:
        return jnp.full((num,), -math.log(num))
    weights = floating(weights, "weights")
    require(weights, "weights", shape=(num,), nonnegative=True)
    require(weights.sum(), "sum of weights", positive=True)
    used = weights > 0
    return jnp.where(used, jnp.log(jnp.where(used, weights, 1)), -jnp.inf) - jnp.log(weights.sum())


def _covariances(value: Any, means: tuple[int, ...], kind: Kind | None) -> tuple[Covariance, bool]:
    value = floating(value, "covariances")
    if value.ndim == 0 and kind in (None, "shared"):
        return diagonal(value, "covariances"), True
    n = math.prod(means[1:])
    shapes: dict[str, tuple[int, ...]] = {"full": (means[0], n, n), "diagonal": means, "shared": (n, n)}
    if kind is not None and kind not in shapes:
        raise ValueError(f"kind: expected one of {tuple(shapes)}, got {kind!r}")
    fits = [name for name, shape in shapes.items() if value.shape == shape and kind in (None, name)]
    if not fits:
        expected = shapes if kind is None else {kind: shapes[kind]}
        raise ValueError(f"covariances: expected a scalar or one of the shapes {expected}, got {value.shape}")
    if len(fits) > 1 and n > 1:
        raise ValueError(f"kind: expected one of {fits}, since covariances of shape {value.shape} fit all of them")
    if fits[0] == "diagonal":
        return diagonal(value, "covariances"), False
    return full(value, "covariances"), fits[0] == "shared"
