"""Entropic transport at small regularisation: Newton's method with the few entries of the plan that matter."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Float, Int

from ..drive import iterate, solve
from ..types import select
from .costs import map_rows
from .entropic import EntropicCoupling
from .problem import Problem
from .sinkhorn import Sinkhorn, epsilon_of, finish, tolerance
from .softmin import softmin, softmin_of

_CG_STEPS = 2000
_BACKTRACKS = 20


class SparsePlan(NamedTuple):
    """The largest entries of every row of a plan whose rows are divided by their masses."""

    values: Float[Array, "n k"]
    columns: Int[Array, "n k"]

    def apply(self, y: Float[Array, " m"]) -> Float[Array, " n"]:
        return jnp.sum(self.values * y[self.columns], 1)

    def transpose(self, x: Float[Array, " n"], size: int) -> Float[Array, " m"]:
        return jnp.zeros((size,), x.dtype).at[self.columns].add(self.values * x[:, None])


def largest_entries(rows: Float[Array, "r m"], number: int) -> SparsePlan:
    """The largest entries of rows, found among values rounded to float32: XLA on CPU ranks those of float64 20 times slower."""
    columns = jax.lax.top_k(rows.astype(jnp.float32), number)[1]
    return SparsePlan(jnp.take_along_axis(rows, columns, 1), columns)


class NewtonState(NamedTuple):
    """Potential of the columns, the best one of the rows for it, and column sums and largest entries of their plan."""

    position: Float[Array, " m"]
    f: Float[Array, " n"]
    columns: Float[Array, " m"]
    plan: SparsePlan


class NewtonInfo(NamedTuple):
    """``residual``: L1 error of the column sums over their total. ``discarded``: the share of mass that the Hessian lacks."""

    residual: Float[Array, ""]
    discarded: Float[Array, ""]
    step_size: Float[Array, ""]


class SinkhornNewton(eqx.Module):
    """``g <- g + t (diag(c) - W^T diag(a) W)^{-1} epsilon (b - c)``: Newton's method for ``<a, softmin(g)> + <b, g>``.

    W is the plan of ``softmin(g)`` with rows of sum one, of which the ``num_kept`` largest entries of a row are kept in the
    Hessian, and ``c = W^T a``; the system is solved by conjugate gradients, and t by Armijo's rule. Eliminating the potential of
    the rows, which is done exactly, leaves the Schur complement of the Hessian of the source. Each step is two or more
    evaluations of the kernel.
    Source: Tang, Shavlovsky, Rahmanian, Tardini, Thekumparampil, Xiao and Ying (2024), ICLR, algorithm 1.
    """

    sinkhorn: Sinkhorn
    num_kept: int = eqx.field(static=True)

    def init(self, g: Float[Array, " m"], key: Any = None) -> NewtonState:
        """Start at a potential of the columns, from a few steps of ``Sinkhorn``."""
        return self._state(jnp.asarray(g, self.sinkhorn.problem.dtype))

    def fixed_point(self, g: Float[Array, " m"]) -> Float[Array, " m"]:
        """That of ``Sinkhorn``."""
        return self.sinkhorn.fixed_point(g)

    def step(self, state: NewtonState) -> tuple[NewtonState, NewtonInfo]:
        """One damped Newton step; one that rounding makes worse is not taken."""
        b = self.sinkhorn.problem.b
        residual = self._residual(state)
        direction = self._direction(state, residual)
        t, gain = self._search(state, direction)
        new = self._state(state.position + t * direction)
        better = (gain > self._noise(state)) | (self._residual(new) < residual)
        new = select(better, new, state)
        kept = jnp.vdot(self.sinkhorn.problem.a, jnp.sum(new.plan.values, 1))
        return new, NewtonInfo(self._residual(new), 1 - kept / jnp.sum(b), jnp.where(better, t, 0))

    def _state(self, g: Array) -> NewtonState:
        g = self.sinkhorn.centred(g)
        (a, b), epsilon = (self.sinkhorn.problem.a, self.sinkhorn.problem.b), self.sinkhorn.epsilon
        cost = self.sinkhorn.problem.cost

        def of_rows(c: Array) -> tuple[Array, SparsePlan, Array | None]:
            f, kernel = softmin_of(c, g, b, epsilon)
            whole = c.shape[0] == cost.shape[0]
            return f, largest_entries(kernel * b[None], self.num_kept), kernel if whole else None

        f, plan, kernel = map_rows(cost, of_rows)
        if kernel is not None:  # all rows at once
            return NewtonState(g, f, b * (a @ kernel), plan)
        columns = b * jnp.exp((g - softmin(cost.T, f, a, epsilon)) / epsilon)
        return NewtonState(g, f, columns, plan)

    def _residual(self, state: NewtonState) -> Array:
        b = self.sinkhorn.problem.b
        return jnp.sum(jnp.abs(state.columns - b)) / jnp.sum(b)

    def _noise(self, state: NewtonState) -> Array:
        """Rounding error of a difference of values of the semi-dual."""
        problem = self.sinkhorn.problem
        size = jnp.vdot(problem.a, jnp.abs(state.f)) + jnp.vdot(problem.b, jnp.abs(state.position))
        return 10 * jnp.finfo(size.dtype).eps * size

    def _direction(self, state: NewtonState, residual: Array) -> Array:
        """``(diag(c) - W^T diag(a) W)^{-1} epsilon (b - c)`` by conjugate gradients, more exactly the nearer the solution."""
        problem, c, plan = self.sinkhorn.problem, state.columns, state.plan
        diagonal = jnp.maximum(c, jnp.finfo(c.dtype).tiny)

        def hessian(y: Array) -> Array:
            return c * y - plan.transpose(problem.a * plan.apply(y), c.shape[0])

        right = self.sinkhorn.epsilon * (problem.b - c)
        tol = jnp.minimum(0.01, residual)
        y, _ = cg(hessian, right, M=lambda r: r / diagonal, tol=tol, maxiter=_CG_STEPS)
        return y

    def _search(self, state: NewtonState, direction: Array) -> tuple[Array, Array]:
        """Armijo's rule for the semi-dual: the step size, and what is gained."""
        problem, noise = self.sinkhorn.problem, self._noise(state)
        slope = jnp.vdot(problem.b - state.columns, direction)

        def gain(t: Array) -> Array:
            """From differences: the values themselves would lose it to rounding."""
            f = softmin(problem.cost, state.position + t * direction, problem.b, self.sinkhorn.epsilon)
            return jnp.vdot(problem.a, f - state.f) + t * jnp.vdot(problem.b, direction)

        def too_long(carry: tuple[Array, Array, Array]) -> Array:
            count, t, gained = carry
            return (count < _BACKTRACKS) & ~(gained >= 1e-4 * t * slope - noise)

        def shorter(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            return carry[0] + 1, carry[1] / 2, gain(carry[1] / 2)

        whole = jnp.ones_like(slope)
        _, t, gained = jax.lax.while_loop(too_long, shorter, (jnp.zeros((), jnp.int32), whole, gain(whole)))
        return t, gained


def sinkhorn_newton(
    problem: Problem,
    epsilon: Any,
    *,
    num_kept: int | None = None,
    num_warm: int = 10,
    init: Float[Array, " m"] | None = None,
    atol: Any = None,
    max_steps: int = 100,
) -> EntropicCoupling:
    """The coupling of ``sinkhorn``, by ``num_warm`` steps of it and then Newton's method: for small ``epsilon``.

    ``num_kept`` entries of each row, 16 by default, are kept in the Hessian. Where the plan has more that matter (smooth costs,
    larger ``epsilon``), convergence is linear until it is raised; ``num_kept = m`` is Newton's method proper.
    ``num_steps`` counts Newton's steps. Otherwise as ``sinkhorn``.
    """
    problem.require_balanced()
    if num_kept is None:
        num_kept = min(16, problem.shape[1])
    if not isinstance(num_kept, int) or not 1 <= num_kept <= problem.shape[1]:
        raise ValueError(f"num_kept: expected an integer in [1, {problem.shape[1]}], got {num_kept!r}")
    epsilon = epsilon_of(epsilon, problem.dtype)
    method = Sinkhorn(problem, epsilon, start_epsilon=None if init is None else epsilon)
    start = jnp.zeros_like(problem.b) if init is None else init
    if num_warm:
        start = iterate(method, start, num_warm)[0].position
    newton = SinkhornNewton(method, num_kept)
    found = solve(newton, start, rtol=0.0, atol=tolerance(atol, problem.dtype), max_steps=max_steps)
    return finish(method, found)
