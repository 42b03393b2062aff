"""Entropic barycentres on a fixed support, plain and debiased, by iterative Bregman projections in the logarithmic domain."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..drive import Solution, solve
from ..kernels.clouds import floating, require_sum_one
from ..types import real, require
from .costs import Cost, as_cost
from .envelope import at_optimum
from .problem import Problem
from .sinkhorn import epsilon_of, tolerance
from .softmin import softmin


class EntropicBarycenter(eqx.Module):
    """``masses`` p of the barycentre and the plans from it, ``P^k_ij = p_i b^k_j exp((f^k_i + g^k_j - C_ij) / epsilon)``.

    ``value`` is the objective that p minimises. ``residual`` is the largest L1 error of a ``P^k 1`` plus the L1 change of p in
    the last step; ``(P^k)^T 1`` are exact. ``status`` is one of ``invjax.Status``; ``check(barycenter)`` raises. Masses,
    potentials and value have implicit derivatives.
    """

    masses: Float[Array, " n"]
    f: Float[Array, "k n"]
    g: Float[Array, "k m"]
    value: Float[Array, ""]
    residual: Float[Array, ""]
    status: Int[Array, ""]
    num_steps: Int[Array, ""]


class MassesAndPotentials(NamedTuple):
    """Masses of the barycentre, and a potential of its points for every measure."""

    masses: Float[Array, " n"]
    f: Float[Array, "k n"]


class BregmanState(NamedTuple):
    """Unknowns, the own potential that removes the bias (zero without that), and the regularisation of the next step."""

    position: MassesAndPotentials
    own: Float[Array, " n"]
    epsilon: Float[Array, ""]


class BregmanInfo(NamedTuple):
    """``residual``: L1 error of the row sums of the worst plan, plus the L1 change of the masses."""

    residual: Float[Array, ""]


class BregmanProjections(eqx.Module):
    """``g^k <- softmin(f^k)``, ``f^k <- softmin(g^k)``, ``p ~ exp((h - sum_k w_k f^k) / epsilon)``, for every measure k.

    The method behind ``entropic_barycenter``. Soft minima of f are relative to the masses p, and h is zero: iterative Bregman
    projections (Benamou, Carlier, Cuturi, Nenna and Peyre 2015). ``debiased``: ``h <- h + (softmin(F) - F) / 2`` for
    ``F = sum_k w_k f^k`` (Janati, Cuturi and Gramfort 2020, algorithm 1, where h is ``epsilon log d``). The first steps divide
    ``epsilon`` by 4 from the mean cost.
    """

    cost: Cost
    measures: Float[Array, "k m"]
    weights: Float[Array, " k"]
    epsilon: Float[Array, ""]
    start_epsilon: Float[Array, ""]
    debiased: bool = eqx.field(static=True)

    def __init__(self, cost: Any, measures: Any, epsilon: Any, weights: Any = None, *, debiased: bool = False):
        self.cost = as_cost(cost)
        self.measures = _measures(measures, self.cost)
        self.weights = _weights(weights, self.measures)
        self.epsilon = epsilon_of(epsilon, self.cost.dtype)
        self.debiased = debiased
        if debiased:
            _require_symmetric(self.cost)
        scale = Problem(self.cost, None, jnp.mean(self.measures, 0)).mean_cost(absolute=True)
        self.start_epsilon = jnp.maximum(jax.lax.stop_gradient(scale), self.epsilon)

    def init(self, position: MassesAndPotentials, key: Any = None) -> BregmanState:
        """Start at masses and potentials."""
        return BregmanState(position, jnp.zeros_like(position.masses), self.start_epsilon)

    def step(self, state: BregmanState) -> tuple[BregmanState, BregmanInfo]:
        """One projection on either side for every measure, and new masses."""
        (masses, f), own, epsilon = state
        _, new = self._sides(masses, f, epsilon)
        own = own + self._correction(masses, f, epsilon)
        own = own - jnp.vdot(masses, own)  # else it drifts
        moved = jax.nn.softmax((own - self.weights @ new) / epsilon)
        row_errors = masses[None] * jnp.abs(jnp.expm1(jnp.minimum((f - new) / epsilon, 60)))  # finite without mass too
        residual = jnp.max(jnp.sum(row_errors, 1)) + jnp.sum(jnp.abs(moved - masses))
        residual += jnp.where(epsilon > self.epsilon, 1, 0).astype(residual.dtype)
        position = MassesAndPotentials(moved, _centred(new))
        return BregmanState(position, own, jnp.maximum(epsilon / 4, self.epsilon)), BregmanInfo(residual)

    def fixed_point(self, position: MassesAndPotentials) -> MassesAndPotentials:
        """A step in which h follows from the masses; shifts of the potentials, which leave plans as they are, are fixed."""
        masses, f = position
        _, new = self._sides(masses, f, self.epsilon)
        exponent = -self.weights @ new / self.epsilon
        if not self.debiased:
            return MassesAndPotentials(jax.nn.softmax(exponent), _centred(new))
        # In the masses and not in h, which has no limit where they vanish.
        exponent += (self.weights @ f + self._correction(masses, f, self.epsilon)) / self.epsilon
        moved = masses * jnp.exp(exponent - jax.lax.stop_gradient(jnp.max(exponent)))
        return MassesAndPotentials(moved / jnp.sum(moved), _centred(new))

    def columns(self, position: MassesAndPotentials) -> Float[Array, "k m"]:
        """The best potentials of the columns."""
        return self._sides(*position, self.epsilon)[0]

    def objective(self, position: MassesAndPotentials) -> Float[Array, ""]:
        """What is minimised, at an optimum: a function of the unknowns that is stationary there."""
        masses, f = position
        if self.debiased:
            own = jnp.vdot(masses, self._correction(masses, f, self.epsilon))
            return jnp.vdot(self.weights, jnp.sum(self.measures * self.columns(position), 1)) - own
        uniform = jnp.full_like(masses, 1 / masses.shape[0])
        g, _ = self._sides(uniform, f - (self.weights @ f)[None], self.epsilon)
        return jnp.vdot(self.weights, jnp.sum(self.measures * g, 1))

    def _sides(self, masses: Array, f: Array, epsilon: Array) -> tuple[Array, Array]:
        """The best potentials of the columns, and for those the best of the rows."""
        g = jax.vmap(lambda f: softmin(self.cost.T, f, masses, epsilon))(f)
        return g, jax.vmap(lambda g, b: softmin(self.cost, g, b, epsilon))(g, self.measures)

    def _correction(self, masses: Array, f: Array, epsilon: Array) -> Array:
        """``(softmin(F) - F) / 2``, or zero: the change of the own potential."""
        mean = self.weights @ f
        if not self.debiased:
            return jnp.zeros_like(mean)
        return (softmin(self.cost, mean, masses, epsilon) - mean) / 2


def entropic_barycenter(
    cost: Any,
    measures: Float[Array, "k m"],
    epsilon: Any,
    weights: Float[Array, " k"] | None = None,
    *,
    debiased: bool = False,
    atol: Any = None,
    max_steps: int = 1000,
) -> EntropicBarycenter:
    """The masses p (n,) on the rows of a cost that are nearest to ``measures`` (k, m) on its columns, each of sum one.

    With ``OT`` the regularised cost of ``sinkhorn``, ``min <P, C> + epsilon KL(P | p b^T)``, what is minimised is

        ``sum_k w_k OT(p, b_k) + epsilon KL(p | u)``, with u uniform on the rows, or
        ``sum_k w_k OT(p, b_k) - OT(p, p) / 2`` where ``debiased``.

    The first is ``sum_k w_k min <P, C> + epsilon KL(P | u b_k^T)``: the entropy of P is relative to u. It blurs: on a fine grid,
    with ``|x - y|^2``, Gaussians of one variance get that plus ``epsilon / 2``. The second is, up to a constant, the mean of
    Sinkhorn divergences, for a symmetric cost: Gaussians of one variance keep it. Debiasing is a deconvolution: on points much
    closer than ``sqrt(epsilon)`` the finest details of the masses hardly change the value and converge slowly, and implicit
    derivatives of the masses are ill-conditioned, or NaN. The value and its derivatives are not.

    ``cost`` is a matrix, a ``PointCost`` or, for images, a ``GridCost``; ``weights`` w are uniform by default. Stops when the L1
    error of the marginals plus the last change of p is below ``atol``, the square root of the machine epsilon by default.

    Raises ``ValueError`` for shapes that do not fit, (known) masses and weights that are negative or not of sum one, and where
    ``debiased`` for a cost that is (known to be) not symmetric.
    Source: Benamou, Carlier, Cuturi, Nenna and Peyre (2015), SIAM J. Sci. Comput. 37; Janati, Cuturi and Gramfort (2020), ICML.
    """
    method = BregmanProjections(cost, measures, epsilon, weights, debiased=debiased)
    (n, _), dtype = method.cost.shape, method.cost.dtype
    start = MassesAndPotentials(jnp.full((n,), 1 / n, dtype), jnp.zeros((method.measures.shape[0], n), dtype))
    return _finish(method, solve(method, start, rtol=0.0, atol=tolerance(atol, dtype), max_steps=max_steps))


@eqx.filter_jit
def _finish(method: BregmanProjections, found: Solution) -> EntropicBarycenter:
    masses, f = found.position
    value = at_optimum(lambda position, method: method.objective(position), found.position, method)
    g = method.columns(found.position)
    return EntropicBarycenter(masses, f, g, value, found.residual, found.status, found.num_steps)


def _centred(f: Float[Array, "k n"]) -> Float[Array, "k n"]:
    return f - jnp.mean(f, 1, keepdims=True)


def _measures(measures: Any, cost: Cost) -> Float[Array, "k m"]:
    measures = floating(measures, "measures")
    if measures.ndim != 2 or measures.shape[0] == 0 or measures.shape[1] != cost.shape[1]:
        raise ValueError(f"measures: expected shape (k, {cost.shape[1]}) with k > 0, got {measures.shape}")
    require(measures, "measures", nonnegative=True)
    if not isinstance(measures, jax.core.Tracer):
        for k, masses in enumerate(np.asarray(measures)):
            require_sum_one(masses, f"measures[{k}]")
    return measures.astype(cost.dtype)


def _weights(weights: Any, measures: Array) -> Float[Array, " k"]:
    num = measures.shape[0]
    if weights is None:
        return jnp.full((num,), 1 / num, measures.dtype)
    weights = floating(real(weights), "weights")
    require(weights, "weights", shape=(num,), nonnegative=True)
    require_sum_one(weights, "weights")
    return weights.astype(measures.dtype)


def _require_symmetric(cost: Cost) -> None:
    """Of points, whether both sides are the same."""
    rows, columns = cost.rows, cost.T.rows
    if rows.shape != columns.shape:
        raise ValueError(f"cost: expected the same support on both sides where debiased, got shape {cost.shape}")
    if any(isinstance(side, jax.core.Tracer) for side in (rows, columns)):
        return
    difference, size = (float(np.max(np.abs(np.asarray(v)))) for v in (rows - columns, rows))
    if difference > 1e-5 * size:  # a NaN is told by the status
        raise ValueError("cost: expected a symmetric cost where debiased, got one with different sides")
