"""Stochastic primal-dual hybrid gradient (SPDHG): one random block of the measurement at a time."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..likelihoods import Likelihood
from ..operators import LinearOperator
from ..operators.structure import scale
from ..types import real, require
from .base import Info, change, dual_step
from .blocks import parts
from .primal_dual import DataTerm


class SPDHGState(NamedTuple):
    """Image, duals of the blocks, ``z = sum_i A_i^H p_i``, and ``z`` extrapolated."""

    position: PyTree
    duals: tuple[PyTree, ...]
    sum: PyTree
    ahead: PyTree


class SPDHG(eqx.Module):
    """``min sum_i f_i(A_i x) + g(x)`` over the parts of a stacked likelihood, with the adjoint of one random part per
    update.

    ``x = prox_{tau g}(x - tau z_ahead)``; then for one ``i`` drawn with probability ``q_i``:
    ``p_i+ = prox_{sigma_i f_i*}(p_i + sigma_i A_i x)``, ``delta = A_i^H (p_i+ - p_i)``, ``z <- z + delta``,
    ``z_ahead = z + delta / q_i``. Steps ``sigma_i = 1 / (ratio |A_i|)``, ``tau = ratio min_i q_i / |A_i|``, so that
    ``tau sigma_i |A_i|^2 <= q_i``; any ``ratio > 0`` (in the units of ``x`` over those of the duals) converges almost
    surely for convex ``f_i``, ``g``. A prior that splits (TV: ``outer(K x)``) is one more block, and ``constraint``
    is then ``g``. ``probabilities`` are those of the blocks, the prior's last; equal by default. A step makes as many
    updates as there are blocks: about one pass over the data. Under ``vmap`` share the key among the lanes: with a
    key each, every lane computes every block. Source: Chambolle, Ehrhardt, Richtarik and Schoenlieb (2018).
    """

    terms: tuple[Any, ...]
    operators: tuple[LinearOperator, ...]
    primal: Any
    probabilities: Array
    step_size: Array
    dual_step_sizes: Array

    def __init__(
        self, likelihood: Likelihood, prior: Any, ratio: Any = 1.0, *, constraint: Any = None, probabilities: Any = None
    ):
        blocks = parts(likelihood)
        self.terms = tuple(DataTerm(block.noise, block.y) for block in blocks)
        self.operators, self.primal = tuple(block.operator for block in blocks), prior
        if hasattr(prior, "split"):
            outer, K = prior.split()
            self.terms, self.operators, self.primal = (*self.terms, outer), (*self.operators, K), constraint
        elif constraint is not None:
            raise ValueError(
                "constraint: expected a prior that splits (TV) with it; another prior has the primal prox itself"
            )
        count, ratio = len(self.terms), real(ratio)
        require(ratio, "ratio", positive=True)
        q = jnp.ones(count) if probabilities is None else real(probabilities)
        require(q, "probabilities", positive=True, shape=(count,))
        self.probabilities = q / jnp.sum(q)
        norms = jnp.stack([jnp.asarray(A.norm(), self.probabilities.dtype) for A in self.operators])
        self.dual_step_sizes = 1 / (ratio * norms)
        self.step_size = ratio * jnp.min(self.probabilities / norms)

    def init(self, x: PyTree, key: Any = None) -> SPDHGState:
        """Start at ``x`` with duals zero."""
        duals = jax.tree.map(jnp.zeros_like, tuple(A(x) for A in self.operators))
        return SPDHGState(x, duals, jnp.zeros_like(x), jnp.zeros_like(x))

    def step(self, key: PRNGKeyArray, state: SPDHGState) -> tuple[SPDHGState, Info]:
        """As many updates as there are blocks."""
        count = len(self.terms)
        drawn = jax.random.choice(key, count, (count,), p=self.probabilities)
        new, _ = jax.lax.scan(lambda s, i: (self._update(s, i), None), state, drawn)
        return new, change(new[:2], state[:2])

    def unknowns(self, state: SPDHGState) -> tuple[PyTree, PyTree]:
        """Image and duals."""
        return state.position, state.duals

    def fixed_point(self, pair: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        """The primal-dual map with all blocks: the same fixed points."""
        x, duals = pair
        back = [A.H(p) for A, p in zip(self.operators, duals, strict=True)]
        x = self._primal_prox(x - scale(self.step_size, sum(back[1:], back[0])))
        return x, tuple(self._ascend(i, p, x) for i, p in enumerate(duals))

    def _primal_prox(self, x: PyTree) -> PyTree:
        return x if self.primal is None else self.primal.prox(x, self.step_size)

    def _ascend(self, i: int, p: PyTree, x: PyTree) -> PyTree:
        sigma = self.dual_step_sizes[i]
        return dual_step(self.terms[i], p + scale(sigma, self.operators[i](x)), sigma)

    def _update(self, state: SPDHGState, i: Array) -> SPDHGState:
        x = self._primal_prox(state.position - scale(self.step_size, state.ahead))

        def block(i: int) -> Any:
            def update(duals: tuple) -> tuple[tuple, PyTree]:
                new = self._ascend(i, duals[i], x)
                return (*duals[:i], new, *duals[i + 1 :]), self.operators[i].H(new - duals[i])

            return update

        duals, delta = jax.lax.switch(i, [block(j) for j in range(len(self.terms))], state.duals)
        total = state.sum + delta
        return SPDHGState(x, duals, total, total + scale(1 / self.probabilities[i], delta))
