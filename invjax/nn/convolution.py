"""The 3 x 3 convolution of the networks: XLA's own on accelerators, fewer products on CPU."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

# F(4, 3) of Winograd at the points 0, 1, -1, 2, -2 and infinity: 4 outputs of a 3-tap filter from 6 products instead of 12.
_INPUT = np.array(
    [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
     [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
)  # fmt: skip
_KERNEL = np.array(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]
) / 24  # fmt: skip
_OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


def convolve(x: Array, kernel: Array, strides: Any, padding: Any, **options: Any) -> Array:
    """``jax.lax.conv_general_dilated`` as ``nnx.Conv`` calls it for a 3 x 3 kernel with zero padding.

    On CPU, in float32 and float64, it is ``winograd``: XLA's own convolution uses one thread there for up to 64 channels.
    Derivatives are those of XLA's.
    """

    def usual(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)

    @jax.custom_jvp
    def fast(x: Array, kernel: Array) -> Array:
        return jax.lax.platform_dependent(x, kernel, cpu=winograd, default=usual)

    def derivative(primals: tuple, tangents: tuple) -> tuple[Array, Any]:
        (x, kernel), (dx, dkernel) = primals, tangents
        pairs = ((dx, kernel), (x, dkernel))  # XLA would convolve with the zeros of what is held fixed
        return fast(x, kernel), sum(usual(*p) for p in pairs if not any(isinstance(a, SymbolicZero) for a in p))

    fast.defjvp(derivative, symbolic_zeros=True)
    wide = jnp.finfo(x.dtype).bits >= 32  # the transforms multiply by up to 8, which half precision does not bear
    return fast(x, kernel) if wide else usual(x, kernel)


def winograd(x: Float[Array, "N H W C"], kernel: Float[Array, "3 3 C D"]) -> Float[Array, "N H W D"]:
    """The convolution with zero padding, by the minimal filter F(4, 3) along the rows and matrix products along the columns.

    Half of the products, as large matrix products that use all threads. The rounding error grows by a small factor (the
    transforms multiply by up to 8). Source: Lavin and Gray (2016), CVPR, section 4.
    """
    (count, height, width, channels), num_out = x.shape, kernel.shape[-1]
    rows = -(-height // 4)
    padded = jnp.pad(x, ((0, 0), (1, 1 + 4 * rows - height), (1, 1), (0, 0)))
    taps = [padded[:, i : i + 4 * rows - 3 : 4] for i in range(6)]
    mixed = jnp.stack([_combine(weights, taps) for weights in _INPUT])
    mixed = mixed.reshape(6, count * rows * (width + 2), channels)
    # The axes move before the transform: the other way round takes longer than the products of a small image.
    filters = jnp.tensordot(jnp.asarray(_KERNEL, kernel.dtype), jnp.moveaxis(kernel, 1, 2), 1)  # (6, C, 3, D)
    products = jax.lax.dot_general(mixed, filters.reshape(6, channels, 3 * num_out), (((2,), (1,)), ((0,), (0,))))
    products = products.reshape(6, count, rows, width + 2, 3, num_out)
    summed = sum(products[:, :, :, j : j + width, j] for j in range(3))
    out = jnp.stack([_combine(weights, summed) for weights in _OUTPUT], 2)
    return out.reshape(count, 4 * rows, width, num_out)[:, :height]


def _combine(weights: np.ndarray, parts: Any) -> Array:
    """``sum_i weights[i] parts[i]`` without the zeros."""
    return sum(part if w == 1 else w.item() * part for w, part in zip(weights, parts, strict=True) if w)
