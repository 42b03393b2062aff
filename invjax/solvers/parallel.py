"""Splitting of a sum of many terms: PPXA, also with an operator in front of each term; Dykstra's algorithm."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..operators import LinearOperator, stack
from ..operators.structure import at_precision_of, scale
from ..types import real, require
from .base import Info, change, warm, warm_prox


class PPXAState(NamedTuple):
    """Image, one governing variable per term, warm starts of the proxes."""

    position: PyTree
    others: tuple[PyTree, ...]
    aux: tuple[PyTree, ...]


class PPXA(eqx.Module):
    """``min sum_i f_i(K_i x)`` by the prox of every term alone: likelihoods, priors, constraints, as many as there
    are.

    ``w_i = prox_{step f_i / omega_i}(s_i)``, ``x = argmin_x sum_i omega_i |K_i x - (2 w_i - s_i)|^2``,
    ``s_i <- s_i + relaxation (K_i x - w_i)``: Douglas-Rachford in the product space. ``operators`` are the ``K_i``,
    linear operators of the image (default: the identity, where ``x`` is the mean with the weights ``omega``, equal by
    default). With operators the average is one solve with ``sum_i omega_i K_i^H K_i``: closed form where that has a
    known spectrum, else conjugate gradients. Converges for any ``step_size > 0`` and ``0 < relaxation < 2``, if the
    sum has a minimiser. Source: Combettes and Pesquet (2008); Pesquet and Pustelnik (2012).
    """

    terms: tuple[Any, ...]
    step_size: Array
    operators: tuple[LinearOperator, ...] | None
    weights: Array
    relaxation: Array
    num_inner: int = eqx.field(static=True)

    def __init__(
        self,
        terms: Sequence[Any],
        step_size: Any,
        *,
        operators: Sequence[LinearOperator] | None = None,
        weights: Any = None,
        relaxation: Any = 1.0,
        num_inner: int = 10,
    ):
        self.terms, self.num_inner = _at_least_one(terms), num_inner
        self.operators = None if operators is None else tuple(operators)
        if self.operators is not None and len(self.operators) != len(self.terms):
            raise ValueError(f"operators: expected one per term ({len(self.terms)}), got {len(self.operators)}")
        self.weights = jnp.ones(len(self.terms)) if weights is None else real(weights)
        require(self.weights, "weights", positive=True, shape=(len(self.terms),))
        self.weights = self.weights / jnp.sum(self.weights)
        self.step_size, self.relaxation = real(step_size), real(relaxation)
        require(self.step_size, "step_size", positive=True)
        require(self.relaxation, "relaxation", positive=True, below=2.0)

    def init(self, x: PyTree, key: Any = None) -> PPXAState:
        """Start with ``s_i = K_i x``."""
        others = self._push(x)
        return PPXAState(x, others, tuple(warm(f, s) for f, s in zip(self.terms, others, strict=True)))

    def step(self, state: PPXAState) -> tuple[PPXAState, Info]:
        """All proxes, and one average."""
        each = zip(self.terms, state.others, self._steps(), state.aux, strict=True)
        results = [warm_prox(f, s, step, aux, self.num_inner) for f, s, step, aux in each]
        x, others = self._average(state.others, [w for w, _ in results])
        return PPXAState(x, others, tuple(aux for _, aux in results)), change(others, state.others)

    def unknowns(self, state: PPXAState) -> tuple[PyTree, PyTree]:
        """Image and governing variables."""
        return state.position, state.others

    def fixed_point(self, pair: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        """One round on (x, s)."""
        each = zip(self.terms, pair[1], self._steps(), strict=True)
        return self._average(pair[1], [f.prox(s, step) for f, s, step in each])

    def _steps(self) -> list[Array]:
        return [self.step_size / self.weights[i] for i in range(len(self.terms))]

    def _push(self, x: PyTree) -> tuple[PyTree, ...]:
        return (x,) * len(self.terms) if self.operators is None else tuple(K(x) for K in self.operators)

    def _average(self, others: tuple, values: list) -> tuple[PyTree, tuple]:
        targets = [2 * w - s for w, s in zip(values, others, strict=True)]
        if self.operators is None:
            total = [scale(self.weights[i], t) for i, t in enumerate(targets)]
            x = sum(total[1:], total[0])
        else:
            roots = [jnp.sqrt(self.weights[i]) for i in range(len(self.terms))]
            both = stack([r * K for r, K in zip(roots, self.operators, strict=True)])
            x = both.pinv(tuple(scale(r, t) for r, t in zip(roots, targets, strict=True)))
        each = zip(others, self._push(x), values, strict=True)
        return x, tuple(s + scale(self.relaxation, k - w) for s, k, w in each)


class DykstraState(NamedTuple):
    """The point ``point - sum_i dual_i``, and the dual variable of every term."""

    position: PyTree
    duals: tuple[PyTree, ...]
    aux: tuple[PyTree, ...]


class Dykstra(eqx.Module):
    """``argmin_x |x - point|^2 / 2 + sum_i f_i(x)``: for indicators, the projection of a point on an intersection.

    ``r = x + p_i``, ``x = prox_{f_i}(r)``, ``p_i = r - x`` for every term in turn; a step is one pass. It gives the
    projection, where alternating projections give some point of the intersection. ``x`` in ``init`` is only a shape:
    every run starts at ``point``, with duals zero. Source: Boyle and Dykstra (1986); Bauschke and Combettes (2008)
    for functions.
    """

    terms: tuple[Any, ...]
    point: PyTree
    num_inner: int = eqx.field(static=True)

    def __init__(self, terms: Sequence[Any], point: PyTree, num_inner: int = 10):
        self.terms, self.point, self.num_inner = _at_least_one(terms), real(point), num_inner

    def init(self, x: PyTree, key: Any = None) -> DykstraState:
        """Start at ``point``, at the precision of ``x``."""
        point = at_precision_of(x, self.point)
        require(x, "x", shape=point.shape)
        zeros = (jnp.zeros_like(point),) * len(self.terms)
        return DykstraState(point, zeros, tuple(warm(f, point) for f in self.terms))

    def step(self, state: DykstraState) -> tuple[DykstraState, Info]:
        """One pass over the terms."""
        x, duals, aux = state.position, [], []
        for f, p, a in zip(self.terms, state.duals, state.aux, strict=True):
            reached, after = warm_prox(f, x + p, 1.0, a, self.num_inner)
            duals.append(x + p - reached)
            aux.append(after)
            x = reached
        new = DykstraState(x, tuple(duals), tuple(aux))
        return new, change((x, new.duals), (state.position, state.duals))

    def unknowns(self, state: DykstraState) -> tuple[PyTree, PyTree]:
        """Image and duals."""
        return state.position, state.duals

    def fixed_point(self, pair: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        """One pass on the duals; the image is what they leave of ``point``, so that its derivative in ``point`` is seen."""
        duals = pair[1]
        total = jax.tree.map(lambda *p: sum(p[1:], p[0]), *duals)
        x, new = at_precision_of(total, self.point) - total, []
        for f, p in zip(self.terms, duals, strict=True):
            reached = f.prox(x + p, 1.0)
            new.append(x + p - reached)
            x = reached
        return x, tuple(new)


def _at_least_one(terms: Sequence[Any]) -> tuple[Any, ...]:
    if not terms:
        raise ValueError("terms: expected at least one term with a prox, got none")
    return tuple(terms)
