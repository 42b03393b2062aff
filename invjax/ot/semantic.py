"""Progressive partial transport that keeps similar rows together: majorise-minimise over PPOT problems."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..drive import solve
from ..types import real, require
from .costs import MatrixCost
from .entropic import EntropicCoupling
from .partial import progressive_partial, require_mass
from .problem import Problem
from .sinkhorn import epsilon_of, tolerance


class SemanticState(NamedTuple):
    """The coupling as a matrix, and the solution of the last PPOT problem."""

    position: Float[Array, "n m"]
    coupling: EntropicCoupling


class SemanticInfo(NamedTuple):
    """``residual``: the L1 change of the coupling over its mass. ``objective``: what falls from round to round."""

    residual: Float[Array, ""]
    objective: Float[Array, ""]


class SemanticPartial(eqx.Module):
    """``Q <- argmin <Q, C - lam (S + S^T) Q_t> + relax_b KL(Q^T 1 | mass b) + epsilon KL(..)``, ``Q 1 <= a``, ``sum Q = mass``.

    The method behind ``semantic_partial``: it lowers its objective, in which the linear term is ``<Q, C> - lam <S, Q Q^T>``,
    for a similarity that is positive semi-definite. Each round starts from the potentials of the last.
    """

    problem: Problem
    similarity: Any
    mass: Float[Array, ""]
    lam: Float[Array, ""]
    relax_b: Float[Array, ""]
    epsilon: Float[Array, ""]
    atol: Float[Array, ""]
    max_steps: int = eqx.field(static=True)

    def init(self, q: Float[Array, "n m"], key: Any = None) -> SemanticState:
        """The first round, from a matrix to linearise at."""
        coupling = self._round(q, None)
        return SemanticState(coupling.matrix, coupling)

    def step(self, state: SemanticState) -> tuple[SemanticState, SemanticInfo]:
        """One round."""
        coupling = self._round(state.position, (state.coupling.f, state.coupling.g))
        q = coupling.matrix
        change = jnp.sum(jnp.abs(q - state.position)) / self.mass
        return SemanticState(q, coupling), SemanticInfo(change, self.objective(q, coupling))

    def objective(self, q: Float[Array, "n m"], coupling: EntropicCoupling) -> Float[Array, ""]:
        """The regularised cost of the round less what linearising has added: ``lam <S, Q Q^T>`` counts twice in it."""
        linear = self.problem.matrix - coupling.problem.matrix  # lam (S + S^T) Q_t of the round
        return coupling.value + jnp.vdot(q, linear) - self.lam * jnp.vdot(q, self.similarity @ q)

    def _round(self, q: Array, init: Any) -> EntropicCoupling:
        pull = self.lam * (self.similarity @ q + self.similarity.T @ q)
        problem = Problem(self.problem.matrix - pull, self.problem.a, self.problem.b)
        return progressive_partial(
            problem, self.mass, self.relax_b, self.epsilon, init=init, atol=self.atol, max_steps=self.max_steps
        )


def semantic_partial(
    problem: Problem,
    similarity: Any,
    mass: Any,
    lam: Any,
    relax_b: Any,
    epsilon: Any,
    *,
    rounds: int = 100,
    rtol: Any = None,
    atol: Any = None,
    max_steps: int = 1000,
) -> EntropicCoupling:
    """Minimises ``<Q, C> - lam <S, Q Q^T> + relax_b KL(Q^T 1 | mass b)`` over ``Q 1 <= a``, ``sum Q = mass``, smoothed: SP2OT.

    ``similarity`` S (n, n) says which rows belong together: a matrix, or a sparse one such as ``jax.experimental.sparse.BCOO``.
    Starts at the product of the marginals, ``mass a b^T``, and repeats ``progressive_partial`` with the term of S linearised
    until the coupling changes by less than ``rtol`` of the mass, 1e-6 by default (6e-6 in float32). If S is not positive
    semi-definite, as that of nearest neighbours is not, rounds may not settle: a multiple of the identity added to it helps.
    The result is the coupling of the last round; its ``status`` and ``num_steps`` are those of the rounds, its errors those of
    the last. ``lam = 0`` is ``progressive_partial``.

    Raises ``ValueError`` for shapes that do not fit, negative ``lam``, costs of points, and as ``progressive_partial``.
    Source: Zhang, Ren and He (2024), arXiv 2404.03446, algorithm 1.
    """
    if not isinstance(problem.cost, MatrixCost):
        raise ValueError(
            "problem: expected a cost matrix, got costs of points: the linearised costs are no function of them"
        )
    n, dtype = problem.shape[0], problem.dtype
    if jnp.shape(similarity) != (n, n):
        raise ValueError(f"similarity: expected shape {(n, n)}, got {jnp.shape(similarity)}")
    require(lam, "lam", nonnegative=True, shape=())
    require_mass(mass)
    require(relax_b, "relax_b", positive=True, shape=())
    mass, lam, relax_b = (jnp.asarray(real(v), dtype) for v in (mass, lam, relax_b))
    epsilon, atol = epsilon_of(epsilon, dtype), tolerance(atol, dtype)
    rtol = max(1e-6, 50 * float(jnp.finfo(dtype).eps)) if rtol is None else rtol
    method = SemanticPartial(problem, similarity, mass, lam, relax_b, epsilon, atol, max_steps)
    start = mass * problem.a[:, None] * problem.b[None]
    found = solve(method, start, rtol=0.0, atol=rtol, max_steps=rounds)
    last = found.state.coupling
    return eqx.tree_at(lambda c: (c.status, c.num_steps), last, (found.status, found.num_steps))
