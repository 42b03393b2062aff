"""Blind deconvolution of Poisson data: Richardson-Lucy on the image and the kernel in turn."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..likelihoods import Likelihood, Poisson
from ..operators import BlindBlur, LinearOperator
from ..types import require
from .base import FixedPointMethod, PositionState
from .expectation_maximisation import MLEM


class BlindRichardsonLucy(FixedPointMethod):
    """MLEM on the kernel, then MLEM on the image, ``num_inner`` updates each, for Poisson data of
    ``operators.BlindBlur``.

    ``position`` is the pair ``(x, h)``. Both stay non-negative, the Kullback-Leibler divergence decreases at every
    step, and the kernel is scaled to sum one (per channel) and the image by the inverse, which leaves ``h * x`` as it
    is. The problem is not convex: the result depends on the start; a kernel wider than the true one and ``y`` as the
    image are usual. Raises ``ValueError`` for another operator and as ``MLEM``. Source: Ayers and Dainty (1988);
    Fish, Brinicombe, Pike and Walker (1995).
    """

    likelihood: Likelihood
    num_inner: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        if not isinstance(self.likelihood.operator, BlindBlur):
            raise ValueError(f"likelihood: expected BlindBlur, got {type(self.likelihood.operator).__name__}")
        if not isinstance(self.likelihood.noise, Poisson):
            raise ValueError(f"likelihood: expected Poisson noise, got {type(self.likelihood.noise).__name__}")
        require(self.likelihood.y, "likelihood.y", nonnegative=True)

    def init(self, x: tuple[Array, Array], key: Any = None) -> PositionState:
        """Start at ``(image, kernel)``, both positive where the solution may be."""
        for part, name in zip(x, ("image", "kernel"), strict=True):
            require(part, name, nonnegative=True)
        return PositionState(_scaled(*x))

    def fixed_point(self, pair: tuple[Array, Array]) -> tuple[Array, Array]:
        """The updates of the kernel, then of the image."""
        model: BlindBlur = self.likelihood.operator
        x, h = pair
        x, h = _scaled(x, self._updates(model.of_kernel(x), h))
        return self._updates(model.of_image(h), x), h

    def _updates(self, operator: LinearOperator, u: Array) -> Array:
        noise: Any = self.likelihood.noise
        em = MLEM(Likelihood(operator, noise, self.likelihood.y.astype(u.dtype)))
        return jax.lax.scan(lambda u, _: (em.fixed_point(u), None), u, None, length=self.num_inner)[0]


def _scaled(x: Array, h: Array) -> tuple[Array, Array]:
    total = jnp.sum(h, axis=tuple(range(x.ndim - 1)))
    total = jnp.where(total > 0, total, 1).astype(h.dtype)
    return x * total.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,)), h / total.reshape(
        (1,) * (x.ndim - 1) + total.shape
    )
