"""Sorting of one array of floats, fast on CPU.

XLA's sort calls a comparison of floats, or of tuples, through a function; one array of integers it sorts by machine code, six
times as fast on CPU. So floats are sorted as the integers of the same order, and indices travel in the low half of an integer.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

_INTEGERS = {32: jnp.int32, 64: jnp.int64}


@jax.custom_jvp
def sort(x: Float[Array, " n"]) -> Float[Array, " n"]:
    """``jnp.sort`` of a float32 or float64 array (n,): NaN at the end. Differentiable, by ``argsort``.

    Raises ``ValueError`` for another shape or dtype.
    """
    _require_floats(x)
    return _from_key(jax.lax.sort(_key(x)), x.dtype)


@sort.defjvp
def _sort_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    order = argsort(primals[0])
    return primals[0][order], tangents[0][order]


def argsort(x: Float[Array, " n"]) -> Int[Array, " n"]:
    """``jnp.argsort`` of a float32 or float64 array (n,), stable, NaN at the end: int32 indices. Raises as ``sort``."""
    _require_floats(x)
    x = jax.lax.stop_gradient(x)
    order = jax.lax.platform_dependent(x, cpu=_packed, default=lambda x: jnp.argsort(x).astype(jnp.int32))
    return checkpoint_name(order, "order")  # the one thing worth keeping for a backward pass


def _require_floats(x: Array) -> None:
    if x.ndim != 1 or x.dtype not in (jnp.float32, jnp.float64):
        raise ValueError(f"x: expected float32 or float64 of shape (n,), got {x.dtype} of shape {x.shape}")


def _key(x: Array) -> Array:
    """Integers in the order of the floats: of negative ones, whose bits grow with the size, all but the sign are flipped."""
    bits = jnp.finfo(x.dtype).bits
    x = jnp.where(
        jnp.isnan(x), jnp.asarray(jnp.nan, x.dtype), jnp.where(x == 0, jnp.zeros_like(x), x)
    )  # one NaN, one 0
    return _flip(jax.lax.bitcast_convert_type(x, _INTEGERS[bits]))


def _from_key(key: Array, dtype: Any) -> Array:
    return jax.lax.bitcast_convert_type(_flip(key), dtype)


def _flip(integers: Array) -> Array:
    return integers ^ ((integers >> (jnp.iinfo(integers.dtype).bits - 1)) & jnp.iinfo(integers.dtype).max)


def _packed(x: Array) -> Array:
    """The order by 64-bit integers of 32 bits of the key and the position, from the low digits of the key to the high ones."""
    position = jax.lax.iota(jnp.int32, x.shape[0])
    order = position
    for digit in _digits(_key(x)):
        # 64-bit integers also where they are switched off: none leaves this function.
        with jax.enable_x64(True):
            high = jax.lax.shift_left(digit[order].astype(jnp.int64), jnp.full(x.shape, 32, jnp.int64))
            place = jax.lax.sort(high | position.astype(jnp.int64)) & jnp.asarray(0xFFFFFFFF, jnp.int64)
            place = place.astype(jnp.int32)
        order = order[place]
    return order


def _digits(key: Array) -> tuple[Array, ...]:
    """32-bit digits of the key, the low ones first; they are compared as signed integers."""
    if key.dtype == jnp.int32:
        return (key,)
    low = (key & 0xFFFFFFFF).astype(jnp.uint32) ^ jnp.asarray(1 << 31, jnp.uint32)  # unsigned order as a signed one
    return jax.lax.bitcast_convert_type(low, jnp.int32), (key >> 32).astype(jnp.int32)
