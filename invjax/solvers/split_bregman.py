"""Split Bregman: ADMM on ``w = K x`` with an exact quadratic step for Gaussian noise."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..likelihoods import Gaussian
from ..operators import stack
from ..types import real, require
from .base import Info, change, split


class SplitBregmanState(NamedTuple):
    """Iterate; split variable ``w`` and scaled dual."""

    position: PyTree
    w: PyTree
    dual: PyTree


class SplitBregman(eqx.Module):
    """``min |A x - y|^2 / (2 sigma^2) + outer(w)`` subject to ``w = K x``, for a prior ``g(x) = outer(K x)``.

    ``x = (A^H A / sigma^2 + rho K^H K)^(-1) (A^H y / sigma^2 + rho K^H (w - d))``, ``w = prox_{outer / rho}(K x + d)``,
    ``d <- d + K x - w``, with ``K x`` over-relaxed to ``relaxation K x + (1 - relaxation) w``. The linear step is closed form
    when ``A^H A`` and ``K^H K`` are diagonal in one basis (circular blur or MRI with circular differences), otherwise
    conjugate gradients (lineax). ``rho > 0`` and ``relaxation`` in (0, 2) are free; ``rho`` of about ``lam`` over the typical
    ``|K x|`` converges fastest. Raises ``ValueError`` for noise that is not Gaussian with a scalar ``sigma``. Source:
    Goldstein and Osher (2009).
    """

    likelihood: Any
    prior: Any
    rho: Array
    relaxation: Array

    def __init__(self, likelihood: Any, prior: Any, rho: Any, relaxation: Any = 1.8):
        if not isinstance(likelihood.noise, Gaussian) or jnp.ndim(likelihood.noise.sigma):
            raise ValueError(f"likelihood: expected Gaussian noise with a scalar sigma, got {likelihood.noise}")
        self.likelihood, self.prior, self.rho = likelihood, prior, real(rho)
        self.relaxation = real(relaxation)
        require(self.rho, "rho", positive=True)
        require(self.relaxation, "relaxation", positive=True, below=2.0)

    def init(self, x: PyTree, key: Any = None) -> SplitBregmanState:
        """Start at ``x`` with ``w = K x`` and dual zero."""
        _, K = split(self.prior, x)
        w = K(x)
        return SplitBregmanState(x, w, jax.tree.map(jnp.zeros_like, w))

    def step(self, state: SplitBregmanState) -> tuple[SplitBregmanState, Info]:
        """One quadratic solve, one prox, one dual update."""
        new = self.fixed_point(state)
        return new, change(new, state)

    def unknowns(self, state: SplitBregmanState) -> SplitBregmanState:
        """All three variables."""
        return state

    def fixed_point(self, state: SplitBregmanState) -> SplitBregmanState:
        """One round."""
        outer, K = split(self.prior, state.position)
        x = self._quadratic(K, state.w - state.dual)
        relaxed = jax.tree.map(lambda a, b: self.relaxation * a + (1 - self.relaxation) * b, K(x), state.w)
        moved = jax.tree.map(jnp.add, relaxed, state.dual)
        w = outer.prox(moved, 1 / self.rho)
        return SplitBregmanState(x, w, moved - w)

    def _quadratic(self, K: Any, target: PyTree) -> PyTree:
        """``argmin_x |A x - y|^2 / (2 sigma^2) + rho |K x - target|^2 / 2``."""
        f, weight = self.likelihood, 1 / self.likelihood.noise.sigma**2
        both = stack([jnp.sqrt(weight) * f.operator, jnp.sqrt(self.rho) * K])
        gram = both.gram_spectrum
        if gram is None:
            return both.pinv((jnp.sqrt(weight) * f.y, jnp.sqrt(self.rho) * target))
        rhs = weight * f.back_projection + self.rho * K.H(target)
        return gram.map(lambda g: 1 / jnp.maximum(g, jnp.finfo(g.dtype).tiny)).apply(rhs)
