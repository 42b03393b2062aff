"""A denoiser that is a gradient step on a potential, which therefore is a prior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from .blocks import as_image


class GradientStep(nnx.Module):
    """``D(x, sigma) = x - grad g(x, sigma)`` with the potential ``g(x, sigma) = |x - N(x, sigma)|^2 / 2`` of a network N.

    So ``grad g = x - N(x) - J_N(x)^T (x - N(x))``, exact to rounding, at the price of one pass backwards through N. The
    gradient is in x at fixed ``sigma``. Plug-and-play iterations with D are then descent on ``f + g``. N should be smooth
    (``elu`` or ``softplus``): with ReLU, ``grad g`` jumps.

    ``net`` is a network ``net(x, sigma)`` of the shape of x. Raises ``ValueError`` for an x that is not a real floating image.

    Source: Hurault, Leclaire, Papadakis 2022, ICLR, equations 7 to 9.
    """

    def __init__(self, net: Callable[[Array, Any], Array]):
        self.net = net

    def __call__(self, x: Float[Array, "H W C"], sigma: Any) -> Float[Array, "H W C"]:
        """The denoised image, ``x - grad(x, sigma)``."""
        return x - self.grad(x, sigma)

    def potential(self, x: Float[Array, "H W C"], sigma: Any) -> Float[Array, ""]:
        """``|x - N(x, sigma)|^2 / 2``."""
        x = as_image(x)
        return jnp.sum((x - self.net(x, sigma)) ** 2) / 2

    def grad(self, x: Float[Array, "H W C"], sigma: Any) -> Float[Array, "H W C"]:
        """The gradient of ``potential`` in x."""
        x = as_image(x)
        image, pull = jax.vjp(lambda x: self.net(x, sigma), x)
        residual = x - image
        return residual - pull(residual)[0]
