"""Transport with a quadratic regularisation and at most k sources for every target."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from ..drive import Solution, solve
from ..implicit import frozen
from ..types import real, require, select
from .costs import map_rows
from .envelope import at_optimum
from .problem import Problem
from .sinkhorn import tolerance


class SparseCoupling(eqx.Module):
    """A coupling with at most k entries a column: ``masses[j, l]`` from source ``rows[j, l]`` to target j.

    Column sums are b exactly. ``marginal_error`` is the L1 error of the row sums over their total: it stays above zero where no
    coupling with k entries a column is optimal for the convexified problem (always if ``m k < n``), and is never normalised away.
    ``value`` is the semi-dual, a lower bound of the regularised cost of every coupling with so few entries; ``duality_gap`` is
    the regularised cost of this coupling less it.
    """

    problem: Problem
    rows: Int[Array, "m k"]
    masses: Float[Array, "m k"]
    f: Float[Array, " n"]
    value: Float[Array, ""]
    marginal_error: Float[Array, ""]
    duality_gap: Float[Array, ""]
    status: Int[Array, ""]
    num_steps: Int[Array, ""]

    @property
    def matrix(self) -> Float[Array, "n m"]:
        """The coupling as a matrix."""
        n, m = self.problem.shape
        return jnp.zeros((n, m), self.masses.dtype).at[self.rows, jnp.arange(m)[:, None]].add(self.masses)

    def marginals(self) -> tuple[Float[Array, " n"], Float[Array, " m"]]:
        """``P 1`` and ``P^T 1``."""
        return _row_sums(self.rows, self.masses, self.f), jnp.sum(self.masses, 1)

    def apply(self, values: Float[Array, "m ..."]) -> Float[Array, "n ..."]:
        """``P v``."""
        values = jnp.asarray(values)
        parts = jnp.einsum("mk,m...->mk...", self.masses, values)
        return jnp.zeros((self.f.shape[0], *values.shape[1:]), parts.dtype).at[self.rows].add(parts)

    def transport_cost(self) -> Float[Array, ""]:
        """``<P, C>``."""

        def of_rows(c: Array, rows: Array, masses: Array) -> Array:
            return jnp.sum(jnp.take_along_axis(c, rows, 1) * masses, 1)

        return jnp.sum(map_rows(self.problem.cost.T, of_rows, self.rows, self.masses))


class _Point(NamedTuple):
    """A potential of the rows, with the loss and its gradient there."""

    f: Float[Array, " n"]
    value: Float[Array, ""]
    gradient: Float[Array, " n"]


class SemiDualState(NamedTuple):
    """The best potential so far, the current point and the best, what L-BFGS remembers, and how often its line search failed."""

    position: Float[Array, " n"]
    point: _Point
    best: _Point
    memory: Any
    failures: Float[Array, ""]


class SemiDualInfo(NamedTuple):
    """``residual``: the L1 error of the row sums over their total, which is the gradient of the semi-dual."""

    residual: Float[Array, ""]
    value: Float[Array, ""]


class SparseTransport(eqx.Module):
    """L-BFGS on the semi-dual ``S(f) = <f, a> - sum_j max_t <f - c_j, t> - gamma |t|^2 / 2``, ``|t|_0 <= k``, ``sum t = b_j``.

    The method behind ``sparse_transport``; its position is f. S is concave whatever k, and smooth where the k-th and the next
    of the ``f - c_j`` differ. The maximisers are the columns of the coupling, read off by ``columns``.
    """

    problem: Problem
    gamma: Float[Array, ""]
    k: int = eqx.field(static=True)

    @property
    def reach(self) -> Float[Array, ""]:
        """Length of the first subgradient step: the mean cost."""
        return self.problem.mean_cost(absolute=True)

    def init(self, f: Float[Array, " n"], key: Any = None) -> SemiDualState:
        """Start at a potential of the rows."""
        point = self._point(jnp.asarray(f, self.problem.dtype))
        return SemiDualState(point.f, point, point, optax.lbfgs().init(point.f), jnp.zeros_like(point.value))

    def step(self, state: SemiDualState) -> tuple[SemiDualState, SemiDualInfo]:
        """A step of L-BFGS with a zoom line search; where that finds nothing better, as at a kink, a short subgradient step."""
        _, point, best, memory, failures = state
        change, new_memory = optax.lbfgs().update(
            point.gradient, memory, point.f, value=point.value, grad=point.gradient, value_fn=partial(_loss, self)
        )
        searched = _Point(point.f + change, new_memory[-1].value, new_memory[-1].grad)
        # At the rounding of the value the gradient decides.
        noise = 10 * jnp.finfo(point.value.dtype).eps * jnp.abs(point.value)
        flatter = jnp.sum(searched.gradient**2) < jnp.sum(point.gradient**2)
        found = (searched.value < point.value - noise) | ((searched.value <= point.value + noise) & flatter)

        def subgradient() -> _Point:
            size = jnp.linalg.norm(point.gradient)
            length = self.reach / (1 + failures)
            return self._point(point.f - length * point.gradient / jnp.where(size > 0, size, 1))

        new = jax.lax.cond(found, lambda: searched, subgradient)
        memory = select(found, new_memory, optax.lbfgs().init(point.f))
        best = select(new.value <= best.value + jnp.where(found, noise, 0), new, best)
        residual = jnp.sum(jnp.abs(best.gradient)) / jnp.sum(self.problem.a)
        new_state = SemiDualState(best.f, new, best, memory, failures + jnp.where(found, 0, 1))
        return new_state, SemiDualInfo(residual, -best.value)

    def _point(self, f: Array) -> _Point:
        return _Point(f, *self.loss_and_gradient(f))

    def fixed_point(self, f: Float[Array, " n"]) -> Float[Array, " n"]:
        """A gradient step, centred: its fixed points are the maximisers where S is smooth."""
        moved = f - self.gamma * self.loss_and_gradient(f)[1]
        return moved - jnp.vdot(self.problem.a, moved) / jnp.sum(self.problem.a)

    def loss_and_gradient(self, f: Float[Array, " n"]) -> tuple[Float[Array, ""], Float[Array, " n"]]:
        """``-S`` and its gradient ``P 1 - a``."""
        values, rows, masses = self.columns(f)
        return jnp.sum(values) - jnp.vdot(f, self.problem.a), _row_sums(rows, masses, f) - self.problem.a

    def columns(self, f: Float[Array, " n"]) -> tuple[Float[Array, " m"], Int[Array, "m k"], Float[Array, "m k"]]:
        """Of every column the maximum, and the sources and masses of its maximiser."""

        def of_rows(c: Array, b: Array) -> tuple[Array, Array, Array]:
            scores, rows = jax.lax.top_k(f[None] - c, self.k)
            t = _simplex(scores, self.gamma, b)
            # Of scores relative to the largest, whose masses then lose nothing to it.
            relative = jnp.sum((scores - scores[:, :1]) * t - self.gamma / 2 * t**2, 1)
            return relative + b * scores[:, 0], rows, t

        return map_rows(self.problem.cost.T, of_rows, self.problem.b)


def sparse_transport(
    problem: Problem,
    gamma: Any,
    k: int | None = None,
    *,
    init: Float[Array, " n"] | None = None,
    atol: Any = None,
    max_steps: int = 500,
) -> SparseCoupling:
    """Minimises ``<P, C> + gamma |P|^2 / 2`` over couplings with at most ``k`` entries a column (all of them for None).

    Solves the dual of the convexified problem by L-BFGS until the L1 error of the row sums over their total is below ``atol``
    (1e-6, in float32 1e-4, by default); the coupling is read off the dual. ``k`` large enough gives the quadratically
    regularised coupling, ``k = 1`` has the value of the linear programme plus ``gamma |b|^2 / 2``. For small k (rarely for
    ``m k >= n + m - 1``) no such coupling attains the bound: then the status is MAX_STEPS and the row sums are off by
    ``marginal_error``. Memory O(m k). Differentiable in the arrays of the problem and in gamma where it has converged: ``value``
    always, ``masses`` and ``f`` by the implicit function theorem.

    Raises ``ValueError`` for marginals of different sums, ``gamma`` that is not positive and k outside [1, n].
    Source: Liu, Puigcerver and Blondel (2023), ICLR, section 4; Blondel, Seguy and Rolet (2018), AISTATS.
    """
    problem.require_balanced()
    n = problem.shape[0]
    k = n if k is None else k
    if not (isinstance(k, int) and 1 <= k <= n):
        raise ValueError(f"k: expected an integer in [1, {n}], got {k!r}")
    require(gamma, "gamma", positive=True, shape=())
    method = SparseTransport(problem, jnp.asarray(real(gamma), problem.dtype), k)
    if atol is None:
        atol = 1e-6 if problem.dtype.itemsize == 8 else 1e-4
    start = jnp.zeros_like(problem.a) if init is None else init
    found = solve(method, start, rtol=0.0, atol=tolerance(atol, problem.dtype), max_steps=max_steps)
    return _read_off(method, found)


@eqx.filter_jit
def _read_off(method: SparseTransport, found: Solution) -> SparseCoupling:
    problem, f = method.problem, found.position
    _, rows, masses = method.columns(f)
    value = at_optimum(lambda f, method: -method.loss_and_gradient(f)[0], f, method)
    still, t, cost_value = frozen((problem, masses, value))
    coupling = SparseCoupling(problem, rows, masses, f, value, value, value, found.status, found.num_steps)
    error = jnp.sum(jnp.abs(_row_sums(rows, t, f) - still.a)) / jnp.sum(still.a)
    gap = frozen(coupling).transport_cost() + frozen(method.gamma) / 2 * jnp.sum(t**2) - cost_value
    return eqx.tree_at(lambda c: (c.marginal_error, c.duality_gap), coupling, (error, gap))


@eqx.filter_custom_jvp
def _loss(method: SparseTransport, f: Array) -> Array:
    return method.loss_and_gradient(f)[0]


@_loss.def_jvp
def _loss_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    value, gradient = primals[0].loss_and_gradient(primals[1])
    return value, jnp.vdot(gradient, tangents[1])


def _simplex(scores: Float[Array, "r k"], gamma: Array, b: Float[Array, " r"]) -> Float[Array, "r k"]:
    """The maximiser of ``<s, t> - gamma |t|^2 / 2`` over ``t >= 0``, ``sum t = b``, for scores in descending order."""
    scores = scores - scores[:, :1]
    count = jnp.arange(1, scores.shape[1] + 1, dtype=scores.dtype)[None]
    means = (jnp.cumsum(scores, 1) - gamma * b[:, None]) / count
    # Scores above the level that they would have themselves are the support; the level is that of the last of them.
    support = jnp.sum(scores > means, 1, keepdims=True)
    level = jnp.take_along_axis(means, jnp.maximum(support - 1, 0), 1)
    return jnp.maximum(scores - level, 0) / gamma


def _row_sums(rows: Int[Array, "m k"], masses: Float[Array, "m k"], like: Float[Array, " n"]) -> Float[Array, " n"]:
    return jnp.zeros_like(like).at[rows].add(masses)
