"""The train step: a pure function of state and batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..types import norm, real, require


class TrainState(NamedTuple):
    """All that a run needs to go on: number of steps done, weights, optimiser, averaged weights, key."""

    step: Int[Array, ""]
    params: PyTree
    opt_state: PyTree
    ema_params: PyTree
    key: PRNGKeyArray


class TrainInfo(NamedTuple):
    """Loss and norm of its gradient before the update."""

    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]


class Trainer(eqx.Module):
    """Stochastic gradient training with an exponential moving average of the weights.

    Step k draws everything random from ``fold_in(key, k)``, so a resumed run repeats an uninterrupted one to the last bit.
    The average is ``ema <- d ema + (1 - d) params`` with ``d = min(ema_decay, (1 + k) / (10 + k))``: short at the start, so
    that it forgets the initial weights.

    Args:
        loss: ``loss(params, key, batch) -> scalar``, a mean over the batch, so that a batch spread over devices has the same
            gradient. A Module, or a function that is kept: each new function object compiles anew.
        optimiser: An optax transformation, made once and kept; its schedule counts the steps.
        ema_decay: Decay d of the average, in [0, 1) (``ValueError``).
    """

    loss: Callable[[PyTree, PRNGKeyArray, Any], Array]
    optimiser: optax.GradientTransformation = eqx.field(static=True)
    ema_decay: Array = eqx.field(converter=real, default=0.999)

    def __check_init__(self):
        require(self.ema_decay, "ema_decay", nonnegative=True, below=1.0)

    def init(self, params: PyTree, key: PRNGKeyArray) -> TrainState:
        """State before the first step."""
        average = jax.tree.map(jnp.array, params)  # a copy: a step may reuse the memory of its arguments
        return TrainState(jnp.zeros((), jnp.int32), params, self.optimiser.init(params), average, key)

    def step(self, state: TrainState, batch: Any) -> tuple[TrainState, TrainInfo]:
        """One update. Pure: ``fit`` compiles it, with a mesh or without."""
        key = jax.random.fold_in(state.key, state.step)
        loss, gradient = jax.value_and_grad(self.loss)(state.params, key, batch)
        updates, opt_state = self.optimiser.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        decay = jnp.minimum(self.ema_decay, (1 + state.step) / (10 + state.step))
        average = jax.tree.map(lambda a, p: a + (1 - decay).astype(a.dtype) * (p - a), state.ema_params, params)
        new = TrainState(state.step + 1, params, opt_state, average, state.key)
        return new, TrainInfo(loss, norm(gradient))
