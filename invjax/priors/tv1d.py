"""Total variation of signals, with the exact prox."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..types import real
from .base import Prior, as_point


class TV1D(Prior):
    """``lam sum |x[i + 1] - x[i]|`` along ``axis`` of a real array, every line by itself; the prox is exact.

    The prox is found by dynamic programming in linear time and memory, and is then the mean of x over every constant piece,
    moved by ``step_size lam`` times the difference of the signs of its two jumps over its length: so it is differentiable in
    both modes and to any order wherever the pieces do not change. ``TV1D(axis=0) + TV1D(axis=1)`` is the anisotropic ``TV``
    of an image. Raises ``ValueError`` for complex x. Source: Johnson (2013).
    """

    lam: Array = eqx.field(converter=real, default=1.0)
    axis: int = eqx.field(static=True, default=0)
    smooth: ClassVar[bool] = False

    def __call__(self, x):
        x = self._real(x)
        return self._weighted(jnp.sum(jnp.abs(jnp.diff(x, axis=self.axis))), x)

    def prox(self, x: Any, step_size: Any) -> Array:
        """The exact minimiser."""
        x = self._real(x)
        return _prox(x, self._threshold(x, step_size), self.axis)

    def _real(self, x: Any) -> Array:
        x = as_point(x)
        if jnp.iscomplexobj(x):
            raise ValueError(f"x: expected a real array for TV1D, got {x.dtype}")
        if not -x.ndim <= self.axis < x.ndim:
            raise ValueError(f"x: expected an array with axis {self.axis}, got shape {x.shape}")
        return x


@eqx.filter_jit
def _prox(x: Array, weight: Array, axis: int) -> Array:
    lines = jnp.moveaxis(x, axis, -1)
    flat = jax.vmap(_line, in_axes=(0, None))(lines.reshape(-1, lines.shape[-1]), weight)
    return jnp.moveaxis(flat.reshape(lines.shape), -1, axis)


def _line(x: Float[Array, " n"], weight: Array) -> Float[Array, " n"]:
    """Means over the constant pieces of the minimiser, which moves its jumps towards each other by ``weight``."""
    if x.size < 2:
        return x
    pattern = _minimiser(*jax.lax.stop_gradient((x, weight)))
    jump = jnp.sign(jnp.diff(pattern))
    piece = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(jump != 0, dtype=jnp.int32)])
    ends = jnp.zeros(1, x.dtype)
    pull = jnp.concatenate([jump, ends]) - jnp.concatenate([ends, jump])

    def total(values: Array) -> Array:
        return jax.ops.segment_sum(values, piece, x.size, indices_are_sorted=True)

    count = jnp.maximum(total(jnp.ones_like(x)), 1)
    return ((total(x) + weight * total(pull)) / count)[piece]


class _Forward(NamedTuple):
    """The forward pass at sample ``i``.

    The message is constant, ``-weight`` and ``weight``, at both ends; right of the place of knot ``first <= k <= last`` it gains
    ``slope b + offset``, ``knots[k] = (place, slope, offset)``. ``left`` and ``right`` are the lines (slope, offset) that
    have been reached from both sides in the search for where the new message leaves the interval; ``at_first`` and
    ``at_last`` are the knots that come next. (Read after the table is written, they let it be written in place.)
    """

    i: Int[Array, ""]
    knots: Float[Array, "m 3"]
    first: Int[Array, ""]
    last: Int[Array, ""]
    left: Float[Array, " 2"]
    right: Float[Array, " 2"]
    ends: Float[Array, "n 2"]
    at_first: Float[Array, " 3"]
    at_last: Float[Array, " 3"]


def _minimiser(x: Float[Array, " n"], weight: Array) -> Float[Array, " n"]:
    """Dynamic programming: ``f_i(b)``, the least value of the terms up to i with ``z_i = b``, is passed on by its derivative.

    ``f_i' = clip(f_(i-1)', -weight, weight) + b - x_i``. Where it is clipped, below ``low`` and above ``high``, the minimiser
    ``z_(i-1)`` for ``z_i = b`` stays behind; in between it equals b. So ``z_(i-1) = clip(z_i, low, high)``, backwards.
    """
    x = x - jnp.mean(x)  # offsets are sums of many x: smaller ones round less
    # Every knot is crossed once at most. A fixed count keeps the arrays in place under vmap, where a data-dependent loop
    # would copy them at every turn.
    forward = jax.lax.fori_loop(0, 3 * x.size, lambda _, f: _turn(f, x, weight), _start(x, weight))
    last = -forward.left[1] / forward.left[0]

    def backward(z: Array, ends: Array) -> tuple[Array, Array]:
        z = jnp.clip(z, ends[0], ends[1])
        return z, z

    return jnp.append(jax.lax.scan(backward, last, forward.ends[:-1], reverse=True)[1], last)


def _start(x: Float[Array, " n"], weight: Array) -> _Forward:
    """The message ``clip(b - x_0, -weight, weight)``, with room for one more knot on each side per sample."""
    n, one = x.size, jnp.ones_like(weight)
    low, high = x[0] - weight, x[0] + weight
    knots = jnp.stack([jnp.stack([low, one, -low]), jnp.stack([high, -one, high])])
    knots = jnp.zeros((2 * n, 3), x.dtype).at[n - 1 : n + 1].set(knots)
    ends = jnp.zeros((n, 2), x.dtype).at[0].set(jnp.stack([low, high]))
    i, first, last = (jnp.asarray(k, jnp.int32) for k in (1, n - 1, n))
    return _Forward(i, knots, first, last, *_outer_lines(x[1], weight), ends, knots[n - 1], knots[n])


def _outer_lines(value: Array, weight: Array) -> tuple[Array, Array]:
    """The new message left and right of all knots: ``b - value`` minus and plus the weight."""
    one = jnp.ones_like(weight)
    return jnp.stack([one, -weight - value]), jnp.stack([one, weight - value])


def _turn(f: _Forward, x: Float[Array, " n"], weight: Array) -> _Forward:
    """Cross one knot from either side; or, where neither search has to go on, store the clipped message and take a sample."""
    n, final = x.size, f.i == x.size - 1
    level = jnp.where(final, 0, weight)  # the last message is minimised: the zero of its derivative
    a, b = f.at_first, f.at_last
    from_left = (f.first <= f.last) & (f.left[0] * a[0] + f.left[1] <= -level)
    behind = f.first + from_left.astype(jnp.int32)
    from_right = (behind <= f.last) & (f.right[0] * b[0] + f.right[1] >= level) & ~final
    store = ~(from_left | from_right | final)

    low, high = (-weight - f.left[1]) / f.left[0], (weight - f.right[1]) / f.right[0]
    begin = jnp.stack([low, f.left[0], f.left[1] + weight])
    end = jnp.stack([high, -f.right[0], weight - f.right[1]])
    knots = f.knots.at[jnp.where(store, f.first - 1, 2 * n)].set(begin, mode="drop")
    knots = knots.at[jnp.where(store, f.last + 1, 2 * n)].set(end, mode="drop")
    ends = f.ends.at[jnp.where(store, f.i, n)].set(jnp.stack([low, high]), mode="drop")

    left, right = _outer_lines(x[jnp.minimum(f.i + 1, n - 1)], weight)
    taken = store.astype(jnp.int32)
    first, last = behind - taken, f.last - from_right.astype(jnp.int32) + taken
    return _Forward(
        i=f.i + taken,
        knots=knots,
        first=first,
        last=last,
        at_first=knots[first],
        at_last=knots[last],
        left=jnp.where(store, left, f.left + jnp.where(from_left, a[1:], 0)),
        right=jnp.where(store, right, f.right - jnp.where(from_right, b[1:], 0)),
        ends=ends,
    )
