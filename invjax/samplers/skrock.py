"""SK-ROCK: a stabilised explicit Langevin sampler with Chebyshev stages."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..types import norm, real, require
from .langevin import LangevinInfo, LangevinState, like, standard_normal
from .target import Posterior, require_terms


class SKROCK(eqx.Module):
    """Stochastic orthogonal Runge-Kutta-Chebyshev: ``num_stages`` scores per step for a step size ~ num_stages^2 times larger.

    With n = sqrt(2 h) z, ``w0 = 1 + eta / s^2``, ``w1 = T_s(w0) / T_s'(w0)``, T the Chebyshev polynomials and s the stages:

        k_1 = x + (w1/w0) h score(x + (s w1/2) n) + (s w1/w0) n
        k_j = mu_j h score(k_{j-1}) + nu_j k_{j-1} + (1 - nu_j) k_{j-2},  (mu_j, nu_j) = 2 (w1, w0) T_{j-1}(w0) / T_j(w0)

    and the new position is k_s. Stable up to ``max_step_size``. On a Gaussian, with p = -h * precision, a step is
    ``A(p) x + B(p) n``: ``A = T_s(w0 + w1 p) / T_s(w0)``, ``B = U_{s-1}(w0 + w1 p) / U_{s-1}(w0) (1 + w1 p / 2)``.

    Args:
        likelihood: A Module with ``.score(x)``; the whole target with ``prior=None``.
        prior: A Module with ``.score(x)``, ``Moreau(g, smoothing)`` for one that has only a prox, or None.
        step_size: The time step h, in the squared unit of x. Positive, or ``ValueError``.
        num_stages: Number of stages s, at least 2 (``ValueError``); 10 to 15 is usual.
        eta: Damping, positive (``ValueError``).

    Reference: Pereyra, Vargas-Mieles, Zygalakis 2020, SIAM J. Imaging Sci. 13(2), algorithm 3.1; Abdulle, Almuslimani,
    Vilmart 2018, SIAM/ASA J. Uncertain. Quantif. 6(2), for the method and its stability.
    """

    likelihood: Any
    prior: Any
    step_size: Array = eqx.field(converter=real)
    num_stages: int = eqx.field(static=True, default=10)
    eta: Array = eqx.field(converter=real, default=0.05)

    def __check_init__(self):
        require(self.step_size, "step_size", positive=True)
        require(self.eta, "eta", positive=True)
        _require_stages(self.num_stages)
        require_terms(self.likelihood, self.prior)

    def init(self, x: Array, key: PRNGKeyArray | None = None) -> LangevinState:
        """State at ``x``; nothing is drawn."""
        return LangevinState(x, Posterior(self.likelihood, self.prior).score_init(x))

    def step(self, key: PRNGKeyArray, state: LangevinState) -> tuple[LangevinState, LangevinInfo]:
        """One transition of ``num_stages`` scores."""
        target = Posterior(self.likelihood, self.prior)
        x, s = state.position, self.num_stages
        w0, w1, cheb = chebyshev(self.eta, s, x.real.dtype)
        h = jnp.asarray(self.step_size, x.real.dtype)
        noise = like(jnp.sqrt(2 * h), x) * standard_normal(key, x)

        def stage(carry: tuple, t: tuple) -> tuple[tuple, Array]:
            (at, k1, k2, aux), (mu, nu, kappa) = carry, t
            score, aux = target.score_step(at, aux)
            new = like(mu * h, x) * score + like(nu, x) * k1 + like(kappa, x) * k2
            return (new, new, k1, aux), norm(score)

        # The first stage has the form of the others: with k_0 = x, n in the place of k_{-1}, and its score elsewhere. So the
        # program holds the score once. 1 - nu_j is -T_{j-2} / T_j by the recurrence of T: no cancellation.
        ratio = cheb[1:-1] / cheb[2:]
        table = (2 * w1 * ratio, 2 * w0 * ratio, -cheb[:-2] / cheb[2:])
        table = jax.tree.map(
            lambda of_first, t: jnp.append(of_first, t), (w1 / w0, jnp.ones_like(w0), s * w1 / w0), table
        )
        first = (x + like(s * w1 / 2, x) * noise, x, noise, state.aux)
        (last, _, _, aux), norms = jax.lax.scan(stage, first, table)
        return LangevinState(last, aux), LangevinInfo(norms[0])


def chebyshev(eta: Any, num_stages: int, dtype: Any) -> tuple[Array, Array, Float[Array, " stages+1"]]:
    """``w0``, ``w1`` and ``T_0(w0) ... T_s(w0)``.

    By ``T_j(cosh a) = cosh(j a)``, with ``a`` from ``w0 - 1`` itself: w0 rounds to few digits of it in float32.
    """
    s = num_stages
    excess = jnp.asarray(eta, dtype) / s**2
    a = jnp.log1p(excess + jnp.sqrt(excess * (2 + excess)))
    w1 = jnp.sinh(a) / (s * jnp.tanh(s * a))
    return 1 + excess, w1, jnp.cosh(a * jnp.arange(s + 1, dtype=dtype))


def max_step_size(lipschitz: Any, num_stages: int, eta: Any = 0.05) -> Array:
    """Largest stable step size of ``SKROCK``: ``((s - 1/2)^2 (2 - 4/3 eta) - 3/2) / L``, s stages (ULA: ``2 / L``).

    ``lipschitz`` is that of the whole score: add ``1 / smoothing`` for a Moreau-smoothed prior. For small eta only
    (eta <= 0.1), as in the reference of ``SKROCK``, section 3. Raises ``ValueError`` when ``num_stages`` is below 2.
    """
    _require_stages(num_stages)
    return ((num_stages - 0.5) ** 2 * (2 - 4 / 3 * real(eta)) - 1.5) / real(lipschitz)


def _require_stages(num_stages: int) -> None:
    if num_stages < 2:
        raise ValueError(f"num_stages: expected an integer of at least 2, got {num_stages}")
