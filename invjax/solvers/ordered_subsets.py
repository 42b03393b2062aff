"""Emission tomography with ordered subsets: OSEM, and the convergent BSREM."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..likelihoods import Likelihood
from ..types import real, require
from .base import Info, change, positive_reciprocal
from .blocks import parts
from .expectation_maximisation import MLEM, Multiplicative, require_smooth, sensitivity


class OSEM(Multiplicative):
    """MLEM on each part of a stacked likelihood (``subsets(likelihood, n)``) in turn; a step is one pass over them.

    A pass gains about as much as one step of MLEM per part. It keeps ``x >= 0`` and, without background, the count of
    the last part. It tends to a cycle near the maximum of the likelihood and not to it (``BSREM`` does), unless the
    data are consistent and the subsets balanced: ``A_b^T 1`` the same for all parts. With one part it is MLEM. Raises
    ``ValueError`` as ``MLEM``. Source: Hudson and Larkin (1994).
    """

    blocks: tuple[MLEM, ...]

    def __init__(self, likelihood: Likelihood):
        self.blocks = tuple(MLEM(part) for part in parts(likelihood))

    def fixed_point(self, x: PyTree) -> PyTree:
        """The pass."""
        for block in self.blocks:
            x = block.fixed_point(x)
        return x


class BSREMState(NamedTuple):
    """The image, and the number of passes so far."""

    position: PyTree
    passes: Array


class BSREM(eqx.Module):
    """``x <- x - a_k n x / s (grad f_b(x) + grad g(x) / n)`` for each of the ``n`` parts ``f_b`` of a stacked
    likelihood.

    ``s = A^T (1 / gain)`` and ``a_k = step_size / (1 + decay k)`` in pass k. The relaxation makes it converge to the
    minimiser of ``f + g`` on ``x >= floor``, for a smooth convex prior; without prior and relaxation it is close to
    OSEM. ``floor`` (in the units of ``x``) is positive, since a multiplicative update cannot leave zero; for the same
    reason no update takes away more than four fifths of a pixel, which is not in the papers and matters in the first
    passes only. A step is one pass. The error shrinks as ``a_k``. The residual shrinks with ``a_k`` too: do not stop
    on it alone. Raises ``ValueError`` as ``MLEM``, and when the prior is not smooth. Source: De Pierro and Yamagishi
    (2001); Ahn and Fessler (2003).
    """

    blocks: tuple[Likelihood, ...]
    prior: Any
    sensitivity: Array
    step_size: Array
    decay: Array
    floor: Array

    def __init__(
        self, likelihood: Likelihood, prior: Any, step_size: Any = 1.0, *, decay: Any = 0.1, floor: Any = 1e-6
    ):
        require_smooth(prior)
        self.blocks, self.prior = parts(likelihood), prior
        sensitivities = [sensitivity(block) for block in self.blocks]
        self.sensitivity = sum(sensitivities[1:], sensitivities[0])
        self.step_size, self.decay, self.floor = real(step_size), real(decay), real(floor)
        require(self.step_size, "step_size", positive=True)
        require(self.decay, "decay", nonnegative=True)
        require(self.floor, "floor", positive=True)

    def init(self, x: PyTree, key: Any = None) -> BSREMState:
        """Start at ``x``."""
        return BSREMState(x, jnp.zeros((), x.dtype))

    def step(self, state: BSREMState) -> tuple[BSREMState, Info]:
        """One pass over the parts."""
        x, passes = state
        relaxation = jnp.asarray(self.step_size, x.dtype) / (1 + jnp.asarray(self.decay, x.dtype) * passes)
        for block in self.blocks:
            x = self._move(x, relaxation * len(self.blocks), block.grad(x) + self.prior.grad(x) / len(self.blocks))
        return BSREMState(x, passes + 1), change(x, state.position)

    def fixed_point(self, x: PyTree) -> PyTree:
        """A step with the whole gradient, whose fixed points are the solutions."""
        gradients = [block.grad(x) for block in self.blocks]
        return self._move(x, jnp.ones((), x.dtype), sum(gradients[1:], gradients[0]) + self.prior.grad(x))

    def _move(self, x: Array, step_size: Array, gradient: Array) -> Array:
        weight = x * positive_reciprocal(self.sensitivity).astype(x.dtype)
        lowest = jnp.maximum(x / 5, jnp.asarray(self.floor, x.dtype))
        return jnp.maximum(x - step_size * weight * gradient, lowest)
