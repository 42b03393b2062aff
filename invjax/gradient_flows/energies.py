"""Energies of particles: what a gradient flow decreases.

An energy is a Module with ``energy(particles) -> scalar`` for a cloud ``(n, d)`` of equal masses ``1/n``, and
``velocity(particles)``, minus its Wasserstein gradient: ``-n`` times the gradient in the points. A function of one's own
becomes one by ``Energy(fn)``.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..eager import one_program
from ..kernels import (
    NegativeDistance,
    Plan,
    RadialKernel,
    SlicedField,
    checked_kernel_sum_gradient,
    energy_distance,
    mmd2,
    tabulate_field,
)
from ..kernels.clouds import cloud, require_sum_one
from ..ordering import sort
from ..ot.line import line_cost
from ..types import real, require


class Energy(eqx.Module):
    """Any differentiable function of the particles: ``velocity = -n grad fn``. ``fn`` is a Module, ``types.Fn`` or a function."""

    fn: Any

    def __call__(self, particles: Float[Array, "n d"]) -> Float[Array, ""]:
        return self.fn(particles)

    def velocity(self, particles: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """Minus the Wasserstein gradient at every particle."""
        return -particles.shape[0] * jax.grad(self.fn)(particles)


class MMDEnergy(eqx.Module):
    """``MMD^2(particles, target) / 2`` of a kernel, to a cloud ``target`` (m, d) with weights of sum one (uniform by default).

    Velocity ``grad (E K(Y, .) - E K(X, .))``: attraction by the target, repulsion of the particles. A sliced ``plan`` is one for
    ``((n + m, d), (n, d))``; its radius has to hold the particles all along the flow. Where it does not, all is NaN: a flow
    ends with the status ``NON_FINITE``, and its trace says ``outside``.

    Raises ``ValueError`` for weights and a plan that do not fit. Source: Arbel, Korba, Salim and Gretton (2019), NeurIPS; for
    Riesz kernels Hertrich, Wald, Altekrueger and Hagemann (2024), ICLR.
    """

    kernel: RadialKernel
    target: Float[Array, "m d"] = eqx.field(converter=real)
    weights: Float[Array, " m"] | None = eqx.field(converter=real, default=None)
    plan: Plan | None = eqx.field(default=None, kw_only=True)
    field: SlicedField | None = eqx.field(default=None, kw_only=True)

    def __check_init__(self):
        require_cloud(self.target, self.weights)
        if self.plan is not None:
            self.plan.require(self.kernel)

    def tabulated(self) -> MMDEnergy:
        """The same energy with the attraction of the target computed once, on the grid of its plan: each step is faster, the more
        so the larger the target. The attraction then has no derivative in the target and the kernel's parameters, and NaN for
        other parameters than these.
        """
        target, weights = self._target(self.target)
        if self.plan is None:
            raise ValueError('plan: expected one of method "grid", got None')
        return eqx.tree_at(
            lambda e: e.field,
            self,
            tabulate_field(self.kernel, target, weights, self.plan),
            is_leaf=lambda x: x is None,
        )

    def __call__(self, particles: Float[Array, "n d"]) -> Float[Array, ""]:
        particles = cloud(particles, "particles", self.target.shape[1], 1)
        target, weights = self._target(particles)
        if isinstance(self.kernel, NegativeDistance):  # a sum of squares where it is sliced: no cancellation
            return energy_distance(particles, target, wy=weights, plan=self.plan) / 2
        return mmd2(self.kernel, particles, target, wy=weights, plan=self.plan) / 2

    def velocity(self, particles: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """``sum_j w_j grad K(y_j, x_i) - (1/n) sum_k grad K(x_k, x_i)``, as one sum over the signed measure."""
        return self.checked_velocity(particles)[0]

    def checked_velocity(self, particles: Float[Array, "n d"]) -> tuple[Float[Array, "n d"], Bool[Array, ""]]:
        """The velocity, and whether it is NaN because a point has left the radius of a sliced plan."""
        particles = cloud(particles, "particles", self.target.shape[1], 1)
        target, weights = self._target(particles)
        n = particles.shape[0]
        if self.field is not None:
            own = jnp.full((n,), -1 / n, particles.dtype)
            repulsion, out = checked_kernel_sum_gradient(self.kernel, particles, particles, own, plan=self.plan)
            attraction, away = self.field.checked_gradient(particles)
            pairs = zip(jax.tree.leaves(self.kernel), jax.tree.leaves(self.field.kernel), strict=True)
            same = jnp.all(jnp.asarray([jnp.all(a == b) for a, b in pairs], bool))
            return jnp.where(same, 1, jnp.nan).astype(particles.dtype) * (repulsion + attraction), out | away | ~same
        signed = jnp.concatenate([weights, jnp.full((n,), -1 / n, particles.dtype)])
        sources = jnp.concatenate([target, particles])
        return checked_kernel_sum_gradient(self.kernel, sources, particles, signed, plan=self.plan)

    def _target(self, particles: Array) -> tuple[Array, Array]:
        target = self.target.astype(particles.dtype)
        m = target.shape[0]
        weights = jnp.full((m,), 1 / m) if self.weights is None else self.weights
        return target, weights.astype(particles.dtype)


class SlicedWassersteinEnergy(eqx.Module):
    """Half the squared sliced 2-Wasserstein distance to an unweighted cloud: ``(1/2) sum_p weights_p W_2^2`` of the projections.

    Velocity ``sum_p weights_p xi_p (T_p(u_i) - u_i)``, ``u = <xi_p, x>``. T_p is the mean of the target's quantile function over
    the levels of a particle: the monotone rearrangement where the numbers agree, and the exact derivative where they differ.
    ``directions`` is (P, d), ``weights`` (P,) uniform by default. Raises ``ValueError`` for shapes that do not fit.
    Source: Bonneel, Rabin, Peyre and Pfister (2015), J. Math. Imaging Vis. 51.
    """

    target: Float[Array, "m d"] = eqx.field(converter=real)
    directions: Float[Array, "P d"] = eqx.field(converter=real)
    weights: Float[Array, " P"] | None = eqx.field(converter=real, default=None)

    def __check_init__(self):
        require_cloud(self.target, None)
        require(self.directions, "directions", ndim=2)
        if self.target.shape[1] != self.directions.shape[1]:
            raise ValueError(f"directions: expected shape (P, {self.target.shape[1]}), got {self.directions.shape}")
        if self.weights is not None:
            require(self.weights, "weights", shape=(self.directions.shape[0],), nonnegative=True)
            require_sum_one(self.weights, "weights")

    @one_program
    def __call__(self, particles: Float[Array, "n d"]) -> Float[Array, ""]:
        particles = cloud(particles, "particles", self.target.shape[1], 1)

        def one(u: Array, v: Array) -> Array:
            return line_cost(u, v, None, None, jnp.full((), 2.0, u.dtype))

        return self._mean(particles, one) / 2

    @one_program
    def velocity(self, particles: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """Minus the Wasserstein gradient at every particle."""
        particles = cloud(particles, "particles", self.target.shape[1], 1)

        def one(u: Array, v: Array) -> Array:
            order = jnp.argsort(u)
            goal = _level_means(sort(v), u.shape[0])
            return jnp.zeros_like(u).at[order].set(goal, unique_indices=True) - u

        return self._mean(particles, one, spread=True)

    def _mean(self, particles: Array, one: Any, spread: bool = False) -> Array:
        """Weighted sum over directions, one at a time; ``spread`` puts the values of a line back along its direction."""
        dtype = particles.dtype
        target, directions = self.target.astype(dtype), self.directions.astype(dtype)
        num = directions.shape[0]
        weights = jnp.full((num,), 1 / num, dtype) if self.weights is None else self.weights.astype(dtype)

        def add(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
            xi, weight = part
            value = one(*(jnp.matmul(cloud, xi, precision="highest") for cloud in (particles, target)))
            return total + weight * (value[:, None] * xi[None] if spread else value), None

        start = jnp.zeros_like(particles) if spread else jnp.zeros((), dtype)
        return jax.lax.scan(jax.checkpoint(add), start, (directions, weights))[0]


class PotentialEnergy(eqx.Module):
    """``(1/n) sum_i f(x_i)`` for a Module f with ``f(x)`` and ``f.score(x)`` of one point: velocity ``score``."""

    potential: Any

    def __call__(self, particles: Float[Array, "n d"]) -> Float[Array, ""]:
        return jnp.mean(jax.vmap(self.potential)(particles))

    def velocity(self, particles: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The score at every particle."""
        return jax.vmap(self.potential.score)(particles)


class EnergySum(eqx.Module):
    """The sum of energies."""

    terms: tuple[Any, ...]

    def __call__(self, particles: Float[Array, "n d"]) -> Float[Array, ""]:
        return sum(term(particles) for term in self.terms)

    def velocity(self, particles: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The sum of the velocities."""
        return sum(term.velocity(particles) for term in self.terms)


def require_cloud(target: Any, weights: Any) -> None:
    """Raise ``ValueError`` for a target or weights that cannot be; sentinels of pytree code pass."""
    if not isinstance(target, (jax.Array, np.ndarray)):
        return
    cloud(target, "target", fewest=1)
    if weights is not None:
        require(weights, "weights", shape=(target.shape[0],))
        require_sum_one(weights, "weights")


def checked_velocity(energy: Any, particles: Array) -> tuple[Array, Array]:
    """The velocity of an energy, and whether it is NaN because points have left the radius of a plan."""
    if isinstance(energy, EnergySum):
        parts = [checked_velocity(term, particles) for term in energy.terms]
        velocity = sum((v for v, _ in parts), jnp.zeros_like(particles))
        return velocity, jnp.any(jnp.stack([outside for _, outside in parts]))
    if hasattr(energy, "checked_velocity"):
        return energy.checked_velocity(particles)
    return energy.velocity(particles), jnp.asarray(False)


def _level_means(v: Array, n: int) -> Array:
    """Means of the quantile function of sorted v over the n equal intervals of levels."""
    m = v.shape[0]
    if n == m:
        return v
    # Differences of the integral of the quantile function, which is linear between multiples of 1/m.
    integral = jnp.concatenate([jnp.zeros((1,), v.dtype), jnp.cumsum(v)]) / m
    at = jnp.interp(jnp.arange(n + 1, dtype=v.dtype) / n, jnp.arange(m + 1, dtype=v.dtype) / m, integral)
    return (at[1:] - at[:-1]) * n
