"""One compiled program for what is called eagerly."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax

Returned = TypeVar("Returned")


def one_program(fn: Callable[..., Returned]) -> Callable[..., Returned]:
    """``fn``, compiled as one program when no argument is traced; inside a transformation it is called as it is.

    Called eagerly, JAX compiles and runs each primitive by itself: a blur would be a dozen programs at its first call, and
    unfused ever after. Arguments that are not arrays are static, so numbers are to be made arrays before.
    """
    compiled = eqx.filter_jit(fn)

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Returned:
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((args, kwargs)))
        return (fn if traced else compiled)(*args, **kwargs)

    return call
