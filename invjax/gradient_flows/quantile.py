"""Wasserstein gradient flows on the line, by quantile functions, of MMD with the negative distance kernel.

A law on the line is its quantile function g on (0, 1), and W2 is the L2 distance of quantile functions. For the kernel
``K(x, y) = -|x - y|``, with the 1/2 in the MMD, the functional is ``F(mu) = MMD^2(mu, nu) = int (R_mu - R_nu)^2 dx``, convex in
g, and its flow decouples into one differential inclusion per level s:

    dg_t(s)/dt in 2 s - 2 [R_nu^-(g_t(s)), R_nu(g_t(s))],   R_nu^-(x) = nu((-inf, x)), R_nu(x) = nu((-inf, x])

Here g is held at the n midpoint levels ``s_i = (i - 1/2) / n``: the law of n equal atoms, for which all of this is exact.
Source: Duong, Stein, Beinert, Hertrich and Steidl, ESAIM: COCV 32 (2026), arXiv 2408.07498.
"""

from __future__ import annotations

import abc
import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..eager import one_program
from ..operators.covariance import floating
from ..solvers.base import PositionState
from ..types import norm, real, require
from .line_targets import DiscreteTarget, LineTarget


class QuantileInfo(NamedTuple):
    """Diagnostics of a step.

    ``residual`` is the norm of the change: ``sqrt(n)`` times the W2 distance moved while the quantiles are in order. ``slack`` is
    the smallest difference of neighbouring quantiles: negative once an explicit step has left the cone of quantile functions.
    """

    residual: Array
    slack: Array


class LineDensity(NamedTuple):
    """Density at the n - 1 midpoints ``x`` between neighbouring quantiles, and ``mass``, what an atom holds there."""

    x: Array
    density: Array
    mass: Array


def quantile_levels(n: int, dtype: Any = None) -> Float[Array, " n"]:
    """The midpoint levels ``s_i = (i - 1/2) / n``. Raises ``ValueError`` unless n is a positive integer."""
    if not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < 1:
        raise ValueError(f"n: expected a positive integer, got {n!r}")
    return (jnp.arange(n, dtype=dtype or jnp.result_type(float)) + 0.5) / n


class QuantileFlow(eqx.Module):
    """Base of the time discretisations: the position is g (n,), quantiles at ``quantile_levels(n)``, and time is steps times
    ``step_size``.

    Raises ``ValueError`` unless ``step_size`` is a positive scalar and the start a floating array of one dimension.
    """

    target: LineTarget
    step_size: Array = eqx.field(converter=real)

    def __check_init__(self):
        require(self.step_size, "step_size", positive=True, shape=())

    @abc.abstractmethod
    def fixed_point(self, g: Float[Array, " n"]) -> Float[Array, " n"]:
        """One step of the flow: the quantiles of the target, ``Q_nu(s_i)``, do not move."""

    def init(self, x: Float[Array, " n"], key: Any = None) -> PositionState:
        """Start at the quantiles ``x``, which are to be in order."""
        return PositionState(_quantiles(x, "x"))

    def step(self, state: PositionState) -> tuple[PositionState, QuantileInfo]:
        """One step of the flow."""
        old = state.position
        new = self.fixed_point(old)
        return PositionState(new), QuantileInfo(norm(new - old), jnp.min(jnp.diff(new), initial=math.inf))


class ImplicitQuantileFlow(QuantileFlow):
    """``g_new + 2 step_size R_nu(g_new)`` contains ``g + 2 step_size s``: implicit Euler, the proximal step of F.

    Stays in the cone and decreases F for every step size and target: ``F(g) - F(g_new) >= |g_new - g|^2 / step_size`` in the
    mean square. First order in ``step_size``. Differentiable in g, the step size and the target; a particle that sits at an atom
    follows the atom alone.
    """

    def fixed_point(self, g):
        step_size = jnp.asarray(self.step_size, g.dtype)
        return self.target.implicit_step(g, quantile_levels(g.size, g.dtype), 2 * step_size)


class ExplicitQuantileFlow(QuantileFlow):
    """``g + step_size v`` with the velocity of smallest norm ``v = 2 s - 2 clip(s, R_nu^-(g), R_nu(g))``: explicit Euler.

    Keeps the order of the quantiles if R_nu has the Lipschitz constant L and ``2 step_size L <= 1``. Where nu has atoms,
    particles step over them and back for ever, by ``O(step_size)``, and change order.
    """

    def fixed_point(self, g):
        s = quantile_levels(g.size, g.dtype)
        velocity = 2 * (s - jnp.clip(s, self.target.cdf_left(g), self.target.cdf(g)))
        return g + jnp.asarray(self.step_size, g.dtype) * velocity


def exact_quantile_flow(t: Any, g0: Float[Array, " n"], target: DiscreteTarget) -> Float[Array, " n"]:
    """The flow at time ``t >= 0`` from the quantiles ``g0`` towards a discrete target, to rounding: piecewise linear in t.

    Between two atoms level s moves at the constant velocity ``2 (s - R_j)``; it stops for good at the first atom with
    ``R_{j-1} <= s <= R_j``. Time ``O(n k)``. Differentiable. Raises ``ValueError`` for a time that is negative or not a scalar,
    a target that is not discrete, and ``g0`` as the methods.
    """
    t = real(t)
    require(t, "t", nonnegative=True, shape=())
    if not isinstance(target, DiscreteTarget):
        raise ValueError(f"target: expected a DiscreteTarget, got {type(target).__name__}")
    return _exact_flow(t, _quantiles(g0, "g0"), target)


@one_program
def _exact_flow(t: Array, g0: Array, target: DiscreteTarget) -> Array:
    s = quantile_levels(g0.size, g0.dtype)
    atoms, cumulative = target.atoms.astype(g0.dtype), target.cumulative.astype(g0.dtype)

    def right(carry: tuple[Array, Array], gap: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        atom, level = gap  # the atom at the right end of the gap, and R in the gap
        return _cross(carry, atom, s - level, (carry[0] < atom) & (s > level)), None

    def left(carry: tuple[Array, Array], gap: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        atom, level = gap  # the atom at the left end
        return _cross(carry, atom, s - level, (carry[0] > atom) & (s < level)), None

    # No level ever turns back, so those that move right need the gaps from left to right only, and the others the reverse.
    carry = (g0, jnp.full_like(g0, t))
    carry, _ = jax.lax.scan(right, carry, (atoms, cumulative[:-1]))
    carry, _ = jax.lax.scan(left, carry, (atoms, cumulative[1:]), reverse=True)
    return carry[0]


def _cross(carry: tuple[Array, Array], atom: Array, excess: Array, moves: Array) -> tuple[Array, Array]:
    """Move the levels that ``moves`` marks towards ``atom`` at velocity ``2 excess`` for at most their remaining time."""
    g, remaining = carry
    velocity = jnp.where(moves, 2 * excess, 1)
    duration = (atom - g) / velocity
    arrives = moves & (duration <= remaining)
    stays = jnp.where(moves, g + velocity * remaining, g)
    left_over = jnp.where(moves, 0, remaining)
    return jnp.where(arrives, atom, stays), jnp.where(arrives, remaining - duration, left_over)


def quantile_energy(g: Float[Array, " n"], target: LineTarget) -> Float[Array, ""]:
    """``F = int (R_mu - R_nu)^2 dx = E|X - Y| - E|X - X'| / 2 - E|Y - Y'| / 2`` for mu of n equal atoms g, in any order.

    A sum of squares over the sorted atoms of both laws, ``O(n log n)``: never negative, and zero exactly where they are equal.
    A discrete target is taken as it is, so the value is exact for n atoms. Another one is replaced by n atoms at its quantiles at
    the midpoint levels, which changes ``R_nu`` by ``1 / (2 n)`` at most: ``|sqrt(F_n) - sqrt(F)| <= sqrt(length) / (2 n)`` for a
    support of that length. Where g stands for the quantiles of another law, its support adds the same. The error of F itself is
    mostly ``O(1 / n^2)``, as the parts of first order cancel. Raises ``ValueError`` for ``g`` as the methods.
    """
    return _energy(_quantiles(g, "g"), target)


@one_program
def _energy(g: Array, target: LineTarget) -> Array:
    n = g.size
    if isinstance(target, DiscreteTarget):
        other, cumulative = target.atoms.astype(g.dtype), target.cumulative.astype(g.dtype)
    else:
        other = target.quantile(quantile_levels(n, g.dtype))
        cumulative = jnp.arange(n + 1, dtype=g.dtype) / n
    both = jnp.concatenate([g, other])
    order = jnp.argsort(both)
    counts = jnp.cumsum(order < n)[:-1]  # whole numbers, so that equal laws give zero
    others = jnp.arange(1, both.size) - counts
    difference = counts.astype(g.dtype) / n - cumulative[others]
    return jnp.sum(difference**2 * jnp.diff(both[order]))


def quantile_to_density(g: Float[Array, " n"], width: Any = 0.0) -> LineDensity:
    """The law of the quantiles ``g`` as a density and atoms, for every gap between neighbours: ``(x, density, mass)``.

    A gap of length d holds the mass ``1 / n``. Where it is longer than ``width`` and than rounding, the density is ``1 / (n d)``
    and ``mass`` is 0; else the density is 0 and ``mass`` is ``1 / n``. So both are finite, and ``sum(density d) + sum(mass)`` is
    ``(n - 1) / n``. Choose a ``width`` above the distance of particles that creep towards an atom. Raises ``ValueError`` for a
    negative ``width``, and for ``g`` as the methods.
    """
    g = _quantiles(g, "g")
    width = real(width)
    require(width, "width", nonnegative=True, shape=())
    gap, info = jnp.diff(g), jnp.finfo(g.dtype)
    rounding = jnp.maximum(info.eps * jnp.maximum(jnp.abs(g[1:]), jnp.abs(g[:-1])), info.tiny)
    spread = gap > jnp.maximum(rounding, jnp.asarray(width, g.dtype))
    density = jnp.where(spread, 1 / (g.size * jnp.where(spread, gap, 1)), 0)
    return LineDensity((g[1:] + g[:-1]) / 2, density, jnp.where(spread, 0, 1 / g.size).astype(g.dtype))


def _quantiles(g: Any, name: str) -> Array:
    g = g if isinstance(g, jax.Array) else floating(g, name)
    if g.ndim != 1 or g.size == 0 or not jnp.issubdtype(g.dtype, jnp.floating):
        raise ValueError(f"{name}: expected a floating array of shape (n,), got {g.dtype} of shape {g.shape}")
    return g
