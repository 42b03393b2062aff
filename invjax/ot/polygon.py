"""Semi-discrete transport of the uniform law on a convex polygon: Newton's method on exact power cells."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Float, Int

from ..drive import solve
from ..implicit import frozen
from ..kernels.clouds import cloud, floating, masses
from ..types import select
from .laguerre import Cells, polygon_area, power_cells, require_convex
from .semidiscrete import SiteMap

_BACKTRACKS = 30


class PolygonTransport(eqx.Module):
    """The optimal map of the uniform law on a polygon to sites, its cells, and how it was found.

    ``cost`` is ``W_2^2``, exact; its derivatives are ``2 b_i (y_i - centroid_i)`` in the sites, g in the masses. ``residual`` is
    the L1 error of the masses of the cells; ``status`` one of ``invjax.Status``.
    """

    map: SiteMap
    cells: Cells
    cost: Float[Array, ""]
    residual: Float[Array, ""]
    status: Int[Array, ""]
    num_steps: Int[Array, ""]


class PolygonState(NamedTuple):
    """Potentials of the sites, and their cells."""

    position: Float[Array, " m"]
    cells: Cells


class PolygonInfo(NamedTuple):
    """``residual``: the L1 error of the masses."""

    residual: Float[Array, ""]
    step_size: Float[Array, ""]


class PolygonNewton(eqx.Module):
    """``g <- g + t H^{-1} (b - masses)`` with the Laplacian ``H_ij = -density length_ij / (2 |y_i - y_j|)`` of common edges.

    t is halved until no cell has less than half of the smallest mass of the start and of b, and the error falls by the factor
    ``1 - t / 2``: then the method converges from wherever all cells have mass, at the end quadratically.
    Source: Kitagawa, Merigot and Thibert (2019), J. Eur. Math. Soc. 21, algorithm 1.
    """

    sites: Float[Array, "m 2"]
    b: Float[Array, " m"]
    domain: Float[Array, "k 2"]
    smallest: Float[Array, ""]

    def init(self, g: Float[Array, " m"], key: Any = None) -> PolygonState:
        """Start at potentials for which every cell has mass."""
        return PolygonState(g, power_cells(self.sites, g, self.domain))

    def step(self, state: PolygonState) -> tuple[PolygonState, PolygonInfo]:
        """One damped Newton step."""
        g, cells = state
        shares, error = self.shares(cells), self.error(cells)
        direction = self._direction(cells, self.b - shares)

        def tried(t: Array) -> tuple[PolygonState, Array]:
            new = self.init(g + t * direction)
            least, reached = jnp.min(self.shares(new.cells)), self.error(new.cells)
            return new, (least >= self.smallest) & (reached <= (1 - t / 2) * error)

        def too_long(carry: Any) -> Array:
            count, _, _, good = carry
            return (count < _BACKTRACKS) & ~good

        def shorter(carry: Any) -> Any:
            count, t, _, _ = carry
            return count + 1, t / 2, *tried(t / 2)

        whole = jnp.ones_like(error)
        start = (jnp.zeros((), jnp.int32), whole, *tried(whole))
        _, t, new, good = jax.lax.while_loop(too_long, shorter, start)
        new = select(good, new, state)  # at the rounding of areas nothing is better
        return new, PolygonInfo(self.error(new.cells), jnp.where(good, t, 0))

    def shares(self, cells: Cells) -> Float[Array, " m"]:
        """Masses of the cells."""
        return cells.areas() / polygon_area(self.domain)

    def error(self, cells: Cells) -> Float[Array, ""]:
        """L1 error of the masses; infinite where a cell is incomplete."""
        return jnp.where(jnp.all(cells.complete), jnp.sum(jnp.abs(self.shares(cells) - self.b)), jnp.inf)

    def _direction(self, cells: Cells, right: Array) -> Array:
        m = self.sites.shape[0]
        across = jnp.minimum(cells.neighbours, m - 1)
        apart = jnp.linalg.norm(self.sites[across] - self.sites[:, None], axis=-1)
        weights = cells.edges() / (2 * polygon_area(self.domain) * jnp.where(apart > 0, apart, 1))
        weights = jnp.where((cells.neighbours < m) & (apart > 0), weights, 0)
        diagonal = jnp.sum(weights, 1)

        def laplacian(v: Array) -> Array:
            return diagonal * v - jnp.sum(weights * v[across], 1)

        tol = 1e-3 * jnp.minimum(1, jnp.sum(jnp.abs(right)))
        safe = jnp.where(diagonal > 0, diagonal, 1)
        v, _ = cg(laplacian, right - jnp.mean(right), M=lambda r: r / safe, tol=tol, maxiter=20 * m)
        return v - jnp.mean(v)


def polygon_transport(
    sites: Float[Array, "m 2"],
    b: Float[Array, " m"] | None = None,
    domain: Any = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)),
    *,
    atol: Any = None,
    max_steps: int = 100,
) -> PolygonTransport:
    """The optimal map for ``|x - y|^2`` of the uniform law on a convex polygon to sites of masses b, uniform by default.

    ``domain`` (k, 2) lists corners counter-clockwise, the unit square by default. Exact but for rounding: cells are polygons.
    Time O(m^2) a step. ``atol`` bounds the L1 error of the masses, the square root of the machine epsilon by default. The
    cost has first derivatives in sites and masses, potentials and cells have none.

    Raises ``ValueError`` for sites not in the plane or not distinct, masses that are not positive and of sum one, a domain that
    is not convex and counter-clockwise, and for second derivatives of the cost.
    """
    sites = cloud(sites, "sites", 2, 1)
    b = masses(b, sites, "b")
    if not isinstance(sites, jax.core.Tracer) and len(np.unique(np.asarray(sites), axis=0)) < len(sites):
        raise ValueError("sites: expected distinct points, got some twice: their cells would be the same")
    domain = floating(domain, "domain").astype(sites.dtype)
    require_convex(domain)
    if not isinstance(b, jax.core.Tracer) and not bool(jnp.all(b > 0)):
        raise ValueError(f"b: expected positive masses, got minimum {float(b.min())}")
    atol = float(jnp.finfo(sites.dtype).eps) ** 0.5 if atol is None else atol
    return _polygon_transport(sites, b, domain, jnp.asarray(atol, sites.dtype), max_steps)


@eqx.filter_jit
def _polygon_transport(sites: Array, b: Array, domain: Array, atol: Array, max_steps: int) -> PolygonTransport:
    still, masses, domain = frozen((sites, b, domain))
    start = _start(still, domain)
    method = PolygonNewton(still, masses, domain, jnp.zeros((), sites.dtype))
    least = jnp.min(method.shares(power_cells(still, start, domain)))
    method = eqx.tree_at(lambda method: method.smallest, method, jnp.minimum(least, jnp.min(masses)) / 2)
    found = solve(method, start, rtol=0.0, atol=atol, max_steps=max_steps)
    cells = power_cells(still, found.position, domain)
    cost = _cost(sites, b, found.position, cells, polygon_area(domain))
    return PolygonTransport(
        SiteMap(sites, found.position), cells, cost, method.error(cells), found.status, found.num_steps
    )


@jax.custom_jvp
def _cost(sites: Array, b: Array, g: Array, cells: Cells, area: Array) -> Array:
    """``W_2^2`` of cells that are optimal: it does not see them move (Danskin)."""
    return jnp.sum(cells.second_moments(sites)) / area


@_cost.defjvp
def _cost_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    sites, b, g, cells, _ = primals
    by_site, by_mass = _slopes(sites, b, g, cells.centroids())
    return _cost(*primals), jnp.vdot(by_site, tangents[0]) + jnp.vdot(by_mass, tangents[1])


@jax.custom_jvp
def _slopes(sites: Array, b: Array, g: Array, centroids: Array) -> tuple[Array, Array]:
    return 2 * b[:, None] * (sites - centroids), g


@_slopes.defjvp
def _slopes_jvp(primals: Any, tangents: Any) -> Any:
    raise ValueError("polygon_transport: expected first derivatives of the cost, got a second one: cells have none")


def _start(sites: Array, domain: Array) -> Array:
    """Potentials whose cells are the Voronoi cells of the sites shrunk into the domain: each of them has mass."""
    middle = jnp.mean(domain, 0)
    centre = (jnp.max(sites, 0) + jnp.min(sites, 0)) / 2
    edges = jnp.roll(domain, -1, 0) - domain
    normals = jnp.stack([edges[:, 1], -edges[:, 0]], 1)
    room = jnp.sum((domain - middle[None]) * normals, 1)
    reach = jnp.max((sites - centre[None]) @ normals.T, 0)
    ratio = jnp.minimum(1, 0.9 * jnp.min(room / jnp.maximum(reach, jnp.finfo(sites.dtype).tiny)))
    shrunk = middle[None] + ratio * (sites - centre[None])
    inside = jnp.all((sites - middle[None]) @ normals.T <= 0.99 * room[None])
    return jnp.where(inside, 0.0, jnp.sum(sites**2, 1) - jnp.sum(shrunk**2, 1) / ratio)
