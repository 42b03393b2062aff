"""What every function of point clouds asks of its arguments."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def cloud(x: Any, name: str, dim: int | None = None, fewest: int = 0) -> Float[Array, "n d"]:
    """``x`` as an array of points (n, d). Raises ``ValueError`` for another shape, fewer points, and as ``floating``."""
    x = floating(x, name)
    if x.ndim != 2 or (dim is not None and x.shape[1] != dim):
        raise ValueError(f"{name}: expected points of shape (n, {'d' if dim is None else dim}), got {x.shape}")
    if x.shape[0] < fewest:
        raise ValueError(f"{name}: expected at least {fewest} points, got shape {x.shape}")
    return x


def pair(x: Any, y: Any, fewest: int = 0) -> tuple[Float[Array, "n d"], Float[Array, "m d"]]:
    """Two clouds of one dimension."""
    x = cloud(x, "x", fewest=fewest)
    return x, cloud(y, "y", x.shape[1], fewest)


def radius_of(*clouds: Float[Array, "n d"], centre: Any = None) -> Float[Array, ""]:
    """The largest distance of a point of the clouds from ``centre`` (the origin by default): the radius that a plan needs.

    Particles that move need more. Raises ``ValueError`` without clouds, and as ``kernel_sum`` for what is no cloud.
    """
    if not clouds:
        raise ValueError("clouds: expected at least one, got none")
    middle = jnp.zeros(()) if centre is None else jnp.asarray(centre)
    norms = [jnp.linalg.norm(cloud(x, "clouds") - middle.astype(jnp.result_type(x)), axis=1) for x in clouds]
    return jnp.max(jnp.concatenate(norms), initial=0.0)


def floating(x: Any, name: str) -> Array:
    """``x`` as an array. Raises ``ValueError`` unless it is of float32 or float64: half precision has no digits for sums."""
    x = jnp.asarray(x)
    if not (jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize >= 4):
        raise ValueError(f"{name}: expected real values of float32 or float64, got {x.dtype}")
    return x


def masses(w: Any, points: Float[Array, "n d"], name: str) -> Float[Array, " n"]:
    """Weights of sum one in the dtype of the points, uniform for None.

    Raises ``ValueError`` for another shape, complex values, and for values that are known and have another sum.
    """
    if w is None:
        return jnp.full((points.shape[0],), 1 / max(points.shape[0], 1), points.dtype)
    w = floating(w, name)
    if w.shape != points.shape[:1]:
        raise ValueError(f"{name}: expected shape {points.shape[:1]}, one weight a point, got {w.shape}")
    require_sum_one(w, name)
    return w.astype(points.dtype)


def require_sum_one(w: Array, name: str) -> None:
    """Raise ``ValueError`` for values that are known and whose sum is not one (up to float32 roundings)."""
    if isinstance(w, jax.core.Tracer) or not isinstance(w, (jax.Array, np.ndarray)):
        return
    total = float(np.sum(np.asarray(w, np.float64)))
    if not abs(total - 1) < 1e-4:
        raise ValueError(f"{name}: expected weights of sum one, got sum {total:.6g}")
