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

    The sum over corners of hat functions ``max(0, 1 - max(|a|, |b|, |a + b|))`` of the distances ``a`` and ``b``: affine on
    triangles with the diagonal from (0, 1) to (1, 0), and on CPU several times as fast as gathers of the corners of each
    point's triangle. Outside the grid: the velocity at the nearest point of its border.
    """
    sizes = corners.shape[:2]
    grid = jnp.meshgrid(*(jnp.arange(n, dtype=points.dtype) for n in sizes), indexing="ij")
    inside = (jnp.clip(p, 0, n - 1) for p, n in zip(points, sizes, strict=True))
    a, b = (p[..., None] - k.reshape((1,) * p.ndim + (-1,)) for p, k in zip(inside, grid, strict=True))
    hats = 1 - jnp.maximum(jnp.maximum(jnp.abs(a), jnp.abs(b)), jnp.abs(a + b))
    velocities = jnp.matmul(jnp.maximum(hats, 0), corners.reshape(-1, 2), precision="highest")
    return jnp.moveaxis(velocities, -1, 0)


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
