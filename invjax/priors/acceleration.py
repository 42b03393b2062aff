"""Accelerated steps on a dual problem (Beck and Teboulle 2009), and the loop that runs them to a tolerance.

Momentum is ``(k - 1) / (k + 5)``, which Chambolle and Dossal (2015) prove to converge, and starts again when it points uphill
(O'Donoghue and Candes 2015); this is looked at once per block of iterations, because on CPU a sum over the image costs
as much as several iterations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from ..operators.structure import precision_of, scale, subtract
from ..types import inner

BLOCK = 10
_MOMENTUM = 5

State = TypeVar("State")


def advance(step: Callable[[Any], Any], aux: Any, num_inner: int) -> Any:
    """``num_inner >= 1`` times ``dual = step(ahead)``; ``aux`` has ``dual``, ``ahead`` (extrapolated) and ``age``."""
    before = jax.lax.fori_loop(0, num_inner - 1, lambda _, a: _step(step, a), aux)
    after = _step(step, before)
    uphill = inner(subtract(before.ahead, after.dual), subtract(after.dual, before.dual))
    return after._replace(age=jnp.where(uphill > 0, 0, after.age))


def at_rest(aux: Any) -> Any:
    """The same dual without momentum: how a warm prox begins.

    Momentum that was gathered for another point of the outer method makes its iterations, and even more their derivatives,
    unstable.
    """
    return aux._replace(ahead=aux.dual, age=jnp.zeros_like(aux.age))


def _step(step: Callable[[Any], Any], aux: Any) -> Any:
    dual = step(aux.ahead)
    k = aux.age.astype(precision_of(dual))
    pace = k / (k + (1 + _MOMENTUM))
    ahead = jax.tree.map(lambda p, o: p + scale(pace, p - o), dual, aux.dual)
    return aux._replace(dual=dual, ahead=ahead, age=aux.age + 1)


class _Search(NamedTuple):
    num_inner: Int[Array, ""]
    state: Any
    done: Array


def search(block: Callable[[State], tuple[State, Array]], start: State, max_inner: int) -> State:
    """``state, done = block(state)`` (ten iterations) until ``done``, or ``max_inner`` iterations are done."""

    def body(carry: _Search) -> _Search:
        state, done = block(carry.state)
        return _Search(carry.num_inner + BLOCK, state, done)

    first = _Search(jnp.zeros((), jnp.int32), start, jnp.zeros((), bool))
    return jax.lax.while_loop(lambda s: ~s.done & (s.num_inner < max_inner), body, first).state


def require_inner(value: int, name: str) -> None:
    """Raise ``ValueError`` unless a number of inner iterations is positive."""
    if value < 1:
        raise ValueError(f"{name}: expected a positive integer, got {value}")
