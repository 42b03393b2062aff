"""k-space trajectories in two dimensions: points ``(M, 2)`` in radians per pixel, (row, column), within [-pi, pi]."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

GOLDEN_ANGLE = np.pi * (np.sqrt(5) - 1) / 2
"""Pi divided by the golden ratio, 111.25 degrees (Winkelmann, Schaeffter, Koehler, Eggers and Doessel 2007)."""


def radial_trajectory(num_spokes: int, num_samples: int) -> Float[Array, "m 2"]:
    """Spokes through the centre, ``pi / num_spokes`` apart; sample i of the n on a spoke is at ``2 pi (i - n // 2) / n``."""
    return _spokes(np.arange(num_spokes) * np.pi / num_spokes, num_samples)


def golden_angle_trajectory(num_spokes: int, num_samples: int) -> Float[Array, "m 2"]:
    """Spokes as in ``radial_trajectory``, each turned by the golden angle: any number of consecutive ones is spread well."""
    return _spokes(np.arange(num_spokes) * GOLDEN_ANGLE, num_samples)


def _spokes(angles: np.ndarray, num_samples: int) -> Array:
    radius = 2 * np.pi * (np.arange(num_samples) - num_samples // 2) / num_samples
    directions = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    return jnp.asarray((radius[None, :, None] * directions[:, None, :]).reshape(-1, 2))


def spiral_trajectory(num_arms: int, num_samples: int, turns: float) -> Float[Array, "m 2"]:
    """Archimedean spirals from the centre to radius pi in ``turns`` turns, the arms at equal angles.

    Neighbouring arms are ``pi / (num_arms turns)`` apart: n pixels are sampled densely enough for ``num_arms turns >= n / 2``.
    """
    t = np.arange(num_samples) / num_samples
    angles = 2 * np.pi * (turns * t[None] + np.arange(num_arms)[:, None] / num_arms)
    points = np.pi * t[None, :, None] * np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    return jnp.asarray(points.reshape(-1, 2))


def random_trajectory(key: PRNGKeyArray, num_points: int, ndim: int = 2) -> Float[Array, "m d"]:
    """Points uniform in the square (``ndim=3``: cube) [-pi, pi)."""
    return jax.random.uniform(key, (num_points, ndim), minval=-np.pi, maxval=np.pi)
