"""How far a map is from optimal: the Monge gap, and the loss that trains maps with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from ..drive import Status
from ..kernels.clouds import pair
from ..types import real, require
from .assignment import assignment
from .costs import SquaredEuclidean
from .divergence import divergence_and_status
from .problem import between
from .sinkhorn import sinkhorn


def monge_gap(
    x: Float[Array, "n d"],
    z: Float[Array, "n d"],
    epsilon: Any = None,
    *,
    cost_fn: Any = SquaredEuclidean(),
    kind: Literal["exact", "entropic", "primal"] = "exact",
    atol: Any = None,
    max_steps: int = 1000,
) -> Float[Array, ""]:
    """``mean c(x_i, z_i) - W_c(x, z)`` of points and their images: how much cheaper the images could be shared out.

    ``"exact"`` takes W from the best assignment: zero exactly where the pairs are c-cyclically monotone; O(n^3) at worst.
    ``"entropic"`` is the estimator of the source, ``W = <P, C> - epsilon H(P)``: smooth, and at least ``epsilon log n`` for every
    map. ``"primal"`` has ``W = <P, C>`` of the entropic coupling, at least minus the entropic bias. The last two are NaN where
    Sinkhorn's iteration did not reach ``atol``. Differentiable in x and z.

    Raises ``ValueError`` for clouds that do not fit, and where ``epsilon`` is missing.
    Source: Uscidda and Cuturi (2023), ICML, definition 3.1 and equation 8.
    """
    x, z = pair(x, z, 1)
    if x.shape != z.shape:
        raise ValueError(f"z: expected an image for each point, shape {x.shape}, got {z.shape}")
    if kind not in ("exact", "entropic", "primal"):
        raise ValueError(f"kind: expected 'exact', 'entropic' or 'primal', got {kind!r}")
    problem = between(x, z, cost_fn=cost_fn)
    paid = jnp.mean(jax.vmap(cost_fn)(x, z))
    if kind == "exact":
        return paid - assignment(problem).transport_cost()
    if epsilon is None:
        raise ValueError(f"epsilon: expected a positive number for kind={kind!r}, got None")
    if kind == "entropic":
        gap, solved = _entropic_gap(x, z, epsilon, cost_fn, atol, max_steps)
        return jnp.where(solved, gap, jnp.nan)
    coupling = sinkhorn(problem, epsilon, atol=atol, max_steps=max_steps)
    return paid - jnp.where(coupling.status == Status.CONVERGED, coupling.transport_cost(), jnp.nan)


def _entropic_gap(x: Array, z: Array, epsilon: Any, cost_fn: Any, atol: Any, max_steps: int) -> tuple[Array, Array]:
    """The gap with ``W = <P, C> - epsilon H(P)``, and whether W was solved to ``atol``."""
    coupling = sinkhorn(between(x, z, cost_fn=cost_fn), epsilon, atol=atol, max_steps=max_steps)
    # KL(P | a b^T) = 2 log n - H(P) for uniform masses 1 / n
    least = coupling.value - 2 * coupling.epsilon * math.log(x.shape[0])
    return jnp.mean(jax.vmap(cost_fn)(x, z)) - least, coupling.status == Status.CONVERGED


class MapLoss(eqx.Module):
    """``Delta(T#mu, nu) + lam M(T)``: the Sinkhorn divergence of images to targets, plus the entropic Monge gap of T.

    A loss for ``train.Trainer``: ``loss(params, key, (x, y))`` of a batch x of the source and y of the target, with ``T(x) =
    apply(params, x)`` for a cloud x (n, d); ``key`` is not used. ``epsilon`` is absolute, not relative to costs, which move as
    T does. The gap is measured on the points of the source. Being entropic it is not zero for optimal maps but about
    ``epsilon`` times an entropy, which falls where images spread out: a large ``lam`` spreads them. Each step solves its four
    problems to ``atol``, or as far as ``max_steps`` gets: dual values are then lower bounds, and ``solved`` of ``parts`` is
    false.
    Source: Uscidda and Cuturi (2023), ICML, equation 9.
    """

    apply: Callable[[PyTree, Array], Array] = eqx.field(static=True)
    lam: Float[Array, ""] = eqx.field(converter=real)
    epsilon: Float[Array, ""] = eqx.field(converter=real)
    cost_fn: Any = SquaredEuclidean()
    atol: Float[Array, ""] = eqx.field(converter=real, default=1e-3)
    max_steps: int = eqx.field(static=True, default=100)

    def __check_init__(self):
        require(self.lam, "lam", nonnegative=True)
        require(self.epsilon, "epsilon", positive=True)

    def __call__(self, params: PyTree, key: PRNGKeyArray, batch: tuple[Array, Array]) -> Float[Array, ""]:
        """The loss of a batch."""
        fit, gap, _ = self.parts(params, batch)
        return fit + self.lam.astype(gap.dtype) * gap

    def parts(
        self, params: PyTree, batch: tuple[Array, Array]
    ) -> tuple[Float[Array, ""], Float[Array, ""], Bool[Array, ""]]:
        """The divergence, the gap, and whether both were computed to ``atol``."""
        x, y = batch
        z = self.apply(params, x)
        how = (self.cost_fn, self.atol, self.max_steps)
        fit, fit_solved = divergence_and_status(z, y, self.epsilon, None, None, *how)
        gap, gap_solved = _entropic_gap(x, z, self.epsilon, *how)
        return fit, gap, fit_solved & gap_solved
