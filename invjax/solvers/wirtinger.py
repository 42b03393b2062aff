"""Phase retrieval by gradients: a spectral start, and Wirtinger flow."""

import math
from typing import Any, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..likelihoods import Amplitude, Gaussian
from ..operators.services import random_like
from ..operators.structure import add, precision_of, scale, subtract
from ..types import inner, norm, real, require
from .base import Info, change
from .phase_retrieval import require_phase_retrieval

Preprocessing = Literal["optimal", "truncated"]


def spectral_start(
    key: PRNGKeyArray, likelihood: Any, num_steps: int = 100, *, preprocessing: Preprocessing = "optimal"
) -> PyTree:
    """Leading eigenvector of ``B^H diag(T(y / mean y)) B`` by ``num_steps`` power iterations, with ``|B x|^2 = sum y``.

    "truncated": ``T(y) = y`` where ``y <= 9``, else 0 (Chen and Candes 2015). "optimal": ``T(y) = (y - 1) / (y + sqrt(d) - 1)``
    with ``d = m / n > 1`` measurements per unknown (Mondelli and Montanari 2019). ``B`` should have rows of about equal norm;
    ``y`` must not be zero everywhere. The start vector is Gaussian, drawn from ``key``. Raises ``ValueError`` unless the
    operator is ``PhaseRetrieval``, for another preprocessing, and for ``d <= 1`` with "optimal".
    """
    require_phase_retrieval(likelihood)
    if preprocessing not in get_args(Preprocessing):
        raise ValueError(f"preprocessing: expected one of {get_args(Preprocessing)}, got {preprocessing!r}")
    B = likelihood.operator.operator
    m, n = (sum(math.prod(s.shape) for s in jax.tree.leaves(t)) for t in (B.out_structure, B.in_structure))
    if preprocessing == "optimal" and m <= n:
        raise ValueError(f"preprocessing: expected more measurements than unknowns for 'optimal', got {m} and {n}")
    return _spectral_start(key, likelihood, num_steps, preprocessing, m / n)


@eqx.filter_jit
def _spectral_start(
    key: PRNGKeyArray, likelihood: Any, num_steps: int, preprocessing: Preprocessing, oversampling: float
) -> PyTree:
    B, y = likelihood.operator.operator, jax.tree.map(lambda a: jnp.maximum(a, 0), likelihood.y)
    total, mean = _total_and_mean(y)

    def weight(y: Array) -> Array:
        y = y / mean
        return jnp.where(y <= 9, y, 0) if preprocessing == "truncated" else (y - 1) / (y + oversampling**0.5 - 1)

    weights = jax.tree.map(weight, y)
    # Power iteration finds the eigenvalue of largest modulus: the shift makes that the largest one.
    lowest = jnp.min(jnp.stack([jnp.min(w) for w in jax.tree.leaves(weights)]))
    shift = jnp.maximum(-lowest, 0) * jnp.asarray(B.norm(), total.dtype) ** 2

    def step(x: PyTree, _: None) -> tuple[PyTree, None]:
        u = jax.tree.map(lambda w, u: w.astype(u.dtype) * u, weights, B.apply(x))
        moved = add(B.adjoint(u), x, shift)
        return scale(1 / norm(moved), moved), None

    x, _ = jax.lax.scan(step, random_like(key, B.in_structure, precision_of(y)), None, length=num_steps)
    return scale(jnp.sqrt(total) / norm(B.apply(x)), x)


class WirtingerState(NamedTuple):
    """The image and the number of steps done."""

    position: PyTree
    iteration: Array


class WirtingerFlow(eqx.Module):
    """``x <- x - step_size min(1 - exp(-t / ramp), limit) grad f(x)`` at step ``t = 1, 2, ...``, from ``spectral_start``.

    The schedule of Candes, Li and Soltanolkotabi (2015) with their ``t_0 = 330`` and ``mu_max = 0.2``. The default
    ``step_size`` is theirs where ``B^H B`` is a multiple of the identity: ``sigma^2 / (2 |B|^2 mean y)`` for Gaussian noise,
    which compares intensities. For the ``Amplitude`` fidelity it is ``sigma^2 / |B|^2``, and ``limit`` may be 1. Any other
    likelihood needs a ``step_size``. Solutions are not isolated (global phase), so there is no implicit derivative.
    Raises ``ValueError`` for numbers that are not positive.
    """

    likelihood: Any
    step_size: Array
    ramp: Array
    limit: Array

    def __init__(self, likelihood: Any, step_size: Any = None, *, ramp: Any = 330.0, limit: Any = 0.2):
        self.likelihood = likelihood
        self.step_size = real(_default_step_size(likelihood) if step_size is None else step_size)
        self.ramp, self.limit = real(ramp), real(limit)

    def __check_init__(self):
        for name in ("step_size", "ramp", "limit"):
            require(getattr(self, name), name, positive=True, shape=())

    def init(self, x: PyTree, key: Any = None) -> WirtingerState:
        """Start at ``x``."""
        return WirtingerState(x, jnp.zeros((), jnp.int32))

    def step(self, state: WirtingerState) -> tuple[WirtingerState, Info]:
        """One gradient step."""
        x, count = state.position, state.iteration + 1
        ramp = jnp.asarray(self.ramp, precision_of(x))
        part = jnp.minimum(-jnp.expm1(-count.astype(ramp.dtype) / ramp), jnp.asarray(self.limit, ramp.dtype))
        move = scale(part * jnp.asarray(self.step_size, ramp.dtype), self.likelihood.grad(x))
        position = subtract(x, move)
        return WirtingerState(position, count), change(position, x)


def _default_step_size(likelihood: Any) -> Array:
    require_phase_retrieval(likelihood)
    noise, y = likelihood.noise, likelihood.y
    if not isinstance(noise, (Gaussian, Amplitude)) or jnp.ndim(noise.sigma):
        raise ValueError(
            f"step_size: expected a value for {type(noise).__name__} noise, or with an array sigma, got None"
        )
    norm = likelihood.operator.operator.norm()
    step = (jnp.asarray(noise.sigma, norm.dtype) / norm) ** 2
    if isinstance(noise, Amplitude):
        return step
    return step / (2 * jnp.asarray(_total_and_mean(y)[1], norm.dtype))


def _total_and_mean(y: PyTree) -> tuple[Array, Array]:
    total = inner(y, jax.tree.map(jnp.ones_like, y))
    return total, total / sum(a.size for a in jax.tree.leaves(y))
