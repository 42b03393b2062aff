"""Iterative solves with ``A^H A`` for operators without a known spectrum: conjugate gradients with implicit derivatives.

``jax.scipy.sparse.linalg.cg`` does the work. Its derivative is one more solve and holds no host callback (those of lineax
do, so programs that differentiate them cannot be lowered for TPU).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, PyTree

from ..types import norm
from .structure import add, precision_of, scale, subtract

if TYPE_CHECKING:
    from .base import LinearOperator

_MAX_STEPS = 500


@eqx.filter_jit
def solve_shifted(A: LinearOperator, rhs: PyTree, step_size: Array) -> PyTree:
    """``(I + step_size A^H A)^(-1) rhs`` to a relative residual of eps^0.75, at most 500 steps."""
    gram = A.gram
    return _conjugate_gradients(lambda z: add(z, gram.apply(z), step_size), rhs)


@eqx.filter_jit
def pinv(A: LinearOperator, y: PyTree) -> PyTree:
    """``A^+ y``: the normal equations from zero, to a relative residual of eps^0.75, at most 500 steps."""
    return _pinv(A, y)


@eqx.filter_custom_jvp
def _pinv(A: LinearOperator, y: PyTree) -> PyTree:
    return _conjugate_gradients(A.gram.apply, A.adjoint(y))


@_pinv.def_jvp
def _pinv_jvp(primals: tuple, tangents: tuple) -> tuple[PyTree, PyTree]:
    """Golub and Pereyra (1973), for constant rank: with ``z = A^+ y`` and ``w = dA^H (A^+)^H z``,

    ``dz = A^+ (dy - dA z + (A^+)^H dA^H (y - A z) - A w) + w``.
    """
    (A, y), (dA, dy) = primals, tangents
    z = _pinv(A, y)

    def derivative(fn: Callable) -> PyTree:
        value, tangent = eqx.filter_jvp(fn, (A,), (dA,))
        return _or_zeros(tangent, value)

    q = A.apply(solve_gram(A, z))
    w = derivative(lambda A: A.adjoint(q))
    residual = subtract(y, A.apply(z))
    u = A.apply(solve_gram(A, derivative(lambda A: A.adjoint(residual))))
    moved = derivative(lambda A: A.apply(z))
    inside = jax.tree.map(lambda a, b, c, d: a - b + c - d, _or_zeros(dy, y), moved, u, A.apply(w))
    return z, add(solve_gram(A, A.adjoint(inside)), w)


def _or_zeros(tangent: PyTree, value: PyTree) -> PyTree:
    """The tangent with zeros where Equinox gives None (nothing there is differentiated)."""
    return jax.tree.map(lambda t, v: jnp.zeros_like(v) if t is None else t, tangent, value, is_leaf=lambda t: t is None)


def solve_gram(A: LinearOperator, rhs: PyTree) -> PyTree:
    """``(A^H A)^+ rhs`` up to the null space of ``A``, for any ``rhs``; transposable."""

    def solve(matvec: Callable, b: PyTree) -> PyTree:
        # Conjugate gradients diverge on an inconsistent system, so b is projected on the range first.
        projected = _conjugate_gradients(matvec, matvec(b))
        return _conjugate_gradients(matvec, projected, power=0.6)

    return jax.lax.custom_linear_solve(A.gram.apply, rhs, solve, transpose_solve=solve)


def _conjugate_gradients(matvec: Callable[[PyTree], PyTree], rhs: PyTree, power: float = 0.75) -> PyTree:
    size = norm(rhs)
    size = jnp.where(size == 0, 1, size)  # NaN stays, so that a non-finite right-hand side gives NaN and not zero
    tol = float(jnp.finfo(precision_of(rhs)).eps) ** power
    z, _ = cg(matvec, scale(1 / size, rhs), tol=tol, maxiter=_MAX_STEPS)
    return scale(size, z)
