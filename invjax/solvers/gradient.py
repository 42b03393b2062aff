"""Gradient descent on a smooth objective, with any optax transformation."""

from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import Array, PyTree

from ..operators.structure import add, scale, subtract
from .base import Info, change, step_size_or_default


class GradientState(NamedTuple):
    """Iterate and state of the optax transformation."""

    position: PyTree
    transform_state: Any


class GradientDescent(eqx.Module):
    """``x <- x - step_size T(grad f(x) + grad g(x))``; ``T`` is the identity or an optax transformation.

    Converges for ``step_size < 2 / L`` when ``T`` is the identity; the default is ``1 / L_f`` (give a smaller one when the prior
    is not flat: ``1 / (L_f + L_g)``). ``transform`` is a direction such as ``optax.scale_by_adam()``, without learning rate,
    which is ``step_size``. An optax transformation is a pair of closures: make it once and reuse it, because
    each new object compiles again.
    """

    likelihood: Any
    prior: Any
    step_size: Array
    transform: Any = eqx.field(static=True)

    def __init__(self, likelihood: Any, prior: Any, step_size: Any = None, transform: Any = None):
        self.likelihood, self.prior, self.transform = likelihood, prior, transform
        self.step_size = step_size_or_default(step_size, likelihood)

    def grad(self, x: PyTree) -> PyTree:
        """Gradient of the objective."""
        return add(self.likelihood.grad(x), self.prior.grad(x))

    def init(self, x: PyTree, key: Any = None) -> GradientState:
        """Start at ``x``."""
        return GradientState(x, () if self.transform is None else self.transform.init(x))

    def step(self, state: GradientState) -> tuple[GradientState, Info]:
        """One descent step."""
        direction, inner = self.grad(state.position), state.transform_state
        if self.transform is not None:
            direction, inner = self.transform.update(direction, inner, state.position)
        position = subtract(state.position, scale(self.step_size, direction))
        return GradientState(position, inner), change(position, state.position)

    def fixed_point(self, x: PyTree) -> PyTree:
        """``x - step_size grad(x)``: its fixed points are the stationary points, whatever the transformation."""
        return subtract(x, scale(self.step_size, self.grad(x)))
