"""The prox of total variation: accelerated projected gradient on the dual (Beck and Teboulle 2009, FGP).

``prox_c(x) = x - c D^H p`` for a ``p`` in the unit balls that maximises the dual. ``p`` is kept normalised (the constraint is
one whatever ``c``), so that it stays feasible, and a good start, when ``c = lam step_size`` or ``x`` change.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..operators.structure import scale
from ..types import squared
from .acceleration import BLOCK, advance, search
from .variation import Field, Grouping, adjoint, differences


class TVDual(NamedTuple):
    """Dual variables of the prox: ``dual``, the extrapolated point ``ahead`` and the iterations since the last restart."""

    dual: Field
    ahead: Field
    age: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class DualProblem:
    """The fixed part of the problem: grouping, boundary, bound of ``|D|^2``, cap on iterations. Images are channels first."""

    grouping: Grouping
    boundary: str
    squared_norm: int
    max_inner: int

    def start(self, x: Array) -> TVDual:
        """Zero dual variables."""
        zero = tuple(jnp.zeros_like(x) for _ in range(x.ndim - 1))
        return TVDual(zero, zero, jnp.zeros((), jnp.int32))

    def primal(self, x: Array, weight: Array, dual: Field) -> Array:
        """``x - weight D^H p``."""
        return x - scale(weight, adjoint(dual, self.boundary))

    def advance(self, x: Array, weight: Array, aux: TVDual, num_inner: int) -> TVDual:
        """``num_inner >= 1`` accelerated steps, with one look at the restart condition, at the end."""
        # A weight of zero would divide by zero; below this floor the steps are only shorter than they could be.
        floor = float(jnp.finfo(weight.dtype).tiny) ** 0.25
        length = 1 / (self.squared_norm * jnp.maximum(weight, floor))

        def step(ahead: Field) -> Field:
            slope = differences(self.primal(x, weight, ahead), self.boundary)
            return self.grouping.project(tuple(q + scale(length, s) for q, s in zip(ahead, slope, strict=True)))

        return advance(step, aux, num_inner)

    def variation(self, z: Array) -> Float[Array, ""]:
        """Sum of the group norms of ``D z``."""
        sums = [jnp.sum(n) for n in self.grouping.norms(differences(z, self.boundary))]
        return sum(sums[1:], sums[0])

    def gap(self, x: Array, z: Array, dual: Field, weight: Array) -> Float[Array, ""]:
        """Primal minus dual objective, ``weight (TV(z) - <p, D z>) + |z - (x - weight D^H p)|^2 / 2``.

        The two terms are sums of what each group and pixel contributes, none of it negative: no cancellation in float32.
        """
        slope = differences(z, self.boundary)
        products = self.grouping.gather(tuple((jnp.conj(p) * s).real for p, s in zip(dual, slope, strict=True)))
        excess = [jnp.sum(jnp.maximum(n - t, 0)) for n, t in zip(self.grouping.norms(slope), products, strict=True)]
        return weight * sum(excess) + jnp.sum(squared(z - self.primal(x, weight, dual))) / 2

    def search(self, x: Array, weight: Array, rtol: Array) -> tuple[Array, TVDual]:
        """Blocks of steps until the gap is at most ``rtol`` times the primal objective, or ``max_inner`` steps are done."""

        def block(state: tuple[Array, TVDual]) -> tuple[tuple[Array, TVDual], Array]:
            aux = self.advance(x, weight, state[1], BLOCK)
            z = self.primal(x, weight, aux.dual)
            objective = weight * self.variation(z) + jnp.sum(squared(z - x)) / 2
            return (z, aux), ~(self.gap(x, z, aux.dual, weight) > rtol * objective)  # a NaN stops too

        return search(block, (x, self.start(x)), self.max_inner)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def tv_prox(problem: DualProblem, x: Array, weight: Array, rtol: Array) -> Array:
    """The prox to tolerance. Its derivative in x and weight is that of the solution, in both modes, of first order only.

    The Jacobian J in x is symmetric (a prox is the gradient of a convex function), so one tangent run of the search serves
    forward and reverse mode; and ``prox_c(x) = c prox_1(x / c)`` gives ``dz/dc = (z - J x) / c``.
    """
    return problem.search(x, weight, rtol)[0]


@tv_prox.defjvp
def _tv_prox_jvp(problem: DualProblem, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (x, weight, rtol), (x_dot, weight_dot, _) = primals, tangents
    z = tv_prox(problem, x, weight, rtol)
    at_x, at_weight = _once(x), _once(weight)
    positive = weight > 0
    rate = jnp.where(positive, weight_dot / jnp.where(positive, weight, 1), 0)

    def jacobian(_: object, v: Array) -> Array:
        return jax.jvp(lambda u: problem.search(u, at_weight, rtol)[0], (at_x,), (v,))[1]

    def transpose(_: object, v: Array) -> Array:
        return jnp.conj(jacobian(_, jnp.conj(v)))  # JAX pairs complex cotangents without conjugation

    # custom_linear_solve is used for its pair of "solves" alone; the operator they would invert is never applied.
    moved = jax.lax.custom_linear_solve(lambda v: v, x_dot - scale(rate, x), jacobian, transpose)
    slope = differences(x, problem.boundary)
    unit = problem.grouping.project(tuple(v / float(jnp.finfo(weight.dtype).eps) for v in slope))
    onset = scale(
        jnp.where(positive, 0, weight_dot), adjoint(unit, problem.boundary)
    )  # dz/dc = -D^H D x / |D x| at c = 0
    return z, moved + scale(rate, z) - onset


@jax.custom_jvp
def _once(x: Array) -> Array:
    return x


@_once.defjvp
def _once_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    raise ValueError("TV.prox has first derivatives only; use prox_step, which differentiates through its iterations")
