"""What every forward model is, linear or not: a checked function between two structures."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..eager import one_program
from .structure import conform


class Operator(eqx.Module):
    """A differentiable map between two structures (``jax.ShapeDtypeStruct`` or tuples of them) of arrays.

    A subclass defines ``in_structure``, ``out_structure`` and ``apply``. ``linearise(A, x)`` is its derivative. The precision is
    that of the input; batches come from ``jax.vmap``.
    """

    in_structure: eqx.AbstractVar[PyTree]
    out_structure: eqx.AbstractVar[PyTree]

    @abc.abstractmethod
    def apply(self, x: PyTree) -> PyTree:
        """``A(x)`` for an ``x`` that was checked already."""

    def __call__(self, x: PyTree) -> PyTree:
        """``A(x)``. Raises ``ValueError`` for another shape, an integer array, or a complex array in a real domain."""
        return _apply(self, conform(x, self.in_structure, "x"))

    def vjp(self, x: PyTree) -> tuple[PyTree, Callable[[PyTree], PyTree]]:
        """``A(x)`` and ``v -> J^H v`` with the derivative J at a checked ``x``; a subclass may know a faster or smaller form."""
        return vjp(self.apply, x)

    def __matmul__(self, other: "Operator") -> "Operator":
        if not isinstance(other, Operator):
            return NotImplemented
        return Chained(self, other)


@one_program
def _apply(A: Operator, x: PyTree) -> PyTree:
    return A.apply(x)


class Chained(Operator):
    """``outer(inner(x))`` where one of the two is not linear; made by ``outer @ inner``."""

    outer: Operator
    inner: Operator

    def __check_init__(self):
        require_composable(self.outer, self.inner)

    @property
    def in_structure(self):
        return self.inner.in_structure

    @property
    def out_structure(self):
        return self.outer.out_structure

    def apply(self, x):
        return self.outer.apply(self.inner.apply(x))

    def vjp(self, x):
        u, inner = self.inner.vjp(x)
        y, outer = self.outer.vjp(u)
        return y, lambda v: inner(outer(v))


def vjp(fn: Callable[[PyTree], PyTree], x: PyTree) -> tuple[PyTree, Callable[[PyTree], PyTree]]:
    """``fn(x)`` and ``v -> J^H v`` for the inner product ``Re <a, b>``; JAX's own pullback is ``J^T``."""
    y, pullback = jax.vjp(fn, x)

    def adjoint(v: PyTree) -> PyTree:
        (g,) = pullback(jax.tree.map(jnp.conj, v))
        return jax.tree.map(jnp.conj, g)

    return y, adjoint


def require_composable(outer: Operator, inner: Operator) -> None:
    """Raise ``ValueError`` unless ``outer`` takes what ``inner`` gives."""
    if outer.in_structure != inner.out_structure:
        raise ValueError(f"A @ B: expected B to give {outer.in_structure}, the input of A, got {inner.out_structure}")
