"""Deep plug-and-play restoration: half-quadratic splitting with a falling noise level."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ..types import real, require
from .base import Info, change


class DPIRState(NamedTuple):
    """The denoised image, and the number of steps done."""

    position: Array
    age: Int[Array, ""]


class DPIR(eqx.Module):
    """``x <- D(prox_{s f}(x), sigma_k)`` with ``s = sigma_k^2 / lam``: half-quadratic splitting with the levels ``sigmas``.

    ``D(., sigma_k)`` stands for the prox of ``s lam R``; f is the potential of the likelihood, with its ``1 / sigma^2``.
    Run it for as many steps as there are levels (``iterate(method, x, method.num_steps)``); after them the last one is kept.
    The likelihood needs a ``prox``.

    Args:
        likelihood: The data term.
        denoiser: ``D(x, sigma)``.
        sigmas: Noise levels ``(K,)``, non-negative (``ValueError``), usually falling: ``dpir_sigmas``.
        lam: Weight of the prior, positive (``ValueError``); 0.23 in the reference.

    Source: Zhang, Li, Zuo, Zhang, Van Gool and Timofte (2022), IEEE TPAMI 44(10), algorithm 1.
    """

    likelihood: Any
    denoiser: Any
    sigmas: Float[Array, " K"] = eqx.field(converter=real)
    lam: Array = eqx.field(converter=real, default=0.23)

    def __check_init__(self):
        require(self.sigmas, "sigmas", nonnegative=True, ndim=1)
        require(self.lam, "lam", positive=True)

    @property
    def num_steps(self) -> int:
        """The number of levels."""
        return self.sigmas.shape[0]

    def init(self, x: PyTree, key: Any = None) -> DPIRState:
        """Start at ``x``: ``A.H(y)``, or the measurement enlarged or filled (``operators.local_mean``).

        Black holes that all channels share are no noise to a network: it keeps them.
        """
        return DPIRState(x, jnp.zeros((), jnp.int32))

    def step(self, state: DPIRState) -> tuple[DPIRState, Info]:
        """One prox of the data term, one denoising."""
        x = state.position
        sigma = self.sigmas[jnp.minimum(state.age, self.num_steps - 1)].astype(x.real.dtype)
        u = self.likelihood.prox(x, sigma**2 / jnp.asarray(self.lam, sigma.dtype))
        position = self.denoiser(u, sigma)
        return DPIRState(position, state.age + 1), change(position, x)


def dpir_sigmas(sigma: Any, num_steps: int = 8, sigma_max: Any = 49 / 255) -> Float[Array, " K"]:
    """``num_steps`` levels, equally spaced in their logarithm, from ``sigma_max`` to ``max(sigma, 0.01)``.

    ``sigma`` is the noise level of the measurement; the floor keeps a step of positive length without noise. Raises
    ``ValueError`` unless ``sigma >= 0``, ``sigma_max > 0`` and ``num_steps >= 1``.
    """
    sigma, sigma_max = real(sigma), real(sigma_max)
    require(sigma, "sigma", nonnegative=True)
    require(sigma_max, "sigma_max", positive=True)
    if num_steps < 1:
        raise ValueError(f"num_steps: expected an integer >= 1, got {num_steps}")
    return jnp.geomspace(sigma_max, jnp.maximum(sigma, 0.01), num_steps)
