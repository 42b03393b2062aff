"""Phase retrieval by alternating projections: error reduction (Gerchberg-Saxton), hybrid input-output, averaged reflections."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..operators import PhaseRetrieval
from ..operators.structure import add, scale, subtract
from ..types import real, require
from .base import Info, PositionState, change


class ErrorReduction(eqx.Module):
    """``x <- P_S P_M x``: take the phase of ``B x``, give it the measured amplitude, go back, project on the constraint.

    ``P_M x = x + B^+ (sqrt(y) B x / |B x| - B x)``; ``constraint`` is a prior whose prox is a projection
    (``priors.Support``), or None: Gerchberg-Saxton. The error ``| |B x| - sqrt(y) |`` never grows without constraint, nor
    with one when ``B^H B`` is a multiple of the identity; it may stop at a local minimum. The noise model plays no part;
    negative ``y`` count as zero. Raises ``ValueError`` unless the operator is ``PhaseRetrieval``. Source: Gerchberg and Saxton
    (1972), Fienup (1982).
    """

    likelihood: Any
    constraint: Any = None

    def __check_init__(self):
        require_phase_retrieval(self.likelihood)

    def init(self, x: PyTree, key: Any = None) -> PositionState:
        """Start at ``x``."""
        return PositionState(x)

    def step(self, state: PositionState) -> tuple[PositionState, Info]:
        """One projection on each set."""
        position = project(self.constraint, amplitude_projection(self.likelihood, state.position))
        return PositionState(position), change(position, state.position)


class FeedbackState(NamedTuple):
    """The estimate, which satisfies the constraint, and the image that is fed back."""

    position: PyTree
    other: PyTree


class HybridInputOutput(eqx.Module):
    """``u <- p`` where ``p = P_M u`` satisfies the constraint, ``u - beta p`` elsewhere; ``position`` is ``P_S p``.

    Leaves local minima that stop ``ErrorReduction``, at the price of an error that is not monotone. The pixels that
    satisfy the constraint are those which its projection does not move: for a non-negative image take ``B`` of real images
    (``F @ as_complex(shape)``). Raises ``ValueError`` as ``ErrorReduction`` and unless ``beta`` is positive.
    Source: Fienup (1982).
    """

    likelihood: Any
    constraint: Any
    beta: Array = eqx.field(converter=real, default=0.9)

    def __check_init__(self):
        require_phase_retrieval(self.likelihood)
        require(self.beta, "beta", positive=True, shape=())

    def init(self, x: PyTree, key: Any = None) -> FeedbackState:
        """Start with the input ``x``."""
        return FeedbackState(x, x)

    def step(self, state: FeedbackState) -> tuple[FeedbackState, Info]:
        """One projection on each set and the feedback."""
        u = state.other
        p = amplitude_projection(self.likelihood, u)
        position = project(self.constraint, p)
        moved = subtract(u, scale(self.beta, p))
        other = jax.tree.map(lambda a, b, c: jnp.where(a == b, b, c), position, p, moved)
        return FeedbackState(position, other), change(other, u)


class AveragedReflections(eqx.Module):
    """``u <- beta (R_S R_M u + u) / 2 + (1 - beta) P_M u`` with ``R = 2 P - I`` (RAAR); ``position`` is ``P_S P_M u``.

    ``beta = 1`` is Douglas-Rachford, which has no fixed point on noisy data; below 1 it has. Raises ``ValueError`` as
    ``ErrorReduction`` and unless ``0 < beta <= 1``. Source: Luke (2005).
    """

    likelihood: Any
    constraint: Any
    beta: Array = eqx.field(converter=real, default=0.8)

    def __check_init__(self):
        require_phase_retrieval(self.likelihood)
        require(self.beta, "beta", positive=True, shape=())
        require(1 - self.beta, "1 - beta", nonnegative=True)

    def init(self, x: PyTree, key: Any = None) -> FeedbackState:
        """Start with the input ``x``."""
        return FeedbackState(x, x)

    def step(self, state: FeedbackState) -> tuple[FeedbackState, Info]:
        """Both reflections, and relaxation towards the projection on the data."""
        u = state.other
        p = amplitude_projection(self.likelihood, u)
        reflected = project(self.constraint, jax.tree.map(lambda a, b: 2 * a - b, p, u))
        # (R_S R_M u + u) / 2 = P_S R_M u + u - P_M u
        averaged = jax.tree.map(lambda a, b, c: a + b - c, reflected, u, p)
        other = add(scale(self.beta, averaged), p, 1 - self.beta)
        return FeedbackState(project(self.constraint, p), other), change(other, u)


def gerchberg_saxton(likelihood: Any) -> ErrorReduction:
    """Gerchberg-Saxton for a general ``B``: error reduction without constraint, ``x <- B^+ (sqrt(y) B x / |B x|)``."""
    return ErrorReduction(likelihood)


def amplitude_projection(likelihood: Any, x: PyTree) -> PyTree:
    """``x + B^+ (sqrt(y) B x / |B x| - B x)``, with ``B x / |B x| = 1`` at zero; a projection when ``B^H B`` is ``c I``."""
    B = likelihood.operator.operator
    u = B(x)
    moves = jax.tree.map(lambda u, y: _with_amplitude(u, y) - u, u, likelihood.y)
    return add(x, B.pinv(moves))


def _with_amplitude(u: Array, y: Array) -> Array:
    dark = y <= 0  # false for NaN, which then shows in the iterate
    amplitude = jnp.where(dark, 0, jnp.sqrt(jnp.where(dark, 1, y))).astype(u.dtype)
    size = jnp.abs(u).astype(u.dtype)
    zero = size == 0
    return amplitude * jnp.where(zero, 1, u / jnp.where(zero, 1, size))


def project(constraint: Any, x: PyTree) -> PyTree:
    """The projection on the constraint, if there is one."""
    return x if constraint is None else constraint.prox(x, 1.0)


def require_phase_retrieval(likelihood: Any) -> None:
    """Raise ``ValueError`` unless the forward model is ``|B x|^2``."""
    operator = getattr(likelihood, "operator", None)
    if not isinstance(operator, PhaseRetrieval):
        raise ValueError(f"likelihood: expected a PhaseRetrieval operator, got {type(operator).__name__}")
