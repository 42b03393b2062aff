"""The prox of ``outer(K x)`` where only that of ``outer`` is closed form, by accelerated proximal steps on the dual.

``prox_c(x) = x - K^H p`` with the ``p`` that minimises ``c outer*(p / c) + |x - K^H p|^2 / 2``. A step ``p+ = prox(v)``,
``v = p + K (x - K^H p) / L``, has ``p+`` in the subdifferential of ``c outer`` at ``w = L (v - p+)``; monotonicity then gives
``|z - exact|^2 <= |p+ - p*| |w - K z|`` for ``z = x - K^H p+``.
"""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from ..implicit import implicit_solve
from ..operators import LinearOperator
from ..operators.structure import add, conform, scale, subtract
from ..types import inner, norm, require, squared
from .acceleration import BLOCK, advance, at_rest, require_inner, search
from .base import Prior, as_point


class SplitDual(NamedTuple):
    """Dual variables of the prox: ``dual``, the extrapolated point ``ahead`` and the iterations since the last restart."""

    dual: PyTree
    ahead: PyTree
    age: Int[Array, ""]


class SplitProx(eqx.Module):
    """``argmin_z outer(K z) + |z - x|^2 / 2``; ``squared_norm`` bounds ``|K|^2``."""

    outer: Prior
    operator: LinearOperator
    x: Array
    squared_norm: Array

    def start(self) -> SplitDual:
        """Zero dual variables."""
        zero = jax.tree.map(jnp.zeros_like, self.operator(self.x))
        return SplitDual(zero, zero, jnp.zeros((), jnp.int32))

    def primal(self, dual: PyTree) -> Array:
        """``x - K^H p``."""
        return self.x - self.operator.H(dual)

    def fixed_point(self, dual: PyTree) -> PyTree:
        """One proximal step on the dual."""
        length = 1 / jnp.asarray(self.squared_norm, self.x.real.dtype)
        return self.outer.conj_prox(self._ahead(dual, length), length)

    def _ahead(self, dual: PyTree, length: Array) -> PyTree:
        return add(dual, self.operator(self.primal(dual)), length)

    def advance(self, aux: SplitDual, num_inner: int) -> SplitDual:
        """``num_inner >= 1`` accelerated steps."""
        return advance(self.fixed_point, aux, num_inner)

    def search(self, rtol: Array, max_inner: int) -> PyTree:
        """The dual variables ``p`` with ``|p| |w - K z|`` at most ``rtol`` times ``|<p, w>| + |z - x|^2 / 2``.

        That is the objective where ``outer`` is a norm. (Of an indicator, ``outer(w)`` may be infinite by rounding.)
        """

        def block(state: tuple[SplitDual, PyTree]) -> tuple[tuple[SplitDual, PyTree], Array]:
            aux = self.advance(state[0], BLOCK)
            length = 1 / jnp.asarray(self.squared_norm, self.x.real.dtype)
            ahead = self._ahead(aux.dual, length)
            p = self.outer.conj_prox(ahead, length)
            w = jax.tree.map(lambda a, b: scale(1 / length, a - b), ahead, p)
            z = self.primal(p)
            gap = norm(p) * norm(subtract(w, self.operator(z)))
            size = jnp.abs(inner(p, w)) + jnp.sum(squared(z - self.x)) / 2
            return (aux, p), ~(gap > rtol * size)  # a NaN stops too

        start = self.start()
        return search(block, (start, start.dual), max_inner)[1]


class SplitPrior(Prior):
    """``lam outer(K x)`` for a convex ``outer`` with a closed-form prox; a subclass defines ``pair(x) -> (outer, K)``.

    ``prox`` runs until ``|p| |w - K z|`` (above) is at most ``rtol`` times the objective, or ``max_inner`` (rounded up to tens)
    inner iterations; it has the derivative of the solution, in both modes, in x, ``step_size`` and every array.
    ``prox_step`` runs exactly ``num_inner`` iterations from ``aux`` and differentiates through them. ``squared_norm`` bounds
    ``|K|^2`` and is computed once, when the prior is built.
    """

    squared_norm: eqx.AbstractVar[Array]
    rtol: eqx.AbstractVar[Array]
    max_inner: eqx.AbstractVar[int]

    def __check_init__(self):
        require(self.rtol, "rtol", nonnegative=True)
        require_inner(self.max_inner, "max_inner")

    @abc.abstractmethod
    def pair(self, x: Array) -> tuple[Prior, LinearOperator]:
        """``(outer, K)`` with ``g(x) = lam outer(K x)`` for images like ``x`` (an array or its structure)."""

    def prox(self, x, step_size):
        """``argmin_z step_size g(z) + |z - x|^2 / 2``, from zero dual variables, to ``rtol``."""
        problem = self._problem(x, step_size)
        return _cold(problem, jnp.asarray(self.rtol).astype(problem.x.real.dtype), self.max_inner)

    def prox_init(self, x):
        """Zero dual variables."""
        return self._problem(x, 1.0).start()

    def prox_step(self, x: Any, step_size: Any, aux: SplitDual, num_inner: int) -> tuple[Array, PyTree]:
        """``(z, aux)`` after ``num_inner >= 1`` accelerated dual iterations from ``aux``."""
        require_inner(num_inner, "num_inner")
        return _warm(self._problem(x, step_size), aux, num_inner)

    def _problem(self, x: Any, step_size: Any) -> SplitProx:
        x = as_point(x)
        outer, K = self.pair(x)
        x = conform(x, K.in_structure, "x")
        weight = self._threshold(x, step_size)
        scaled = eqx.tree_at(lambda g: g.lam, outer, weight * jnp.asarray(outer.lam, weight.dtype))
        return SplitProx(scaled, K, x, self.squared_norm)


@eqx.filter_jit
def _cold(problem: SplitProx, rtol: Array, max_inner: int) -> Array:
    dual, _ = implicit_solve(problem, lambda fixed, rtol: (fixed.search(rtol, max_inner), ()), rtol)
    return problem.primal(dual)


@eqx.filter_jit
def _warm(problem: SplitProx, aux: SplitDual, num_inner: int) -> tuple[Array, SplitDual]:
    aux = problem.advance(at_rest(aux), num_inner)
    return problem.primal(aux.dual), aux
