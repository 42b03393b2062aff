"""The convolution of the networks."""

from __future__ import annotations

from typing import Any

import jax
from jaxtyping import Array


def convolve(x: Array, kernel: Array, strides: Any, padding: Any, **options: Any) -> Array:
    """``jax.lax.conv_general_dilated`` for now."""
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
