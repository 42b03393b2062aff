"""A linear map with a hand-written transpose that differentiation uses."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array


def with_transpose(forward: Callable[[Array], Array], transpose: Callable[[Array], Array], x: Array) -> Array:
    """``forward(x)``, whose reverse-mode derivative in ``x`` is ``transpose``.

    Both are linear, keep the dtype, and are transposes of each other. Derivatives in what they close over are those of
    ``forward``.

    ``forward(x) = A x`` is the second half of the solution of ``[[I, 0], [-A, I]] u = (x, 0)``, and JAX differentiates a linear
    solve by the one with the transposed matrix, under ``vmap`` too (``jax.custom_derivatives.linear_call`` has no batching rule).
    """
    out = jax.eval_shape(forward, x)

    def halves(u: Array) -> tuple[Array, Array]:
        return u[: x.size].reshape(x.shape), u[x.size :].reshape(out.shape)

    def joined(first: Array, second: Array) -> Array:
        return jnp.concatenate([first.ravel(), second.ravel()])

    def matvec(u: Array) -> Array:
        first, second = halves(u)
        return joined(first, second - forward(first))

    def solve(_, b: Array) -> Array:
        first, second = halves(b)
        return joined(first, second + forward(first))

    def transpose_solve(_, b: Array) -> Array:
        first, second = halves(b)
        return joined(first + transpose(second), second)

    # One array, not a pair: where the zeros were an array of their own, JAX would not accept their missing tangent.
    rhs = jnp.pad(x.ravel(), (0, out.size))
    return halves(jax.lax.custom_linear_solve(matvec, rhs, solve, transpose_solve))[1]
