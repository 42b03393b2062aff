"""Reducers: what a driver keeps of a run, in memory that the user chooses.

A reducer is a Module with three pure functions: ``init(value, num) -> acc`` (``value`` has the shape of one observation,
``num`` is the largest number of observations), ``update(acc, value, i) -> acc`` for the i-th observation, and
``finalize(acc) -> result``. The observation is ``of(state, info)``, the position by default; an ``of`` with arrays is a
Module or ``types.Fn``. A pytree of reducers (a dict, say) is a reducer too.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .types import real, require, select


def position(state: Any, info: Any) -> PyTree:
    """The observation that reducers keep by default: ``state.position``."""
    return state.position


class Reducer(eqx.Module):
    """Base class: the user's own reducers define ``init``, ``update`` and ``finalize``."""

    of: Callable = eqx.field(default=position, kw_only=True)

    @abc.abstractmethod
    def init(self, value: PyTree, num: int) -> PyTree:
        """Accumulator for at most ``num`` observations of the shape of ``value``."""

    @abc.abstractmethod
    def update(self, acc: PyTree, value: PyTree, i: Array) -> PyTree:
        """Accumulator after the ``i``-th observation (0 is the first)."""

    @abc.abstractmethod
    def finalize(self, acc: PyTree) -> PyTree:
        """Result of the run."""


class Every(Reducer):
    """Every ``k``-th observation, stacked: result ``[ceil(num / k), ...]``.

    Rows that a run did not reach (``solve`` that stops early) hold NaN in floating and 0 in integer results.
    """

    k: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        if self.k < 1:
            raise ValueError(f"k: expected a positive integer, got {self.k}")

    def init(self, value, num):
        rows = -(-num // self.k)
        return jax.tree.map(lambda v: jnp.full((rows, *v.shape), _missing(v.dtype), v.dtype), value)

    def update(self, acc, value, i):
        row = i // self.k
        first = i % self.k == 0
        return jax.tree.map(
            lambda a, v: a if a.shape[0] == 0 else a.at[row].set(jnp.where(first, v, a[row])), acc, value
        )

    def finalize(self, acc):
        return acc


def _missing(dtype: Any) -> Any:
    return jnp.nan if jnp.issubdtype(dtype, jnp.inexact) else 0


class Last(Reducer):
    """The last observation."""

    def init(self, value, num):
        return jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), value)

    def update(self, acc, value, i):
        return value

    def finalize(self, acc):
        return acc


class MomentsResult(NamedTuple):
    """Mean, variance (divided by count - 1, as an estimate of the population's) and number of observations."""

    mean: PyTree
    variance: PyTree
    count: Array  # type: ignore[assignment]  # hides tuple.count, which nobody calls

    @property
    def std(self) -> PyTree:
        """Standard deviation, the square root of ``variance``."""
        return jax.tree.map(jnp.sqrt, self.variance)


class _Welford(NamedTuple):
    first: PyTree  # first observation: the sums are of differences from it
    mean: PyTree
    squares: PyTree
    count: Array  # type: ignore[assignment]


class Moments(Reducer):
    """Running mean and variance (Welford 1962): memory of three observations whatever the length of the run.

    Sums are of differences from the first observation, so that a mean far from zero costs no accuracy (float32 keeps
    a standard deviation of 1 around 1e6). For complex observations the variance is ``E|z - Ez|^2``.
    """

    def init(self, value, num):
        zeros = jax.tree.map(lambda v: jnp.zeros(v.shape, _at_least_float32(v.dtype)), value)
        return _Welford(zeros, zeros, jax.tree.map(lambda z: z.real, zeros), jnp.zeros((), jnp.int32))

    def update(self, acc, value, i):
        count = acc.count + 1
        value = jax.tree.map(lambda v, m: v.astype(m.dtype), value, acc.mean)
        first = select(acc.count == 0, value, acc.first)
        shifted = jax.tree.map(jnp.subtract, value, first)
        delta = jax.tree.map(jnp.subtract, shifted, acc.mean)
        mean = jax.tree.map(lambda m, d: m + d / count.astype(m.dtype), acc.mean, delta)
        squares = jax.tree.map(lambda s, d, v, m: s + (jnp.conj(d) * (v - m)).real, acc.squares, delta, shifted, mean)
        return _Welford(first, mean, squares, count)

    def finalize(self, acc):
        dof = jnp.maximum(acc.count - 1, 1)
        mean = jax.tree.map(jnp.add, acc.first, acc.mean)
        return MomentsResult(mean, jax.tree.map(lambda s: s / dof.astype(s.dtype), acc.squares), acc.count)


def _at_least_float32(dtype: Any) -> Any:
    """Accumulator for observations of ``dtype``: float32 for integers and 16-bit types, else the same."""
    wide = jnp.issubdtype(dtype, jnp.inexact) and jnp.finfo(dtype).bits >= 32
    return dtype if wide else jnp.dtype(jnp.float32)


class BestResult(NamedTuple):
    """Smallest value of the objective and the position that had it."""

    value: Array
    position: PyTree


class ArgBest(Reducer):
    """The position with the smallest ``objective(position)`` seen: ``ArgBest(Fn(loss, target))``."""

    objective: Callable

    def init(self, value, num):
        value = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), value)
        shape = jax.eval_shape(self.objective, value)
        return BestResult(jnp.full(shape.shape, jnp.inf, shape.dtype), value)

    def update(self, acc, value, i):
        new = self.objective(value)
        return select(new < acc.value, BestResult(new, value), acc)

    def finalize(self, acc):
        return acc


class _Markers(NamedTuple):
    height: tuple[Array, ...]  # five of [k, *shape]: marker heights; height[2] is the running quantile
    place: tuple[
        Array, ...
    ]  # three of [k, *shape]: positions of the inner markers, 1-based (the outer are 1 and count)
    count: Array  # type: ignore[assignment]  # hides tuple.count


class Quantiles(Reducer):
    """Running quantiles by the P-square algorithm (Jain and Chlamtac, Comm. ACM 1985): no sample is kept.

    ``probs`` are in (0, 1); the result has shape ``[len(probs), *observation]`` for one real array per observation.
    Memory is eight observations per probability. The algorithm is exact up to five observations; later it interpolates
    between five points of the distribution function. Root mean square difference from the exact sample quantile for
    independent normal draws, in standard deviations: 0.03 after 500 draws and 0.005 after 5000 for probabilities from
    0.25 to 0.75, half of the Monte Carlo error at most; 0.06 and 0.025 at 0.05 and 0.95, comparable to it. In the tails
    the markers can stick: one run in a thousand is off by 0.3 or more.
    """

    probs: Float[Array, " k"] = eqx.field(converter=real)

    def __check_init__(self):
        require(self.probs, "probs", positive=True, below=1.0, ndim=1)

    def init(self, value, num):
        if not isinstance(value, (jax.Array, jax.ShapeDtypeStruct)) or jnp.issubdtype(value.dtype, jnp.complexfloating):
            raise ValueError(f"of: expected one real array per observation, got {value}")
        shape, dtype = (self.probs.shape[0], *value.shape), _at_least_float32(value.dtype)
        height = tuple(jnp.full(shape, jnp.inf, dtype) for _ in range(5))
        place = tuple(jnp.full(shape, i, dtype) for i in (2, 3, 4))
        return _Markers(height, place, jnp.zeros((), jnp.int32))

    def update(self, acc, value, i):
        # Both phases are computed and one is selected: separate arrays and elementwise maps fuse into one pass, where a
        # branch would become a select anyhow under vmap.
        x = value[None].astype(acc.height[0].dtype)
        prob = self.probs.astype(x.dtype).reshape((-1,) + (1,) * value.ndim)
        late = _psquare(prob, acc.height, acc.place, x, (acc.count + 1).astype(x.dtype))
        first = acc.count < 5
        height, place = select(first, (_insert(acc.height, x), acc.place), late)
        return _Markers(height, place, acc.count + 1)

    def finalize(self, acc):
        few = jnp.clip(jnp.round(self.probs * (acc.count - 1).astype(self.probs.dtype)), 0, 4).astype(jnp.int32)
        row = jnp.where(acc.count > 5, 2, few)
        return jax.vmap(lambda h, r: h[r])(jnp.stack(acc.height, axis=1), row)


def _insert(sorted_values: tuple[Array, ...], x: Array) -> tuple[Array, ...]:
    """The smallest values of a sorted tuple (padded with infinity) and ``x``, sorted."""
    below = (jnp.full_like(sorted_values[0], -jnp.inf), *sorted_values[:-1])
    return tuple(jnp.minimum(v, jnp.maximum(b, x)) for b, v in zip(below, sorted_values, strict=True))


def _psquare(
    prob: Array, height: tuple[Array, ...], place: tuple[Array, ...], x: Array, count: Array
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """One P-square update of marker heights and inner positions with observation number ``count``."""
    q = [jnp.minimum(height[0], x), *height[1:4], jnp.maximum(height[4], x)]
    inner = [n + (x < h).astype(n.dtype) for n, h in zip(place, height[1:4], strict=True)]
    n = [jnp.ones_like(inner[0]), *inner, jnp.zeros_like(inner[0]) + count]
    for i, rate in ((1, prob / 2), (2, prob), (3, (1 + prob) / 2)):
        gap = 1 + (count - 1) * rate - n[i]
        up = (gap >= 1) & (n[i + 1] - n[i] > 1)
        down = (gap <= -1) & (n[i] - n[i - 1] > 1)
        d = up.astype(x.dtype) - down.astype(x.dtype)
        q[i] = jnp.where(up | down, _marker(q, n, i, d), q[i])
        n[i] = n[i] + d
    return tuple(q), tuple(n[1:4])


def _marker(q: list[Array], n: list[Array], i: int, d: Array) -> Array:
    """Height of marker i after a move by d: parabolic when that keeps the order of the markers, else linear."""
    up, down = (q[i + 1] - q[i]) / (n[i + 1] - n[i]), (q[i] - q[i - 1]) / (n[i] - n[i - 1])
    parabola = q[i] + d / (n[i + 1] - n[i - 1]) * ((n[i] - n[i - 1] + d) * up + (n[i + 1] - n[i] - d) * down)
    ordered = (q[i - 1] < parabola) & (parabola < q[i + 1])
    return jnp.where(ordered, parabola, q[i] + d * jnp.where(d > 0, up, down))
