"""Step-size adaptation to an acceptance rate, as a method around another."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from blackjax.adaptation.step_size import DualAveragingAdaptationState, dual_averaging_adaptation
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..types import all_finite, real, require, select

_DIVERGENT = 1e-3  # acceptance below which a move is undone: an energy error of 7


class AdaptationState(NamedTuple):
    """State of the method inside and of the dual averaging; ``position`` is the inner one."""

    inner: Any
    dual_averaging: DualAveragingAdaptationState

    @property
    def position(self) -> PyTree:
        """The position of the method inside."""
        return self.inner.position


class StepSizeAdaptation(eqx.Module):
    """Runs ``method`` while dual averaging moves its ``step_size`` until the mean of ``info.acceptance_rate`` is ``target``.

    A warm-up: run it in a driver, then sample with ``adapted(state)``, the method with the averaged step size,

        warm = StepSizeAdaptation(MALA(f, g, 0.1), 0.574)
        state, _, status = iterate(warm, x, 1000, key=warm_key)
        samples = sample(key, warm.adapted(state), state.position, 10_000)

    since a chain whose step size depends on its past has another stationary law. A move with an acceptance probability below
    1e-3 is undone, so that an unadjusted method survives a first step size that is far too large. The dual averaging is
    BlackJAX's (t0 = 10, gamma = 0.05, kappa = 0.75): over T steps, with last step size h, the mean acceptance is ``target``
    minus ``gamma (1 + t0 / T) log(10 first_step_size / h) / sqrt(T)``; with the averaged step size it is a little higher (0.01 to
    0.03 after 1500 steps), since the step size fluctuates about its average.

    Args:
        method: A random method with a field ``step_size`` and ``acceptance_rate`` in its info (``ValueError`` otherwise).
        target: Acceptance rate in (0, 1): 0.574 for ``MALA``, 0.8 to 0.9 for ``Underdamped``.

    Reference: Hoffman and Gelman 2014, JMLR 15, section 3.2.
    """

    method: Any
    target: Array = eqx.field(converter=real)

    def __check_init__(self):
        require(self.target, "target", positive=True, below=1.0)
        if not hasattr(self.method, "step_size"):
            raise ValueError(f"method: expected a Module with a field step_size, got {type(self.method).__name__}")

    def init(self, x: PyTree, key: PRNGKeyArray | None = None) -> AdaptationState:
        """State at ``x``, with the method's own step size as the first."""
        init, _, _ = dual_averaging_adaptation(self.target)
        dual = init(self.method.step_size)
        # BlackJAX starts the average at log 1; from the first step size, `adapted` is right before any step too.
        dual = dual._replace(log_step_size_avg=dual.log_step_size)
        dtype = jnp.finfo(jax.tree.leaves(x)[0].dtype).dtype  # the real one where x is complex
        return AdaptationState(self.method.init(x, key), jax.tree.map(lambda a: jnp.asarray(a, dtype), dual))

    def step(self, key: PRNGKeyArray, state: AdaptationState) -> tuple[AdaptationState, Any]:
        """One transition with the current step size, then the update of the step size. The info is the method's."""
        method = self._with_step_size(jnp.exp(state.dual_averaging.log_step_size))
        inner, info = method.step(key, state.inner)
        if not hasattr(info, "acceptance_rate"):
            raise ValueError(
                f"method: expected acceptance_rate in the info of {type(self.method).__name__}, got {info}"
            )
        dtype = state.dual_averaging.mu.dtype
        rate = jnp.where(all_finite(inner.position), info.acceptance_rate, 0).astype(dtype)
        _, update, _ = dual_averaging_adaptation(jnp.asarray(self.target, dtype))
        dual = jax.tree.map(lambda a: jnp.asarray(a, dtype), update(state.dual_averaging, rate))
        return AdaptationState(select(rate > _DIVERGENT, inner, state.inner), dual), info

    def adapted(self, state: AdaptationState) -> Any:
        """The method with the averaged step size; ``vmap`` it over the states of several chains."""
        return self._with_step_size(jnp.exp(state.dual_averaging.log_step_size_avg))

    def _with_step_size(self, step_size: Array) -> Any:
        return eqx.tree_at(lambda m: m.step_size, self.method, step_size)
