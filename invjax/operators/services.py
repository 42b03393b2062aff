"""What every linear operator can do: norm, condition number, dense matrix, pseudo-inverse, least-squares prox, dot test.

Closed form wherever a spectrum is known, conjugate gradients with implicit derivative (``krylov``) otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..eager import one_program
from ..types import inner, num_reals, real, require
from ..types import norm as tree_norm
from . import krylov
from .structure import add, at_precision, conform, default_precision, is_complex, precision_of, scale, subtract

if TYPE_CHECKING:
    from .base import LinearOperator

_DENSE_LIMIT = 2**26  # entries of a dense matrix: 256 MiB in float32
_SMALL = 2**20
_LANCZOS_STEPS = 60
_INVERSE_STEPS = 20


def norm(A: LinearOperator) -> Array:
    """Largest singular value ``|A|_2``: from the spectrum when it is known, otherwise 60 Lanczos steps on ``A^H A``.

    Deterministic: Lanczos starts from a fixed Gaussian vector (key 0). The iterative value includes the residual bound of
    its Ritz pair, so ``1 / norm()**2`` is a safe step size. The derivative is stopped: an operator norm here sets step
    sizes, which the solution does not depend on.
    """
    return jax.lax.stop_gradient(_norm(A))


@one_program
def _norm(A: LinearOperator) -> Array:
    known = A.gram_spectrum if A.gram_spectrum is not None else A.cogram_spectrum
    return jnp.sqrt(jnp.max(known.values)) if known is not None else _lanczos_norm(A)


def cond(A: LinearOperator) -> Array:
    """Condition number ``|A| |A^+|``: the largest over the smallest singular value that is not zero.

    From the spectrum when it is known, where singular values below ``eps * sqrt(size) * |A|`` count as zero as in ``pinv``; from
    the dense matrix up to 2^20 entries, where those below ``eps * size * |A|`` do. Otherwise by 20 Lanczos steps on
    ``(A^H A)^+``, each two solves by conjugate gradients of at most 500 steps: they see condition numbers up to some hundred,
    and report less than the truth above. The derivative is stopped.
    """
    known = A.gram_spectrum if A.gram_spectrum is not None else A.cogram_spectrum
    if known is not None:
        smallest = jnp.min(jnp.where(_nonzero(known.values), known.values, jnp.inf))
        value = jnp.sqrt(jnp.max(known.values) / smallest)
    elif math.prod(_counts(A)) <= _SMALL:
        values = singular_values(A)
        value = values[0] / jnp.min(jnp.where(values > rank_tolerance(A, values), values, jnp.inf))
    else:
        value = A.norm() * jnp.sqrt(_largest_inverse(A))
    return jax.lax.stop_gradient(value)


def singular_values(A: LinearOperator) -> Array:
    """Singular values of a small operator, the largest first."""
    M = dense(A)
    if not any(is_complex(s) for s in jax.tree.leaves(A.in_structure)):  # linear over the reals only
        M = jnp.concatenate([M.real, M.imag]) if jnp.iscomplexobj(M) else M
    return jnp.linalg.svd(M, compute_uv=False)


def rank_tolerance(A: LinearOperator, values: Array) -> Array:
    """Which of these singular values of the dense matrix of ``A`` count as zero: those up to ``eps max(m, n) |A|``."""
    return jnp.finfo(values.dtype).eps * max(_counts(A)) * values[0]


@eqx.filter_jit
def _lanczos_norm(A: LinearOperator) -> Array:
    largest = _lanczos(lambda v: A.adjoint(A.apply(v)), _start(A), _LANCZOS_STEPS)
    return jnp.sqrt(jnp.maximum(largest, 0))


@eqx.filter_jit
def _largest_inverse(A: LinearOperator) -> Array:
    start = A.adjoint(A.apply(_start(A)))  # in the range of A^H
    return _lanczos(lambda v: krylov.solve_gram(A, v), start, _INVERSE_STEPS)


def _start(A: LinearOperator) -> PyTree:
    return random_like(jax.random.key(0), A.in_structure, default_precision())


def _lanczos(matvec: Callable[[PyTree], PyTree], start: PyTree, steps: int) -> Array:
    """Largest eigenvalue of a Hermitian operator, plus the residual bound of its Ritz pair."""
    steps = min(steps, num_reals(start))

    def body(carry, _):
        before, v, beta = carry
        w = matvec(v)
        alpha = inner(v, w)
        w = jax.tree.map(lambda a, b, c: a - alpha.astype(a.dtype) * b - beta.astype(a.dtype) * c, w, v, before)
        new = tree_norm(w)
        alive = new > 1e-12 * jnp.maximum(jnp.abs(alpha), jnp.finfo(new.dtype).tiny)
        new = jnp.where(alive, new, 0)
        after = scale(jnp.where(alive, 1 / jnp.where(alive, new, 1), 0), w)
        return (v, after, new), (alpha, new)

    size = tree_norm(start)
    v = scale(1 / jnp.where(size == 0, 1, size), start)
    zero = jax.tree.map(jnp.zeros_like, v)
    _, (alphas, betas) = jax.lax.scan(body, (zero, v, jnp.zeros_like(size)), None, length=steps)
    ritz, vectors = jnp.linalg.eigh(jnp.diag(alphas) + jnp.diag(betas[:-1], 1) + jnp.diag(betas[:-1], -1))
    return ritz[-1] + betas[-1] * jnp.abs(vectors[-1, -1])


def random_like(key: PRNGKeyArray, struct: PyTree, precision: Any) -> PyTree:
    """Standard normal arrays of a structure (complex ones have unit variance in total)."""
    leaves, tree = jax.tree.flatten(at_precision(struct, precision))
    keys = jax.random.split(key, len(leaves))
    draws = [jax.random.normal(k, s.shape, s.dtype) for k, s in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, draws)


def dense(A: LinearOperator) -> Array:
    """Matrix ``[m, n]`` of the operator on raveled inputs and outputs. Raises ``ValueError`` above 2^26 entries."""
    columns, rows = _counts(A)
    if columns * rows > _DENSE_LIMIT:
        raise ValueError(f"A: expected at most {_DENSE_LIMIT} matrix entries, got {rows} x {columns}")
    return _dense(A)


def _counts(A: LinearOperator) -> tuple[int, int]:
    """Number of unknowns and of measurements."""
    counts = [sum(math.prod(s.shape) for s in jax.tree.leaves(t)) for t in (A.in_structure, A.out_structure)]
    return counts[0], counts[1]


@eqx.filter_jit
def _dense(A: LinearOperator) -> Array:
    precision = default_precision()
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), at_precision(A.in_structure, precision))
    flat, unravel = ravel_pytree(zeros)
    columns = jax.vmap(lambda e: ravel_pytree(A.apply(unravel(e)))[0])(jnp.eye(flat.size, dtype=flat.dtype))
    return columns.T


def least_squares_prox(A: LinearOperator, x: PyTree, y: PyTree, step_size: Any) -> PyTree:
    """``argmin_z step_size |A z - y|^2 / 2 + |z - x|^2 / 2 = (I + step_size A^H A)^(-1) (x + step_size A^H y)``.

    Closed form when ``A^H A`` or ``A A^H`` has a known spectrum, else conjugate gradients; differentiable implicitly in
    every argument, including the arrays of ``A``. Raises ``ValueError`` when ``step_size`` is not a scalar >= 0.
    """
    x, y, step_size = conform(x, A.in_structure, "x"), conform(y, A.out_structure, "y"), real(step_size)
    require(step_size, "step_size", nonnegative=True, shape=())
    return _prox(A, x, y, step_size)


@one_program
def _prox(A: LinearOperator, x: PyTree, y: PyTree, step_size: Array) -> PyTree:
    return A.shifted_solve(add(x, A.adjoint(y), step_size), step_size)


def shifted_solve(A: LinearOperator, rhs: PyTree, step_size: Any) -> PyTree:
    """``(I + step_size A^H A)^(-1) rhs``: by the spectrum, the Woodbury identity on ``A A^H``, or conjugate gradients."""
    step_size = jnp.asarray(real(step_size), precision_of(rhs))

    def shrink(values: Array) -> Array:
        wide = _widened(values, rhs)
        return 1 / (1 + jnp.asarray(step_size, wide.dtype) * wide)

    if (gram := A.gram_spectrum) is not None:
        return gram.map(shrink).apply(rhs)
    if (cogram := A.cogram_spectrum) is not None:
        inside = cogram.map(shrink).apply(A.apply(rhs))
        return subtract(rhs, scale(step_size, A.adjoint(inside)))
    return krylov.solve_shifted(A, rhs, step_size)


def pinv(A: LinearOperator, y: PyTree) -> PyTree:
    """Minimum-norm least-squares solution ``A^+ y``; singular values below ``eps * sqrt(size) * |A|`` count as zero.

    Closed form when a spectrum is known, else conjugate gradients on the normal equations from zero (which converge to
    the minimum-norm solution). Differentiable in ``y`` and in the arrays of ``A`` (where the rank does not change).
    """
    return _pinv(A, conform(y, A.out_structure, "y"))


@one_program
def _pinv(A: LinearOperator, y: PyTree) -> PyTree:
    if (gram := A.gram_spectrum) is not None:
        return gram.map(lambda v: _reciprocal(v, y)).apply(A.adjoint(y))
    if (cogram := A.cogram_spectrum) is not None:
        return A.adjoint(cogram.map(lambda v: _reciprocal(v, y)).apply(y))
    return krylov.pinv(A, y)


def _reciprocal(values: Array, y: PyTree) -> Array:
    kept = _nonzero(values)
    return jnp.where(kept, 1 / _widened(jnp.where(kept, values, 1), y), 0)


def _nonzero(values: Array) -> Array:
    """Which squared singular values count as more than zero: rounding leaves about ``eps sqrt(size) |A|`` where one is zero."""
    return values > jnp.finfo(values.dtype).eps ** 2 * values.size * jnp.max(values)


def _widened(values: Array, x: PyTree) -> Array:
    """The values at the precision of ``x`` if that is higher: what is computed from them is then as precise as ``x``."""
    return values.astype(np.promote_types(values.dtype, precision_of(x)))


def dot_test(key: PRNGKeyArray, A: LinearOperator, num_pairs: int = 4, dtype: Any = jnp.float32) -> Array:
    """Relative adjoint error: RMS of ``<A u, v> - <u, A^H v>`` over RMS of ``<A u, v>`` for Gaussian pairs (real parts)."""

    def one(k: PRNGKeyArray) -> tuple[Array, Array]:
        ku, kv = jax.random.split(k)
        u, v = random_like(ku, A.in_structure, dtype), random_like(kv, A.out_structure, dtype)
        left = inner(A.apply(u), v)
        return left - inner(u, A.adjoint(v)), left

    errors, values = jax.vmap(one)(jax.random.split(key, num_pairs))
    return jnp.sqrt(jnp.mean(errors**2) / jnp.mean(values**2))
