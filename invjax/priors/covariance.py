"""Covariances in their eigenbasis, so that one factorisation serves every noise level, and conditioning on linear data."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..types import real, require

MAX_DENSE = 4096


class Covariance(eqx.Module):
    """``C = Q diag(eigenvalues) Q^T``; without a basis Q is the identity (scalar or event-shaped eigenvalues).

    ``eigenvalues`` is (), event-shaped, or (n,) with a basis (n, n), n the product of the event shape.
    """

    eigenvalues: Array
    basis: Float[Array, "n n"] | None

    def rotate(self, x: Array) -> Array:
        """``Q^T x``: shape (n,) with a basis, else the event shape."""
        return x if self.basis is None else _matmul(self.basis.astype(x.dtype).T, x.reshape(-1))

    def rotate_back(self, u: Array, shape: tuple[int, ...]) -> Array:
        """``Q u`` with the event shape."""
        return u if self.basis is None else _matmul(self.basis.astype(u.dtype), u).reshape(shape)

    @property
    def deviations(self) -> Array:
        """Square roots of the eigenvalues (with derivative zero, not infinite, at zero)."""
        positive = self.eigenvalues > 0
        return jnp.where(positive, jnp.sqrt(jnp.where(positive, self.eigenvalues, 1)), 0)

    def times_root(self, rows: Float[Array, "m n"], shape: tuple[int, ...]) -> Float[Array, "m n"]:
        """``rows L`` for the square root ``L = Q diag(deviations)``."""
        scale = jnp.broadcast_to(self.deviations, self.deviations.shape if self.basis is not None else shape)
        rows = rows if self.basis is None else _matmul(rows, self.basis)
        return rows * scale.reshape(1, -1)

    def astype(self, dtype: Any) -> Covariance:
        """All arrays at another precision."""
        return jax.tree.map(lambda a: a.astype(dtype), self)

    def dense(self, shape: tuple[int, ...]) -> Float[Array, "n n"]:
        """The matrix C on raveled events."""
        root = self.times_root(jnp.eye(math.prod(shape), dtype=self.eigenvalues.dtype), shape)
        return _matmul(root, root.T)


def as_covariance(value: Any, shape: tuple[int, ...], name: str) -> Covariance:
    """A covariance from a scalar, the variances (event-shaped) or a matrix (n, n). Raises ``ValueError`` for other shapes."""
    value, n = floating(value, name), math.prod(shape)
    if value.shape in ((), shape):
        return diagonal(value, name)
    if value.shape == (n, n):
        return full(value, name)
    raise ValueError(f"{name}: expected shape (), {shape} or {(n, n)}, got {value.shape}")


def diagonal(variances: Array, name: str) -> Covariance:
    """Variances of independent entries; batches over leading axes."""
    require(variances, name, nonnegative=True)
    return Covariance(variances, None)


def full(matrix: Float[Array, "*k n n"], name: str) -> Covariance:
    """One eigendecomposition. Eigenvalues within rounding (8 eps of the largest) of zero are set to zero.

    Raises ``ValueError`` for asymmetric or negative matrices.
    """
    n, eps = matrix.shape[-1], float(jnp.finfo(matrix.dtype).eps)
    concrete = not isinstance(matrix, jax.core.Tracer)
    if concrete:
        array = np.asarray(matrix)
        gap, scale = np.abs(array - np.swapaxes(array, -1, -2)).max(), np.abs(array).max()
        if not gap <= 10 * n * eps * scale:  # NaN is refused too
            raise ValueError(f"{name}: expected a symmetric matrix, got one with |C - C^T| up to {gap:.3g}")
    eigenvalues, basis = jnp.linalg.eigh(matrix)
    if concrete:
        lowest, highest = np.asarray(eigenvalues[..., 0]), np.asarray(eigenvalues[..., -1])
        if np.any(lowest < -10 * n * eps * np.abs(highest)):
            raise ValueError(f"{name}: expected a positive semi-definite matrix, got an eigenvalue {lowest.min():.3g}")
    return Covariance(jnp.where(eigenvalues <= 8 * eps * eigenvalues[..., -1:], 0, eigenvalues), basis)


def require_regular(covariance: Covariance, sigma: Any) -> None:
    """Raise ``ValueError`` when sigma and some eigenvalue are seen to be zero: there is no density then."""
    eigenvalues = covariance.eigenvalues
    if isinstance(sigma, jax.core.Tracer) or isinstance(eigenvalues, jax.core.Tracer) or np.any(np.asarray(sigma) != 0):
        return
    if np.any(np.asarray(eigenvalues) == 0):
        raise ValueError("sigma: expected a positive value, since the covariance is singular, got 0")


def floating(value: Any, name: str) -> Array:
    """A real floating array (integers converted). Raises ``ValueError`` for complex numbers."""
    array = jnp.asarray(real(value))
    if jnp.iscomplexobj(array):
        raise ValueError(f"{name}: expected real values, got {array.dtype}")
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(jnp.result_type(float))


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
    b = _matmul(data.matrix, root)
    q, r = jnp.linalg.qr(jnp.concatenate([b, jnp.eye(n, dtype=b.dtype)]))
    posterior_root = jax.scipy.linalg.solve_triangular(r, root.T, trans=1).T
    gap = data.y - _matmul(data.matrix, mean.reshape(-1))
    z = jax.scipy.linalg.solve_triangular(r, _matmul(q[: b.shape[0]].T, gap))
    square = jnp.sum((gap - _matmul(b, z)) ** 2) + jnp.sum(z**2)
    log_evidence = -square / 2 - jnp.sum(jnp.log(jnp.abs(jnp.diagonal(r))))
    return Conditioned(mean + _matmul(root, z).reshape(mean.shape), posterior_root, log_evidence)


def from_root(root: Float[Array, "*k n n"]) -> Covariance:
    """``root root^T`` by a singular value decomposition: deviations, not only variances, to eps of the largest."""
    basis, deviations, _ = jnp.linalg.svd(root)
    return Covariance(deviations**2, basis)


def _matmul(a: Array, b: Array) -> Array:
    # Accelerators multiply at reduced precision by default; these closed forms are oracles.
    return jnp.matmul(a, b, precision="highest")
