"""Proximal alternating linearised minimisation (PALM) of bilinear problems, with inertia (iPALM)."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..likelihoods import Likelihood
from ..operators import LinearOperator
from ..operators.structure import scale
from ..types import real, require
from .base import Info, change, warm, warm_prox


class PALMState(NamedTuple):
    """The pair (image, kernel), the pair before it, warm starts of both proxes."""

    position: tuple[PyTree, PyTree]
    previous: tuple[PyTree, PyTree]
    aux: tuple[PyTree, PyTree]


class PALM(eqx.Module):
    """``min_{x, h} f(x, h) + g(x) + r(h)`` for a model that is linear in ``x`` and in ``h``: prox-gradient steps in
    turn.

    ``x <- prox_{g / c}(x - grad_x f(x, h) / c)`` with ``c = gamma L_x(h)``, then the same in ``h`` with ``L_h(x)`` of
    the new ``x``: the steps follow the Lipschitz constants of the moment. The objective decreases for ``gamma >= 1``,
    and bounded iterates converge to a critical point for ``gamma > 1`` (semi-algebraic terms). The operator of
    ``likelihood`` takes the pair and has ``of_image(h)``, ``of_kernel(x)`` and ``norms(x, h)``, bounds of their
    norms, as ``operators.BlindBlur`` does. ``inertia`` in [0, 1/2) extrapolates each variable before its step, which
    shrinks by ``(1 - 2 inertia) / (1 + 2 inertia)``; the objective may then go up at times. ``num_inner`` is the
    number of inner iterations of iterative proxes, warm-started. Raises ``ValueError`` when the noise has no
    Lipschitz gradient. Source: Bolte, Sabach and Teboulle (2014); Pock and Sabach (2016).
    """

    likelihood: Likelihood
    prior: Any
    kernel_prior: Any
    gamma: Array = eqx.field(converter=real, default=1.1)
    inertia: Array = eqx.field(converter=real, default=0.0)
    num_inner: int = eqx.field(static=True, default=10)

    def __check_init__(self):
        require(self.gamma, "gamma", at_least=1.0)
        require(self.inertia, "inertia", nonnegative=True, below=0.5)
        if eqx.is_array(self.likelihood.y):
            require(1 / self.likelihood.noise.lipschitz(self.likelihood.y), "1 / noise.lipschitz", positive=True)

    def init(self, x: tuple[PyTree, PyTree], key: Any = None) -> PALMState:
        """Start at the pair ``(image, kernel)``."""
        return PALMState(x, x, (warm(self.prior, x[0]), warm(self.kernel_prior, x[1])))

    def step(self, state: PALMState) -> tuple[PALMState, Info]:
        """A step in the image, then one in the kernel."""
        (x, h), (x_old, h_old) = state.position, state.previous
        model: Any = self.likelihood.operator
        ahead = x + scale(self.inertia, x - x_old)
        moved, step_size = self._descend(model.of_image(h), ahead, model.norms(x, h)[0])
        x_new, aux = warm_prox(self.prior, moved, step_size, state.aux[0], self.num_inner)
        ahead = h + scale(self.inertia, h - h_old)
        moved, step_size = self._descend(model.of_kernel(x_new), ahead, model.norms(x_new, h)[1])
        h_new, kernel_aux = warm_prox(self.kernel_prior, moved, step_size, state.aux[1], self.num_inner)
        new = PALMState((x_new, h_new), (x, h), (aux, kernel_aux))
        return new, change(new.position, state.position)

    def fixed_point(self, pair: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        """The two steps without inertia."""
        x, h = pair
        model: Any = self.likelihood.operator
        x = self.prior.prox(*self._descend(model.of_image(h), x, model.norms(x, h)[0]))
        return x, self.kernel_prior.prox(*self._descend(model.of_kernel(x), h, model.norms(x, h)[1]))

    def _descend(self, operator: LinearOperator, u: Array, norm: Array) -> tuple[Array, Array]:
        """``(u - step grad, step)``. The step sets the pace, not the solution: its derivative is stopped."""
        noise, predicted = self.likelihood.noise, operator(u)
        y = self.likelihood.y.astype(predicted.dtype)
        shrink = (1 - 2 * self.inertia) / (1 + 2 * self.inertia)
        curvature = self.gamma * noise.lipschitz(y) * norm**2
        step = jax.lax.stop_gradient(shrink / jnp.maximum(curvature, jnp.finfo(u.dtype).eps)).astype(u.dtype)
        return u - step * operator.H(noise.grad(predicted, y)), step
