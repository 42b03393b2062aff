"""What the solvers of ``min_x f(x) + g(x)`` share: methods without memory, the info of a step, default step sizes."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..likelihoods import Gaussian
from ..operators.structure import scale, subtract
from ..priors.sum import split as split
from ..types import norm, real, require


class Info(NamedTuple):
    """Diagnostics of a step: ``residual`` is the norm of the change that the step made."""

    residual: Array


def change(new: PyTree, old: PyTree) -> Info:
    """Info with residual ``|new - old|``."""
    return Info(norm(subtract(new, old)))


class PositionState(NamedTuple):
    """The iterate, which is all that the method remembers."""

    position: PyTree


class FixedPointMethod(eqx.Module):
    """Base of the methods ``x <- fixed_point(x)`` without memory."""

    @abc.abstractmethod
    def fixed_point(self, x: PyTree) -> PyTree:
        """One step of the iterate; its fixed points are what the method finds."""

    def init(self, x: PyTree, key: Any = None) -> PositionState:
        """Start at ``x``."""
        return PositionState(x)

    def step(self, state: PositionState) -> tuple[PositionState, Info]:
        """``position <- fixed_point(position)``."""
        position = self.fixed_point(state.position)
        return PositionState(position), change(position, state.position)


def step_size_or_default(step_size: Any, likelihood: Any) -> Array:
    """The given step size, or ``1 / L`` with ``L`` the Lipschitz constant of the likelihood's gradient."""
    if step_size is None:
        lipschitz = likelihood.lipschitz
        require(1 / lipschitz, "step_size (default 1 / likelihood.lipschitz)", positive=True)
        return real(1 / lipschitz)
    step_size = real(step_size)
    require(step_size, "step_size", positive=True)
    return step_size


def require_white(likelihood: Any) -> None:
    """Raise ``ValueError`` unless the noise is Gaussian with one standard deviation for all measurements."""
    if not isinstance(likelihood.noise, Gaussian) or jnp.ndim(likelihood.noise.sigma):
        raise ValueError(f"likelihood: expected Gaussian noise with a scalar sigma, got {likelihood.noise}")


def dual_step(outer: Any, v: Array, step_size: Array) -> Array:
    """``prox`` of ``step_size outer*`` at ``v``: the own one of the term, or ``v - s prox_{outer / s}(v / s)`` (Moreau)."""
    if hasattr(outer, "conj_prox"):
        return outer.conj_prox(v, step_size)
    step = jnp.asarray(step_size, v.real.dtype)
    return v - scale(step, outer.prox(scale(1 / step, v), 1 / step))


def positive_reciprocal(values: PyTree) -> PyTree:
    """``1 / values`` where they are positive (above rounding), else zero: rows and columns that see nothing drop out."""
    top = jnp.max(jnp.stack([jnp.max(v) for v in jax.tree.leaves(values)]))

    def one(v: Array) -> Array:
        kept = v > 10 * jnp.finfo(v.dtype).eps * top
        return jnp.where(kept, 1 / jnp.where(kept, v, 1), 0)

    return jax.tree.map(one, values)


def warm(term: Any, x: PyTree) -> PyTree:
    """What ``warm_prox`` carries for a term with a prox: ``prox_init`` of a prior, nothing for a likelihood."""
    return term.prox_init(x) if hasattr(term, "prox_init") else ()


def warm_prox(term: Any, x: PyTree, step_size: Any, aux: PyTree, num_inner: int) -> tuple[PyTree, PyTree]:
    """``(prox, aux)`` in the warm form where the term has one."""
    if hasattr(term, "prox_step"):
        return term.prox_step(x, step_size, aux, num_inner)
    return term.prox(x, step_size), aux


def constant(tree: PyTree) -> PyTree:
    """The tree with arrays that derivatives do not see; bare functions in it are left alone."""
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf, tree)
