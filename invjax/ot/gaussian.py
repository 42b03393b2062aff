"""Transport between Gaussians: the Bures distance, the linear optimal map, and barycentres."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..drive import solve
from ..eager import one_program
from ..kernels.clouds import floating, require_sum_one
from ..types import require


class LinearMap(eqx.Module):
    """``T(x) = target_mean + matrix (x - mean)``, for a point (d,) or a cloud (n, d). It holds arrays: ``eqx.filter_jit``."""

    matrix: Float[Array, "d d"]
    mean: Float[Array, " d"]
    target_mean: Float[Array, " d"]

    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        x = jnp.asarray(x)
        mean, target = (jnp.broadcast_to(m, x.shape) for m in (self.mean, self.target_mean))
        return target + jnp.matmul(x - mean, self.matrix.T, precision="highest")


@jax.custom_jvp
def matrix_square_root(matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The symmetric square root of a symmetric positive semi-definite matrix, by its eigenvectors.

    Negative eigenvalues, which rounding makes, count as zero. The derivative solves ``S dS + dS S = dA`` in the eigenvectors, so
    equal eigenvalues do no harm; where the matrix is singular it is that on the range.
    """
    return _root(matrix)[0]


@matrix_square_root.defjvp
def _matrix_square_root_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    (matrix,), (tangent,) = primals, tangents
    root, values, vectors = _root(matrix)
    sums = values[:, None] + values[None]
    rotated = vectors.T @ ((tangent + tangent.T) / 2) @ vectors
    safe = jnp.where(sums > 0, sums, 1)
    return root, vectors @ jnp.where(sums > 0, rotated / safe, 0) @ vectors.T


def _root(matrix: Array) -> tuple[Array, Array, Array]:
    values, vectors = jnp.linalg.eigh((matrix + matrix.T) / 2)
    values = jnp.sqrt(jnp.maximum(values, 0))
    return (vectors * values[None]) @ vectors.T, values, vectors


def bures2(
    mean0: Float[Array, " d"],
    covariance0: Float[Array, "d d"],
    mean1: Float[Array, " d"],
    covariance1: Float[Array, "d d"],
) -> Float[Array, ""]:
    """``W_2^2 = |m0 - m1|^2 + tr(S0 + S1 - 2 (S0^{1/2} S1 S0^{1/2})^{1/2})`` of two Gaussians; singular covariances are fine.

    Raises ``ValueError`` for shapes that do not fit. Source: Givens and Shortt (1984), Michigan Math. J. 31; Bhatia, Jain and
    Lim (2019), Expo. Math. 37.
    """
    return _bures2(*_laws(mean0, covariance0, mean1, covariance1))


@one_program
def _bures2(mean0: Array, covariance0: Array, mean1: Array, covariance1: Array) -> Array:
    half = matrix_square_root(covariance0)
    cross = matrix_square_root(half @ covariance1 @ half)
    return jnp.sum((mean0 - mean1) ** 2) + jnp.trace(covariance0 + covariance1 - 2 * cross)


def bures_map(
    mean0: Float[Array, " d"],
    covariance0: Float[Array, "d d"],
    mean1: Float[Array, " d"],
    covariance1: Float[Array, "d d"],
) -> LinearMap:
    """The optimal map of ``N(m0, S0)`` to ``N(m1, S1)``: ``S0^{-1/2} (S0^{1/2} S1 S0^{1/2})^{1/2} S0^{-1/2}``.

    A singular S0 has no map but to what it covers: the matrix is then not finite. Raises ``ValueError`` for shapes that do not
    fit.
    """
    return _bures_map(*_laws(mean0, covariance0, mean1, covariance1))


@one_program
def _bures_map(mean0: Array, covariance0: Array, mean1: Array, covariance1: Array) -> LinearMap:
    half = matrix_square_root(covariance0)
    cross = matrix_square_root(half @ covariance1 @ half)
    left = jnp.linalg.solve(half, cross)
    return LinearMap(jnp.linalg.solve(half, left.T), mean0, mean1)


class GaussianBarycenter(NamedTuple):
    """Mean and covariance of the barycentre, and how the iteration for it ended."""

    mean: Float[Array, " d"]
    covariance: Float[Array, "d d"]
    status: Int[Array, ""]
    residual: Float[Array, ""]


class _State(NamedTuple):
    position: Float[Array, "d d"]


class _Info(NamedTuple):
    residual: Float[Array, ""]


class _CovarianceIteration(eqx.Module):
    """``S <- S^{-1/2} (sum_k w_k (S^{1/2} S_k S^{1/2})^{1/2})^2 S^{-1/2}``."""

    covariances: Float[Array, "k d d"]
    weights: Float[Array, " k"]

    def init(self, covariance: Array, key: Any = None) -> _State:
        return _State(covariance)

    def step(self, state: _State) -> tuple[_State, _Info]:
        new = self.fixed_point(state.position)
        return _State(new), _Info(jnp.linalg.norm(new - state.position))

    def fixed_point(self, covariance: Array) -> Array:
        half = matrix_square_root(covariance)
        roots = jax.vmap(lambda s: matrix_square_root(half @ s @ half))(self.covariances)
        mean = jnp.tensordot(self.weights, roots, 1)
        half_mean = jnp.linalg.solve(half, mean)
        return half_mean @ half_mean.T


def gaussian_barycenter(
    means: Float[Array, "k d"],
    covariances: Float[Array, "k d d"],
    weights: Float[Array, " k"] | None = None,
    *,
    rtol: Any = None,
    max_steps: int = 100,
) -> GaussianBarycenter:
    """The Gaussian that minimises ``sum_k w_k W_2^2(., N(m_k, S_k))``, by a fixed-point iteration that decreases it.

    Differentiable in everything (implicitly). Raises ``ValueError`` for shapes that do not fit and weights of another (known)
    sum than one. Source: Alvarez-Esteban, del Barrio, Cuesta-Albertos and Matran (2016), J. Math. Anal. Appl. 441.
    """
    means, covariances = floating(means, "means"), floating(covariances, "covariances")
    require(means, "means", ndim=2)
    num, dim = means.shape
    require(covariances, "covariances", shape=(num, dim, dim))
    weights = jnp.full((num,), 1 / num, means.dtype) if weights is None else floating(weights, "weights")
    require(weights, "weights", shape=(num,), nonnegative=True)
    require_sum_one(weights, "weights")
    start = jnp.tensordot(weights, covariances, 1)
    rtol = 10 * jnp.finfo(means.dtype).eps ** 0.75 if rtol is None else rtol
    found = solve(_CovarianceIteration(covariances, weights), start, rtol=rtol, atol=0.0, max_steps=max_steps)
    return GaussianBarycenter(weights @ means, found.position, found.status, found.residual)


def _laws(mean0: Any, covariance0: Any, mean1: Any, covariance1: Any) -> tuple[Array, Array, Array, Array]:
    mean0 = floating(mean0, "mean0")
    require(mean0, "mean0", ndim=1)
    dim = mean0.shape[0]
    rest = []
    for value, name, shape in (
        (covariance0, "covariance0", (dim, dim)),
        (mean1, "mean1", (dim,)),
        (covariance1, "covariance1", (dim, dim)),
    ):
        value = floating(value, name)
        require(value, name, shape=shape)
        rest.append(value)
    return mean0, *rest
