"""Diffeomorphisms of images: flows of continuous piecewise-affine velocity fields."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..operators.structure import at_precision_of
from ..types import real, require
from .base import Transform
from .fourier import require_image
from .warp import Boundary, interpolate, require_boundary


class CPABDiffeomorphism(Transform):
    """``(T_g x)(p) = x(phi^(-1)(p))``: ``phi`` is the flow, until time one, of the piecewise-affine velocity field ``g``.

    The image, from the centre of its first pixel to that of its last, has ``cells = (K, L)`` rectangles, each cut into two
    triangles. A continuous field that is affine on every triangle is given by its velocities ``g`` of shape
    ``(K + 1, L + 1, 2)`` (rows and columns, in cells per unit time) at their corners. Whatever ``g``, ``phi`` is continuous and
    has a continuous inverse, the flow of ``-g``. ``sample`` draws normal velocities of standard deviation ``amplitude``,
    zero at the border, which then stays where it is.
    Integrated by ``num_steps`` steps of the classical Runge-Kutta method: order 4 where a path stays in one triangle, lower
    where it crosses edges. Source: Freifeld, Hauberg, Batmanghelich and Fisher (2017), who integrate in closed form per cell.
    """

    cells: tuple[int, int] = eqx.field(static=True, default=(3, 3))
    amplitude: Array = eqx.field(converter=real, default=0.3)
    num_steps: int = eqx.field(static=True, default=10)
    boundary: Boundary = eqx.field(static=True, default="zero")

    def __check_init__(self):
        require_boundary(self.boundary)
        require(self.amplitude, "amplitude", nonnegative=True)
        if len(self.cells) != 2 or min(*self.cells, self.num_steps) < 1:
            raise ValueError(f"cells, num_steps: expected positive integers, got {self.cells} and {self.num_steps}")

    def sample(self, key):
        inside = self.amplitude * jax.random.normal(key, (self.cells[0] - 1, self.cells[1] - 1, 2))
        return jnp.pad(inside, ((1, 1), (1, 1), (0, 0)))

    def check(self, g, x):
        super().check(g, x)
        require_image(x)
        require(g, "g", shape=(self.cells[0] + 1, self.cells[1] + 1, 2))

    def apply(self, g, x):
        g = at_precision_of(x, g)
        per_pixel = [k / max(n - 1, 1) for k, n in zip(self.cells, x.shape, strict=False)]
        axes = [s * jnp.arange(n, dtype=g.dtype) for s, n in zip(per_pixel, x.shape, strict=False)]
        points = jnp.stack(jnp.meshgrid(*axes, indexing="ij"))
        points = runge_kutta(lambda p: -piecewise_affine(g, p), points, self.num_steps)
        return interpolate(x, points[0] / per_pixel[0], points[1] / per_pixel[1], self.boundary)

    def inverse(self, g):
        return -g


def piecewise_affine(corners: Array, points: Array) -> Array:
    """Velocities ``(2, ...)`` at ``points`` ``(2, ...)``, in cells, from those at the corners ``(K + 1, L + 1, 2)``.

    Linear on both triangles of a cell; outside the grid the field of the nearest cell goes on.
    """
    i, j = (jnp.clip(jnp.floor(p).astype(jnp.int32), 0, n - 2) for p, n in zip(points, corners.shape, strict=False))
    a, b = (p - k.astype(p.dtype) for p, k in zip(points, (i, j), strict=True))
    lower = a + b <= 1
    corner = jnp.where(lower, 0, 1)  # the right angle of the triangle: its offset from the first corner of the cell
    a, b = jnp.where(lower, a, 1 - a), jnp.where(lower, b, 1 - b)

    def at(down: Array, right: Array) -> Array:
        return jnp.moveaxis(corners.at[i + down, j + right].get(mode="clip"), -1, 0)

    c = 1 - a - b
    return c[None] * at(corner, corner) + a[None] * at(1 - corner, corner) + b[None] * at(corner, 1 - corner)


def runge_kutta(velocity: Callable[[Array], Array], points: Array, num_steps: int) -> Array:
    """The flow of a stationary velocity field after time one: classical Runge-Kutta steps of equal size."""
    h = 1 / num_steps

    def step(p: Array, _: None) -> tuple[Array, None]:
        k1 = velocity(p)
        k2 = velocity(p + h / 2 * k1)
        k3 = velocity(p + h / 2 * k2)
        k4 = velocity(p + h * k3)
        return p + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

    return jax.lax.scan(step, points, length=num_steps)[0]
