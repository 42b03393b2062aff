"""What the image networks share: layers, changes of resolution, noise maps, and the check of their input.

All of it works at the precision of its input, or at ``dtype`` where that is given: the weights are cast, never the image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from .convolution import convolve

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "leaky_relu": lambda x: jax.nn.leaky_relu(x, 0.2),
    "elu": jax.nn.elu,
    "softplus": jax.nn.softplus,
    "silu": jax.nn.silu,
}


def activation_fn(name: str) -> Callable[[Array], Array]:
    """The activation of that name. Raises ``ValueError`` for an unknown one."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]


def require_counts(**counts: Any) -> None:
    """Raise ``ValueError`` unless every argument is a positive integer or a tuple of them."""
    for name, value in counts.items():
        numbers = value if isinstance(value, tuple) else (value,)
        if not numbers or not all(isinstance(n, (int, np.integer)) and n > 0 for n in numbers):
            raise ValueError(f"{name}: expected positive integers, got {value!r}")


def as_dtype(dtype: Any) -> Any:
    """``dtype`` in its one spelling, or None. Raises ``ValueError`` unless it is real and floating."""
    if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"dtype: expected None or a floating dtype, got {dtype}")
    return None if dtype is None else jnp.dtype(dtype)


def at_least_float32(dtype: Any) -> Any:
    """``dtype``, or float32 for 16-bit ones."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype


def at_precision_of_input(arrays: Any, /, *, dtype: Any = None, **_: Any) -> Any:
    """Input, kernel and bias of a layer at ``dtype``, or else at that of the input (Flax would widen to the weights)."""
    dtype = arrays[0].dtype if dtype is None else dtype
    return tuple(None if a is None else jnp.asarray(a, dtype) for a in arrays)


def linear(num_in: int, num_out: int, *, use_bias: bool = False, dtype: Any = None, rngs: nnx.Rngs) -> nnx.Linear:
    """The same linear map at every pixel, ``(..., num_in) -> (..., num_out)``."""
    return nnx.Linear(num_in, num_out, use_bias=use_bias, dtype=dtype, promote_dtype=at_precision_of_input, rngs=rngs)


def conv3(
    num_in: int, num_out: int, *, use_bias: bool = False, gain: float = 1.0, dtype: Any = None, rngs: nnx.Rngs
) -> nnx.Conv:
    """A 3 x 3 convolution with zero padding, ``(H, W, num_in) -> (H, W, num_out)``; ``gain`` is that of its initial weights."""
    return nnx.Conv(
        num_in,
        num_out,
        (3, 3),
        use_bias=use_bias,
        kernel_init=nnx.initializers.variance_scaling(gain**2, "fan_in", "normal"),
        dtype=dtype,
        promote_dtype=at_precision_of_input,
        conv_general_dilated=convolve,
        rngs=rngs,
    )


class ResidualBlock(nnx.Module):
    """``x + conv(activation(conv(x)))``."""

    def __init__(self, features: int, activation: str = "relu", *, dtype: Any = None, rngs: nnx.Rngs):
        self.first = conv3(features, features, dtype=dtype, rngs=rngs)
        self.second = conv3(features, features, gain=0.1, dtype=dtype, rngs=rngs)  # begins close to the identity
        self.activation = activation

    def __call__(self, x: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        """The block at ``x``."""
        return x + self.second(activation_fn(self.activation)(self.first(x)))


class Down(nnx.Module):
    """Half the resolution: a convolution of 2 x 2 pixels with stride 2, without bias."""

    def __init__(self, num_in: int, num_out: int, *, dtype: Any = None, rngs: nnx.Rngs):
        self.mix = linear(4 * num_in, num_out, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "H W C"]) -> Float[Array, "H/2 W/2 D"]:
        """``x`` at half the resolution."""
        return self.mix(to_depth(x, 2))


class Up(nnx.Module):
    """Twice the resolution: a transposed convolution of 2 x 2 pixels with stride 2, without bias."""

    def __init__(self, num_in: int, num_out: int, *, dtype: Any = None, rngs: nnx.Rngs):
        self.mix = linear(num_in, 4 * num_out, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "H W C"]) -> Float[Array, "2H 2W D"]:
        """``x`` at twice the resolution."""
        return to_space(self.mix(x), 2)


def to_depth(x: Float[Array, "H W C"], factor: int) -> Float[Array, "h w D"]:
    """Squares of ``factor x factor`` pixels as channels, ordered (row, column, channel): ``D = factor^2 C``."""
    height, width, channels = x.shape
    x = x.reshape(height // factor, factor, width // factor, factor, channels)
    return x.transpose(0, 2, 1, 3, 4).reshape(height // factor, width // factor, factor**2 * channels)


def to_space(x: Float[Array, "h w D"], factor: int) -> Float[Array, "H W C"]:
    """The inverse of ``to_depth``."""
    height, width, depth = x.shape
    x = x.reshape(height, width, factor, factor, depth // factor**2)
    return x.transpose(0, 2, 1, 3, 4).reshape(height * factor, width * factor, depth // factor**2)


def pad_to_multiple(x: Float[Array, "H W C"], divisor: int) -> Float[Array, "h w C"]:
    """``x`` with its last row and column repeated until both sides are multiples of ``divisor``."""
    height, width, _ = x.shape
    return jnp.pad(x, ((0, -height % divisor), (0, -width % divisor), (0, 0)), mode="edge")


def as_image(x: Any, channels: int | None = None) -> Float[Array, "H W C"]:
    """``x`` as an array. Raises ``ValueError`` unless it is real, floating and ``(H, W, channels)`` with pixels in it."""
    x = jnp.asarray(x)
    if x.ndim != 3 or channels not in (None, x.shape[-1]) or 0 in x.shape:
        hint = "; batch with jax.vmap" if x.ndim == 4 else ""
        raise ValueError(f"x: expected shape (H, W, {channels or 'C'}), got {x.shape}{hint}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x: expected a real floating array, got {x.dtype}")
    return x


def noise_level(sigma: Any, dtype: Any) -> Float[Array, ""]:
    """A scalar noise level. Raises ``ValueError`` for anything else."""
    sigma = _real(sigma, dtype)
    if sigma.shape != ():
        raise ValueError(f"sigma: expected a scalar, got shape {sigma.shape}")
    return sigma


def noise_map(sigma: Any, shape: tuple[int, ...], dtype: Any) -> Float[Array, "H W 1"]:
    """A noise level per pixel: of a scalar, ``(H, W)`` or ``(H, W, 1)``. Raises ``ValueError`` for another shape."""
    sigma = _real(sigma, dtype)
    if sigma.shape == shape:
        sigma = sigma[..., None]
    if sigma.shape not in ((), (*shape, 1)):
        raise ValueError(f"sigma: expected a scalar or shape {shape}, got shape {sigma.shape}")
    return jnp.broadcast_to(sigma, (*shape, 1))


def _real(sigma: Any, dtype: Any) -> Array:
    if sigma is None:
        raise ValueError("sigma: expected a noise level, got None")
    sigma = jnp.asarray(sigma)
    if not (jnp.issubdtype(sigma.dtype, jnp.floating) or jnp.issubdtype(sigma.dtype, jnp.integer)):
        raise ValueError(f"sigma: expected real numbers, got {sigma.dtype}")
    return sigma.astype(dtype)
