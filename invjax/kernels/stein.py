"""The kernel Stein discrepancy: how far a cloud is from a law of which only the score is known."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..eager import one_program
from .base import RadialKernel
from .clouds import cloud, floating, masses
from .dense import square_distances, tiles


def stein_discrepancy2(
    kernel: RadialKernel,
    x: Float[Array, "N d"],
    scores: Float[Array, "N d"],
    *,
    w: Float[Array, " N"] | None = None,
    unbiased: bool = False,
) -> Float[Array, ""]:
    """Squared kernel Stein discrepancy ``E u(X, X')`` of the weighted cloud x from a law p with ``scores = grad log p (x)``.

    ``u(x, y) = s(x).s(y) K + s(x).grad_y K + s(y).grad_x K + tr grad_x grad_y K`` has mean 0 over p in each argument. The
    V-statistic over all pairs, or the U-statistic without the diagonal (``unbiased``); weights of sum one, uniform by default.
    Time ``O(N^2 d)``, memory ``O(N d)``.

    Raises ``ValueError`` for shapes that differ, empty clouds (one point, where ``unbiased``), weights of another sum, and for a
    kernel whose mixed derivative is not continuous (Laplace, Riesz). Source: Liu, Lee and Jordan (2016), ICML; Gorham and
    Mackey (2017), ICML, who advise the inverse multiquadric.
    """
    x, scores = cloud(x, "x", fewest=2 if unbiased else 1), floating(scores, "scores")
    if scores.shape != x.shape:
        raise ValueError(f"scores: expected the shape (N, d) of x, {x.shape}, got {scores.shape}")
    if not kernel.smooth:
        raise ValueError(f"kernel: expected one with a continuous mixed derivative, got {type(kernel).__name__}")
    return _statistic(kernel, x, scores.astype(x.dtype), masses(w, x, "w"), unbiased)


@one_program
def _statistic(kernel: RadialKernel, x: Array, scores: Array, w: Array, unbiased: bool) -> Float[Array, ""]:
    total = jnp.vdot(w, _stein_sums(kernel, x, scores, w))
    if not unbiased:
        return total
    diagonal = jax.vmap(
        lambda s: _stein_tile(kernel, jnp.zeros_like(s)[None], s[None], jnp.zeros_like(s)[None], s[None])[0, 0]
    )
    return (total - jnp.vdot(w**2, diagonal(scores))) / (1 - jnp.sum(w**2))


def _stein_sums(kernel: RadialKernel, x: Array, scores: Array, w: Array) -> Float[Array, " N"]:
    """``sum_j w_j u(x_i, x_j)``, in tiles. Only differences of points matter, so a shift keeps the products small."""
    x = x - jax.lax.stop_gradient(jnp.mean(x, 0))[None]
    blocks = tiles(x), tiles(scores), tiles(w)

    def of_rows(rows: tuple[Array, Array]) -> Array:
        @partial(jax.checkpoint, prevent_cse=False)
        def add(total: Array, block: tuple[Array, Array, Array]) -> tuple[Array, None]:
            values = _stein_tile(kernel, *rows, *block[:2])
            return total + jnp.matmul(values, block[2], precision="highest"), None

        return jax.lax.scan(add, jnp.zeros((rows[0].shape[0],), x.dtype), blocks)[0]

    return jax.lax.map(of_rows, blocks[:2]).reshape(-1)[: x.shape[0]]


def _stein_tile(kernel: RadialKernel, x: Array, sx: Array, y: Array, sy: Array) -> Float[Array, "n m"]:
    """With ``K = G(q)`` and ``delta = x - y``: ``G s.s' + 2 G' (s' - s).delta - 4 G'' q - 2 d G'``."""
    q = square_distances(x, y)
    ones = jnp.ones_like(q)

    def slope(q: Array) -> Array:
        return jax.jvp(kernel.of_square, (q,), (ones,))[1]

    value, first = jax.jvp(kernel.of_square, (q,), (ones,))
    second = jax.jvp(slope, (q,), (ones,))[1]
    product = partial(jnp.matmul, precision="highest")
    along = product(x, sy.T) - jnp.sum(y * sy, 1)[None] - jnp.sum(x * sx, 1)[:, None] + product(sx, y.T)
    return value * product(sx, sy.T) + 2 * first * along - 4 * second * q - 2 * x.shape[1] * first
