"""What the Langevin samplers share: the noise, the Euler-Maruyama move, and their diagnostics."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..types import standard_normal as standard_normal


class LangevinState(NamedTuple):
    """The position and the auxiliary variables of the target's score (empty where it is closed form)."""

    position: Array
    aux: PyTree


class LangevinInfo(NamedTuple):
    """Norm of the score where the step started: it grows before a chain with too large a step size leaves the floats."""

    score_norm: Float[Array, ""]


def like(value: Any, x: Array) -> Array:
    """A real hyper-parameter in the dtype of ``x``, so that no step promotes its state."""
    return jnp.asarray(value, x.real.dtype).astype(x.dtype)


def diffuse(x: Array, score: Array, step_size: Any, noise: Array) -> Array:
    """One Euler-Maruyama step of the Langevin diffusion, ``x + h score + sqrt(2 h) noise``."""
    return x + like(step_size, x) * score + like(jnp.sqrt(2 * step_size), x) * noise
