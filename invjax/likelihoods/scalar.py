"""Minimisers of one scalar per pixel: bisection to rounding, with the derivative of the minimiser in every argument."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

_BISECTIONS = 60


def root(slope: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """A zero of ``slope`` in ``[low, high]``, where ``slope(low) <= 0 <= slope(high)``, pixel by pixel.

    60 bisections, then one Newton step, which carries the derivative of the zero in everything ``slope`` closes over
    (implicit function theorem); its value stays in the last bracket. Where the slope of ``slope`` is not positive at the
    zero, the Newton step is left out.
    """

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = 0.5 * (ends[0] + ends[1])
        below = slope(middle) < 0
        return jnp.where(below, middle, ends[0]), jnp.where(below, ends[1], middle)

    low, high = jax.lax.stop_gradient((low, high))
    low, high = jax.lax.stop_gradient(jax.lax.fori_loop(0, _BISECTIONS, halve, (low, high)))
    middle = 0.5 * (low + high)
    curvature = jax.lax.stop_gradient(jax.jvp(slope, (middle,), (jnp.ones_like(middle),))[1])
    steep = curvature > 0
    newton = middle - jnp.where(steep, slope(middle) / jnp.where(steep, curvature, 1), 0)
    value = jax.lax.stop_gradient(newton)
    return jnp.clip(value, low, high) + (newton - value)  # a plain clip would lose the derivative where it acts
