"""Accelerated proximal gradient (FISTA), with restart and backtracking."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..operators.structure import scale
from ..types import inner, real, require
from .base import Info, change, constant, step_size_or_default


class FISTAState(NamedTuple):
    """Iterate, extrapolated point, number of steps since the last restart, warm start of the prox, step size."""

    position: PyTree
    extrapolated: PyTree
    age: Array
    aux: PyTree
    step_size: Array


class FISTA(eqx.Module):
    """``x_k = prox_{step g}(z - step grad f(z))``, ``z = x_k + (k - 1)/(k + a) (x_k - x_{k-1})``, ``a >= 2``.

    Gap ``<= a^2 L |x0 - x*|^2 / (2 (k + a - 1)^2)`` for ``step_size <= 1/L``; for ``a > 2`` the iterates converge (Beck and
    Teboulle 2009; Chambolle and Dossal 2015). ``restart`` forgets the momentum when it points uphill (O'Donoghue and
    Candes 2015): linear rate on strongly convex problems. ``max_backtracks > 0`` halves the step (from ``step_size``,
    monotonically) until the quadratic bound holds, at most so often per step; the steps found are constants for
    derivatives. ``num_inner``: inner iterations of an iterative prox, warm-started.
    """

    likelihood: Any
    prior: Any
    step_size: Array
    a: Array
    restart: bool = eqx.field(static=True)
    max_backtracks: int = eqx.field(static=True)
    num_inner: int = eqx.field(static=True)

    def __init__(
        self,
        likelihood: Any,
        prior: Any,
        step_size: Any = None,
        *,
        a: Any = 3.0,
        restart: bool = False,
        max_backtracks: int = 0,
        num_inner: int = 10,
    ):
        self.likelihood, self.prior, self.num_inner = likelihood, prior, num_inner
        self.step_size = step_size_or_default(step_size, likelihood)
        self.a, self.restart, self.max_backtracks = real(a), restart, max_backtracks
        require(self.a, "a", at_least=2.0)

    def init(self, x: PyTree, key: Any = None) -> FISTAState:
        """Start at ``x`` without momentum."""
        dtype = x.real.dtype
        return FISTAState(x, x, jnp.zeros((), dtype), self.prior.prox_init(x), jnp.asarray(self.step_size, dtype))

    def step(self, state: FISTAState) -> tuple[FISTAState, Info]:
        """One accelerated step."""
        z, gradient = state.extrapolated, self.likelihood.grad(state.extrapolated)
        step_size = self._backtrack(z, gradient, state) if self.max_backtracks else state.step_size
        position, aux = self.prior.prox_step(z - scale(step_size, gradient), step_size, state.aux, self.num_inner)
        count = state.age + 1
        if self.restart:
            uphill = inner(z - position, position - state.position) > 0
            count = jnp.where(uphill, jnp.ones_like(count), count)
        momentum = (count - 1) / (count + jnp.asarray(self.a, count.dtype))
        extrapolated = position + scale(momentum, position - state.position)
        new = FISTAState(position, extrapolated, count, aux, step_size)
        return new, change(position, state.position)

    def _backtrack(self, z: PyTree, gradient: PyTree, state: FISTAState) -> Array:
        """Largest ``step / 2^j`` for which the quadratic model at ``z`` bounds f at the new point."""
        z, gradient, aux, start = constant((z, gradient, state.aux, state.step_size))
        likelihood, prior = constant((self.likelihood, self.prior))
        value = likelihood(z)

        def too_long(carry: tuple[Array, Array]) -> Array:
            j, step_size = carry
            x, _ = prior.prox_step(z - scale(step_size, gradient), step_size, aux, self.num_inner)
            bound = value + inner(gradient, x - z) + inner(x - z, x - z) / (2 * step_size)
            slack = 10 * jnp.finfo(bound.dtype).eps * jnp.abs(value)
            return (j < self.max_backtracks) & (likelihood(x) > bound + slack)

        _, step_size = jax.lax.while_loop(too_long, lambda c: (c[0] + 1, c[1] / 2), (jnp.zeros((), jnp.int32), start))
        return step_size

    def fixed_point(self, x: PyTree) -> PyTree:
        """The prox-gradient map."""
        return self.prior.prox(x - scale(self.step_size, self.likelihood.grad(x)), self.step_size)
