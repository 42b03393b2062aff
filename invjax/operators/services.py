"""What every linear operator can do: norm, dense matrix, pseudo-inverse, least-squares prox, trace, dot test.

Closed form wherever a spectrum is known, conjugate gradients with implicit derivative (``krylov``) otherwise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..types import inner, num_reals, real, require
from ..types import norm as tree_norm
from . import krylov
from .structure import at_precision, conform, default_precision, precision_of, scale

if TYPE_CHECKING:
    from .base import LinearOperator

_DENSE_LIMIT = 2**26  # entries of a dense matrix: 256 MiB in float32
_LANCZOS_STEPS = 60


def norm(A: LinearOperator) -> Array:
    """Largest singular value ``|A|_2``: from the spectrum when it is known, otherwise 60 Lanczos steps on ``A^H A``.

    Deterministic: Lanczos starts from a fixed Gaussian vector (key 0). The iterative value includes the residual bound of
    its Ritz pair, so ``1 / norm()**2`` is a safe step size. The derivative is stopped: an operator norm here sets step
    sizes, which the solution does not depend on.
    """
    known = A.gram_spectrum if A.gram_spectrum is not None else A.cogram_spectrum
    value = jnp.sqrt(jnp.max(known.values)) if known is not None else _lanczos_norm(A)
    return jax.lax.stop_gradient(value)


@eqx.filter_jit
def _lanczos_norm(A: LinearOperator) -> Array:
    start = random_like(jax.random.key(0), A.in_structure, default_precision())
    steps = min(_LANCZOS_STEPS, num_reals(start))

    def body(carry, _):
        before, v, beta = carry
        w = A.adjoint(A.apply(v))
        alpha = inner(v, w)
        w = jax.tree.map(lambda a, b, c: a - alpha.astype(a.dtype) * b - beta.astype(a.dtype) * c, w, v, before)
        new = tree_norm(w)
        alive = new > 1e-12 * jnp.maximum(jnp.abs(alpha), jnp.finfo(new.dtype).tiny)
        new = jnp.where(alive, new, 0)
        after = scale(jnp.where(alive, 1 / jnp.where(alive, new, 1), 0), w)
        return (v, after, new), (alpha, new)

    v = scale(1 / tree_norm(start), start)
    zero = jax.tree.map(jnp.zeros_like, v)
    _, (alphas, betas) = jax.lax.scan(body, (zero, v, jnp.zeros_like(tree_norm(v))), None, length=steps)
    ritz, vectors = jnp.linalg.eigh(jnp.diag(alphas) + jnp.diag(betas[:-1], 1) + jnp.diag(betas[:-1], -1))
    bound = betas[-1] * jnp.abs(vectors[-1, -1])
    return jnp.sqrt(jnp.maximum(ritz[-1] + bound, 0))


def random_like(key: PRNGKeyArray, struct: PyTree, precision: Any) -> PyTree:
    """Standard normal arrays of a structure (complex ones have unit variance in total)."""
    leaves, tree = jax.tree.flatten(at_precision(struct, precision))
    keys = jax.random.split(key, len(leaves))
    draws = [jax.random.normal(k, s.shape, s.dtype) for k, s in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, draws)


def dense(A: LinearOperator) -> Array:
    """Matrix ``[m, n]`` of the operator on raveled inputs and outputs. Raises ``ValueError`` above 2^26 entries."""
    counts = [sum(math.prod(s.shape) for s in jax.tree.leaves(t)) for t in (A.in_structure, A.out_structure)]
    if counts[0] * counts[1] > _DENSE_LIMIT:
        raise ValueError(f"A: expected at most {_DENSE_LIMIT} matrix entries, got {counts[1]} x {counts[0]}")
    return _dense(A)


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
    rhs = jax.tree.map(jnp.add, x, scale(step_size, A.adjoint(y)))
    return A.shifted_solve(rhs, step_size)


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
        return jax.tree.map(jnp.subtract, rhs, scale(step_size, A.adjoint(inside)))
    return krylov.solve_shifted(A, rhs, step_size)


def pinv(A: LinearOperator, y: PyTree) -> PyTree:
    """Minimum-norm least-squares solution ``A^+ y``; singular values below ``eps * size * |A|`` count as zero.

    Closed form when a spectrum is known, else conjugate gradients on the normal equations from zero (which converge to
    the minimum-norm solution). Differentiable in ``y`` and in the arrays of ``A`` (where the rank does not change).
    """
    y = conform(y, A.out_structure, "y")
    if (gram := A.gram_spectrum) is not None:
        return gram.map(lambda v: _reciprocal(v, y)).apply(A.adjoint(y))
    if (cogram := A.cogram_spectrum) is not None:
        return A.adjoint(cogram.map(lambda v: _reciprocal(v, y)).apply(y))
    return krylov.pinv(A, y)


def _reciprocal(values: Array, y: PyTree) -> Array:
    kept = values > jnp.finfo(values.dtype).eps * values.size * jnp.max(values)
    return jnp.where(kept, 1 / _widened(jnp.where(kept, values, 1), y), 0)


def _widened(values: Array, x: PyTree) -> Array:
    """The values at the precision of ``x`` if that is higher: what is computed from them is then as precise as ``x``."""
    return values.astype(np.promote_types(values.dtype, precision_of(x)))


def trace(key: PRNGKeyArray, A: LinearOperator, num_probes: int = 32) -> tuple[Array, Array]:
    """Hutchinson (1990) estimate ``mean_k Re <z_k, A z_k>`` with random signs, and its standard error. ``A`` is square."""
    if A.in_structure != A.out_structure:
        raise ValueError(f"A: expected equal input and output structures, got {A.in_structure} and {A.out_structure}")
    if num_probes < 2:
        raise ValueError(f"num_probes: expected an integer >= 2, got {num_probes}")
    return _trace(key, A, num_probes)


@eqx.filter_jit
def _trace(key: PRNGKeyArray, A: LinearOperator, num_probes: int) -> tuple[Array, Array]:
    precision = default_precision()

    def one(k: PRNGKeyArray) -> Array:
        z = jax.tree.map(lambda a: jnp.sign(a.real).astype(a.dtype), random_like(k, A.in_structure, precision))
        return inner(z, A.apply(z))

    values = jax.lax.map(one, jax.random.split(key, num_probes))
    return values.mean(), values.std(ddof=1) / jnp.sqrt(jnp.asarray(num_probes, values.dtype))


def dot_test(key: PRNGKeyArray, A: LinearOperator, num_pairs: int = 4, dtype: Any = jnp.float32) -> Array:
    """Relative adjoint error: RMS of ``<A u, v> - <u, A^H v>`` over RMS of ``<A u, v>`` for Gaussian pairs (real parts)."""

    def one(k: PRNGKeyArray) -> tuple[Array, Array]:
        ku, kv = jax.random.split(k)
        u, v = random_like(ku, A.in_structure, dtype), random_like(kv, A.out_structure, dtype)
        left = inner(A.apply(u), v)
        return left - inner(u, A.adjoint(v)), left

    errors, values = jax.vmap(one)(jax.random.split(key, num_pairs))
    return jnp.sqrt(jnp.mean(errors**2) / jnp.mean(values**2))
