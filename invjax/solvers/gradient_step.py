"""Plug-and-play with a potential: proximal gradient descent whose prior is a gradient-step denoiser."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..operators.structure import scale
from ..types import inner, norm, real, require
from .base import constant


class GradientStepState(NamedTuple):
    """Iterate, step size, objective ``f + g`` at the iterate."""

    position: Array
    step_size: Array
    objective: Array


class GradientStepInfo(NamedTuple):
    """Norm of the change, and the objective after the step."""

    residual: Array
    objective: Array


class GradientStepPnP(eqx.Module):
    """``x <- prox_{s f}(x - s grad g(x))`` on ``f + g``, with a smooth prior g such as ``priors.GradientStep``.

    The step is halved (at most ``max_backtracks`` times in one step, and never made longer) until the objective has fallen
    by ``decrease |x_new - x|^2 / s``. So the objective never grows, ``sum |x_{k+1} - x_k|^2`` is finite, and every limit is a
    stationary point of ``f + g``, for f convex or not (Hurault et al., theorem 1); the noise of the denoiser need not be
    small. Where no step of that length is found the iterate stays.

    Args:
        likelihood: f, with ``prox`` and a potential.
        prior: g, with ``grad`` and a potential.
        step_size: First step s. Positive, or ``ValueError``; ``1 / (lam L)`` with L that of ``x - D(x)``, about ``1 / lam``.
        decrease: Constant of the sufficient decrease, in (0, 1/2) (``ValueError``).
        max_backtracks: Halvings within one step.

    Source: Hurault, Leclaire and Papadakis (2022), ICLR, algorithm 1.
    """

    likelihood: Any
    prior: Any
    step_size: Array = eqx.field(converter=real)
    decrease: Array = eqx.field(converter=real, default=0.1)
    max_backtracks: int = eqx.field(static=True, default=10)

    def __check_init__(self):
        require(self.step_size, "step_size", positive=True)
        require(self.decrease, "decrease", positive=True, below=0.5)
        if self.max_backtracks < 0:
            raise ValueError(f"max_backtracks: expected an integer >= 0, got {self.max_backtracks}")

    def objective(self, x: Array) -> Array:
        """``f(x) + g(x)``."""
        return self.likelihood(x) + self.prior(x)

    def init(self, x: PyTree, key: Any = None) -> GradientStepState:
        """Start at ``x``."""
        return GradientStepState(x, jnp.asarray(self.step_size, x.real.dtype), self.objective(x))

    def step(self, state: GradientStepState) -> tuple[GradientStepState, GradientStepInfo]:
        """One step with backtracking."""
        gradient = self.prior.grad(state.position)
        step_size = self._search(*constant((self, state, gradient)))
        new, value, rejected = self._move(state, gradient, step_size)
        new = jnp.where(rejected, state.position, new)
        value = jnp.where(rejected, state.objective, value)
        residual = norm(new - state.position)
        return GradientStepState(new, step_size, value), GradientStepInfo(residual, value)

    def _move(self, state: GradientStepState, gradient: Array, step_size: Array) -> tuple[Array, Array, Array]:
        """The point that a step reaches, the objective there, and whether it has fallen too little."""
        x = state.position
        new = self.likelihood.prox(x - scale(step_size, gradient), step_size)
        value, gap = self.objective(new), inner(new - x, new - x)
        slack = 10 * jnp.finfo(value.dtype).eps * jnp.abs(state.objective)
        wanted = jnp.asarray(self.decrease, gap.dtype) * gap / step_size - slack
        return new, value, state.objective - value < wanted  # false for NaN, which is kept and reported

    @staticmethod
    def _search(method: GradientStepPnP, state: GradientStepState, gradient: Array) -> Array:
        """The first of ``s, s/2, s/4, ...`` that is short enough; a constant for derivatives."""

        def too_long(carry: tuple[Array, Array]) -> Array:
            return (carry[0] < method.max_backtracks) & method._move(state, gradient, carry[1])[2]

        start = (jnp.zeros((), jnp.int32), state.step_size)
        return jax.lax.while_loop(too_long, lambda c: (c[0] + 1, c[1] / 2), start)[1]
