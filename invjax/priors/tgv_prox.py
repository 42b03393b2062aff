"""Second-order total generalised variation: value and prox by the primal-dual method of Chambolle and Pock (2011).

``min over (z, w) of c (|D z - w| + ratio |E w|) + |z - x|^2 / 2``; for the value ``z = x`` is kept. The dual variables ``p`` and
``q`` of the two norms are kept normalised (in balls of radius 1 and ``ratio``, whatever c), so that they are a good start
when c or x change. At the solution ``p = E^H q``, so ``E^H q`` scaled into its ball gives a dual point and the duality gap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..operators.structure import scale
from ..types import squared
from .acceleration import BLOCK, search
from .variation import Field, Grouping, adjoint, difference, difference_adjoint, differences

_TAU = 0.05  # of 0.02 to 1, 0.02 was fastest for a noisy photograph with values in [0, 1] and 0.1 for unit noise
_RELAXATION = 1.9


class TGVState(NamedTuple):
    """Image ``z``, field ``w``, dual variables ``p`` (as w) and ``q`` (as ``symmetrised(w)``); channels first."""

    z: Array
    w: Field
    p: Field
    q: Field


def symmetrised(w: Field, boundary: str) -> Field:
    """``E w = (J + J^T) / 2``, J the forward differences of w: diagonal first, then the others times ``sqrt 2``.

    Without wrap-around the last entry of ``w_i`` along axis i belongs to no pair of pixels (``D`` is zero there), so no
    difference is taken to it: the differences of an affine image are in the null space.
    """
    own = (_inside(difference, v, axis, boundary) for axis, v in enumerate(w, 1))
    mixed = (difference(w[i], j + 1, boundary) + difference(w[j], i + 1, boundary) for i, j in _pairs(len(w)))
    return (*own, *(m / math.sqrt(2) for m in mixed))


def symmetrised_adjoint(q: Field, boundary: str) -> Field:
    """Adjoint of ``symmetrised``."""
    dims = q[0].ndim - 1
    w = [_inside(difference_adjoint, v, axis, boundary) for axis, v in enumerate(q[:dims], 1)]
    for (i, j), m in zip(_pairs(dims), q[dims:], strict=True):
        half = m / math.sqrt(2)
        w[i] = w[i] + difference_adjoint(half, j + 1, boundary)
        w[j] = w[j] + difference_adjoint(half, i + 1, boundary)
    return tuple(w)


def _pairs(dims: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(dims) for j in range(i + 1, dims)]


def _inside(fn: Callable, v: Array, axis: int, boundary: str) -> Array:
    """``fn`` on all but the last entries along ``axis``, and zero there; on everything with wrap-around."""
    if boundary == "circular":
        return fn(v, axis, boundary)
    kept = jax.lax.slice_in_dim(v, 0, v.shape[axis] - 1, axis=axis)
    padding = [(0, int(a == axis)) for a in range(v.ndim)]
    return jnp.pad(fn(kept, axis, boundary) if kept.size else kept, padding)


class TGVProblem(eqx.Module):
    """The data of the problem; ``weight`` is ``c``, and ``denoise=False`` keeps ``z = x``."""

    x: Array
    weight: Array
    ratio: Array
    grouping: Grouping = eqx.field(static=True)
    boundary: str = eqx.field(static=True)
    denoise: bool = eqx.field(static=True)

    def start(self) -> TGVState:
        """``z = x``, ``w = D x`` for the value and 0 for the prox, zero dual variables."""
        slope = differences(self.x, self.boundary)
        zero = jax.tree.map(jnp.zeros_like, slope)
        q = jax.tree.map(jnp.zeros_like, symmetrised(slope, self.boundary))
        return TGVState(self.x, zero if self.denoise else slope, zero, q)

    def apply(self, z: Array, w: Field) -> tuple[Field, Field]:
        """``(D z - w, E w)``."""
        slope = tuple(s - v for s, v in zip(differences(z, self.boundary), w, strict=True))
        return slope, symmetrised(w, self.boundary)

    def adjoint(self, p: Field, q: Field) -> tuple[Array, Field]:
        """``(D^H p, E^H q - p)``."""
        bend = symmetrised_adjoint(q, self.boundary)
        return adjoint(p, self.boundary), tuple(b - a for a, b in zip(p, bend, strict=True))

    def fixed_point(self, state: TGVState) -> TGVState:
        """One over-relaxed iteration (Condat 2013): primal and dual steps with ``tau sigma |K|^2 = 1``."""
        dims = max(1, sum(n > 1 for n in self.x.shape[1:]))
        squared_norm = (8 * dims + 1 + math.sqrt(16 * dims + 1)) / 2  # of K = (D, -I; 0, E) with |D|^2, |E|^2 <= 4 dims
        # A weight of zero would divide by zero; below this floor the steps are only shorter than they could be.
        floor = float(jnp.finfo(self.weight.dtype).tiny) ** 0.25
        sigma = 1 / (_TAU * squared_norm * jnp.maximum(self.weight, floor))
        pull, drift = self.adjoint(state.p, state.q)
        z = state.z
        if self.denoise:
            z = (z + _TAU * (self.x - scale(self.weight, pull))) / (1 + _TAU)
        w = _plus(state.w, drift, -_TAU * self.weight)
        slope, bend = self.apply(2 * z - state.z, tuple(2 * a - b for a, b in zip(w, state.w, strict=True)))
        p = self.grouping.project(_plus(state.p, slope, sigma))
        q = _times(self.ratio, self.grouping.project(_times(1 / self.ratio, _plus(state.q, bend, sigma))))
        return jax.tree.map(lambda old, new: old + _RELAXATION * (new - old), state, TGVState(z, w, p, q))

    def certificate(self, state: TGVState) -> tuple[Field, Field]:
        """A feasible dual point ``(E^H q, q)``, q scaled into its constraints."""
        p = symmetrised_adjoint(state.q, self.boundary)
        largest = [jnp.max(n) for n in self.grouping.norms(p)]
        largest += [jnp.max(n) / self.ratio for n in self.grouping.norms(state.q)]
        shrink = 1 / jnp.maximum(1, jnp.max(jnp.stack(largest)))
        return _times(shrink, p), _times(shrink, state.q)

    def gap(self, state: TGVState) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Duality gap and primal objective; ``|z - exact|^2 <= 2 gap``. Sums of terms none of which is negative."""
        p, q = self.certificate(state)
        slope, bend = self.apply(state.z, state.w)
        terms = ((slope, p, 1), (bend, q, self.ratio))
        size = [total(self.grouping.norms(v)) * radius for v, _, radius in terms]
        excess = [self._excess(v, dual, radius) for v, dual, radius in terms]
        gap, objective = (self.weight * (a + b) for a, b in (excess, size))
        if self.denoise:
            pull = adjoint(p, self.boundary)
            gap = gap + jnp.sum(squared(state.z - self.x + scale(self.weight, pull))) / 2
            objective = objective + jnp.sum(squared(state.z - self.x)) / 2
        return gap, objective

    def _excess(self, v: Field, dual: Field, radius: Array | int) -> Array:
        """Sum of ``radius |v| - <dual, v>`` over the groups."""
        products = self.grouping.gather(tuple((jnp.conj(a) * b).real for a, b in zip(dual, v, strict=True)))
        return total(
            tuple(jnp.maximum(radius * n - t, 0) for n, t in zip(self.grouping.norms(v), products, strict=True))
        )

    def advance(self, state: TGVState, num_inner: int) -> TGVState:
        """``num_inner`` iterations."""
        return jax.lax.fori_loop(0, num_inner, lambda _, s: self.fixed_point(s), state)

    def search(self, rtol: Array, max_inner: int) -> TGVState:
        """Iterations until the gap is at most ``rtol`` times the objective, or what rounding leaves: ``eps / tau`` of ``|x|``."""
        rounding = (jnp.finfo(self.weight.dtype).eps / _TAU) ** 2 * jnp.sum(squared(self.x)) if self.denoise else 0

        def block(state: TGVState) -> tuple[TGVState, Array]:
            state = self.advance(state, BLOCK)
            gap, objective = self.gap(state)
            return state, ~(gap > jnp.maximum(rtol * objective, rounding))  # a NaN stops too

        return search(block, self.start(), max_inner)


def total(parts: Field) -> Float[Array, ""]:
    """Sum over all entries of all parts."""
    return sum((jnp.sum(v) for v in parts[1:]), jnp.sum(parts[0]))


def _plus(a: Field, b: Field, factor: Array) -> Field:
    return tuple(u + scale(factor, v) for u, v in zip(a, b, strict=True))


def _times(factor: Array, field: Field) -> Field:
    return tuple(scale(factor, v) for v in field)
