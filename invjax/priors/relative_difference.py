"""The relative difference prior of emission tomography."""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..operators.structure import conform, structure
from ..types import real, require
from .base import Prior, as_point

Neighbours = Literal["all", "axes"]


class RelativeDifference(Prior):
    """``lam sum w kappa_j kappa_k (x_j - x_k)^2 / (x_j + x_k + gamma |x_j - x_k| + eps)`` over pairs of neighbours, for x >= 0.

    Differences count relative to the local activity; ``gamma`` spares edges. ``neighbours="all"`` are the pixels that touch
    in (H, W, C) or (D, H, W, C), ``w`` one over their distance; "axes" those along the axes, ``w = 1``. ``kappa`` is a scalar
    or broadcasts to the shape. Every pair counts once; channels are apart. Convex and smooth on ``x >= 0``, infinite where
    some pixel is negative (the gradient is that at ``max(x, 0)``). ``prox`` raises ``ValueError``: it has no closed form.

    Raises ``ValueError`` for an x of another shape or complex, negative ``gamma`` or ``kappa``, and ``eps <= 0``. Source: Nuyts,
    Beque, Dupont and Mortelmans (2002).
    """

    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    lam: Array
    gamma: Array
    eps: Array
    kappa: Array
    neighbours: Neighbours = eqx.field(static=True)
    smooth: ClassVar[bool] = True

    def __init__(
        self,
        shape: tuple[int, ...],
        lam: Any = 1.0,
        gamma: Any = 2.0,
        eps: Any = 1e-3,
        *,
        kappa: Any = 1.0,
        neighbours: Neighbours = "all",
    ):
        self.in_structure = structure(shape)
        self.lam, self.gamma, self.eps, self.kappa = real(lam), real(gamma), real(eps), real(kappa)
        self.neighbours = neighbours

    def __check_init__(self):
        require(self.gamma, "gamma", nonnegative=True, shape=())
        require(self.eps, "eps", positive=True, shape=())
        require(self.kappa, "kappa", nonnegative=True)
        if self.neighbours not in ("all", "axes"):
            raise ValueError(f"neighbours: expected 'all' or 'axes', got {self.neighbours!r}")

    def __call__(self, x):
        x = self._point(x)
        inside = x >= 0
        return jnp.where(jnp.all(inside), self._weighted(self._sum(jnp.where(inside, x, 0)), x), jnp.inf)

    def grad(self, x):
        """Gradient of the potential at ``max(x, 0)``."""
        x = self._point(x)
        return self._weighted(jax.grad(self._sum)(jnp.maximum(x, 0)), x)

    def prox(self, x, step_size):
        raise ValueError(
            "prox: RelativeDifference has no closed form; use grad with a gradient method, and NonNegative as its constraint"
        )

    @property
    def lipschitz(self) -> Array:
        """Lipschitz constant of the gradient, at most ``4 lam max(kappa)^2 sum(w) / eps``: that of all pixels at zero."""
        both_ways = 2 * sum(weight for _, weight in self._offsets())
        return 4 * self.lam * jnp.max(self.kappa) ** 2 * both_ways / self.eps

    def _sum(self, x: Array) -> Float[Array, ""]:
        gamma, eps = jnp.asarray(self.gamma, x.dtype), jnp.asarray(self.eps, x.dtype)
        kappa = jnp.broadcast_to(jnp.asarray(self.kappa, x.dtype), x.shape)
        total = jnp.zeros((), x.dtype)
        for offset, weight in self._offsets():
            a, b = _pair(x, offset)
            ka, kb = _pair(kappa, offset)
            terms = ka * kb * (a - b) ** 2 / (a + b + gamma * jnp.abs(a - b) + eps)
            total = total + weight * jnp.sum(terms)
        return total

    def _offsets(self) -> list[tuple[tuple[int, ...], float]]:
        """One of ``d`` and ``-d`` for every neighbour ``d``, with its weight."""
        ndim = len(self.in_structure.shape) - 1
        half = [d for d in itertools.product((-1, 0, 1), repeat=ndim) if d > (0,) * ndim]
        near = half if self.neighbours == "all" else [d for d in half if sum(map(abs, d)) == 1]
        return [(d, 1 / math.sqrt(sum(map(abs, d)))) for d in near]

    def _point(self, x: Any) -> Array:
        return conform(as_point(x), self.in_structure, "x")


def _pair(x: Array, offset: tuple[int, ...]) -> tuple[Array, Array]:
    """The pixels that have a neighbour at ``offset``, and those neighbours."""
    here = tuple(slice(max(-d, 0), n - max(d, 0)) for d, n in zip(offset, x.shape, strict=False))
    there = tuple(slice(max(d, 0), n - max(-d, 0)) for d, n in zip(offset, x.shape, strict=False))
    return x[here], x[there]
