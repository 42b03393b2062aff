"""Additive Gaussian noise with correlated entries."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..operators import Diagonalised, LinearOperator, Matrix, Spectrum, structure
from ..operators.covariance import Covariance, floating, full
from ..types import inner, real, require
from .base import NoiseModel


class CorrelatedGaussian(NoiseModel):
    """``y = u + n``, ``n ~ N(0, C)``; potential ``(u - y)^H C^-1 (u - y) / 2``.

    ``covariance`` is a matrix (m, m) on raveled measurements, factorised once, here; or an operator with a known positive
    spectrum, such as ``B.gram + 0.1 * Identity(shape)`` for a circular blur B (stationary noise), whose every function is
    then as fast as its transform. For complex data C is the covariance of the real and of the imaginary part.
    prox: ``y + C (C + step I)^-1 (u - y)``. Derivatives with respect to a matrix need distinct eigenvalues. Raises
    ``ValueError`` for a matrix that is not symmetric, an operator without a spectrum, eigenvalues that are not positive,
    and for measurements of another size.
    """

    covariance: Covariance | LinearOperator

    def __init__(self, covariance: Any):
        if not isinstance(covariance, (Covariance, LinearOperator)):
            covariance = floating(covariance, "covariance")
            require(covariance, "covariance", ndim=2)
            require(covariance, "covariance", shape=(covariance.shape[0],) * 2)
            covariance = full(covariance, "covariance")
        self.covariance = covariance

    def __check_init__(self):
        if isinstance(self.covariance, LinearOperator):
            spectrum = self.covariance.spectrum
            if spectrum is None or spectrum.left != spectrum.right:
                raise ValueError(
                    "covariance: expected an operator with a known Hermitian spectrum, or a matrix, got "
                    f"{type(self.covariance).__name__}"
                )
            require(jnp.real(spectrum.values), "eigenvalues of covariance", positive=True)
        else:
            require(self.covariance.eigenvalues, "eigenvalues of covariance", positive=True)

    def _eigen(self, y: Array) -> Spectrum | Covariance:
        """The covariance in its eigenbasis, of measurements like ``y``."""
        if isinstance(self.covariance, Covariance):
            basis = self.covariance.basis
            if basis is not None and basis.shape[0] != y.size:
                raise ValueError(
                    f"covariance: expected a matrix {(y.size,) * 2} for shape {y.shape}, got {basis.shape}"
                )
            return self.covariance
        if self.covariance.in_structure.shape != y.shape:
            raise ValueError(f"covariance: expected one on shape {y.shape}, got {self.covariance.in_structure}")
        spectrum = self.covariance.spectrum
        assert spectrum is not None  # checked when built
        return spectrum.map(jnp.real)

    def sample(self, key, clean):
        shape = (2, *clean.shape) if jnp.iscomplexobj(clean) else clean.shape
        white = jax.random.normal(key, shape, clean.real.dtype)
        white = jax.lax.complex(white[0], white[1]) if jnp.iscomplexobj(clean) else white
        return clean + self._eigen(clean).map(jnp.sqrt).apply(white)

    def potential(self, u, y):
        return 0.5 * inner(u - y, self.grad(u, y))

    def log_prob(self, u, y):
        parts = 2 if jnp.iscomplexobj(u) else 1
        log_det = self._eigen(u).map(jnp.log).trace(u).astype(u.real.dtype)
        return -self.potential(u, y) - 0.5 * parts * (log_det + u.size * math.log(2 * math.pi))

    def grad(self, u, y):
        return self._eigen(u).map(jnp.reciprocal).apply(u - y)

    def prox(self, u: Array, y: Array, step_size: Any) -> Array:
        step = real(step_size)
        return y + self._eigen(u).map(lambda v: v / (v + jnp.asarray(step, v.dtype))).apply(u - y)

    def lipschitz(self, y):
        eigen = self._eigen(y)
        values = eigen.values if isinstance(eigen, Spectrum) else eigen.eigenvalues
        return jnp.max(1 / values).astype(y.real.dtype)

    def whitener(self, y):
        """``C^(-1/2)``."""
        eigen = self._eigen(y).map(jax.lax.rsqrt)
        if isinstance(eigen, Spectrum):
            return Diagonalised(eigen, structure(y.shape, jnp.iscomplexobj(y)))
        columns = jax.vmap(eigen.apply)(jnp.eye(y.size, dtype=eigen.eigenvalues.dtype).reshape(-1, *y.shape))
        return Matrix(columns.reshape(y.size, y.size), y.shape, complex=jnp.iscomplexobj(y))
