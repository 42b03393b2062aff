"""The Moreau envelope of a prior: a smooth stand-in for a prior that has only a prox."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..types import inner, real, require


class Moreau(eqx.Module):
    """``g_s(x) = min_z g(z) + |z - x|^2 / (2 s)`` with ``s = smoothing``; its score is ``(prox_{s g}(x) - x) / s``.

    The score is ``1/s``-Lipschitz and ``exp(-g_s)`` tends to ``exp(-g)`` as ``s -> 0`` for convex ``g`` (Durmus, Moulines,
    Pereyra 2018, SIAM J. Imaging Sci. 11(1), proposition 3.1). ``g_s(x)`` and ``score`` use the prior's own prox, to its
    tolerance; the warm forms run ``num_inner`` iterations from where the previous call ended, and are what samplers use.

    Raises ``ValueError`` when ``smoothing`` or ``num_inner`` is not positive, or ``prior`` has no ``prox``.
    """

    prior: Any
    smoothing: Array = eqx.field(converter=real)
    num_inner: int = eqx.field(static=True, default=10)

    def __check_init__(self):
        require(self.smoothing, "smoothing", positive=True)
        if self.num_inner < 1:
            raise ValueError(f"num_inner: expected a positive integer, got {self.num_inner}")
        if not hasattr(self.prior, "prox"):
            raise ValueError(f"prior: expected a prior with .prox, got {type(self.prior).__name__}")

    def __call__(self, x: Array) -> Array:
        """The envelope ``g_s(x)``."""
        return self._at(x, self.prior.prox(x, self.smoothing))[0]

    def score(self, x: Array) -> Array:
        """``-grad g_s(x)``."""
        return self._at(x, self.prior.prox(x, self.smoothing))[1]

    def score_init(self, x: Array) -> PyTree:
        """The auxiliary variables of the prior's prox at ``x``."""
        return self.prior.prox_init(x)

    def score_step(self, x: Array, aux: PyTree) -> tuple[Array, PyTree]:
        """The score after ``num_inner`` warm iterations of the prox."""
        z, aux = self.prior.prox_step(x, self.smoothing, aux, self.num_inner)
        return self._at(x, z, potential=False)[1], aux

    def energy_step(self, x: Array, aux: PyTree) -> tuple[Array, Array, PyTree]:
        """The envelope and its score from one warm prox."""
        z, aux = self.prior.prox_step(x, self.smoothing, aux, self.num_inner)
        return (*self._at(x, z), aux)

    def _at(self, x: Array, z: Array, potential: bool = True) -> tuple[Any, Array]:
        s = jnp.asarray(self.smoothing, x.real.dtype)
        value = self.prior(z) + inner(z - x, z - x) / (2 * s) if potential else None
        return value, (z - x) / s.astype(x.dtype)
