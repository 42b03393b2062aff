"""Anderson acceleration of any method that has a fixed-point map."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..operators.structure import subtract
from ..types import inner, norm, real, require, select
from .base import Info


class AndersonState(NamedTuple):
    """Image; point to evaluate next; the last accepted point with its residual and image; past differences; their number."""

    position: PyTree
    unknowns: PyTree
    last: PyTree
    last_residual: PyTree
    fallback: PyTree
    steps: PyTree
    residuals: PyTree
    age: Array


class Anderson(eqx.Module):
    """Anderson acceleration (type II) of ``u = T(u)``, ``T = method.fixed_point``, for whatever ``method`` holds as
    unknowns.

    With ``r = T(u) - u`` and the last ``memory`` differences ``dU``, ``dR`` as columns: ``u+ = T(u) - (dU + dR) c``,
    ``c = argmin |r - dR c|^2 + ridge sum |dR_i|^2 c_i^2`` (differences scaled to unit norm). On an affine map with
    memory at least the dimension it ends after as many steps as GMRES. Safeguard: a point whose residual exceeds
    ``safeguard`` times the last accepted one is dropped for the plain step ``T(u)`` from there, and the memory is
    cleared. One evaluation of ``T`` per step; the residual is ``|r|`` of the last accepted point. Proxes without
    closed form run to tolerance, as in ``T``. Derivatives are those of ``method``. Source: Walker and Ni (2011);
    on safeguards, Zhang, O'Donoghue and Boyd (2020).
    """

    method: Any
    memory: int = eqx.field(static=True, default=5)
    ridge: Array = eqx.field(converter=real, default=1e-10)
    safeguard: Array = eqx.field(converter=real, default=2.0)

    def __check_init__(self):
        if not hasattr(self.method, "fixed_point"):
            raise ValueError(f"method: expected one with fixed_point, got {type(self.method).__name__}")
        if not isinstance(self.memory, int) or self.memory < 1:
            raise ValueError(f"memory: expected an integer >= 1, got {self.memory!r}")
        require(self.ridge, "ridge", nonnegative=True)
        require(self.safeguard, "safeguard", at_least=1.0)

    def init(self, x: PyTree, key: Any = None) -> AndersonState:
        """Start as ``method`` does, with an empty memory."""
        state = self.method.init(x, key)
        u = self.method.unknowns(state) if hasattr(self.method, "unknowns") else state.position
        zeros = jax.tree.map(jnp.zeros_like, u)
        past = jax.tree.map(lambda a: jnp.zeros((self.memory, *a.shape), a.dtype), u)
        return AndersonState(state.position, u, u, zeros, u, past, past, jnp.zeros((), jnp.int32))

    def step(self, state: AndersonState) -> tuple[AndersonState, Info]:
        """One evaluation of the map, and the least-squares combination with the past."""
        u, image = state.unknowns, self.method.fixed_point(state.unknowns)
        residual = subtract(image, u)
        size, bound = norm(residual), norm(state.last_residual)
        accepted = (state.age == 0) | (size <= jnp.asarray(self.safeguard, size.dtype) * bound)
        steps, residuals = self._remember(state, u, residual)
        coefficients = self._combine(residuals, residual)
        mixed = jax.tree.map(
            lambda g, s, r: g - jnp.tensordot(coefficients.astype(g.dtype), s + r, 1), image, steps, residuals
        )
        empty = jax.tree.map(jnp.zeros_like, state.steps)
        taken = AndersonState(self._position(image), mixed, u, residual, image, steps, residuals, state.age + 1)
        back = state._replace(unknowns=state.fallback, steps=empty, residuals=empty, age=jnp.zeros_like(state.age))
        return select(accepted, taken, back), Info(jnp.where(accepted, size, bound))

    def unknowns(self, state: AndersonState) -> PyTree:
        """Those of ``method``, as a tuple that starts with the image."""
        return state.fallback if hasattr(self.method, "unknowns") else (state.fallback,)

    def fixed_point(self, u: PyTree) -> PyTree:
        """The map of ``method``."""
        return self.method.fixed_point(u) if hasattr(self.method, "unknowns") else (self.method.fixed_point(u[0]),)

    def _position(self, u: PyTree) -> PyTree:
        return u[0] if hasattr(self.method, "unknowns") else u

    def _remember(self, state: AndersonState, u: PyTree, residual: PyTree) -> tuple[PyTree, PyTree]:
        """The past with the newest difference in place of the oldest; nothing is known before the first point."""
        known = (state.age > 0) & (norm(subtract(residual, state.last_residual)) > 0)

        def push(past: PyTree, new: PyTree, old: PyTree) -> PyTree:
            slot = state.age % self.memory
            return jax.tree.map(lambda p, a, b: jnp.where(known, p.at[slot].set(a - b), p), past, new, old)

        return push(state.steps, u, state.last), push(state.residuals, residual, state.last_residual)

    def _combine(self, residuals: PyTree, residual: PyTree) -> Array:
        """Ridge least squares by the normal equations of the differences scaled to unit norm; zero for empty slots."""
        products = jax.vmap(lambda a: jax.vmap(lambda b: inner(a, b))(residuals))(residuals)
        sizes = jnp.sqrt(jnp.diagonal(products))
        weights = jnp.where(sizes > 0, 1 / jnp.where(sizes > 0, sizes, 1), 0)
        eps = jnp.finfo(sizes.dtype).eps
        ridge = jnp.maximum(jnp.asarray(self.ridge, sizes.dtype), 10 * eps)
        gram = weights[:, None] * products * weights[None] + jnp.diag(jnp.where(sizes > 0, ridge, 1))
        rhs = weights * jax.vmap(lambda a: inner(a, residual))(residuals)
        return weights * jnp.linalg.solve(gram, rhs)
