"""Directions for slicing: random, orthogonal, low-discrepancy and optimised point sets on the sphere.

Integrands of slicing are even, so a set stands for itself and its antipodes. A set drawn with a key is uniform in law after its
random rotation, so sliced sums are unbiased. Source: Hertrich, Jahn and Quellmalz (2025), ICLR, "Fast Summation of Radial Kernels
via QMC Slicing".
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import gammaln

from ..eager import one_program
from .optimised import most_distant

Kind = Literal["iid", "orthogonal", "sobol", "distance"]


def directions(key: PRNGKeyArray, kind: Kind, num: int, dim: int) -> Float[Array, "num dim"]:
    """``num`` unit vectors in dimension ``dim``, a function of the key alone.

    - ``iid``: independent and uniform. Error of a sliced sum ``num^(-1/2)``.
    - ``orthogonal``: blocks of ``dim`` orthonormal vectors, each block a uniform rotation.
    - ``sobol``: scrambled Sobol points through the inverse normal distribution function, normalised. Best for powers of two.
    - ``distance``: the set with the largest sum of distances of its points and their antipodes, randomly rotated. In two
      dimensions it is equispaced, for ``num <= dim`` any orthonormal system; otherwise computed once and cached
      (``optimised.py``). Error at most ``num^(-dim / (2 (dim - 1)))`` where the kernel is smooth enough, and by far the
      smallest in low and moderate dimension.

    Raises ``ValueError`` for an unknown kind, counts below one, and a traced key for Sobol points.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind: expected one of {get_args(Kind)}, got {kind!r}")
    if num < 1 or dim < 1:
        raise ValueError(f"num, dim: expected at least 1, got {num}, {dim}")
    if dim == 1:
        return jnp.ones((num, 1))
    if kind == "iid":
        return _normalised(_normal(key, (num, dim)))
    if kind == "orthogonal" or (kind == "distance" and num <= dim and dim > 2):
        blocks = jax.vmap(lambda k: rotation(k, dim))(jax.random.split(key, -(-num // dim)))
        return blocks.reshape(-1, dim)[:num]
    if kind == "sobol":
        return _sobol(key, num, dim)
    return rotate(key, equispaced(num) if dim == 2 else jnp.asarray(most_distant(num, dim)))


def rotation(key: PRNGKeyArray, dim: int) -> Float[Array, "dim dim"]:
    """A rotation or reflection, uniform (Haar): the orthogonal factor of a Gaussian matrix, with positive diagonal of R."""
    q, r = jnp.linalg.qr(_normal(key, (dim, dim)))
    return q * jnp.where(jnp.diagonal(r) < 0, -1, 1).astype(q.dtype)[None]


def rotate(key: PRNGKeyArray, points: Float[Array, "num dim"]) -> Float[Array, "num dim"]:
    """The set after one random rotation: unbiased whatever the set is."""
    dim = points.shape[1]
    if dim == 2:  # a set on the half circle stays one: an offset of the angle
        angle = math.pi * jax.random.uniform(key, dtype=jnp.float32).astype(points.dtype)
        turn = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        return points @ jnp.stack([turn, jnp.stack([-turn[1], turn[0]])])
    return jnp.matmul(points, rotation(key, dim).astype(points.dtype), precision="highest")


def equispaced(num: int) -> Float[Array, "num 2"]:
    """The half circle in equal steps: even trigonometric polynomials of degree below ``2 num`` are integrated exactly."""
    angle = np.pi * np.arange(num) / num
    return jnp.asarray(np.stack([np.cos(angle), np.sin(angle)], 1))


def gauss_directions(degree: int, dim: int) -> tuple[Float[Array, "num dim"], Float[Array, " num"]]:
    """Directions and weights that integrate every even polynomial of at most ``degree`` exactly, in dimension 2 or 3.

    In three dimensions Gauss-Legendre in height times equal steps of the angle, on one hemisphere: about ``(degree + 1)^2 / 4``
    points. Sliced sums of smooth kernels then converge faster than any power. Raises ``ValueError`` for another ``dim``, and for
    an odd or negative degree.
    """
    if dim not in (2, 3):
        raise ValueError(f"dim: expected 2 or 3, got {dim}; use a random set")
    if degree < 0 or degree % 2:
        raise ValueError(f"degree: expected an even integer >= 0, got {degree}")
    if dim == 2:
        num = degree // 2 + 1
        return equispaced(num), jnp.full((num,), 1 / num)
    heights, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    steps = degree + 1
    angle = 2 * np.pi * np.arange(steps) / steps
    upper = heights > 1e-12
    z, weight = np.repeat(heights[upper], steps), np.repeat(weights[upper], steps) / steps
    turn = np.tile(angle, upper.sum())
    if (degree // 2 + 1) % 2:  # the equator is its own mirror image
        z, turn = np.append(z, np.zeros(steps)), np.append(turn, angle)
        weight = np.append(weight, np.full(steps, weights[~upper & (heights > -1e-12)].sum() / 2 / steps))
    radius = np.sqrt(1 - z**2)
    points = np.stack([radius * np.cos(turn), radius * np.sin(turn), z], 1)
    return jnp.asarray(points), jnp.asarray(weight / weight.sum())


@one_program
def sphere_gap(points: Float[Array, "num dim"]) -> Float[Array, ""]:
    """``2 W - num^-2 sum_pq (|xi_p - xi_q| + |xi_p + xi_q|)`` with ``W = E |xi - eta|``: a squared discrepancy, at least 0.

    It is the squared worst error of the set with its antipodes for integrands of a Sobolev space of smoothness dim/2.
    """
    dim = points.shape[1]
    mean = 2 ** (dim - 1) * math.exp(2 * gammaln(dim / 2) - gammaln(dim - 0.5)) / math.sqrt(math.pi)

    def row(xi: Array) -> Array:
        lengths = [jnp.sqrt(jnp.sum((points + sign * xi[None]) ** 2, 1)) for sign in (1, -1)]
        return jnp.mean(lengths[0] + lengths[1])

    return 2 * mean - jnp.mean(jax.lax.map(row, points))


def _normal(key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
    """Drawn in float32, so that a key means the same directions in either precision."""
    return jax.random.normal(key, shape, jnp.float32).astype(jnp.zeros(()).dtype)


def _normalised(x: Array) -> Array:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def _sobol(key: PRNGKeyArray, num: int, dim: int) -> Array:
    if isinstance(key, jax.core.Tracer):
        raise ValueError("key: Sobol points are made on the host, got a traced key; draw them outside jit")
    from scipy.stats import qmc  # takes a second to import

    seed = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    uniform = qmc.Sobol(dim, scramble=True, rng=seed).random_base2(math.ceil(math.log2(num)))[:num]
    # Scrambled points lie in [0, 1); half a step of their grid keeps them off the ends.
    normal = jax.scipy.special.ndtri(jnp.asarray(np.clip(uniform, 2.0**-31, 1 - 2.0**-24)))
    return _normalised(normal)
