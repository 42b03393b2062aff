"""Finite groups that permute pixels, so with exact inverses: reflections, quarter turns, both, and circular shifts."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..types import require
from .base import Transform


class Reflect(Transform):
    """Flips along ``axes``: ``g`` is an integer array, 1 where an axis is flipped. A group of ``2^len(axes)`` elements."""

    axes: tuple[int, ...] = eqx.field(static=True, default=(0, 1))

    def sample(self, key):
        return jax.random.bernoulli(key, shape=(len(self.axes),)).astype(int)

    def check(self, g, x):
        super().check(g, x)
        require(g, "g", shape=(len(self.axes),))
        _require_axes(self.axes, x)

    def apply(self, g, x):
        for flag, axis in zip(g, self.axes, strict=True):
            x = jnp.where(flag != 0, jnp.flip(x, axis), x)
        return x

    def inverse(self, g):
        return g

    def compose(self, g, h):
        return (g + h) % 2

    def elements(self):
        return jnp.asarray(list(itertools.product((0, 1), repeat=len(self.axes))))

    @property
    def unitary(self):
        return True

    @property
    def permutation(self):
        return True


class QuarterTurns(Transform):
    """Rotations of square images by ``g`` quarter turns, counter-clockwise as in ``numpy.rot90``: the cyclic group of 4."""

    def sample(self, key):
        return jax.random.randint(key, (), 0, 4)

    def check(self, g, x):
        super().check(g, x)
        require(g, "g", shape=())
        if x.ndim < 3 or x.shape[0] != x.shape[1]:
            raise ValueError(f"x: expected a square image (n, n, C), got shape {x.shape}")

    def apply(self, g, x):
        return quarter_turns(g, x)

    def inverse(self, g):
        return -g % 4

    def compose(self, g, h):
        return (g + h) % 4

    def elements(self):
        return jnp.arange(4)

    @property
    def unitary(self):
        return True

    @property
    def permutation(self):
        return True


def quarter_turns(num: Array, x: Array) -> Array:
    """``x`` turned counter-clockwise ``num`` times (traced) by 90 degrees; a rectangle only an even number of times."""
    if x.shape[0] == x.shape[1]:
        x = jnp.where(num % 2 == 1, jnp.rot90(x), x)
    return jnp.where(num % 4 >= 2, jnp.flip(x, (0, 1)), x)


def dihedral() -> Transform:
    """The 8 symmetries of a square image: quarter turns after a left-right flip, ``g = (turns, (flip,))``."""
    return QuarterTurns() @ Reflect((1,))


class Shift(Transform):
    """Shifts by ``g`` whole pixels along ``axes`` of ``sizes``, as ``numpy.roll``: ``g[i]`` in 0 ... sizes[i] - 1.

    ``max_shift`` bounds the shifts that ``sample`` draws (default: all of them). ``boundary="circular"`` makes a group;
    "reflect" continues the image by its mirror image (the edge repeated), which loses pixels and has no inverse.
    Raises ``ValueError`` for axes of other sizes.
    """

    sizes: tuple[int, ...] = eqx.field(static=True)
    axes: tuple[int, ...] = eqx.field(static=True, default=(0, 1))
    max_shift: int | None = eqx.field(static=True, default=None)
    boundary: Literal["circular", "reflect"] = eqx.field(static=True, default="circular")

    def __check_init__(self):
        if len(self.sizes) != len(self.axes):
            raise ValueError(f"sizes: expected one for each of the axes {self.axes}, got {self.sizes}")
        if self.boundary not in ("circular", "reflect"):
            raise ValueError(f"boundary: expected 'circular' or 'reflect', got {self.boundary!r}")
        require(0 if self.max_shift is None else self.max_shift, "max_shift", nonnegative=True)

    def sample(self, key):
        if self.max_shift is None:
            return jax.random.randint(key, (len(self.sizes),), 0, jnp.asarray(self.sizes))
        return jax.random.randint(key, (len(self.sizes),), -self.max_shift, self.max_shift + 1)

    def check(self, g, x):
        super().check(g, x)
        require(g, "g", shape=(len(self.axes),))
        _require_axes(self.axes, x)
        if tuple(x.shape[a] for a in self.axes) != tuple(self.sizes):
            raise ValueError(f"x: expected sizes {self.sizes} along the axes {self.axes}, got shape {x.shape}")

    def apply(self, g, x):
        if self.boundary == "circular":
            return jnp.roll(x, tuple(g), self.axes)
        for shift, axis in zip(g, self.axes, strict=True):
            x = _shift_reflecting(x, shift, axis)
        return x

    def inverse(self, g):
        return super().inverse(g) if self.boundary == "reflect" else -g % jnp.asarray(self.sizes)

    def compose(self, g, h):
        return super().compose(g, h) if self.boundary == "reflect" else (g + h) % jnp.asarray(self.sizes)

    def elements(self):
        if self.boundary == "reflect":
            return super().elements()
        return jnp.asarray(list(itertools.product(*map(range, self.sizes))))

    @property
    def unitary(self):
        return self.boundary == "circular"

    @property
    def permutation(self):
        return self.boundary == "circular"


def shift_time(num_frames: int, **settings: Any) -> Shift:
    """Shifts of videos ``(T, H, W, C)`` by whole frames, ``g`` of shape ``(1,)``; settings as of ``Shift``."""
    return Shift((num_frames,), (0,), **settings)


def _shift_reflecting(x: Array, shift: Array, axis: int) -> Array:
    n = x.shape[axis]
    index = (jnp.arange(n) - shift) % (2 * n)
    return jnp.take(x, jnp.minimum(index, 2 * n - 1 - index), axis, mode="clip")


def _require_axes(axes: tuple[int, ...], x: Any) -> None:
    if not all(0 <= a < x.ndim - 1 for a in axes):
        raise ValueError(f"x: expected axes {axes} among its spatial axes, got shape {x.shape}")
