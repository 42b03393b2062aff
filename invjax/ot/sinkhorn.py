"""Entropic transport, balanced and unbalanced, by Sinkhorn's iteration in the logarithmic domain."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..drive import Solution, solve
from ..types import real, require
from .costs import GridCost
from .entropic import EntropicCoupling, entropic_coupling
from .problem import Problem
from .softmin import softmin, softmin_of

_HELD = 1 << 24  # up to so many pairs the kernel is held as a matrix: 64 MB in float32
_INNER = 10  # products with the kernel between two evaluations of it
_LIMIT = 30.0  # log of the largest scaling: products of scalings and masses stay far inside float32


class SinkhornState(NamedTuple):
    """Potential of the columns, and the regularisation of the next step."""

    position: Float[Array, " m"]
    epsilon: Float[Array, ""]


class SinkhornInfo(NamedTuple):
    """``residual``: the L1 error of the column sums over their total; with relaxed columns, of their stationarity."""

    residual: Float[Array, ""]


class Sinkhorn(eqx.Module):
    """``f <- softmin(g)``, ``g <- softmin(f)``: the method behind ``sinkhorn``; its position is the potential g.

    A step evaluates the kernel ``exp((f + g - C) / epsilon)`` once and iterates on scalings of it, by products with a matrix
    (a stabilised kernel: Schmitzer 2019, SIAM J. Sci. Comput. 41, section 3); of more than 2^24 pairs, which are not held, it
    is one iteration in tiles, and on grids one axis by axis. ``relax_a``, ``relax_b`` (scalars or a value a point) are the
    weights rho of ``rho KL(P 1 | a)`` in place of a constraint; None constrains. The first steps divide ``epsilon`` by 4 from
    ``start_epsilon``, the mean cost by default: a warm start has ``start_epsilon=epsilon``.
    """

    problem: Problem
    epsilon: Float[Array, ""]
    relax_a: Array | None
    relax_b: Array | None
    start_epsilon: Float[Array, ""]

    def __init__(
        self, problem: Problem, epsilon: Any, relax_a: Any = None, relax_b: Any = None, *, start_epsilon: Any = None
    ):
        self.problem = problem
        dtype = problem.dtype
        self.epsilon = epsilon_of(epsilon, dtype)
        self.relax_a = _weights(relax_a, problem.a, "relax_a")
        self.relax_b = _weights(relax_b, problem.b, "relax_b")
        if start_epsilon is None:
            start_epsilon = jax.lax.stop_gradient(problem.mean_cost(absolute=True))
        self.start_epsilon = jnp.maximum(jnp.asarray(real(start_epsilon), dtype), self.epsilon)

    @property
    def balanced(self) -> bool:
        """Whether both marginals are constraints: potentials are then unique up to a shift."""
        return self.relax_a is None and self.relax_b is None

    def init(self, g: Float[Array, " m"], key: Any = None) -> SinkhornState:
        """Start at a potential of the columns."""
        require(g, "g", shape=self.problem.b.shape)
        return SinkhornState(jnp.asarray(g, self.problem.dtype), self.start_epsilon)

    def step(self, state: SinkhornState) -> tuple[SinkhornState, SinkhornInfo]:
        """One evaluation of the kernel, and iterations with it."""
        g, epsilon = state
        n, m = self.problem.shape
        held = n * m <= _HELD and not isinstance(self.problem.cost, GridCost)
        new, mismatch = (self._scaled if held else self._plain)(g, epsilon)
        b = self.problem.b
        error = jnp.sum(jnp.where(b > 0, b * jnp.abs(mismatch), 0))  # without mass the mismatch may overflow
        residual = error / jnp.sum(b) + jnp.where(epsilon > self.epsilon, 1, 0).astype(b.dtype)
        return SinkhornState(self.centred(new), jnp.maximum(epsilon / 4, self.epsilon)), SinkhornInfo(residual)

    def fixed_point(self, g: Float[Array, " m"]) -> Float[Array, " m"]:
        """One plain iteration; the shift that leaves the plan as it is is fixed by ``<b, g> = 0``."""
        return self.centred(self.columns(self.rows(g, self.epsilon), self.epsilon))

    def rows(self, g: Float[Array, " m"], epsilon: Array) -> Float[Array, " n"]:
        """The best potential of the rows."""
        return _damping(self.relax_a, epsilon) * softmin(self.problem.cost, g, self.problem.b, epsilon)

    def columns(self, f: Float[Array, " n"], epsilon: Array) -> Float[Array, " m"]:
        """The best potential of the columns."""
        return _damping(self.relax_b, epsilon) * softmin(self.problem.cost.T, f, self.problem.a, epsilon)

    def centred(self, g: Float[Array, " m"]) -> Float[Array, " m"]:
        """Of the potentials that a shift makes the same, the one with ``<b, g> = 0``."""
        return g - jnp.vdot(self.problem.b, g) / jnp.sum(self.problem.b) if self.balanced else g

    def _plain(self, g: Array, epsilon: Array) -> tuple[Array, Array]:
        new = self.columns(self.rows(g, epsilon), epsilon)
        return new, jnp.expm1((g - new) / epsilon)

    def _scaled(self, g: Array, epsilon: Array) -> tuple[Array, Array]:
        """Iterations on ``f = F + epsilon log u``, ``g + epsilon log v`` with the kernel of F and g held."""
        a, b = self.problem.a, self.problem.b
        best, kernel = softmin_of(self.problem.matrix, g, b, epsilon)
        row, column = (_damping(weight, epsilon) for weight in (self.relax_a, self.relax_b))

        def log_u(v: Array) -> Array:
            return (row - 1) * best / epsilon - row * jnp.log(kernel @ (b * jnp.exp(v)))

        def log_v(u: Array) -> Array:
            return (column - 1) * g / epsilon - column * jnp.log((a * jnp.exp(u)) @ kernel)

        def iteration(_: int, v: Array) -> Array:
            return _clip(log_v(_clip(log_u(v))))

        first = log_v(_clip((row - 1) * best / epsilon))
        v = jax.lax.fori_loop(1, _INNER, iteration, _clip(first))
        return g + epsilon * v, jnp.expm1(-first)


def sinkhorn(
    problem: Problem,
    epsilon: Any,
    *,
    init: Float[Array, " m"] | None = None,
    atol: Any = None,
    max_steps: int = 1000,
) -> EntropicCoupling:
    """The coupling that minimises ``<P, C> + epsilon KL(P | a b^T)``.

    Stops when the L1 error of the marginals over the total mass is below ``atol``, the square root of the machine epsilon by
    default; a step is 10 of Sinkhorn's iterations (one of more than 2^24 pairs, one on grids). ``init`` is a potential of the
    columns to start from, such as ``coupling.g`` of a near problem. The result is differentiable in the arrays of the problem
    and in ``epsilon`` in both modes, of any order, by the implicit function theorem. float32 reaches an error of about
    ``1e-7 max C / epsilon``, and says so by its status.

    Raises ``ValueError`` for marginals of different sums, and for ``epsilon`` that is not positive.
    Source: Cuturi (2013), NeurIPS; Peyre and Cuturi (2019), "Computational Optimal Transport", section 4.4.
    """
    problem.require_balanced()
    return run(problem, epsilon_of(epsilon, problem.dtype), None, None, init, atol, max_steps)


def unbalanced(
    problem: Problem,
    epsilon: Any,
    relax_a: Any,
    relax_b: Any,
    *,
    init: Float[Array, " m"] | None = None,
    atol: Any = None,
    max_steps: int = 1000,
) -> EntropicCoupling:
    """Minimises ``<P, C> + epsilon KL(P | a b^T) + relax_a KL(P 1 | a) + relax_b KL(P^T 1 | b)``: mass may appear and vanish.

    ``KL(p | q) = sum p log(p / q) - p + q``. Weights are positive, scalars or a value a point; None keeps a marginal as a
    constraint. Otherwise as ``sinkhorn``; ``atol`` bounds the stationarity residual.
    Source: Chizat, Peyre, Schmitzer and Vialard (2018), Math. Comput. 87, section 3.
    """
    if relax_a is None and relax_b is None:
        problem.require_balanced()
    return run(problem, epsilon_of(epsilon, problem.dtype), relax_a, relax_b, init, atol, max_steps)


def epsilon_of(epsilon: Any, dtype: Any) -> Float[Array, ""]:
    """``epsilon`` in the dtype of a problem. Raises ``ValueError`` unless it is one positive number."""
    require(epsilon, "epsilon", positive=True, shape=())
    return jnp.asarray(real(epsilon), dtype)


def tolerance(atol: Any, dtype: Any) -> Any:
    """``atol``, or the square root of the machine epsilon."""
    require(atol, "atol", nonnegative=True)
    return jnp.asarray(jnp.sqrt(jnp.finfo(dtype).eps) if atol is None else real(atol), dtype)


def run(
    problem: Problem, epsilon: Array, relax_a: Any, relax_b: Any, init: Any, atol: Any, max_steps: int
) -> EntropicCoupling:
    """The coupling by Sinkhorn's iteration, of arguments that are known to be right."""
    method = Sinkhorn(problem, epsilon, relax_a, relax_b, start_epsilon=None if init is None else epsilon)
    start = jnp.zeros_like(problem.b) if init is None else init
    solution = solve(method, start, rtol=0.0, atol=tolerance(atol, problem.dtype), max_steps=max_steps)
    return finish(method, solution)


@eqx.filter_jit
def finish(method: Sinkhorn, solution: Solution) -> EntropicCoupling:
    """The coupling of the potential of the columns that was found."""
    f = method.rows(solution.position, method.epsilon)
    return entropic_coupling(
        method.problem, method.epsilon, (f, solution.position), (method.relax_a, method.relax_b), solution
    )


def _weights(weight: Any, mass: Array, name: str) -> Array | None:
    if weight is None:
        return None
    require(weight, name, positive=True)
    weight = jnp.asarray(real(weight), mass.dtype)
    if weight.shape not in ((), mass.shape):
        raise ValueError(f"{name}: expected a scalar or shape {mass.shape}, got {weight.shape}")
    return weight


def _damping(weight: Array | None, epsilon: Array) -> Array:
    return jnp.ones_like(epsilon) if weight is None else 1 / (1 + epsilon / weight)  # one where the weight is infinite


def _clip(log_scaling: Array) -> Array:
    """A scaling that leaves the range of the dtype waits for the next kernel."""
    return jnp.clip(log_scaling, -_LIMIT, _LIMIT)
