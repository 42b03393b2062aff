"""The kernel sum of fixed sources, tabulated once and read at many points."""

from __future__ import annotations

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..eager import one_program
from .base import RadialKernel
from .lines import GridLine, read_nodes
from .plan import Plan
from .sliced import batch_sizes, centred, in_groups


class SlicedField(eqx.Module):
    """``field(y) = sum_n w_n K(x_n, y)`` for sources that do not change: ``O(P M)`` for M points, whatever the number of sources.

    Made by ``tabulate_field``; ``field.gradient(y)`` is its gradient. ``nodes`` holds the sums and their two derivatives on the
    nodes of every line, three arrays (P, B).
    """

    nodes: tuple[Float[Array, "P B"], ...]
    plan: Plan

    def __call__(self, y: Float[Array, "M d"]) -> Float[Array, " M"]:
        return _read(self, jnp.asarray(y), False)[0]

    def gradient(self, y: Float[Array, "M d"]) -> Float[Array, "M d"]:
        """``grad_y`` of the field."""
        return _read(self, jnp.asarray(y), True)[0]

    def checked_gradient(self, y: Float[Array, "M d"]) -> tuple[Float[Array, "M d"], Bool[Array, ""]]:
        """The gradient, and whether a point left the radius of the plan."""
        gradient, inside = _read(self, jnp.asarray(y), True)
        return gradient, ~inside


@one_program
def tabulate_field(kernel: RadialKernel, x: Float[Array, "N d"], w: Float[Array, " N"], plan: Plan) -> SlicedField:
    """The field of the sources x with weights w. Raises ``ValueError`` for a plan whose method is not "grid"."""
    plan.require(kernel)
    if plan.method != "grid":
        raise ValueError(f'plan: expected one of method "grid", got {plan.method!r}')
    x, w = jnp.asarray(x), jnp.asarray(w)
    line = plan.line(kernel, x.dtype)
    lines = [GridLine(line.coefficients[order:], plan.radius) for order in range(3)]
    points = centred(x, plan)

    def one(direction: Array) -> tuple[Array, ...]:
        u = jnp.matmul(points, direction, precision="highest")
        spread = GridLine.spread(u, w, plan.radius, plan.num_nodes)
        return tuple(part.convolve(spread) for part in lines)

    return SlicedField(jax.lax.map(one, plan.directions.astype(x.dtype)), plan)


@one_program
def _read(field: SlicedField, y: Array, gradient: bool) -> tuple[Array, Array]:
    plan = field.plan
    points = centred(y, plan)
    batch, group = batch_sizes(plan.num_slices, plan.dim, y.shape[0])
    radius = jax.lax.stop_gradient(plan.radius).astype(y.dtype)
    nodes = tuple(a.astype(y.dtype) for a in field.nodes[int(gradient) :])

    @partial(jax.checkpoint, prevent_cse=False)
    def add(carry: tuple[Array, Array], part: tuple) -> tuple[tuple[Array, Array], None]:
        total, inside = carry
        directions, weights, nodes = part
        v = jnp.matmul(directions, points.T, precision="highest")
        values = in_groups(lambda line: read_nodes(*line, radius), (nodes, v), batch, group, y.shape[0])
        inside &= jnp.all(jnp.abs(jax.lax.stop_gradient(v)) <= radius)
        weighted = weights[:, None] * values
        new = jnp.matmul(weighted.T, directions, precision="highest") if gradient else jnp.sum(weighted, 0)
        return (total + new, inside), None

    parts = (plan.directions.astype(y.dtype), plan.weights.astype(y.dtype), nodes)
    parts = jax.tree.map(lambda a: a.reshape(-1, batch, *a.shape[1:]), parts)
    start = jnp.zeros(y.shape if gradient else y.shape[:1], y.dtype), jnp.asarray(True)
    return jax.lax.scan(add, start, parts)[0]
