"""Undersampling masks of Cartesian k-space: which phase-encoding lines are acquired.

A mask broadcasts to the image: ``(1, W, 1)`` for columns of ``(H, W, C)``, ``(D, H, 1, 1)`` for ``axes=(0, 1)`` of a volume.
The zero frequency is at index ``n // 2``. ``acceleration`` R is the number of lines over the number of lines acquired, centre
included; ``centre_fraction`` of the lines along each axis, in the centre, is always acquired (and is not cut for a large
R). Both may be traced. A mask per frame (k-t sampling) is ``jax.vmap`` over keys.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..types import real, require
from .base import Generator, default
from .masks import weighted_choice


class _Lines(Generator):
    """What all families of lines have in common."""

    shape: tuple[int, ...] = eqx.field(static=True)
    acceleration: Array = eqx.field(converter=real, default=4.0)
    centre_fraction: Array = eqx.field(converter=real, default=0.08)

    def __check_init__(self):
        require(self.acceleration, "acceleration", at_least=1, shape=())
        require(self.centre_fraction, "centre_fraction", nonnegative=True, shape=())


class UniformLines(_Lines):
    """The centre and lines drawn uniformly without replacement: exactly ``round(lines / R)`` in all."""

    axes: tuple[int, ...] = eqx.field(static=True, default=(1,))

    def __call__(self, key):
        return _drawn(key, jnp.zeros_like(_radius(self.shape, self.axes)), self)


class PolynomialLines(_Lines):
    """The centre and lines drawn one by one with density ``(1 - r)^order``: exactly ``round(lines / R)`` in all.

    r is the distance from the centre, 1 at the edge (for two axes: at the corner). Source: Lustig, Donoho and Pauly (2007).
    """

    order: Array = eqx.field(converter=real, default=8.0)
    axes: tuple[int, ...] = eqx.field(static=True, default=(1,))

    def __call__(self, key):
        radius = _radius(self.shape, self.axes)
        inside = jnp.maximum(1 - radius, jnp.finfo(radius.dtype).eps)  # the edge itself is drawn last, not never
        return _drawn(key, default(self.order) * jnp.log(inside), self)


class GaussianLines(_Lines):
    """The centre and lines drawn one by one with density ``exp(-r^2 / (2 width^2))``: exactly ``round(lines / R)`` in all.

    r is the distance from the centre, 1 at the edge (for two axes: at the corner).
    """

    width: Array = eqx.field(converter=real, default=0.4)
    axes: tuple[int, ...] = eqx.field(static=True, default=(1,))

    def __call__(self, key):
        return _drawn(key, -((_radius(self.shape, self.axes) / default(self.width)) ** 2) / 2, self)


class EquispacedLines(_Lines):
    """The centre and equispaced lines with a random offset; ``lines / R`` in expectation, and each line outside equally likely.

    The spacing is ``(lines - centre) / (lines / R - centre)``, more than R because the centre is counted. A spacing that is not
    an integer is rounded line by line.
    """

    axis: int = eqx.field(static=True, default=1)

    def __call__(self, key):
        offset = jax.random.uniform(key)
        return _equispaced(offset, jnp.zeros_like(offset), self, self.axis)


class InterleavedLines(_Lines):
    """``EquispacedLines`` for T frames, shifted by one line from frame to frame: ``(T, 1, W, 1)``.

    As many consecutive frames as the spacing sample every line. ``shape`` is that of one frame. Source: Tsao, Boesiger and
    Pruessmann (2003), with the sheared grid in k-t space.
    """

    num_frames: int = eqx.field(static=True, default=8)
    axis: int = eqx.field(static=True, default=1)

    def __call__(self, key):
        offset = jax.random.uniform(key)
        shifts = jnp.arange(self.num_frames, dtype=offset.dtype)
        return jax.vmap(lambda shift: _equispaced(offset, shift, self, self.axis))(shifts)


def _drawn(key: PRNGKeyArray, log_density: Array, lines: Any) -> Array:
    """The centre and, without replacement, as many lines as are left."""
    centre = jnp.ones(log_density.shape, bool)
    for axis in lines.axes:
        n = log_density.shape[axis]
        along = [-1 if a == axis else 1 for a in range(log_density.ndim)]
        centre &= _centre(n, default(lines.centre_fraction)).reshape(along)
    odds = jnp.where(centre, jnp.inf, log_density)
    return centre | weighted_choice(key, odds, jnp.round(log_density.size / default(lines.acceleration)))


def _equispaced(offset: Array, shift: Array, lines: Any, axis: int) -> Array:
    n = _counts(lines.shape, (axis,))[0]
    centre = _centre(n, default(lines.centre_fraction))
    rest = default(jnp.sum(~centre))
    wanted = n / default(lines.acceleration) - (n - rest)
    spacing = jnp.maximum(rest / jnp.maximum(wanted, 1e-6), 1)
    # A line is taken where a multiple of the spacing falls within the unit interval that ends at it.
    position = default(np.arange(n)) + default(shift) + default(offset) * spacing
    taken = jnp.floor(position / spacing) > jnp.floor((position - 1) / spacing)
    return (centre | taken).reshape([n if a == axis else 1 for a in range(len(lines.shape))])


def _counts(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    if not axes or any(a not in range(len(shape) - 1) for a in axes):
        raise ValueError(f"axes: expected spatial axes of {shape}, got {axes}")
    return tuple(shape[a] for a in axes)


def _centre(n: int, fraction: Array) -> Array:
    """The ``round(fraction n)`` lines around index ``n // 2``."""
    count = jnp.round(fraction * n)
    index = default(np.arange(n) - n // 2)
    return (index >= -jnp.floor(count / 2)) & (index < jnp.ceil(count / 2))


def _radius(shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """Distance from the zero frequency on the grid of lines, 1 at the farthest line; sizes of one along the other axes."""
    square = np.zeros((1,) * len(shape))
    for axis, n in zip(axes, _counts(shape, axes), strict=True):
        distance = (np.arange(n) - n // 2) / max(n // 2, 1)
        square = square + distance.reshape([n if a == axis else 1 for a in range(len(shape))]) ** 2
    return default(np.sqrt(square / len(axes)))
