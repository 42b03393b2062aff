"""Phantoms of ellipses: Shepp-Logan in two and three dimensions, and random ones.

The field of view is the square (cube) [-1, 1]^d, x to the right, y upwards (row 0 is y = +1), z along the first axis of a
volume. Without supersampling a pixel has the value of the phantom at its centre; with ``supersample=s`` it has the mean
over s^d points, which approaches the mean over the pixel.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

# Columns: value in tenths, semi-axes a, b, c along x, y, z, centre x, y, angle in degrees (counter-clockwise).
# Tenths are added exactly, so that regions which cancel to 0 are exactly 0.
_SHEPP_LOGAN = np.array(
    [
        [10, 0.69, 0.92, 0.81, 0, 0, 0],
        [-8, 0.6624, 0.874, 0.78, 0, -0.0184, 0],
        [-2, 0.11, 0.31, 0.22, 0.22, 0, -18],
        [-2, 0.16, 0.41, 0.28, -0.22, 0, 18],
        [1, 0.21, 0.25, 0.41, 0, 0.35, 0],
        [1, 0.046, 0.046, 0.05, 0, 0.1, 0],
        [1, 0.046, 0.046, 0.05, 0, -0.1, 0],
        [1, 0.046, 0.023, 0.05, -0.08, -0.605, 0],
        [1, 0.023, 0.023, 0.02, 0, -0.606, 0],
        [1, 0.023, 0.046, 0.02, 0.06, -0.605, 0],
    ]
)


def shepp_logan(size: int, *, supersample: int = 1, dtype: Any = jnp.float32) -> Float[Array, "size size 1"]:
    """Shepp-Logan head phantom with the modified contrast of Toft (1996, appendix B.3), values in [0, 1].

    ``supersample=s`` averages s x s points per pixel. Shepp and Logan, IEEE Trans. Nucl. Sci. 21 (1974).
    """
    require_count(size, "size")
    require_count(supersample, "supersample")
    return _rasterise(jnp.asarray(_SHEPP_LOGAN, dtype), size, supersample, 2)[0] / 10


def shepp_logan_3d(size: int, *, supersample: int = 1, dtype: Any = jnp.float32) -> Float[Array, "size size size 1"]:
    """Three-dimensional Shepp-Logan phantom ``(D, H, W, 1)``, whose section z = 0 is exactly ``shepp_logan``.

    Each ellipse becomes an ellipsoid centred in the plane z = 0, with the third semi-axis of Schabel's phantom3d (2006).
    ``supersample=s`` averages s^3 points per voxel.
    """
    require_count(size, "size")
    require_count(supersample, "supersample")
    return _rasterise(jnp.asarray(_SHEPP_LOGAN, dtype), size, supersample, 3) / 10


def random_ellipses(
    key: PRNGKeyArray, size: int, num: int = 10, *, supersample: int = 1, dtype: Any = jnp.float32
) -> Float[Array, "size size 1"]:
    """Sum of ``num`` random ellipses divided by its maximum: values in [0, 1], zero outside the inscribed disc.

    Values are uniform in [0.1, 1], semi-axes in [0.05, 0.4], angles in [0, 180) degrees, and centres uniform in the disc of
    radius 0.6. A batch is ``jax.vmap(lambda key: random_ellipses(key, size, num))(keys)``.
    """
    for count, name in ((size, "size"), (num, "num"), (supersample, "supersample")):
        require_count(count, name)
    keys = jax.random.split(key, 5)
    value = jax.random.uniform(keys[0], (num, 1), dtype, 0.1, 1.0)
    axes = jax.random.uniform(keys[1], (num, 2), dtype, 0.05, 0.4)
    radius = 0.6 * jnp.sqrt(jax.random.uniform(keys[2], (num, 1), dtype))
    around = 2 * jnp.pi * jax.random.uniform(keys[3], (num, 1), dtype)
    angle = 180 * jax.random.uniform(keys[4], (num, 1), dtype)
    centre = radius * jnp.concatenate([jnp.cos(around), jnp.sin(around)], axis=1)
    table = jnp.concatenate([value, axes, jnp.ones_like(value), centre, angle], axis=1)
    image = _rasterise(table, size, supersample, 2)[0]
    peak = jnp.max(image)
    return image / jnp.where(peak > 0, peak, 1)  # on a very coarse grid every ellipse may miss the pixel centres


def require_count(value: Any, name: str) -> None:
    """Raise ``ValueError`` unless ``value`` is a positive integer."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name}: expected a positive integer, got {value!r}")


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _rasterise(table: Array, size: int, supersample: int, ndim: int) -> Array:
    """Sum of the ellipsoids of ``table`` on a grid ``(D, size, size, 1)``; D = 1 (the plane z = 0) in two dimensions.

    Sub-points and ellipsoids are looped over, so the memory is a few images whatever ``supersample`` is.
    """
    dtype = table.dtype
    centres = jnp.asarray((2 * np.arange(size) + 1) / size - 1, dtype)
    inside = (2 * np.arange(supersample) + 1 - supersample) / (supersample * size)  # offsets within a pixel
    offsets = jnp.asarray(list(itertools.product(inside if ndim == 3 else [0.0], inside, inside)), dtype)
    depth = centres if ndim == 3 else jnp.zeros(1, dtype)

    def add_point(image: Array, offset: Array) -> tuple[Array, None]:
        z = (depth + offset[:1])[:, None, None]
        y = (-centres + offset[1:2])[None, :, None]
        x = (centres + offset[2:])[None, None, :]
        return jax.lax.scan(lambda acc, row: (acc + _ellipsoid(row, x, y, z), None), image, table)[0], None

    zero = jnp.zeros((depth.shape[0], size, size), dtype)
    return jax.lax.scan(add_point, zero, offsets)[0][..., None] / len(offsets)


def _ellipsoid(row: Array, x: Array, y: Array, z: Array) -> Array:
    value, a, b, c, x0, y0, degrees = row
    cos, sin = jnp.cos(jnp.deg2rad(degrees)), jnp.sin(jnp.deg2rad(degrees))
    u = ((x - x0) * cos + (y - y0) * sin) / a
    v = ((y - y0) * cos - (x - x0) * sin) / b
    return jnp.where(u**2 + v**2 + (z / c) ** 2 <= 1, value, 0)
