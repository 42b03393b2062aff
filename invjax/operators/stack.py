"""Several operators as one: stacked measurements of the same image, and block-diagonal operators on tuples."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from .base import LinearOperator
from .structure import conform


def stack(operators: Sequence[LinearOperator]) -> LinearOperator:
    """``x -> (A_1 x, ..., A_n x)``; the adjoint sums. ``A^H A`` keeps a known spectrum when all share the right basis."""
    return Stack(tuple(operators))


def block_diagonal(operators: Sequence[LinearOperator]) -> LinearOperator:
    """``(x_1, ..., x_n) -> (A_1 x_1, ..., A_n x_n)``; prox and norm are taken block by block."""
    return BlockDiagonal(tuple(operators))


class Stack(LinearOperator):
    """See ``stack``."""

    operators: tuple[LinearOperator, ...]

    def __check_init__(self):
        if not self.operators:
            raise ValueError("operators: expected at least one operator, got none")
        structures = {op.in_structure for op in self.operators}
        if len(structures) != 1:
            raise ValueError(f"operators: expected one common input structure, got {structures}")

    @property
    def in_structure(self):
        return self.operators[0].in_structure

    @property
    def out_structure(self):
        return tuple(op.out_structure for op in self.operators)

    def apply(self, x):
        return tuple(op.apply(x) for op in self.operators)

    def adjoint(self, y):
        parts = [op.adjoint(v) for op, v in zip(self.operators, y, strict=True)]
        return jax.tree.map(lambda *a: sum(a[1:], a[0]), *parts)

    @property
    def gram_spectrum(self):
        spectra = [op.gram_spectrum for op in self.operators]
        total = spectra[0]
        for s in spectra[1:]:
            total = None if total is None or s is None else total + s
        return total


class BlockDiagonal(LinearOperator):
    """See ``block_diagonal``."""

    operators: tuple[LinearOperator, ...]

    def __check_init__(self):
        if not self.operators:
            raise ValueError("operators: expected at least one operator, got none")

    @property
    def in_structure(self):
        return tuple(op.in_structure for op in self.operators)

    @property
    def out_structure(self):
        return tuple(op.out_structure for op in self.operators)

    def apply(self, x):
        return tuple(op.apply(v) for op, v in zip(self.operators, x, strict=True))

    def adjoint(self, y):
        return tuple(op.adjoint(v) for op, v in zip(self.operators, y, strict=True))

    def __matmul__(self, other):
        if isinstance(other, Stack) and len(other.operators) == len(self.operators):
            return Stack(tuple(a @ b for a, b in zip(self.operators, other.operators, strict=True)))
        return super().__matmul__(other)

    def shifted_solve(self, rhs, step_size):
        return tuple(op.shifted_solve(v, step_size) for op, v in zip(self.operators, rhs, strict=True))

    def pinv(self, y):
        y = conform(y, self.out_structure, "y")
        return tuple(op.pinv(v) for op, v in zip(self.operators, y, strict=True))

    def norm(self):
        norms = [op.norm() for op in self.operators]
        return jnp.max(jnp.stack(norms))
