"""Sums of priors."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..operators import Identity, LinearOperator, stack
from ..operators.structure import is_complex
from ..types import real
from .base import Prior
from .separable import Separable, require_parts
from .splitting import SplitPrior


class Sum(SplitPrior):
    """``g(x) = lam sum_i part_i(x)``, made by ``g + h``; potential and gradient add.

    The prox is iterative (see ``SplitPrior``) on the splitting of every part: ``TV(shape) + NonNegative()`` is taken apart
    into differences and identity. The parts must be convex; constraints among them are met to the tolerance of the prox.
    Splitting solvers that take it apart too (``SDMM``, ``ChambollePock``, ``CondatVu``) need no inner loop. Raises
    ``ValueError`` for an empty tuple.
    """

    parts: tuple[Prior, ...]
    lam: Array
    rtol: Array
    squared_norm: Array
    max_inner: int = eqx.field(static=True)

    def __init__(self, parts: tuple[Prior, ...], lam: Any = 1.0, *, rtol: Any = 1e-5, max_inner: int = 5000):
        require_parts(parts)
        self.parts = parts
        self.lam, self.rtol, self.max_inner = real(lam), real(rtol), max_inner
        self.squared_norm = real(sum(_squared_norm(g) for g in parts))

    @property
    def smooth(self) -> bool:  # type: ignore[override]  # that of the parts
        """Whether all parts are smooth."""
        return all(g.smooth for g in self.parts)

    @property
    def lipschitz(self) -> Array:
        """Lipschitz constant of the gradient, where all parts have one."""
        return self.lam * sum(g.lipschitz for g in self.parts)  # type: ignore[attr-defined]

    def __call__(self, x):
        values = [g(x) for g in self.terms]
        return sum(values[1:], values[0])

    def grad(self, x):
        """The sum of the gradients. Raises ``ValueError`` where a part is not smooth."""
        parts = [g.grad(x) for g in self.terms]
        return sum(parts[1:], parts[0])

    @property
    def terms(self) -> tuple[Prior, ...]:
        """The parts, with the weight of the sum in their own."""
        return tuple(self.lam * g for g in self.parts)

    def pair(self, x):
        outers, operators = zip(*(split(g, x) for g in self.parts), strict=True)
        return Separable(outers), stack(operators)


def split(prior: Any, x: Any) -> tuple[Any, LinearOperator]:
    """``(outer, K)`` with ``prior(x) = outer(K x)`` and a closed-form ``outer.prox``, for images like ``x`` (or its structure).

    ``TV`` and ``Analysis`` split, a ``Sum`` splits into a ``Separable`` of a stack, others have ``K = I``.
    """
    if isinstance(prior, Sum):
        outer, K = prior.pair(x)
        return prior.lam * outer, K
    if hasattr(prior, "split"):
        return prior.split()
    return prior, Identity(x.shape, complex=is_complex(x))


def _squared_norm(prior: Prior) -> Array:
    """Bound of ``|K|^2`` for the ``K`` of ``split``."""
    if isinstance(prior, Sum):
        return prior.squared_norm
    return prior.split()[1].norm() ** 2 if hasattr(prior, "split") else jnp.ones(())
