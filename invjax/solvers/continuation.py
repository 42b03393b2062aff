"""Methods whose parameters change from step to step: on a schedule, or at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from ..types import real


class ContinuationState(NamedTuple):
    """State of the method, and the number of steps done."""

    inner: Any
    age: Int[Array, ""]

    @property
    def position(self) -> PyTree:
        """The iterate."""
        return self.inner.position


class Continuation(eqx.Module):
    """Step k of ``method`` with the part ``where(method)`` set to ``values[k]``; after the last value it stays.

    So a noise level falls along the run (coarse to fine), or a step size follows a schedule, for any method, random or not:

        Continuation(FISTA(f, PlugAndPlay(D, sigma=s[0]), h), lambda m: m.prior.sigma, s)

    Args:
        method: A method; its own value at ``where`` is used by ``init`` only.
        where: ``method -> leaf`` or a tuple of leaves, as for ``equinox.tree_at``. A function of a module or one kept for the
            run: each new function object compiles anew.
        values: Array ``(K, ...)``, or a tuple of them, with the shape of the leaf behind the leading axis; K >= 1
            (``ValueError``).
    """

    method: Any
    where: Callable = eqx.field(static=True)
    values: Any = eqx.field(converter=lambda v: tuple(real(a) for a in v) if isinstance(v, tuple) else real(v))

    def __check_init__(self):
        counts = {jnp.shape(v)[:1] for v in jax.tree.leaves(self.values)}
        if len(counts) != 1 or counts <= {(), (0,)}:
            raise ValueError(f"values: expected equal leading axes of at least one step, got {sorted(counts)}")

    def init(self, x: PyTree, key: Any = None) -> ContinuationState:
        """State of the method at ``x``."""
        inner = self._at(jnp.zeros((), jnp.int32)).init(x, key)
        return ContinuationState(inner, jnp.zeros((), jnp.int32))

    def step(self, *args: Any) -> tuple[ContinuationState, Any]:
        """``step(state)`` of a deterministic method, ``step(key, state)`` of a random one."""
        *key, state = args
        inner, info = self._at(state.age).step(*key, state.inner)
        return ContinuationState(inner, state.age + 1), info

    def _at(self, age: Array) -> Any:
        def one(values: Array) -> Array:
            return values[jnp.minimum(age, values.shape[0] - 1)]

        return eqx.tree_at(self.where, self.method, jax.tree.map(one, self.values))


class Randomised(eqx.Module):
    """A deterministic ``method`` with the part ``where(method)`` drawn anew in each step: a random method.

    With ``Transformed`` this is equivariant plug-and-play by random turns:

        D = Transformed(denoiser, QuarterTurns(), jnp.zeros((), jnp.int32))
        Randomised(HQS(f, PlugAndPlay(D), h), lambda m: m.prior.denoiser.element, D.transform.sample)

    ``draw(key)`` gives the new part; it is a bound method of a Module or a function of a module.
    """

    method: Any
    where: Callable = eqx.field(static=True)
    draw: Callable

    def init(self, x: PyTree, key: Any = None) -> Any:
        """State of the method at ``x``."""
        return self.method.init(x)

    def step(self, key: Any, state: Any) -> tuple[Any, Any]:
        """One step with a new draw."""
        return eqx.tree_at(self.where, self.method, self.draw(key)).step(state)
