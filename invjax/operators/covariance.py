"""Covariances in their eigenbasis, so that one factorisation serves every function of the matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..types import real, require


class Covariance(eqx.Module):
    """``C = Q diag(eigenvalues) Q^T``; without a basis Q is the identity (scalar or event-shaped eigenvalues).

    ``eigenvalues`` is (), event-shaped, or (n,) with a basis (n, n), n the product of the event shape.
    """

    eigenvalues: Array
    basis: Float[Array, "n n"] | None

    def rotate(self, x: Array) -> Array:
        """``Q^T x``: shape (n,) with a basis, else the event shape."""
        return x if self.basis is None else matmul(self.basis.astype(x.dtype).T, x.reshape(-1))

    def rotate_back(self, u: Array, shape: tuple[int, ...]) -> Array:
        """``Q u`` with the event shape."""
        return u if self.basis is None else matmul(self.basis.astype(u.dtype), u).reshape(shape)

    def map(self, fn: Callable[[Array], Array]) -> Covariance:
        """``fn`` of the matrix: the same basis with ``fn(eigenvalues)``."""
        return Covariance(fn(self.eigenvalues), self.basis)

    def apply(self, x: Array) -> Array:
        """``C x`` at the precision of ``x``, real or complex."""
        eigenvalues = self.eigenvalues.astype(x.real.dtype).astype(x.dtype)
        return self.rotate_back(eigenvalues * self.rotate(x), x.shape)

    def trace(self, struct: jax.ShapeDtypeStruct) -> Array:
        """Sum of the eigenvalues on events of ``struct``."""
        values = self.eigenvalues
        return jnp.sum(values if self.basis is not None else jnp.broadcast_to(values, struct.shape))

    @property
    def deviations(self) -> Array:
        """Square roots of the eigenvalues (with derivative zero, not infinite, at zero)."""
        positive = self.eigenvalues > 0
        return jnp.where(positive, jnp.sqrt(jnp.where(positive, self.eigenvalues, 1)), 0)

    def times_root(self, rows: Float[Array, "m n"], shape: tuple[int, ...]) -> Float[Array, "m n"]:
        """``rows L`` for the square root ``L = Q diag(deviations)``."""
        scale = jnp.broadcast_to(self.deviations, self.deviations.shape if self.basis is not None else shape)
        rows = rows if self.basis is None else matmul(rows, self.basis)
        return rows * scale.reshape(1, -1)

    def astype(self, dtype: Any) -> Covariance:
        """All arrays at another precision."""
        return jax.tree.map(lambda a: a.astype(dtype), self)

    def dense(self, shape: tuple[int, ...]) -> Float[Array, "n n"]:
        """The matrix C on raveled events."""
        root = self.times_root(jnp.eye(math.prod(shape), dtype=self.eigenvalues.dtype), shape)
        return matmul(root, root.T)


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


def from_root(root: Float[Array, "*k n n"]) -> Covariance:
    """``root root^T`` by a singular value decomposition: deviations, not only variances, to eps of the largest."""
    basis, deviations, _ = jnp.linalg.svd(root)
    return Covariance(deviations**2, basis)


def floating(value: Any, name: str) -> Array:
    """A real floating array (integers converted). Raises ``ValueError`` for complex numbers."""
    array = jnp.asarray(real(value))
    if jnp.iscomplexobj(array):
        raise ValueError(f"{name}: expected real values, got {array.dtype}")
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(jnp.result_type(float))


def matmul(a: Array, b: Array) -> Array:
    """``a b`` at full precision."""
    # Accelerators multiply at reduced precision by default; these closed forms are oracles.
    return jnp.matmul(a, b, precision="highest")
