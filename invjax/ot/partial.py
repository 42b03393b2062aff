"""Partial transport: only some of the mass moves. A virtual place of cost zero takes what stays."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..kernels.clouds import require_sum_one
from ..types import real, require
from .costs import MatrixCost, PointCost, all_pairs
from .entropic import EntropicCoupling
from .problem import Problem
from .sinkhorn import epsilon_of, run


class _WithVirtual(eqx.Module):
    """``c(x, y)`` of points whose last coordinate is 1 for a virtual one: zero to it, and ``corner`` between two of them."""

    cost_fn: Any
    corner: Float[Array, ""]

    def __call__(self, x: Array, y: Array) -> Array:
        return self.all_pairs(x[None], y[None])[0, 0]

    def all_pairs(self, x: Array, y: Array) -> Array:
        costs = all_pairs(self.cost_fn, x[:, :-1], y[:, :-1])
        rows, columns = x[:, -1:], y[None, :, -1]
        return jnp.where(rows + columns == 0, costs, rows * columns * self.corner)


def partial(
    problem: Problem,
    mass: Any,
    epsilon: Any,
    *,
    init: tuple[Float[Array, " n"], Float[Array, " m"]] | None = None,
    atol: Any = None,
    max_steps: int = 1000,
) -> EntropicCoupling:
    """Minimises ``<P, C> + epsilon KL(..)`` over ``P 1 <= a``, ``P^T 1 <= b``, ``sum P = mass``; the entropy includes what stays.

    As balanced transport with a virtual source and a virtual target of cost zero, which take what does not move (Chapel, Alaya
    and Gasso 2020, NeurIPS; Caffarelli and McCann 2010). Marginals may have different sums. ``marginal_error`` and
    ``duality_gap`` are those of the extended problem: the moved mass is off by at most that error (times its total mass).
    ``init`` is the pair (f, g) of a near problem. Otherwise as ``sinkhorn``; ``mass`` may be traced.

    Raises ``ValueError`` for a (known) mass that is not in (0, min(sum a, sum b)].
    """
    require(mass, "mass", positive=True, shape=())
    total_a, total_b = jnp.sum(problem.a), jnp.sum(problem.b)
    smaller = jnp.minimum(total_a, total_b)
    if not any(isinstance(v, jax.core.Tracer) for v in (mass, smaller)) and float(mass) > float(smaller) * (1 + 1e-6):
        raise ValueError(f"mass: expected at most the smaller sum of marginals, {float(smaller):.6g}, got {mass}")
    mass = jnp.asarray(real(mass), problem.dtype)
    epsilon = epsilon_of(epsilon, problem.dtype)
    extended = _extended(problem, epsilon, jnp.maximum(total_b - mass, 0), jnp.maximum(total_a - mass, 0))
    coupling = run(extended, epsilon, None, None, _start(init, extended, epsilon), atol, max_steps)
    return _without_virtual(coupling, problem)


def progressive_partial(
    problem: Problem,
    mass: Any,
    relax_b: Any,
    epsilon: Any,
    *,
    init: tuple[Float[Array, " n"], Float[Array, " m"]] | None = None,
    atol: Any = None,
    max_steps: int = 1000,
) -> EntropicCoupling:
    """Minimises ``<P, C> + relax_b KL(P^T 1 | mass b) + epsilon KL(P | ..)`` over ``P 1 <= a``, ``sum P = mass``: PPOT.

    The rows with the lowest costs are served first; how the columns share the mass is loosely b, which has sum one as a has.
    A virtual column of cost zero and of mass ``1 - mass``, whose sum is a constraint, takes the rest, entropy included.
    ``mass`` in (0, 1], ``relax_b`` and ``epsilon`` may be traced; ``init`` is the pair (f, g) of a near problem, which is what
    makes a sequence of growing masses cheap. Errors are those of the extended problem.

    Raises ``ValueError`` for a mass outside (0, 1] and marginals of (known) sums other than one.
    Source: Zhang, Ren and He (2024), arXiv 2404.03446, section 3.3.
    """
    require_mass(mass)
    require(relax_b, "relax_b", positive=True, shape=())
    require_sum_one(problem.a, "a")
    require_sum_one(problem.b, "b")
    mass = jnp.asarray(real(mass), problem.dtype)
    weights = jnp.append(jnp.full(problem.b.shape, relax_b, problem.dtype), jnp.inf)
    columns = Problem(problem.cost, problem.a, mass * problem.b)
    epsilon = epsilon_of(epsilon, problem.dtype)
    extended = _extended(columns, epsilon, None, jnp.maximum(1 - mass, 0))
    coupling = run(extended, epsilon, None, weights, _start(init, extended, epsilon), atol, max_steps)
    return _without_virtual(coupling, columns)


def require_mass(mass: Any) -> None:
    """Raise ``ValueError`` unless a share of a mass of one is in (0, 1], up to rounding."""
    require(mass, "mass", positive=True, shape=(), below=1 + 1e-6)


def _extended(problem: Problem, epsilon: Array, row: Array | None, column: Array) -> Problem:
    """The problem with a virtual column, and a virtual row unless None, of these masses."""
    cost, sides = problem.cost, (row is not None, True)
    # Nothing may go between the two: potentials are of the size of the costs, and exp(-60) is nothing.
    corner = jax.lax.stop_gradient(4 * problem.largest_cost() + 60 * epsilon)
    if isinstance(cost, MatrixCost):
        matrix = jnp.pad(cost.matrix, [(0, int(side)) for side in sides])
        new: Any = MatrixCost(matrix.at[-1, -1].set(corner) if row is not None else matrix)
    else:
        given = cost.points
        points = [
            jnp.pad(jnp.pad(x, ((0, 0), (0, 1))), ((0, int(side)), (0, 0))).at[x.shape[0] :, -1].set(1)
            for x, side in zip((given.x, given.y), sides, strict=True)
        ]
        new = PointCost(points[0], points[1], _WithVirtual(given.cost_fn, corner))
    a = problem.a if row is None else jnp.append(problem.a, row)
    return Problem(new, a, jnp.append(problem.b, column))


def _start(init: tuple[Array, Array] | None, extended: Problem, epsilon: Array) -> Array | None:
    """The potential of the columns, the virtual one included: the soft minimum of the rows at cost zero."""
    if init is None:
        return None
    f, g = init
    a = extended.a[: f.shape[0]]
    return jnp.append(g, -epsilon * jax.scipy.special.logsumexp(f / epsilon, b=a))


def _without_virtual(coupling: EntropicCoupling, problem: Problem) -> EntropicCoupling:
    n, m = problem.shape
    parts = (problem, coupling.f[:n], coupling.g[:m])
    return eqx.tree_at(lambda c: (c.problem, c.f, c.g), coupling, parts)
