"""Many operators of one kind as one, their arrays stacked along a leading axis: K masks, kernels, maps, angles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .base import LinearOperator
from .structure import add, at_precision, is_complex, precision_of, structure, sum_leading


def batched(make: Callable[..., LinearOperator], *arrays: Any, batch_size: int | None = None) -> LinearOperator:
    """``x -> (A_1 x, ..., A_K x)`` along a new leading axis, with ``A_k = make(*(a[k] for a in arrays))``; the adjoint sums.

    ``batch_size`` operators are applied at a time (default: all), which bounds the memory. ``A^H A`` keeps a known spectrum.
    Raises ``ValueError`` for arrays of different length.
    """
    shapes = [jnp.shape(a) for a in jax.tree.leaves(arrays)]
    lengths = {s[0] if s else 0 for s in shapes}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"arrays: expected one common leading axis, got shapes {shapes}")
    return Batched(eqx.filter_vmap(make)(*arrays), lengths.pop(), batch_size)


class Batched(LinearOperator):
    """See ``batched``. ``operators`` is one operator whose arrays all have the leading axis ``num``."""

    operators: LinearOperator
    num: int = eqx.field(static=True)
    batch_size: int | None = eqx.field(static=True)
    in_structure: PyTree = eqx.field(static=True)
    out_structure: PyTree = eqx.field(static=True)

    def __init__(self, operators: LinearOperator, num: int, batch_size: int | None = None):
        self.operators, self.num, self.batch_size = operators, num, batch_size
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size: expected an integer >= 1, got {batch_size}")
        if any(a.shape[:1] != (num,) for a in jax.tree.leaves(eqx.filter(operators, eqx.is_array))):
            raise ValueError(f"operators: expected arrays with a leading axis of {num}")
        self.in_structure, out = _structures(operators)
        self.out_structure = jax.tree.map(lambda s: structure((num, *s.shape), is_complex(s)), out)

    def apply(self, x):
        arrays, static = eqx.partition(self.operators, eqx.is_array)

        def one(part: tuple[PyTree, Array]) -> PyTree:
            return eqx.combine(part[0], static).apply(x)

        parts = arrays, jnp.arange(self.num)  # an operator may have no array that tells how many there are
        return jax.vmap(one)(parts) if self.batch_size is None else jax.lax.map(one, parts, batch_size=self.batch_size)

    def adjoint(self, y):
        block = min(self.batch_size or self.num, self.num)
        arrays, static = eqx.partition(self.operators, eqx.is_array)
        whole = self.num // block * block
        parts = jax.tree.map(lambda a: a[:whole].reshape(-1, block, *a.shape[1:]), (arrays, y))
        zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), at_precision(self.in_structure, precision_of(y)))

        def summed(part: PyTree) -> PyTree:
            values = jax.vmap(lambda a, v: eqx.combine(a, static).adjoint(v))(*part)
            return jax.tree.map(sum_leading, values)

        def accumulate(total: PyTree, part: PyTree) -> tuple[PyTree, None]:
            return add(total, summed(part)), None

        total, _ = jax.lax.scan(accumulate, zero, parts)
        return total if whole == self.num else accumulate(total, jax.tree.map(lambda a: a[whole:], (arrays, y)))[0]

    @property
    def gram_spectrum(self):
        arrays, static = eqx.partition(self.operators, eqx.is_array)
        spectra = jax.vmap(lambda a, _: eqx.combine(a, static).gram_spectrum)(arrays, jnp.arange(self.num))
        return None if spectra is None else spectra.map(sum_leading)


def _structures(operators: LinearOperator) -> tuple[PyTree, PyTree]:
    """Input and output structure of one of the operators: they may depend on the shapes of its arrays."""

    def arrays_of(operators: LinearOperator) -> PyTree:
        one = jax.tree.map(lambda a: a[0] if eqx.is_array(a) else a, operators)
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (one.in_structure, one.out_structure))

    shapes = eqx.filter_eval_shape(arrays_of, operators)
    return jax.tree.map(lambda s: structure(s.shape, is_complex(s)), shapes)
