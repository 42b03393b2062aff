"""PnP-ULA: Langevin sampling of the posterior that a denoiser defines."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..priors import RED, Box
from ..types import real, require
from .langevin import LangevinState
from .moreau import Moreau
from .target import Posterior
from .ula import ULA

_BELOW = 0.99  # of the bounds, as the reference's programs choose their defaults


class PnPULAInfo(NamedTuple):
    """Norm of the score where the step started, and the step size over its bound: above 1 nothing is guaranteed."""

    score_norm: Float[Array, ""]
    step_bound_ratio: Float[Array, ""]


class PnPULA(eqx.Module):
    """``x + h (score_f(x) + lam (D(x) - x) / sigma^2 + (clip(x) - x) / s) + sqrt(2 h) z`` with a denoiser ``D``.

    Samples ``exp(-f(x)) p_sigma(x)^lam exp(-d(x, C)^2 / (2 s))``: the posterior under the prior smoothed by N(0, sigma^2 I)
    (Tweedie's formula, exact for ``D = E[clean | x]``), and a box C outside of which the density falls like a Gaussian, so
    that the chain is ergodic. ``projected`` clips every position instead of the third term: a step several times as long,
    and more bias (PPnP-ULA).

    The step is proven for ``h < 1 / (3 (L_f + lam L / sigma^2 + 1/s))``, projected for ``h < 1 / (L_f + lam L / sigma^2)``, with
    ``L`` the Lipschitz constant of ``x - D(x, sigma)``: known for a network made for it (``nn.certified_bound``), estimated for
    others (``priors.residual_lipschitz``), and then only as good as the points it was estimated at. The bias is O(h).

    Args:
        likelihood: A Module with ``.score(x)``.
        prior: ``RED(D, sigma, lam)``.
        residual_lipschitz: L. Positive, or ``ValueError``.
        step_size: h. Positive and below its bound (``ValueError`` when the numbers are concrete); default 0.99 of the bound.
        likelihood_lipschitz: L_f; default ``likelihood.lipschitz``.
        box: Lower and upper end of C; infinite ends switch the term off.
        smoothing: s; default 0.99 of ``1 / (2 lam L / sigma^2 + 4 L_f)``.
        projected: PPnP-ULA.
        allow_unstable: Accept a step size above the bound; ``info.step_bound_ratio`` tells by how much.

    Source: Laumont, De Bortoli, Almansa, Delon, Durmus and Pereyra (2022), SIAM J. Imaging Sci. 15(2), algorithms 1 and 2,
    section 3.
    """

    likelihood: Any
    prior: RED
    step_size: Array
    smoothing: Array
    box: Box
    step_bound: Array
    projected: bool = eqx.field(static=True)

    def __init__(
        self,
        likelihood: Any,
        prior: RED,
        residual_lipschitz: Any,
        step_size: Any = None,
        *,
        likelihood_lipschitz: Any = None,
        box: tuple[Any, Any] = (-1.0, 2.0),
        smoothing: Any = None,
        projected: bool = False,
        allow_unstable: bool = False,
    ):
        if not isinstance(prior, RED):
            raise ValueError(f"prior: expected priors.RED(denoiser, sigma), got {type(prior).__name__}")
        lipschitz = _lipschitz(likelihood, prior, residual_lipschitz, likelihood_lipschitz)
        self.likelihood, self.prior, self.projected = likelihood, prior, projected
        self.box = Box(*box)
        self.smoothing = real(_BELOW / (2 * lipschitz[1] + 4 * lipschitz[0]) if smoothing is None else smoothing)
        require(self.smoothing, "smoothing", positive=True)
        total = lipschitz[0] + lipschitz[1]
        self.step_bound = 1 / total if projected else 1 / (3 * (total + 1 / self.smoothing))
        self.step_size = real(_BELOW * self.step_bound if step_size is None else step_size)
        require(self.step_size, "step_size", positive=True)
        if not allow_unstable:
            _require_stable(self.step_size, self.step_bound)

    def _ula(self) -> ULA:
        if self.projected:
            return ULA(self.likelihood, self.prior, self.step_size, self.box)
        return ULA(self.likelihood, tailed(self.prior, self.box, self.smoothing), self.step_size)

    def init(self, x: Array, key: PRNGKeyArray | None = None) -> LangevinState:
        """State at ``x``; nothing is drawn."""
        return self._ula().init(x)

    def step(self, key: PRNGKeyArray, state: LangevinState) -> tuple[LangevinState, PnPULAInfo]:
        """One transition: one evaluation of the denoiser."""
        new, info = self._ula().step(key, state)
        ratio = (self.step_size / self.step_bound).astype(info.score_norm.dtype)
        return new, PnPULAInfo(info.score_norm, ratio)


def tailed(prior: Any, box: Box, smoothing: Any) -> Posterior:
    """``prior`` and the Gaussian tails outside of ``box``, for any sampler: their scores add up.

    So ``SKROCK(f, tailed(RED(D, sigma), Box(-1.0, 2.0), s), h)`` is PnP-SK-ROCK.
    """
    return Posterior(prior, Moreau(box, smoothing))


def _lipschitz(likelihood: Any, prior: RED, residual: Any, of_likelihood: Any) -> tuple[Array, Array]:
    """Lipschitz constants of the scores of likelihood and prior."""
    residual = real(residual)
    require(residual, "residual_lipschitz", positive=True)
    if of_likelihood is None:
        of_likelihood = likelihood.lipschitz
    of_likelihood = jnp.asarray(real(of_likelihood))
    require(of_likelihood, "likelihood_lipschitz", nonnegative=True)
    return of_likelihood, prior.lam * residual / prior.sigma**2


def _require_stable(step_size: Array, bound: Array) -> None:
    if isinstance(step_size, jax.core.Tracer) or isinstance(bound, jax.core.Tracer):
        return
    unstable = np.asarray(step_size) >= np.asarray(bound)
    if np.any(unstable):
        raise ValueError(
            f"step_size: expected values below the bound {np.asarray(bound)} from the Lipschitz constants, got "
            f"{np.asarray(step_size)}; allow_unstable=True accepts it"
        )
