"""Semi-discrete transport: from a law that can be sampled to finitely many sites, each of which gets the mass of its cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..kernels.clouds import cloud, masses
from ..types import real, require
from .costs import PointCost, SquaredEuclidean, map_rows
from .softmin import softmin_of


class SiteMap(eqx.Module):
    """``T(x) = y_j`` with j the least of ``c(x, y_j) - g_j``: the optimal map of every law to its image under it.

    ``sites`` are the points y (m, d), ``g`` (m,) their potentials. Piecewise constant, so without a derivative in x.
    """

    sites: Float[Array, "m d"]
    g: Float[Array, " m"]
    cost_fn: Any = SquaredEuclidean()

    @eqx.filter_jit
    def cells(self, x: Float[Array, "n d"]) -> Int[Array, " n"]:
        """The index of the site of every point, in memory of a tile of points."""
        cost = PointCost(cloud(x, "x", self.sites.shape[1]), self.sites, self.cost_fn)
        return map_rows(cost, lambda c: jnp.argmin(c - self.g[None], 1).astype(jnp.int32))

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The site of every point."""
        return self.sites[self.cells(x)]

    def shares(self, x: Float[Array, "n d"]) -> Float[Array, " m"]:
        """The share of the points that every site gets."""
        counts = jnp.zeros(self.g.shape, self.g.dtype).at[self.cells(x)].add(1)
        return counts / x.shape[0]

    @property
    def heights(self) -> Float[Array, " m"]:
        """``h``, of mean zero, of Brenier's potential ``max_j <x, y_j> + h_j``, whose gradient is the map for ``|x - y|^2``."""
        h = (self.g - jnp.sum(self.sites**2, 1)) / 2
        return h - jnp.mean(h)


class SemiDiscreteState(NamedTuple):
    """The averaged potential, the last one, and the number of steps done."""

    position: Float[Array, " m"]
    last: Float[Array, " m"]
    done: Int[Array, ""]


class SemiDiscreteInfo(NamedTuple):
    """``shares``: what every site got of the sample. ``residual``: the L1 distance of it from b; noise is part of it."""

    shares: Float[Array, " m"]
    residual: Float[Array, ""]


class SemiDiscrete(eqx.Module):
    """Averaged stochastic ascent of ``E_x[min_j c(x, y_j) - g_j] + <b, g>``: ``g <- g + h / sqrt(k) (b - shares)``.

    A random method for ``iterate``; the position is the average of the potentials with weights ``k^2``, which forgets the
    start, and ``method.map(position)`` is the map. ``source(key, num)`` draws points (num, d), ``batch_size`` a step, which
    should be several times m. The default h is three m times what the second nearest site costs a point of the source more than
    the nearest, on average: the scale of potentials that move cells. ``epsilon > 0`` splits the mass of a point by ``b_j
    exp((g_j - c) / epsilon)``. The error of the averaged objective falls as ``1 / sqrt(k)``.

    Raises ``ValueError`` for sites and masses that do not fit.
    Source: Genevay, Cuturi, Peyre and Bach (2016), NeurIPS, algorithm 2.
    """

    source: Callable[[PRNGKeyArray, int], Array]
    sites: Float[Array, "m d"]
    b: Float[Array, " m"]
    epsilon: Float[Array, ""]
    step_size: Float[Array, ""]
    cost_fn: Any
    batch_size: int = eqx.field(static=True)

    def __init__(
        self,
        source: Callable[[PRNGKeyArray, int], Array],
        sites: Any,
        b: Any = None,
        *,
        step_size: Any = None,
        epsilon: Any = 0.0,
        cost_fn: Any = SquaredEuclidean(),
        batch_size: int = 1024,
    ):
        self.source, self.cost_fn, self.batch_size = source, cost_fn, batch_size
        self.sites = cloud(sites, "sites", fewest=1)
        self.b = masses(b, self.sites, "b")
        require(epsilon, "epsilon", nonnegative=True, shape=())
        self.epsilon = jnp.asarray(real(epsilon), self.sites.dtype)
        if step_size is None:
            step_size = 3 * self.sites.shape[0] * self._spread()
        require(step_size, "step_size", positive=True, shape=())
        self.step_size = jnp.asarray(real(step_size), self.sites.dtype)

    def init(self, g: Float[Array, " m"], key: Any = None) -> SemiDiscreteState:
        """Start at potentials of the sites."""
        require(g, "g", shape=self.b.shape)
        return SemiDiscreteState(g, g, jnp.zeros((), jnp.int32))

    def step(self, key: PRNGKeyArray, state: SemiDiscreteState) -> tuple[SemiDiscreteState, SemiDiscreteInfo]:
        """One step with a fresh sample."""
        shares = self.shares(state.last, self.source(key, self.batch_size).astype(self.sites.dtype))
        count = state.done + 1
        step = self.step_size / jnp.sqrt(count.astype(self.sites.dtype))
        last = state.last + step * (self.b - shares)
        last = last - jnp.vdot(self.b, last)
        weight = 3 / (count.astype(self.sites.dtype) + 2)
        position = state.position + weight * (last - state.position)
        return SemiDiscreteState(position, last, count), SemiDiscreteInfo(shares, jnp.sum(jnp.abs(shares - self.b)))

    def shares(self, g: Float[Array, " m"], x: Float[Array, "n d"]) -> Float[Array, " m"]:
        """The share of the points that every site gets."""

        def of_rows(c: Array) -> Array:
            hard = jax.nn.one_hot(jnp.argmin(c - g[None], 1), c.shape[1], dtype=c.dtype)
            soft = softmin_of(c, g, self.b, jnp.where(self.epsilon > 0, self.epsilon, 1))[1] * self.b[None]
            return jnp.where(self.epsilon > 0, soft, hard)

        return jnp.mean(map_rows(PointCost(x, self.sites, self.cost_fn), of_rows), 0)

    def map(self, g: Float[Array, " m"]) -> SiteMap:
        """The map of potentials."""
        return SiteMap(self.sites, g, self.cost_fn)

    def _spread(self) -> Array:
        """By how much the second nearest site costs more than the nearest, on average over a sample of the source."""
        if self.sites.shape[0] == 1:
            return jnp.ones((), self.sites.dtype)
        x = self.source(jax.random.key(0), 1024).astype(self.sites.dtype)

        def difference(c: Array) -> Array:
            nearest = jnp.argmin(c, 1)[:, None] == jnp.arange(c.shape[1])[None]
            return jnp.min(jnp.where(nearest, jnp.inf, c), 1) - jnp.min(c, 1)

        found = jnp.mean(map_rows(PointCost(x, self.sites, self.cost_fn), difference))
        return jnp.maximum(found, jnp.finfo(found.dtype).tiny)
