"""Undersampling masks of Cartesian k-space: which phase-encoding lines are acquired.

A mask broadcasts to the image: ``(1, W, 1)`` for columns of ``(H, W, C)``, ``(D, H, 1, 1)`` for ``axes=(0, 1)`` of a volume.
The zero frequency is at index ``n // 2``. ``acceleration`` R is the number of lines over the number of lines acquired, centre
included; ``centre_fraction`` of the lines along each axis, in the centre, is always acquired (and is not cut for a large
R). Both may be traced. A mask per frame (k-t sampling) is ``jax.vmap`` over keys.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PRNGKeyArray

from ..types import real, require

_CENTRE = 0.08


def uniform_mask(
    key: PRNGKeyArray,
    shape: tuple[int, ...],
    acceleration: Any,
    centre_fraction: Any = _CENTRE,
    *,
    axes: tuple[int, ...] = (1,),
) -> Bool[Array, " *lines"]:
    """The centre and lines drawn uniformly without replacement: exactly ``round(lines / R)`` in all."""
    return _drawn(key, jnp.zeros_like(_radius(shape, axes)), acceleration, centre_fraction, axes)


def polynomial_mask(
    key: PRNGKeyArray,
    shape: tuple[int, ...],
    acceleration: Any,
    centre_fraction: Any = _CENTRE,
    *,
    order: Any = 8,
    axes: tuple[int, ...] = (1,),
) -> Bool[Array, " *lines"]:
    """The centre and lines drawn one by one with density ``(1 - r)^order``: exactly ``round(lines / R)`` in all.

    r is the distance from the centre, 1 at the edge (for two axes: at the corner). Source: Lustig, Donoho and Pauly (2007).
    """
    radius = _radius(shape, axes)
    inside = jnp.maximum(1 - radius, jnp.finfo(radius.dtype).eps)  # the edge itself is drawn last, not never
    return _drawn(key, jnp.asarray(real(order), radius.dtype) * jnp.log(inside), acceleration, centre_fraction, axes)


def gaussian_mask(
    key: PRNGKeyArray,
    shape: tuple[int, ...],
    acceleration: Any,
    centre_fraction: Any = _CENTRE,
    *,
    width: Any = 0.4,
    axes: tuple[int, ...] = (1,),
) -> Bool[Array, " *lines"]:
    """The centre and lines drawn one by one with density ``exp(-r^2 / (2 width^2))``: exactly ``round(lines / R)`` in all.

    r is the distance from the centre, 1 at the edge (for two axes: at the corner).
    """
    radius = _radius(shape, axes)
    return _drawn(
        key, -((radius / jnp.asarray(real(width), radius.dtype)) ** 2) / 2, acceleration, centre_fraction, axes
    )


def equispaced_mask(
    key: PRNGKeyArray, shape: tuple[int, ...], acceleration: Any, centre_fraction: Any = _CENTRE, *, axis: int = 1
) -> Bool[Array, " *lines"]:
    """The centre and equispaced lines with a random offset; ``lines / R`` in expectation, and each line outside equally likely.

    The spacing is ``(lines - centre) / (lines / R - centre)``, more than R because the centre is counted. A spacing that is not
    an integer is rounded line by line.
    """
    offset = jax.random.uniform(key)
    return _equispaced(offset, jnp.zeros(()), shape, acceleration, centre_fraction, axis)


def interleaved_masks(
    key: PRNGKeyArray,
    num_frames: int,
    shape: tuple[int, ...],
    acceleration: Any,
    centre_fraction: Any = _CENTRE,
    *,
    axis: int = 1,
) -> Bool[Array, " num_frames *lines"]:
    """``equispaced_mask`` for T frames, shifted by one line from frame to frame: ``(T, 1, W, 1)``.

    As many consecutive frames as the spacing sample every line. ``shape`` is that of one frame. Source: Tsao, Boesiger and
    Pruessmann (2003), with the sheared grid in k-t space.
    """
    offset = jax.random.uniform(key)
    shifts = jnp.arange(num_frames, dtype=offset.dtype)
    return jax.vmap(lambda shift: _equispaced(offset, shift, shape, acceleration, centre_fraction, axis))(shifts)


def _drawn(key: PRNGKeyArray, log_density: Array, acceleration: Any, centre_fraction: Any, axes: tuple) -> Array:
    """Centre first, then by Gumbel-perturbed log density: successive draws without replacement (Yellott 1977)."""
    acceleration, centre_fraction = _checked(acceleration, centre_fraction)
    scores = log_density + jax.random.gumbel(key, log_density.shape, log_density.dtype)
    centre = jnp.ones(log_density.shape, bool)
    for axis in axes:
        n = log_density.shape[axis]
        along = [-1 if a == axis else 1 for a in range(log_density.ndim)]
        centre &= _centre(n, centre_fraction).reshape(along)
    order = jnp.argsort(jnp.where(centre, -jnp.inf, -scores).ravel())
    rank = jnp.argsort(order).reshape(log_density.shape)
    return centre | (rank < jnp.round(log_density.size / acceleration))


def _equispaced(
    offset: Array, shift: Array, shape: tuple[int, ...], acceleration: Any, centre_fraction: Any, axis: int
) -> Array:
    acceleration, centre_fraction = _checked(acceleration, centre_fraction)
    n = _lines(shape, (axis,))[0]
    centre = _centre(n, centre_fraction)
    outside = n / acceleration - jnp.sum(centre)
    spacing = jnp.maximum((n - jnp.sum(centre)) / jnp.maximum(outside, 1e-6), 1)
    # A line is taken where a multiple of the spacing falls within the unit interval that ends at it.
    position = jnp.arange(n) + shift + offset * spacing
    taken = jnp.floor(position / spacing) > jnp.floor((position - 1) / spacing)
    return (centre | taken).reshape([n if a == axis else 1 for a in range(len(shape))])


def _checked(acceleration: Any, centre_fraction: Any) -> tuple[Array, Array]:
    acceleration, centre_fraction = real(acceleration), real(centre_fraction)
    require(acceleration, "acceleration", at_least=1, shape=())
    require(centre_fraction, "centre_fraction", nonnegative=True, shape=())
    return acceleration, centre_fraction


def _lines(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    if not axes or any(a not in range(len(shape) - 1) for a in axes):
        raise ValueError(f"axes: expected spatial axes of {shape}, got {axes}")
    return tuple(shape[a] for a in axes)


def _centre(n: int, fraction: Array) -> Array:
    """The ``round(fraction n)`` lines around index ``n // 2``."""
    count = jnp.round(fraction * n)
    index = jnp.arange(n) - n // 2
    return (index >= -jnp.floor(count / 2)) & (index < jnp.ceil(count / 2))


def _radius(shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """Distance from the zero frequency on the grid of lines, 1 at the farthest line; sizes of one along the other axes."""
    square = np.zeros((1,) * len(shape))
    for axis, n in zip(axes, _lines(shape, axes), strict=True):
        distance = (np.arange(n) - n // 2) / max(n // 2, 1)
        square = square + distance.reshape([n if a == axis else 1 for a in range(len(shape))]) ** 2
    return jnp.asarray(np.sqrt(square / len(axes)))
