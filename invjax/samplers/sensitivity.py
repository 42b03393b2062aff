"""How far the law that a Langevin chain samples moves when its drift is wrong: a denoiser or an operator that mismatches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..reducers import Moments
from ..types import inner, real, require


def posterior_l2(draws: Array, first: Callable, second: Callable, *, batch_size: int = 64) -> Array:
    """The posterior-L2 pseudometric ``d_1 = (E |b_1(X) - b_2(X)|^2)^(1/2)`` over draws ``X`` of the chain with drift ``b_1``.

    ``first`` and ``second`` are drifts (``target.score``) or anything else of the state: for two denoisers at the same sigma the
    drifts differ by ``lam / sigma^2`` times as much. Only draws of one chain are needed. It is zero for equal drifts, obeys
    the triangle inequality on the same draws, and is not symmetric: the draws are those of the first. ``batch_size`` draws are
    evaluated at a time. ``gap_moments`` collects it along a chain without storing draws.

    Raises ``ValueError`` when there are no draws.

    Source: Renaud, Liu, De Bortoli, Almansa and Kamilov (2024), ICLR, equation 9.
    """
    if not jnp.shape(draws)[0]:
        raise ValueError(f"draws: expected at least one draw, got shape {jnp.shape(draws)}")

    def one(x: Array) -> Array:
        gap = first(x) - second(x)
        return inner(gap, gap)

    return jnp.sqrt(jnp.mean(jax.lax.map(one, draws, batch_size=batch_size)))


def gap_moments(first: Any, second: Any) -> Moments:
    """A reducer whose mean is ``d_1(b_1, b_2)^2`` along the chain: ``sample(..., collect=gap_moments(b_1, b_2))``."""
    return Moments(of=Gap(first, second))


class Gap(eqx.Module):
    """``|b_1(x) - b_2(x)|^2`` at the position of a state."""

    first: Any
    second: Any

    def __call__(self, state: Any, info: Any) -> Array:
        gap = self.first(state.position) - self.second(state.position)
        return inner(gap, gap)


def transport_bound(distance: Any, step_size: Any, contraction: Any) -> Array:
    """``W_2(pi_1, pi_2) <= h d_1 / (1 - rho)`` between the laws that two chains with step ``h`` sample.

    ``rho < 1`` is a Lipschitz constant of ``x -> x + h b_2(x)``: ``max |1 - h mu|`` over the eigenvalues of the second chain's
    Hessian where it is bounded. Proof: with the same noise, ``|X' - Y'| <= |b_1 step of X - b_2 step of X| + rho |X - Y|``;
    take root mean squares in the stationary coupling. Unlike the bounds of the paper it has no constant left open, and it needs
    a contraction, so a second posterior that is strongly log-concave. Raises ``ValueError`` unless ``0 <= rho < 1``.
    """
    contraction = real(contraction)
    require(contraction, "contraction", nonnegative=True, below=1.0)
    return real(step_size) * real(distance) / (1 - contraction)


def total_variation_bound(distance: Any, step_size: Any, num_steps: Any) -> Array:
    """``|pi_1 - law of the second chain after n steps from pi_1|_TV <= (n h / 8)^(1/2) d_1``.

    For any drifts: the laws of both paths differ by the Kullback-Leibler divergence ``n h d_1^2 / 4`` (two Gaussians of
    variance 2h whose means are ``h (b_1 - b_2)`` apart, n times), and by Pinsker's inequality the total variation is at most
    the root of half of it. With the rate at which the second chain forgets its start it gives theorem 1 of Renaud et al. (2024).
    """
    return jnp.sqrt(real(num_steps) * real(step_size) / 8) * real(distance)


def operator_mismatch_bound(sigma: Any, gap_norm: Any, residual: Any, norm: Any, position: Any) -> Array:
    """``d_1 <= |A_1 - A_2| (r + |A_2| q) / sigma^2`` for Gaussian noise and the operators ``A_1``, ``A_2`` of two chains.

    The drifts differ by ``((A_1 - A_2)^H (y - A_1 x) + A_2^H (A_2 - A_1) x) / sigma^2``. ``gap_norm`` is ``|A_1 - A_2|`` and
    ``norm`` is ``|A_2|``; ``residual`` and ``position`` are ``r`` and ``q``, root mean squares of ``|y - A_1 X|`` and ``|X|``
    over the first chain.
    """
    return real(gap_norm) * (real(residual) + real(norm) * real(position)) / real(sigma) ** 2
