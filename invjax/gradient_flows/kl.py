"""Flows of the Kullback-Leibler divergence to a density known by its score: Stein variational descent, and Langevin."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..kernels import Plan, RadialKernel, checked_kernel_sum_gradient, kernel_sum
from ..samplers.langevin import LangevinInfo, LangevinState, diffuse, standard_normal
from ..samplers.target import Posterior, require_terms
from ..types import norm, real, require
from .particles import ParticleInfo, ParticleState


class SVGD(eqx.Module):
    """Stein variational gradient descent: ``x_i <- x_i + h phi(x_i)``, deterministic.

    ``phi(x) = (1/n) sum_j K(x_j, x) score(x_j) + grad_{x_j} K(x_j, x)``: the direction in the ball of the kernel's space in
    which the divergence decreases fastest, by the squared Stein discrepancy per unit of time. ``likelihood`` and ``prior`` (or
    None) have ``.score`` of one point (d,); ``kernel`` should be smooth. Sums run over all pairs, or by slices with a ``plan``
    for ``((n, d), (n, d))``: d + 1 sums on the same lines.

    Raises ``ValueError`` unless ``step_size > 0``, and for a term without score. Source: Liu and Wang (2016), NeurIPS.
    """

    likelihood: Any
    prior: Any
    kernel: RadialKernel
    step_size: Array = eqx.field(converter=real)
    plan: Plan | None = None

    def __check_init__(self):
        require(self.step_size, "step_size", positive=True)
        require_terms(self.likelihood, self.prior)

    def init(self, x: Float[Array, "n d"], key: PRNGKeyArray | None = None) -> ParticleState:
        """State at the particles."""
        return ParticleState(x, jnp.zeros_like(x))

    def step(self, state: ParticleState) -> tuple[ParticleState, ParticleInfo]:
        """One step."""
        x = state.position
        phi, outside = self.checked_velocity(x)
        change = jnp.asarray(self.step_size, x.dtype) * phi
        info = ParticleInfo(norm(change), norm(phi) / x.shape[0] ** 0.5, outside)
        return ParticleState(x + change, phi), info

    def velocity(self, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """``phi`` at the particles."""
        return self.checked_velocity(x)[0]

    def checked_velocity(self, x: Float[Array, "n d"]) -> tuple[Float[Array, "n d"], Bool[Array, ""]]:
        """``phi``, and whether it is NaN because a particle has left the radius of a sliced plan."""
        scores = jax.vmap(Posterior(self.likelihood, self.prior).score)(x)
        mass = jnp.full((x.shape[0],), 1 / x.shape[0], x.dtype)
        drift = jax.vmap(lambda s: kernel_sum(self.kernel, x, x, mass * s, plan=self.plan), 1, 1)(scores)
        # The gradient in the first argument is minus that in the second.
        repulsion, outside = checked_kernel_sum_gradient(self.kernel, x, x, mass, plan=self.plan)
        return drift - repulsion, outside


class LangevinFlow(eqx.Module):
    """Unadjusted Langevin on a cloud (n, d): ``x_i <- x_i + h score(x_i) + sqrt(2 h) z_i``, independent particles.

    The stochastic counterpart of the flow of the divergence: the law of a particle follows its gradient flow up to ``O(h)``
    (``samplers.ULA`` is the same for one chain). Raises ``ValueError`` unless ``step_size > 0``, and for a term without score.
    Source: Jordan, Kinderlehrer and Otto (1998), SIAM J. Math. Anal. 29(1).
    """

    likelihood: Any
    prior: Any
    step_size: Array = eqx.field(converter=real)

    def __check_init__(self):
        require(self.step_size, "step_size", positive=True)
        require_terms(self.likelihood, self.prior)

    def init(self, x: Float[Array, "n d"], key: PRNGKeyArray | None = None) -> LangevinState:
        """State at the particles; nothing is drawn."""
        return LangevinState(x, ())

    def step(self, key: PRNGKeyArray, state: LangevinState) -> tuple[LangevinState, LangevinInfo]:
        """One transition of every particle."""
        x = state.position
        score = jax.vmap(Posterior(self.likelihood, self.prior).score)(x)
        return LangevinState(diffuse(x, score, self.step_size, standard_normal(key, x)), ()), LangevinInfo(norm(score))


def median_bandwidth(key: PRNGKeyArray, x: Float[Array, "n d"], num_pairs: int = 4096) -> Float[Array, ""]:
    """The median distance of ``num_pairs`` random pairs of different points: a bandwidth of the scale of the cloud.

    Raises ``ValueError`` for fewer than two points.
    """
    n = x.shape[0]
    if n < 2:
        raise ValueError(f"x: expected at least two points, got shape {x.shape}")
    first, gap = jax.random.split(key)
    i = jax.random.randint(first, (num_pairs,), 0, n)
    j = (i + jax.random.randint(gap, (num_pairs,), 1, n)) % n
    return jnp.median(jnp.linalg.norm(x[i] - x[j], axis=1))
