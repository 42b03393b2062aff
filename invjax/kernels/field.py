"""The kernel sum of fixed sources, tabulated once and read at many points."""

from __future__ import annotations

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..eager import one_program
from .base import RadialKernel
from .clouds import cloud
from .lines import GridLine, read_nodes
from .plan import Plan
from .sliced import batch_sizes, centred, holds, in_groups, or_nan
from .sums import checked_arguments


class SlicedField(eqx.Module):
    """``field(y) = sum_n w_n K(x_n, y)`` for sources that do not change: ``O(P M)`` for M points, whatever the number of sources.

    Made by ``tabulate_field``; ``field.gradient(y)`` is its gradient. ``nodes`` holds the sums and their two derivatives on the
    nodes of every line, three arrays (P, B), for the parameters of ``kernel`` at that time. NaN outside the radius of the plan,
    and everywhere if a source was outside.
    """

    nodes: tuple[Float[Array, "P B"], ...]
    kernel: RadialKernel
    plan: Plan
    inside: Bool[Array, ""]

    def __call__(self, y: Float[Array, "M d"]) -> Float[Array, " M"]:
        return _read(self, cloud(y, "y", self.plan.dim), False)[0]

    def gradient(self, y: Float[Array, "M d"]) -> Float[Array, "M d"]:
        """``grad_y`` of the field."""
        return _read(self, cloud(y, "y", self.plan.dim), True)[0]

    def checked_gradient(self, y: Float[Array, "M d"]) -> tuple[Float[Array, "M d"], Bool[Array, ""]]:
        """The gradient, and whether a point of ``y`` or a source is outside the radius of the plan."""
        gradient, inside = _read(self, cloud(y, "y", self.plan.dim), True)
        return gradient, ~inside


def tabulate_field(kernel: RadialKernel, x: Float[Array, "N d"], w: Float[Array, " N"], plan: Plan) -> SlicedField:
    """The field of the sources x with weights w.

    Raises ``ValueError`` for a plan whose method is not "grid", and as ``kernel_sum``.
    """
    if plan is None or plan.method != "grid":
        raise ValueError(f'plan: expected one of method "grid", got {None if plan is None else plan.method!r}')
    kernel, x, _, w = checked_arguments(kernel, x, x, w, plan)
    return _tabulated(kernel, x, w, plan)


@one_program
def _tabulated(kernel: RadialKernel, x: Array, w: Array, plan: Plan) -> SlicedField:
    line = plan.line(kernel, x.dtype)
    lines = [GridLine(line.coefficients[order:], plan.radius) for order in range(3)]
    points = centred(x, plan)

    def one(direction: Array) -> tuple[tuple[Array, ...], Array]:
        u = jnp.matmul(points, direction, precision="highest")
        spread = GridLine.spread(u, w, plan.radius, plan.num_nodes)
        return tuple(part.convolve(spread) for part in lines), holds(u, plan)

    nodes, inside = jax.lax.map(one, plan.directions.astype(x.dtype))
    return SlicedField(nodes, kernel, plan, jnp.all(inside) & plan.covers(kernel))


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
        inside &= holds(v, plan)
        weighted = weights[:, None] * values
        new = jnp.matmul(weighted.T, directions, precision="highest") if gradient else jnp.sum(weighted, 0)
        return (total + new, inside), None

    parts = (plan.directions.astype(y.dtype), plan.weights.astype(y.dtype), nodes)
    parts = jax.tree.map(lambda a: a.reshape(-1, batch, *a.shape[1:]), parts)
    start = jnp.zeros(y.shape if gradient else y.shape[:1], y.dtype), field.inside
    total, inside = jax.lax.scan(add, start, parts)[0]
    return or_nan(total, inside), inside
