"""Separable operators: a small operator along each axis of an array."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .base import LinearOperator
from .basic import Matrix
from .services import rank_tolerance, singular_values
from .structure import at_precision_of, conform, is_complex, structure


def kronecker(factors: Sequence[Any], shape: tuple[int, ...], *, complex: bool = False) -> LinearOperator:
    """``A_1 (x) A_2 (x) ...``: factor i acts along axis i of arrays of ``shape``; later axes (channels) stay.

    A factor is a matrix ``[m_i, n_i]`` or an operator from vectors ``(n_i,)`` to vectors ``(m_i,)``. Norm, condition number,
    pseudo-inverse and prox follow from the factors: their dense ``n_i x n_i`` Gram matrices must be affordable.
    Raises ``ValueError`` for factors that do not fit ``shape``.
    """
    if not 1 <= len(factors) <= len(shape):
        raise ValueError(f"factors: expected 1 to {len(shape)} for shape {shape}, got {len(factors)}")
    operators = [f if isinstance(f, LinearOperator) else Matrix(f, complex=complex) for f in factors]
    for i, (op, n) in enumerate(zip(operators, shape, strict=False)):
        if op.in_structure != structure((n,), complex) or op.out_structure != structure(
            op.out_structure.shape[:1], complex
        ):
            raise ValueError(
                f"factors[{i}]: expected {'complex' if complex else 'real'} vectors ({n},) to vectors, "
                f"got {op.in_structure} to {op.out_structure}"
            )
    return Kronecker(tuple(operators), structure(shape, complex))


class Kronecker(LinearOperator):
    """See ``kronecker``."""

    operators: tuple[LinearOperator, ...]
    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)

    def __init__(self, operators: tuple[LinearOperator, ...], in_structure: jax.ShapeDtypeStruct):
        self.operators, self.in_structure = operators, in_structure

    @property
    def out_structure(self):
        sizes = [op.out_structure.shape[0] for op in self.operators]
        return structure((*sizes, *self.in_structure.shape[len(sizes) :]), is_complex(self.in_structure))

    def apply(self, x):
        return _along_axes([op.apply for op in self.operators], x)

    def adjoint(self, y):
        return _along_axes([op.adjoint for op in self.operators], y)

    def norm(self):
        """The product of the norms of the factors, exact."""
        return jax.lax.stop_gradient(jnp.prod(jnp.stack([_extremes(op)[0] for op in self.operators])))

    def cond(self):
        """The product of the condition numbers of the factors."""
        return jax.lax.stop_gradient(jnp.prod(jnp.stack([jnp.divide(*_extremes(op)) for op in self.operators])))

    def pinv(self, y):
        y = conform(y, self.out_structure, "y")
        inverses = [jnp.linalg.pinv(at_precision_of(y, op.dense())) for op in self.operators]
        return _along_axes([lambda v, P=P: P @ v for P in inverses], y)

    def shifted_solve(self, rhs, step_size):
        """By the eigenvectors of the Gram matrices of the factors; differentiable where eigenvalues coincide, too."""
        step_size = jnp.asarray(step_size, rhs.real.dtype)
        eigenvalues, vectors = zip(*(_eigen(op, rhs) for op in self.operators), strict=True)
        values = functools.reduce(jnp.multiply.outer, eigenvalues)
        values = values.reshape(*values.shape, *(1,) * (rhs.ndim - values.ndim))

        def solve(b: Array) -> Array:
            coefficients = _along_axes([lambda v, V=V: V.conj().T @ v for V in vectors], b)
            shrunk = coefficients / (1 + step_size * values).astype(b.dtype)
            return _along_axes([lambda v, V=V: V @ v for V in vectors], shrunk)

        def matvec(z: Array) -> Array:
            return z + step_size.astype(z.dtype) * self.adjoint(self.apply(z))

        return jax.lax.custom_linear_solve(
            matvec, rhs, lambda _, b: solve(b), transpose_solve=lambda _, b: solve(b.conj()).conj()
        )


def _extremes(op: LinearOperator) -> tuple[Array, Array]:
    """The largest singular value, and the smallest one that is not zero."""
    values = singular_values(op)
    return values[0], jnp.min(jnp.where(values > rank_tolerance(op, values), values, jnp.inf))


def _eigen(op: LinearOperator, x: Array) -> tuple[Array, Array]:
    M = jax.lax.stop_gradient(at_precision_of(x, op.dense()))
    return jnp.linalg.eigh(M.conj().T @ M)


def _along_axes(functions: Sequence[Callable[[Array], Array]], x: Array) -> Array:
    """Each function, of vectors, along its axis."""
    for axis, fn in enumerate(functions):
        moved = jnp.moveaxis(x, axis, -1)
        y = jax.vmap(fn)(moved.reshape(-1, moved.shape[-1]))
        x = jnp.moveaxis(y.reshape(*moved.shape[:-1], -1), -1, axis)
    return x
