"""Non-Cartesian magnetic resonance imaging and the density compensation of its samples."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..types import real, require
from .base import LinearOperator
from .modulation import Modulation
from .nufft import NUFFT


def non_cartesian_mri(
    points: Any, shape: tuple[int, ...], coil_maps: Any = None, weights: Any = None, *, eps: float | None = None
) -> LinearOperator:
    """``y_n = W NUFFT (s_n x)`` at ``points`` ``(M, d)`` of k-space in radians per pixel: ``(M, C)``, with coils ``(N, M, C)``.

    ``coil_maps`` ``(N, H, W, 1)`` broadcast to ``(N, *shape)``; see ``NUFFT`` for points, ``weights`` and ``eps``. ``A.gram``,
    and so every iterative solve, takes two FFTs of twice the size per coil. Sources: Pruessmann, Weiger, Bornert and
    Boesiger (2001); Wajer and Pruessmann (2001).
    """
    if coil_maps is None:
        return NUFFT(points, shape, weights, eps=eps)
    spread = Modulation(coil_maps, shape, complex=True)
    return NUFFT(points, spread.out_structure.shape, weights, eps=eps) @ spread


def ramp_density(points: Any, shape: tuple[int, ...]) -> Float[Array, " m"]:
    """Density compensation of radial spokes in two dimensions, ``w ~ |k|``: the area of k-space that a sample stands for.

    Scaled as in ``pipe_menon_density`` (a full Cartesian grid has w = 1): the weights add up to the N pixels times the share
    pi / 4 of the disc in the square. Samples at the centre share the disc of half the sample spacing. ``A^H W A`` is then the
    identity up to second order in the spacing, for images of a spectrum within the disc. Raises ``ValueError`` for
    points that are not ``(M, 2)``.
    """
    points = jnp.asarray(real(points))
    require(points, "points", shape=(*points.shape[:1], 2))
    radius = jnp.linalg.norm(points, axis=1)
    spacing = jnp.min(jnp.where(radius > 0, radius, jnp.inf))
    area = jnp.where(radius > 0, radius, spacing / 4)
    return area * (np.pi / 4 * float(np.prod(shape[-3:-1])) / jnp.sum(area))


@eqx.filter_jit
def pipe_menon_density(points: Any, shape: tuple[int, ...], num_steps: int = 20) -> Float[Array, " m"]:
    """Density compensation of any ``points`` ``(M, d)`` by ``w <- w / (K w)``, ``K_ij = kernel(k_i - k_j)``, from w = 1.

    The kernel is Fejer's, ``|sum_r exp(-i k r)|^2 / N^2``: non-negative, one at k = 0, zero at the other points of the Cartesian
    grid, for which w = 1. It is the transform of a triangle of twice the width of the image, so a step is two transforms
    on that grid. Source: Pipe and Menon (1999), with another kernel.
    """
    points = jnp.asarray(real(points))
    d = points.shape[1]
    grid = shape[-1 - d : -1]
    transform = NUFFT(points, (*(2 * n for n in grid), 1), complex=True)
    triangle = jnp.ones((1,) * (d + 1))
    for axis, n in enumerate(grid):
        side = np.maximum(0, 1 - np.abs(np.arange(2 * n) - n) / n)
        triangle = triangle * side.reshape([-1 if a == axis else 1 for a in range(d + 1)])
    triangle = jnp.asarray(2**d * triangle, points.dtype)  # the transform is scaled for the pixels of the larger grid

    def step(w: Array, _: None) -> tuple[Array, None]:
        back = transform.adjoint(w[:, None].astype(jnp.result_type(w, jnp.complex64)))
        return w / transform.apply(triangle * back)[:, 0].real, None

    return jax.lax.scan(step, jnp.ones(points.shape[0], points.dtype), None, num_steps)[0]
