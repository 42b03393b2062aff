"""Power cells of points in a convex polygon: areas, centroids and common edges, exactly.

The cell of site i is where ``|x - y_i|^2 - g_i`` is the least over the sites: the polygon cut by half-planes. Not all of them are
applied but, as long as one cuts, the one that is broken most, which takes about as many cuts as the cell has edges.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..eager import one_program
from ..kernels.clouds import cloud, floating
from ..types import require

_CORNERS = 28  # room for the corners of a cell beyond those of the domain: the mean number of edges is below six
_TOGETHER = 256  # cells that are cut at once


class Cells(NamedTuple):
    """Cells of m sites, as corners in order (unused ones repeat the last) and the site across the edge from each to the next.

    ``neighbours`` is m where that edge is one of the domain. ``complete`` is False where a cell had more corners than there
    is room for. An empty cell has all corners in one point.
    """

    corners: Float[Array, "m v 2"]
    neighbours: Int[Array, "m v"]
    complete: Bool[Array, " m"]

    def areas(self) -> Float[Array, " m"]:
        """Areas of the cells."""
        return polygon_area(self.corners)

    def centroids(self) -> Float[Array, "m 2"]:
        """Centroids of the cells; of an empty one its point."""
        start = self.corners[:, :1]
        c = self.corners - start
        following = jnp.roll(c, -1, 1)
        moments = jnp.sum((c + following) * _cross(c, following)[..., None], 1) / 6
        areas = self.areas()[:, None]
        return start[:, 0] + jnp.where(areas > 0, moments / jnp.where(areas > 0, areas, 1), 0)

    def second_moments(self, sites: Float[Array, "m 2"]) -> Float[Array, " m"]:
        """``int |x - y_i|^2 dx`` over the cells."""
        c = self.corners - sites[:, None]
        following = jnp.roll(c, -1, 1)
        terms = jnp.sum(c**2 + c * following + following**2, -1)
        # Corners relative to the site: the triangles from the site to the edges, with their signs.
        return jnp.sum(terms * _cross(c, following), 1) / 12

    def edges(self) -> Float[Array, "m v"]:
        """Lengths of the edges."""
        return jnp.linalg.norm(jnp.roll(self.corners, -1, 1) - self.corners, axis=-1)


def polygon_area(corners: Float[Array, "*batch v 2"]) -> Float[Array, "*batch"]:
    """Area of polygons, positive where corners are counter-clockwise."""
    c = corners - corners[..., :1, :]
    return jnp.sum(_cross(c, jnp.roll(c, -1, -2)), -1) / 2


def _cross(u: Array, v: Array) -> Array:
    return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]


class _Cell(NamedTuple):
    corners: Float[Array, "v 2"]
    neighbours: Int[Array, " v"]
    number: Int[Array, ""]
    applied: Bool[Array, " m"]
    cutting: Bool[Array, ""]


def power_cells(sites: Float[Array, "m 2"], g: Float[Array, " m"], domain: Float[Array, "k 2"]) -> Cells:
    """Cells of ``|x - y_i|^2 - g_i`` in a convex polygon with corners ``domain``, counter-clockwise. Time O(m^2), memory O(m).

    Of equal sites with equal potentials, each has the cell of all. Raises ``ValueError`` for sites not in the plane, shapes that
    do not fit, and a (known) domain that is not convex and counter-clockwise.
    """
    sites = cloud(sites, "sites", 2, 1)
    g, domain = floating(g, "g").astype(sites.dtype), floating(domain, "domain").astype(sites.dtype)
    require(g, "g", shape=sites.shape[:1])
    require_convex(domain)
    return _power_cells(sites, g, domain)


@one_program
def _power_cells(sites: Array, g: Array, domain: Array) -> Cells:
    m = sites.shape[0]
    heights = jnp.sum(sites**2, 1) - g
    scale = jnp.max(jnp.abs(domain)) * jnp.max(jnp.abs(sites)) + jnp.max(jnp.abs(heights))
    slack = 8 * jnp.finfo(sites.dtype).eps * scale

    def excess(corners: Array, i: Array) -> Array:
        """By how much corners (v, 2) are nearer to each site than to site i: (v, m)."""
        values = 2 * jnp.matmul(corners, sites.T, precision="highest") - heights[None]
        return values - values[:, i][:, None]

    def worst(cell: _Cell, i: Array) -> tuple[Array, Array, Array]:
        s = excess(cell.corners, i)
        broken = jnp.where(cell.applied, -jnp.inf, jnp.max(s, 0))
        j = jnp.argmax(broken).astype(jnp.int32)
        return j, s[:, j], (broken[j] > slack) & (cell.number > 0)

    def one(i: Array) -> _Cell:
        def cut(cell: _Cell) -> _Cell:
            j, s, cutting = worst(cell, i)
            applied = cell.applied | (jnp.arange(m) == j)
            new = _clip(cell, s, j)._replace(applied=applied, cutting=cutting)
            return jax.tree.map(lambda a, b: jnp.where(cutting, a, b), new, cell._replace(cutting=cutting))

        start = _start(domain, m, i)
        return jax.lax.while_loop(lambda cell: cell.cutting, cut, start)

    made = jax.lax.map(one, jnp.arange(m, dtype=jnp.int32), batch_size=min(m, _TOGETHER))
    return Cells(made.corners, made.neighbours, made.number <= made.corners.shape[1] - 2)


def _start(domain: Array, m: int, i: Array) -> _Cell:
    k = domain.shape[0]
    corners = jnp.concatenate([domain, jnp.broadcast_to(domain[-1:], (_CORNERS, 2))])
    neighbours = jnp.full((k + _CORNERS,), m, jnp.int32)
    return _Cell(corners, neighbours, jnp.asarray(k, jnp.int32), jnp.arange(m) == i, jnp.asarray(True))


def _clip(cell: _Cell, s: Float[Array, " v"], j: Array) -> _Cell:
    """The part of a cell where ``s <= 0``, given at the corners; the new edge is to site j. Corners outside are an arc."""
    slots = jnp.arange(s.shape[0])
    number = cell.number
    outside = (s > 0) & (slots < number)
    before = jnp.where(slots == 0, outside[number - 1], jnp.roll(outside, 1))
    first = jnp.argmax(~outside & before & (slots < number))  # the first corner inside after those outside
    inside = number - jnp.sum(outside)
    last = (first + inside - 1) % number

    def crossing(v: Array) -> Array:
        """Where the edge that starts at corner v changes sides."""
        w = (v + 1) % number
        t = s[v] / jnp.where(s[v] == s[w], 1, s[v] - s[w])
        return cell.corners[v] + t * (cell.corners[w] - cell.corners[v])

    entering = (first - 1) % number
    kept = (first + slots - 1) % number
    corners = jnp.where((slots == 0)[:, None], crossing(entering)[None], cell.corners[kept])
    corners = jnp.where((slots > inside)[:, None], crossing(last)[None], corners)
    neighbours = jnp.where(slots == 0, cell.neighbours[entering], cell.neighbours[kept])
    neighbours = jnp.where(slots > inside, j, neighbours)
    empty = inside == 0
    corners = jnp.where(empty, cell.corners[:1], corners)
    return cell._replace(
        corners=corners, neighbours=neighbours, number=jnp.where(empty, 0, inside + 2).astype(jnp.int32)
    )


def require_convex(domain: Array) -> None:
    """Raise ``ValueError`` for what is no polygon, and for a known one that is not convex and counter-clockwise."""
    if domain.ndim != 2 or domain.shape[1] != 2 or domain.shape[0] < 3:
        raise ValueError(f"domain: expected corners (k, 2) with k >= 3, got {domain.shape}")
    if isinstance(domain, jax.core.Tracer):
        return
    edges = np.roll(np.asarray(domain), -1, 0) - np.asarray(domain)
    following = np.roll(edges, -1, 0)
    turns = np.arctan2(_cross(edges, following), np.sum(edges * following, 1))
    if not (np.all(turns > 0) and np.sum(turns) < 3 * np.pi):  # a star turns left everywhere too, but twice around
        raise ValueError("domain: expected corners of a convex polygon, counter-clockwise")
