"""Split Bregman: ADMM on ``w = K x`` with an exact quadratic step for Gaussian noise."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..operators import Identity, stack
from ..operators.structure import add, scale
from ..types import real, require
from .base import Info, change, require_white, split


class SplitBregmanState(NamedTuple):
    """Iterate; governing variable ``t = w + d``: split variable plus scaled dual."""

    position: PyTree
    t: PyTree


class SplitBregman(eqx.Module):
    """``min |A x - y|^2 / (2 sigma^2) + outer(w)`` subject to ``w = K x``, for a prior ``g(x) = outer(K x)``.

    ``w = prox_{outer / rho}(t)``, ``x = (A^H A / sigma^2 + rho K^H K)^(-1) (A^H y / sigma^2 + rho K^H (2 w - t))``,
    ``t <- t + relaxation (K x - w)``; the scaled dual is ``d = t - w``. The linear step is closed form
    when ``A^H A`` and ``K^H K`` are diagonal in one basis (circular blur or MRI with circular differences), otherwise
    conjugate gradients. ``rho > 0`` and ``relaxation`` in (0, 2) are free; ``rho`` of about ``lam`` over the typical
    ``|K x|`` converges fastest. Raises ``ValueError`` for noise that is not Gaussian with a scalar ``sigma``. Source:
    Goldstein and Osher (2009).
    """

    likelihood: Any
    prior: Any
    rho: Array
    relaxation: Array

    def __init__(self, likelihood: Any, prior: Any, rho: Any, relaxation: Any = 1.8):
        require_white(likelihood)
        self.likelihood, self.prior, self.rho = likelihood, prior, real(rho)
        self.relaxation = real(relaxation)
        require(self.rho, "rho", positive=True)
        require(self.relaxation, "relaxation", positive=True, below=2.0)

    def init(self, x: PyTree, key: Any = None) -> SplitBregmanState:
        """Start at ``t = K x``."""
        _, K = split(self.prior, x)
        return SplitBregmanState(x, K(x))

    def step(self, state: SplitBregmanState) -> tuple[SplitBregmanState, Info]:
        """One prox, one quadratic solve, one dual update."""
        new = self.fixed_point(state)
        return new, change(new.t, state.t)

    def unknowns(self, state: SplitBregmanState) -> SplitBregmanState:
        """Both variables."""
        return state

    def fixed_point(self, state: SplitBregmanState) -> SplitBregmanState:
        """One round."""
        x, t = state
        outer, K = split(self.prior, x)
        w = outer.prox(t, 1 / self.rho)
        x = self._quadratic(K, add(add(w, w), t, -1))
        return SplitBregmanState(x, add(t, add(K(x), w, -1), self.relaxation))

    def _quadratic(self, K: Any, target: PyTree) -> PyTree:
        """``argmin_x |A x - y|^2 / (2 sigma^2) + rho |K x - target|^2 / 2``."""
        f, weight = self.likelihood, 1 / self.likelihood.noise.sigma**2
        if isinstance(K, Identity):
            return f.prox(target, 1 / self.rho)
        both = stack([jnp.sqrt(weight) * f.operator, jnp.sqrt(self.rho) * K])
        gram = both.gram_spectrum
        if gram is None:
            return both.pinv((scale(jnp.sqrt(weight), f.y), scale(jnp.sqrt(self.rho), target)))
        rhs = scale(weight, f.back_projection) + scale(self.rho, K.H(target))
        return gram.map(lambda g: 1 / jnp.maximum(g, jnp.finfo(g.dtype).tiny)).apply(rhs)
