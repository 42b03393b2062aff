"""Algebraic reconstruction of ``A x = y``: SIRT, SART (SIRT block by block), Kaczmarz's method, cyclic and randomised."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..operators import LinearOperator, Matrix
from ..operators.stack import Stack
from ..operators.structure import at_precision, at_precision_of, conform, is_complex, precision_of, scale
from ..types import real, require, squared
from .base import FixedPointMethod, Info, PositionState, change, positive_reciprocal


class SIRT(FixedPointMethod):
    """``x <- x + relaxation V A^T W (y - A x)`` with ``V = 1 / (A^T 1)`` and ``W = 1 / (A 1)``; then the constraint's
    prox.

    Converges to a minimiser of ``|y - A x|^2_W`` for ``0 < relaxation < 2``, when the entries of ``A`` are not
    negative (``V A^T W A`` then has norm one). Rows and columns that sum to zero are left out. ``constraint`` acts on
    each pixel alone (a box), for which the prox in the metric of ``V`` is the plain one. Raises ``ValueError`` for a
    complex operator. Source: Gilbert (1972); Gregor and Benson (2008).
    """

    operator: LinearOperator
    y: PyTree
    row_weights: PyTree
    column_weights: PyTree
    relaxation: Array
    constraint: Any

    def __init__(self, operator: LinearOperator, y: PyTree, relaxation: Any = 1.0, constraint: Any = None):
        if any(is_complex(s) for s in jax.tree.leaves((operator.in_structure, operator.out_structure))):
            raise ValueError("operator: expected a real operator with non-negative entries, got a complex one")
        self.operator, self.y = operator, conform(y, operator.out_structure, "y")
        self.relaxation, self.constraint = real(relaxation), constraint
        require(self.relaxation, "relaxation", positive=True, below=2.0)
        precision = precision_of(self.y)
        self.row_weights = positive_reciprocal(operator(_ones(operator.in_structure, precision)))
        self.column_weights = positive_reciprocal(operator.H(_ones(operator.out_structure, precision)))

    def fixed_point(self, x: PyTree) -> PyTree:
        """One simultaneous correction."""
        gap = jax.tree.map(_weighted_gap, self.row_weights, self.y, self.operator(x))
        back = self.operator.H(gap)
        x = jax.tree.map(
            lambda a, v, b: a + v.astype(a.dtype) * b, x, self.column_weights, scale(self.relaxation, back)
        )
        return x if self.constraint is None else self.constraint.prox(x, self.relaxation)


class SART(FixedPointMethod):
    """SIRT on the blocks of ``operators.stack`` in turn (ordered subsets, one angle each in the classical form).

    A step is one pass over all blocks. Converges for ``0 < relaxation < 2`` when the equations are consistent;
    otherwise it tends to a cycle near the least-squares solution, the closer the smaller ``relaxation``. With one
    block it is SIRT. Source: Andersen and Kak (1984); Jiang and Wang (2003).
    """

    blocks: tuple[SIRT, ...]

    def __init__(self, operator: LinearOperator, y: PyTree, relaxation: Any = 1.0, constraint: Any = None):
        y = conform(y, operator.out_structure, "y")
        pairs = zip(operator.operators, y, strict=True) if isinstance(operator, Stack) else [(operator, y)]
        self.blocks = tuple(SIRT(A, v, relaxation, constraint) for A, v in pairs)

    def fixed_point(self, x: PyTree) -> PyTree:
        """One pass over the blocks."""
        for block in self.blocks:
            x = block.fixed_point(x)
        return x


class RowAction(eqx.Module):
    """Base of the methods that project on the hyperplane of one row of a matrix at a time."""

    operator: Matrix
    y: Array
    squares: Array
    relaxation: Array

    def __init__(self, operator: Matrix, y: Array, relaxation: Any = 1.0):
        if not isinstance(operator, Matrix):
            raise ValueError(f"operator: expected operators.Matrix, got {type(operator).__name__}; use SART for blocks")
        self.operator, self.y, self.relaxation = operator, conform(y, operator.out_structure, "y"), real(relaxation)
        require(self.relaxation, "relaxation", positive=True, below=2.0)
        self.squares = jnp.sum(squared(operator.matrix), 1)

    def init(self, x: PyTree, key: Any = None) -> PositionState:
        """Start at ``x``."""
        return PositionState(conform(x, self.operator.in_structure, "x"))

    def project(self, rows: Array, x: Array) -> Array:
        """Project (relaxed) on the hyperplanes of the given rows, one after the other."""
        matrix = at_precision_of(x, self.operator.matrix)
        y = self.y.astype(x.dtype)
        weights = scale(self.relaxation, positive_reciprocal(self.squares)).astype(x.dtype)

        def one(x: Array, i: Array) -> tuple[Array, None]:
            row = matrix[i].astype(x.dtype)
            return x + weights[i] * (y[i] - row @ x) * jnp.conj(row), None

        return jax.lax.scan(one, x.reshape(-1), rows)[0].reshape(x.shape)


class Kaczmarz(RowAction, FixedPointMethod):
    """``x <- x + relaxation (y_i - <a_i, x>) conj(a_i) / |a_i|^2`` for every row ``a_i`` of a matrix in turn (ART).

    A step is one pass over all rows. Converges for ``0 < relaxation < 2``, from zero to the solution of least norm,
    when the equations are consistent; otherwise to a cycle. Rows of zeros are left out. ``operator`` is an
    ``operators.Matrix``; ``SART`` is the form for blocks of other operators. Source: Kaczmarz (1937); Gordon, Bender
    and Herman (1970).
    """

    def fixed_point(self, x: PyTree) -> PyTree:
        """One pass over the rows."""
        return self.project(jnp.arange(self.y.size), x)


class RandomisedKaczmarz(RowAction):
    """Kaczmarz's projection on rows drawn with probability ``|a_i|^2 / |A|_F^2``; a step draws as many as there are
    rows.

    For consistent equations, ``relaxation = 1`` and ``x_0`` in the row space, the expected squared error contracts by
    at least ``1 - sigma_min^2 / |A|_F^2`` with every row drawn. Source: Strohmer and Vershynin (2009), theorem 2.
    """

    def step(self, key: PRNGKeyArray, state: PositionState) -> tuple[PositionState, Info]:
        """Projections on as many random rows as there are rows."""
        rows = jax.random.choice(key, self.y.size, (self.y.size,), p=self.squares / jnp.sum(self.squares))
        position = self.project(rows, state.position)
        return PositionState(position), change(position, state.position)


def _ones(struct: PyTree, precision: Any) -> PyTree:
    return jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), at_precision(struct, precision))


def _weighted_gap(weight: Array, y: Array, predicted: Array) -> Array:
    return weight.astype(predicted.dtype) * (y.astype(predicted.dtype) - predicted)
