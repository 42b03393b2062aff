"""PnP-SGD: stochastic gradient ascent on the posterior that a denoiser defines."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from ..operators.structure import scale
from ..types import norm, real, require, standard_normal


class PnPSGDState(NamedTuple):
    """Iterate, and the number of steps done."""

    position: Array
    age: Int[Array, ""]


class PnPSGDInfo(NamedTuple):
    """``residual``: norm of the drift where the step started, zero at a stationary point; the step size of this step."""

    residual: Array
    step_size: Array


class PnPSGD(eqx.Module):
    """``x_{k+1} = x_k + d_k (score_f(x_k) + score_g(x_k) + noise z_k)`` with ``z_k ~ N(0, I)``.

    The steps are ``d_k = step_size max(1, k - num_flat)^(-power)``.

    It finds a stationary point of ``-log p_sigma(x | y)`` for the prior ``RED(D, sigma, lam)``: with the exact denoiser the
    iterates converge to one (power in (1/2, 1]: the steps sum to infinity, their squares do not), with another within a
    distance that its error bounds. The noise is multiplied by ``d_k``, not by ``sqrt(2 d_k)``: it vanishes, and only helps to
    leave saddle points; ``noise=0`` is plain gradient ascent. The mode depends on the start, so begin at a cheap
    reconstruction, and let a ``Continuation`` lower ``sigma`` along the run. ``power=0`` keeps the step, and the variance.

    Args:
        likelihood: A Module with ``.score(x)``.
        prior: A Module with ``.score(x)``: ``priors.RED``.
        step_size: First step. Positive, or ``ValueError``; at most ``1 / (L_f + lam L / sigma^2)`` with L that of ``x - D(x)``.
        power: Decay of the steps, at least 0 (``ValueError``).
        num_flat: Steps of the full size before the decay begins: soft directions move little once the steps fall.
        noise: Scale of the noise, at least 0 (``ValueError``).

    Source: Laumont, De Bortoli, Almansa, Delon, Durmus and Pereyra (2023), J. Math. Imaging Vis. 65, algorithm 1.
    """

    likelihood: Any
    prior: Any
    step_size: Array = eqx.field(converter=real)
    power: Array = eqx.field(converter=real, default=0.8)
    noise: Array = eqx.field(converter=real, default=1.0)
    num_flat: Array = eqx.field(converter=real, default=0.0)

    def __check_init__(self):
        require(self.step_size, "step_size", positive=True)
        require(self.power, "power", nonnegative=True)
        require(self.noise, "noise", nonnegative=True)
        require(self.num_flat, "num_flat", nonnegative=True)
        for name, term in {"likelihood": self.likelihood, "prior": self.prior}.items():
            if not hasattr(term, "score"):
                raise ValueError(f"{name}: expected a Module with .score(x), got {type(term).__name__}")

    def init(self, x: Array, key: Any = None) -> PnPSGDState:
        """Start at ``x``."""
        return PnPSGDState(x, jnp.zeros((), jnp.int32))

    def step(self, key: PRNGKeyArray, state: PnPSGDState) -> tuple[PnPSGDState, PnPSGDInfo]:
        """One step."""
        x = state.position
        drift = self.likelihood.score(x) + self.prior.score(x)
        k = (state.age + 1).astype(x.real.dtype) - jnp.asarray(self.num_flat, x.real.dtype)
        k = jnp.maximum(k, 1)  # the first step is step_size
        step_size = jnp.asarray(self.step_size, k.dtype) * k ** -jnp.asarray(self.power, k.dtype)
        moved = x + scale(step_size, drift + scale(self.noise, standard_normal(key, x)))
        return PnPSGDState(moved, state.age + 1), PnPSGDInfo(norm(drift), step_size)
