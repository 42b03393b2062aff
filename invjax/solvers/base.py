"""What the solvers of ``min_x f(x) + g(x)`` share: the info of a step, default step sizes, splitting of a prior."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..operators import Identity, LinearOperator
from ..types import norm, real, require


class Info(NamedTuple):
    """Diagnostics of a step: ``residual`` is the norm of the change that the step made."""

    residual: Array


def change(new: PyTree, old: PyTree) -> Info:
    """Info with residual ``|new - old|``."""
    return Info(norm(jax.tree.map(jnp.subtract, new, old)))


def step_size_or_default(step_size: Any, likelihood: Any) -> Array:
    """The given step size, or ``1 / L`` with ``L`` the Lipschitz constant of the likelihood's gradient."""
    if step_size is None:
        lipschitz = likelihood.lipschitz
        require(1 / lipschitz, "step_size (default 1 / likelihood.lipschitz)", positive=True)
        return real(1 / lipschitz)
    step_size = real(step_size)
    require(step_size, "step_size", positive=True)
    return step_size


def split(prior: Any, x_structure: Any) -> tuple[Any, LinearOperator]:
    """``(outer, K)`` with ``prior(x) = outer(K x)`` and a closed-form ``outer.prox``: TV splits, others have ``K = I``."""
    if hasattr(prior, "split"):
        return prior.split()
    return prior, Identity(x_structure.shape, complex=jnp.issubdtype(x_structure.dtype, jnp.complexfloating))


def dual_step(outer: Any, v: Array, step_size: Array) -> Array:
    """``prox`` of ``step_size outer*`` at ``v`` by Moreau: ``v - step_size prox_{outer / step_size}(v / step_size)``."""
    step = jnp.asarray(step_size, v.real.dtype)
    return v - step * outer.prox(v / step, 1 / step)
