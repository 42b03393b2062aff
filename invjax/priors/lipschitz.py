"""How much a denoiser can expand what it removes: the local Lipschitz constant of its residual."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, PRNGKeyArray

from ..eager import one_program
from ..types import norm, real, standard_normal
from .base import as_point


def residual_lipschitz(
    key: PRNGKeyArray, denoiser: Callable[[Array, Any], Array], x: Inexact[Array, "*n"], sigma: Any, num_steps: int = 50
) -> Float[Array, ""]:
    """The largest singular value of the Jacobian of ``x - D(x, sigma)`` at ``x``, estimated from below.

    Power iteration on ``J^T J`` from a random direction: each of the ``num_steps`` steps is one derivative forwards and one
    backwards. The result grows with ``num_steps`` to the singular value; the largest of many points is a lower bound of the
    Lipschitz constant, never a certificate (see ``nn.certified_bound``). Below 1, plug-and-play forward-backward iterations
    contract near x (Ryu et al. 2019, ICML, assumption A). A complex x counts as its real and imaginary parts. Pure in
    ``key``; differentiable.

    Raises ``ValueError`` for an x that is neither floating nor complex, a denoiser that changes its shape or dtype, or
    ``num_steps < 1``.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps: expected a positive integer, got {num_steps}")
    return _estimate(key, denoiser, as_point(x), real(sigma), num_steps)


@one_program
def _estimate(key: PRNGKeyArray, denoiser: Callable, x: Array, sigma: Any, num_steps: int) -> Array:
    def residual(x: Array) -> Array:
        out = denoiser(x, sigma)
        if (out.shape, out.dtype) != (x.shape, x.dtype):
            raise ValueError(f"denoiser: expected a result of {x.dtype}{x.shape} as x, got {out.dtype}{out.shape}")
        return x - out

    _, tangent = jax.linearize(residual, x)
    transpose = jax.linear_transpose(tangent, x)

    def step(_: int, v: Array) -> Array:
        (w,) = transpose(jnp.conj(tangent(v)))
        return _unit(jnp.conj(w))  # the adjoint for the real inner product; conj does nothing to real arrays

    start = _unit(standard_normal(key, x))
    return norm(tangent(jax.lax.fori_loop(0, num_steps, step, start)))


def _unit(v: Array) -> Array:
    size = norm(v)  # zero where the Jacobian is: it stays zero, and so does the estimate
    return v / jnp.where(size == 0, 1, size).astype(v.dtype)
