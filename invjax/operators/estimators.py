"""Random estimates from products with an operator: its trace (Hutchinson, Hutch++) and its diagonal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..reducers import Moments
from ..types import inner
from .structure import at_precision, default_precision, is_complex

if TYPE_CHECKING:
    from .base import LinearOperator


def trace(key: PRNGKeyArray, A: LinearOperator, num_probes: int = 32) -> tuple[Array, Array]:
    """Hutchinson (1990) estimate ``mean_k Re <z_k, A z_k>`` with random signs, and its standard error. ``A`` is square."""
    _require_square(A, num_probes, at_least=2)
    return _trace(key, A, num_probes)


@eqx.filter_jit
def _trace(key: PRNGKeyArray, A: LinearOperator, num_probes: int) -> tuple[Array, Array]:
    def one(k: PRNGKeyArray) -> Array:
        z = _signs(k, A)
        return inner(z, A.apply(z))

    return _mean(jax.lax.map(one, jax.random.split(key, num_probes)))


def hutch_pp(key: PRNGKeyArray, A: LinearOperator, num_products: int = 48) -> tuple[Array, Array]:
    """Hutch++ (Meyer, Musco, Musco and Woodruff 2021, algorithm 1): the trace of a square ``A``, and its standard error.

    A third of the products with ``A`` finds a subspace ``Q``, a third gives the trace there, exactly, and the rest estimates
    that of the remainder: exact for rank at most ``num_products / 3``. For positive semi-definite ``A`` the relative error is
    of order ``1 / num_products``, where Hutchinson's is of its square root. Memory: ``num_products / 3`` vectors.
    Raises ``ValueError`` when ``A`` is not square, mixes real and complex arrays, or for fewer than 6 products.
    """
    _require_square(A, num_products, "num_products", at_least=6)
    if len({is_complex(s) for s in jax.tree.leaves(A.in_structure)}) > 1:
        raise ValueError(f"A: expected arrays that are all real or all complex, got {A.in_structure}")
    return _hutch_pp(key, A, num_products // 3)


@eqx.filter_jit
def _hutch_pp(key: PRNGKeyArray, A: LinearOperator, num: int) -> tuple[Array, Array]:
    _, unravel = ravel_pytree(_signs(key, A))

    def product(v: Array) -> Array:
        return ravel_pytree(A.apply(unravel(v)))[0]

    keys = jax.random.split(key, 2 * num)
    probes = jax.lax.map(lambda k: ravel_pytree(_signs(k, A))[0], keys)
    Q, _ = jnp.linalg.qr(jax.lax.map(product, probes[:num]).T)
    inside = jax.lax.map(lambda q: inner(q, product(q)), Q.T)

    def outside(g: Array) -> Array:
        g = g - Q @ (Q.conj().T @ g)
        return inner(g, product(g))

    mean, error = _mean(jax.lax.map(outside, probes[num:]))
    return inside.sum() + mean, error


def diagonal(key: PRNGKeyArray, A: LinearOperator, num_probes: int = 32) -> tuple[PyTree, PyTree]:
    """Estimate ``mean_k z_k * (A z_k)`` of the diagonal of a square ``A``, with random signs, and its standard error.

    Exact for a diagonal ``A``; the variance of entry i is ``sum_(j != i) |A_ij|^2 / num_probes``. Both have the structure of
    the input. Source: Bekas, Kokiopoulou and Saad (2007). Raises ``ValueError`` when ``A`` is not square.
    """
    _require_square(A, num_probes, at_least=2)
    return _diagonal(key, A, num_probes)


@eqx.filter_jit
def _diagonal(key: PRNGKeyArray, A: LinearOperator, num_probes: int) -> tuple[PyTree, PyTree]:
    def one(k: PRNGKeyArray) -> PyTree:
        z = _signs(k, A)
        return jax.tree.map(jnp.multiply, z, A.apply(z))

    moments = Moments()

    def update(acc: PyTree, k: PRNGKeyArray) -> tuple[PyTree, None]:
        return moments.update(acc, one(k), acc.count), None

    keys = jax.random.split(key, num_probes)
    acc, _ = jax.lax.scan(update, moments.init(jax.eval_shape(one, key), num_probes), keys)
    result = moments.finalize(acc)
    return result.mean, jax.tree.map(lambda v: jnp.sqrt(v / num_probes), result.variance)


def _require_square(A: LinearOperator, num: int, name: str = "num_probes", *, at_least: int) -> None:
    if A.in_structure != A.out_structure:
        raise ValueError(f"A: expected equal input and output structures, got {A.in_structure} and {A.out_structure}")
    if num < at_least:
        raise ValueError(f"{name}: expected an integer >= {at_least}, got {num}")


def _signs(key: PRNGKeyArray, A: LinearOperator) -> PyTree:
    """Random signs of the structure of the input."""
    leaves, tree = jax.tree.flatten(at_precision(A.in_structure, default_precision()))
    keys = jax.random.split(key, len(leaves))
    signs = [jax.random.rademacher(k, s.shape, int).astype(s.dtype) for k, s in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, signs)


def _mean(values: Array) -> tuple[Array, Array]:
    """The mean and its standard error."""
    return values.mean(), values.std(ddof=1) / jnp.sqrt(jnp.asarray(values.size, values.dtype))
