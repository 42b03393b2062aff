"""The law of a Gaussian at every noise level, and conditioning it on linear data, in closed form."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..operators.covariance import Covariance, floating, matmul
from ..types import require

MAX_DENSE = 4096


def require_regular(covariance: Covariance, sigma: Any) -> None:
    """Raise ``ValueError`` when sigma and some eigenvalue are seen to be zero: there is no density then."""
    eigenvalues = covariance.eigenvalues
    if isinstance(sigma, jax.core.Tracer) or isinstance(eigenvalues, jax.core.Tracer) or np.any(np.asarray(sigma) != 0):
        return
    if np.any(np.asarray(eigenvalues) == 0):
        raise ValueError("sigma: expected a positive value, since the covariance is singular, got 0")


class GaussianFields(NamedTuple):
    """Conditional mean, score, squared Mahalanobis distance and log-determinant of one Gaussian."""

    denoiser: Array
    score: Array
    square: Array
    log_det: Array


def gaussian_fields(mean: Array, covariance: Covariance, x: Array, alpha: Array, variance: Array) -> GaussianFields:
    """Closed forms for ``x = alpha X + N(0, variance I)``, ``X ~ N(mean, C)``: ``x ~ N(alpha mean, T = alpha^2 C + variance I)``.

    ``E[X | x] = mean + alpha C T^-1 (x - alpha mean)`` and ``score = -T^-1 (x - alpha mean)``. Where T is singular
    (variance = 0) the denoiser projects on the support and the others are not finite.
    """
    eigenvalues, mean = covariance.eigenvalues.astype(x.dtype), mean.astype(x.dtype)
    u = covariance.rotate(x - alpha * mean)
    total = jnp.broadcast_to(alpha**2 * eigenvalues + variance, u.shape)
    regular = total > 0
    gain = jnp.where(regular, eigenvalues / jnp.where(regular, total, 1), 0)
    denoiser = mean + alpha * covariance.rotate_back(gain * u, x.shape)
    score = -covariance.rotate_back(u / total, x.shape)
    return GaussianFields(denoiser, score, jnp.sum(u * u / total), jnp.sum(jnp.log(total)))


class Whitened(NamedTuple):
    """A linear Gaussian likelihood ``N(y; A x, diag(sigma^2))`` as ``|matrix x - y|^2 / 2``, rows divided by sigma."""

    matrix: Float[Array, "m n"]
    y: Float[Array, " m"]


def whiten(likelihood: Any, shape: tuple[int, ...], dtype: Any) -> Whitened:
    """Dense form of a likelihood with ``.operator``, ``.noise.sigma``, ``.y``; complex rows become two real ones.

    Raises ``ValueError`` when the event has more than 4096 entries or sigma is not positive.
    """
    n = math.prod(shape)
    if n > MAX_DENSE:
        raise ValueError(f"likelihood: expected at most {MAX_DENSE} unknowns for an exact posterior, got {n}")
    scale = noise_scale(likelihood)
    columns = jax.vmap(likelihood.operator)(jnp.eye(n, dtype=dtype).reshape(n, *shape))
    weighted = jax.vmap(lambda column: _rows(column, scale, dtype))(columns)
    return Whitened(weighted.T, _rows(likelihood.y, scale, dtype))


def noise_scale(likelihood: Any) -> Array:
    """The noise standard deviation of a likelihood, checked to be positive."""
    scale = floating(likelihood.noise.sigma, "likelihood.noise.sigma")
    require(scale, "likelihood.noise.sigma", positive=True)
    return scale


def _rows(y: Any, scale: Array, dtype: Any) -> Array:
    """All leaves of a measurement divided by the noise level, as one real vector."""
    leaves = [
        jnp.asarray(leaf) / jnp.broadcast_to(scale.astype(leaf.real.dtype), leaf.shape) for leaf in jax.tree.leaves(y)
    ]
    parts = [part for a in leaves for part in ((a.real, a.imag) if jnp.iscomplexobj(a) else (a,))]
    return jnp.concatenate([part.reshape(-1).astype(dtype) for part in parts])


class Conditioned(NamedTuple):
    """Posterior mean, a square root of the posterior covariance, and the log evidence up to a constant."""

    mean: Array
    root: Float[Array, "n n"]
    log_evidence: Array


def condition(mean: Array, covariance: Covariance, data: Whitened) -> Conditioned:
    """``N(mean, C)`` given whitened data, in square-root form.

    With ``C = L L^T`` and ``B = matrix L``, the QR factorisation ``[B; I] = Q R`` gives the posterior covariance
    ``(L R^-1)(L R^-1)^T`` and mean ``mean + L z``, ``z = argmin |B z - r|^2 + |z|^2``; C may be singular, and the condition
    number is not squared as in ``I + B^T B`` (Bierman 1977, square-root information filter). The evidence
    ``log N(r; 0, I + B B^T)`` follows from the residual of the same least squares, without cancellation.
    """
    n = mean.size
    root = covariance.times_root(jnp.eye(n, dtype=mean.dtype), mean.shape)
    b = matmul(data.matrix, root)
    q, r = jnp.linalg.qr(jnp.concatenate([b, jnp.eye(n, dtype=b.dtype)]))
    posterior_root = jax.scipy.linalg.solve_triangular(r, root.T, trans=1).T
    gap = data.y - matmul(data.matrix, mean.reshape(-1))
    z = jax.scipy.linalg.solve_triangular(r, matmul(q[: b.shape[0]].T, gap))
    square = jnp.sum((gap - matmul(b, z)) ** 2) + jnp.sum(z**2)
    log_evidence = -square / 2 - jnp.sum(jnp.log(jnp.abs(jnp.diagonal(r))))
    return Conditioned(mean + matmul(root, z).reshape(mean.shape), posterior_root, log_evidence)
