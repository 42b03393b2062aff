"""Sliced Wasserstein distances: means, weighted means and the largest of transport costs of projections on lines."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..eager import one_program
from ..kernels.clouds import floating, pair, require_sum_one
from ..kernels.dense import tiles
from ..types import real, require
from .costs import SquaredEuclidean, power_of
from .line import given_masses, line_cost

_TOGETHER = 32  # directions projected on at once: one reading of the points serves them


class Projection(Protocol):
    """A family of P functions of a point: ``projection(x) -> (n, P)`` for a cloud (n, d)."""

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n P"]: ...


class LinearProjection(eqx.Module):
    """``<theta_p, x>`` for unit vectors ``directions`` (P, d), such as ``kernels.directions`` makes."""

    directions: Float[Array, "P d"] = eqx.field(converter=real)

    def __check_init__(self):
        require(self.directions, "directions", ndim=2)

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n P"]:
        return jnp.matmul(x, self.directions.astype(x.dtype).T, precision="highest")


class CircularProjection(eqx.Module):
    """``|x - radius theta_p|``: distances from points on a sphere (Kolouri et al. 2019, section 3)."""

    directions: Float[Array, "P d"] = eqx.field(converter=real)
    radius: Float[Array, ""] = eqx.field(converter=real)

    def __check_init__(self):
        require(self.directions, "directions", ndim=2)
        require(self.radius, "radius", positive=True)

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n P"]:
        centres = (self.radius * self.directions).astype(x.dtype)
        return power_of(jnp.maximum(SquaredEuclidean().all_pairs(x, centres), 0), jnp.asarray(0.5, x.dtype))


class PolynomialProjection(eqx.Module):
    """``sum_alpha theta_p,alpha x^alpha`` over the monomials of one odd degree; ``coefficients`` (P, number of monomials).

    Source: Kolouri, Nadjahi, Simsekli, Badeau and Rohde (2019), NeurIPS, section 3.2. Monomials are in the order of
    ``itertools.combinations_with_replacement(range(d), degree)``.
    """

    coefficients: Float[Array, "P q"] = eqx.field(converter=real)
    degree: int = eqx.field(static=True, default=3)

    def __check_init__(self):
        require(self.coefficients, "coefficients", ndim=2)
        if self.degree < 1 or self.degree % 2 == 0:
            raise ValueError(f"degree: expected an odd positive integer, got {self.degree}")

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n P"]:
        factors = jnp.asarray(list(itertools.combinations_with_replacement(range(x.shape[1]), self.degree)))
        if self.coefficients.shape[1] != len(factors):
            raise ValueError(f"coefficients: expected shape (P, {len(factors)}), got {self.coefficients.shape}")
        monomials = jnp.prod(x[:, factors], -1)
        return jnp.matmul(monomials, self.coefficients.astype(x.dtype).T, precision="highest")


class SlicedWasserstein(NamedTuple):
    """``costs``: the ``W_p^p`` of every projection. ``cost``: their (weighted) mean, ``SW_p^p``. ``distance``: its p-th root."""

    cost: Float[Array, ""]
    distance: Float[Array, ""]
    costs: Float[Array, " P"]


def sliced_wasserstein(
    x: Float[Array, "n d"],
    y: Float[Array, "m d"],
    projection: Projection | Float[Array, "P d"],
    a: Float[Array, " n"] | None = None,
    b: Float[Array, " m"] | None = None,
    *,
    power: Any = 2.0,
    weights: Float[Array, " P"] | None = None,
    energy_based: bool = False,
) -> SlicedWasserstein:
    """``SW_p^p = sum_l w_l W_p^p`` of the projections ``l`` of two clouds, uniform weights by default.

    ``projection`` is an array of directions (P, d) or a family of functions; distances of nonlinear ones are the generalised
    sliced distance. ``energy_based``: ``w_l ~ exp(W_p^p of l)``, which leans towards the directions that tell the clouds apart
    (Nguyen and Ho 2023, NeurIPS; importance sampling from the given directions). Time ``O(P (n + m) (d + log(n + m)))``; memory
    of the projections on 32 directions, of a nonlinear family on all. Differentiable in clouds, projections, weights and p; a
    gradient keeps the order of every projection.

    Raises ``ValueError`` for clouds, weights and directions that do not fit.
    Source: Bonneel, Rabin, Peyre and Pfister (2015), J. Math. Imaging Vis. 51.
    """
    x, y = pair(x, y, 1)
    require(power, "power", at_least=1.0, shape=())
    a, b = given_masses(a, x, "a"), given_masses(b, y, "b")
    if isinstance(projection, LinearProjection) or not callable(projection):
        projection = LinearProjection(_directions(getattr(projection, "directions", projection), x, "projection"))
    if weights is not None:
        if energy_based:
            raise ValueError("weights: expected None where energy_based, got an array")
        require(weights, "weights", nonnegative=True, ndim=1)
        require_sum_one(jnp.asarray(weights), "weights")
    return _sliced(x, y, projection, a, b, jnp.asarray(real(power), x.dtype), weights, energy_based)


def max_sliced_wasserstein(
    x: Float[Array, "n d"],
    y: Float[Array, "m d"],
    directions: Float[Array, "P d"],
    a: Float[Array, " n"] | None = None,
    b: Float[Array, " m"] | None = None,
    *,
    power: Any = 2.0,
    num_steps: int = 50,
) -> tuple[Float[Array, ""], Float[Array, " d"]]:
    """``max_theta W_p^p(<theta, x>, <theta, y>)`` over unit vectors, and its direction.

    Ascends from each of the given directions, by steps ``theta <- grad / |grad|`` that are damped until the cost does not fall,
    and returns the best end: a local maximum, and a lower bound of the largest. For p >= 1 the cost is convex along a fixed
    coupling, so an undamped step never falls while the coupling stays. The value is differentiable in the clouds (Danskin).

    Raises ``ValueError`` as ``sliced_wasserstein``. Source: Deshpande et al. (2019), CVPR, section 3.
    """
    x, y = pair(x, y, 1)
    require(power, "power", at_least=1.0, shape=())
    a, b = given_masses(a, x, "a"), given_masses(b, y, "b")
    directions = _directions(directions, x, "directions")
    return _max_sliced(x, y, a, b, directions, jnp.asarray(real(power), x.dtype), num_steps)


@one_program
def _sliced(
    x: Array, y: Array, projection: Any, a: Any, b: Any, power: Array, weights: Any, energy_based: bool
) -> SlicedWasserstein:
    def of(projection: Any) -> Array:
        return jax.vmap(line_cost, (1, 1, None, None, None))(projection(x), projection(y), a, b, power)

    if isinstance(projection, LinearProjection) and projection.directions.shape[0] > _TOGETHER:
        num = projection.directions.shape[0]
        cut = tiles(projection.directions, _TOGETHER)
        keep = jax.checkpoint_policies.save_only_these_names(
            "order"
        )  # a backward pass projects again, but does not sort
        costs = jax.lax.map(jax.checkpoint(lambda part: of(LinearProjection(part)), policy=keep), cut).reshape(-1)[:num]
    else:
        costs = of(projection)
    if energy_based:
        weights = jax.nn.softmax(costs)
    cost = jnp.mean(costs) if weights is None else jnp.vdot(weights.astype(costs.dtype), costs)
    return SlicedWasserstein(cost, power_of(cost, 1 / power), costs)


@one_program
def _max_sliced(
    x: Array, y: Array, a: Any, b: Any, directions: Array, power: Array, num_steps: int
) -> tuple[Array, Array]:
    def cost(theta: Array, x: Array, y: Array) -> Array:
        return line_cost(x @ theta, y @ theta, a, b, power)

    def ascend(theta: Array, x: Array, y: Array) -> tuple[Array, Array]:
        def step(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
            theta, value, damping = carry
            gradient = jax.grad(cost)(theta, x, y)
            moved = _unit(_unit(gradient) + damping * theta)
            reached = cost(moved, x, y)
            better = reached >= value
            kept = jnp.where(better, moved, theta), jnp.where(better, reached, value)
            return (*kept, jnp.where(better, damping / 2, 2 * damping + 1)), None

        start = theta, cost(theta, x, y), jnp.zeros((), x.dtype)
        (theta, value, _), _ = jax.lax.scan(step, start, None, length=num_steps)
        return value, theta

    still = jax.lax.stop_gradient((x, y))
    values, ends = jax.vmap(lambda theta: ascend(theta, *still))(directions)
    theta = ends[jnp.argmax(values)]
    return cost(theta, x, y), theta


def _unit(v: Array) -> Array:
    size = jnp.linalg.norm(v)
    return v / jnp.where(size > 0, size, 1)


def _directions(directions: Any, x: Array, name: str) -> Array:
    directions = floating(directions, name)
    if directions.ndim != 2 or directions.shape[1] != x.shape[1] or directions.shape[0] == 0:
        raise ValueError(f"{name}: expected directions of shape (P, {x.shape[1]}), got {directions.shape}")
    return directions.astype(x.dtype)
