"""Structures: the shape and kind (real or complex) of what an operator takes and gives; precision comes from the input."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree


def structure(shape: tuple[int, ...], complex: bool = False) -> jax.ShapeDtypeStruct:
    """A static structure; its dtype (float32 or complex64) only tells real from complex."""
    if any(not isinstance(n, (int, np.integer)) or n < 1 for n in shape):
        raise ValueError(f"shape: expected positive integers, got {shape}")
    return jax.ShapeDtypeStruct(tuple(int(n) for n in shape), jnp.complex64 if complex else jnp.float32)


def is_complex(struct: Any) -> bool:
    """Whether a structure (or array) is complex."""
    return jnp.issubdtype(struct.dtype, jnp.complexfloating)


def complex_dtype(dtype: Any) -> Any:
    """The complex dtype of the same precision (complex64 for 16-bit types)."""
    return jnp.complex128 if jnp.finfo(dtype).bits == 64 else jnp.complex64


def real_dtype(dtype: Any) -> Any:
    """The real dtype of the same precision."""
    return jnp.finfo(dtype).dtype if jnp.issubdtype(dtype, jnp.complexfloating) else dtype


def default_precision() -> Any:
    """The widest real dtype that JAX is set to use: float64 with x64 enabled, else float32."""
    return jnp.finfo(jnp.zeros(()).dtype).dtype


def dtype_at(struct: Any, precision: Any) -> Any:
    """The dtype of the kind of ``struct`` and the precision of dtype ``precision``."""
    return complex_dtype(precision) if is_complex(struct) else real_dtype(precision)


def at_precision(struct: PyTree, precision: Any) -> PyTree:
    """The structure with every leaf at the precision of the dtype ``precision``."""
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, dtype_at(s, precision)), struct)


def precision_of(x: PyTree) -> Any:
    """The widest real dtype among the leaves."""
    return max((real_dtype(a.dtype) for a in jax.tree.leaves(x)), key=lambda d: jnp.finfo(d).bits)


def at_precision_of(x: PyTree, array: Array) -> Array:
    """``array``, an operator's own data, cast to the precision of ``x``; its kind is kept."""
    return jnp.asarray(array, dtype_at(array, precision_of(x)))


def floating(array: Any) -> Array:
    """``array``, an operator's own data, with integers and booleans (a binary mask) as float32."""
    array = jnp.asarray(array)
    return array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(jnp.float32)


def scale(factor: Array, x: PyTree) -> PyTree:
    """``factor x`` for a factor that broadcasts, at the dtype of each leaf (a real factor multiplies complex leaves too)."""
    return jax.tree.map(lambda a: jnp.asarray(factor, a.dtype) * a, x)


def add(a: PyTree, b: PyTree, factor: Any = 1) -> PyTree:
    """``a + factor b``, leaf by leaf."""
    return jax.tree.map(jnp.add, a, scale(factor, b))


def subtract(a: PyTree, b: PyTree) -> PyTree:
    """``a - b``, leaf by leaf."""
    return jax.tree.map(jnp.subtract, a, b)


def sum_leading(a: Array) -> Array:
    """Sum over the leading axis. XLA on CPU is faster at adding a few slices than at reducing a short axis."""
    if a.shape[0] > 64:  # an addition each, in the program
        return a.sum(0)
    return functools.reduce(jnp.add, [a[k] for k in range(a.shape[0])])


def same_tree(a: PyTree, b: PyTree) -> bool:
    """Whether two pytrees have the same structure."""
    trees: tuple[Any, Any] = (jax.tree.structure(a), jax.tree.structure(b))
    return trees[0] == trees[1]


def conform(x: PyTree, struct: PyTree, name: str) -> PyTree:
    """Check ``x`` against a structure and cast real leaves to complex where the structure is complex.

    Raises ``ValueError`` for another pytree, shape, an integer array, or a complex array where a real one is expected.
    """
    x = jax.tree.map(jnp.asarray, x)
    if not same_tree(x, struct):
        raise ValueError(f"{name}: expected {jax.tree.structure(struct)}, got {jax.tree.structure(x)}")
    return jax.tree.map(lambda a, s: _conform_leaf(a, s, name), x, struct)


def _conform_leaf(a: Array, s: jax.ShapeDtypeStruct, name: str) -> Array:
    if a.shape != s.shape:
        hint = "; batch with jax.vmap" if a.shape[1:] == s.shape else ""
        raise ValueError(f"{name}: expected shape {s.shape}, got {a.shape}{hint}")
    if not jnp.issubdtype(a.dtype, jnp.inexact):
        raise ValueError(f"{name}: expected a floating array, got {a.dtype}; scale images to floats in [0, 1] first")
    if is_complex(a) and not is_complex(s):
        raise ValueError(f"{name}: expected a real array, got {a.dtype}")
    return a.astype(complex_dtype(a.dtype)) if is_complex(s) and not is_complex(a) else a
