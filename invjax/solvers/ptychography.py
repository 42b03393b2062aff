"""Ptychography: plug-and-play half-quadratic splitting, and the iterative engine rPIE it is measured against."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from ..likelihoods import Poisson
from ..operators import Ptychography
from ..operators.structure import scale
from ..types import norm, real, require, squared
from .base import PositionState, positive_reciprocal
from .phase_retrieval import require_phase_retrieval

_DARK = 1e-3  # pixels that get less than this share of the brightest one's light keep their value


class PtychographyInfo(NamedTuple):
    """Norm of the change, and the energy of x before it with the best exit waves."""

    residual: Array
    energy: Array


class PtychographyHQS(eqx.Module):
    """Half-quadratic splitting of ``sum_j | |F(p S_j x)| - a_j |^2 / 2 + lam R(x)`` by the exit waves ``u_j``, ``a = sqrt(y)``.

    Minimises ``sum_j | |F u_j| - a_j |^2 / 2 + rho |p S_j x - u_j|^2 / 2 + lam R(x)`` in turns. With ``w = F(p S_j x)``:

        F u_j = (a_j + rho |w|) / (1 + rho) w / |w|             the exact prox of the amplitudes, per pixel of the detector
        z = sum_j S_j^H conj(p) u_j / W,  W = sum_j S_j^T |p|^2     the least-squares object
        x = D(z, sigma),  sigma = sqrt(lam / (rho W))            a denoiser that is told the level of every pixel

    Where less than 0.1 % of the greatest light falls, x is left as it is. With ``denoiser=None`` the energy never grows.
    Let ``rho`` rise along the run: ``Continuation(method, rho_of, jnp.geomspace(...))``. The global phase is not determined.

    Args:
        likelihood: Of ``PhaseRetrieval(Ptychography(...))`` with a unitary propagator and intensities ``y``. With ``Poisson``
            noise the data term is ``sum (|F u|^2 - 2 y log |F u|) / 4``, the counts' likelihood scaled to curvature one; with
            any other the one above. The parameters of the noise play no part.
        denoiser: ``D(z, sigma)`` of a complex image ``(H, W, C)`` and a map ``(H, W)`` of levels of its real and imaginary part
            (``priors.ComplexParts(network)``), or None.
        lam: Weight of the prior, non-negative (``ValueError``).
        rho: Weight of the coupling, positive (``ValueError``).
        modes: Operators of further modes of the probe, whose intensities add to the first.

    Source: Denker, Hertrich, Kereta, Cipiccia, Erin and Arridge (2024), arXiv 2412.02548.
    """

    likelihood: Any
    denoiser: Any
    lam: Array
    rho: Array
    illumination: Array
    modes: tuple[Ptychography, ...]

    def __init__(
        self,
        likelihood: Any,
        denoiser: Any = None,
        lam: Any = 0.1,
        rho: Any = 1.0,
        *,
        modes: tuple[Ptychography, ...] = (),
    ):
        self.likelihood, self.denoiser = likelihood, denoiser
        self.modes = (_ptychography(likelihood), *modes)
        self.illumination = jnp.sum(jnp.stack([A.illumination for A in self.modes]), 0)
        self.lam, self.rho = real(lam), real(rho)
        require(self.lam, "lam", nonnegative=True)
        require(self.rho, "rho", positive=True)

    def init(self, x: Complex[Array, "H W C"], key: Any = None) -> PositionState:
        """Start at ``x``: ones, or a few sweeps of ``RPIE``."""
        return PositionState(x)

    def step(self, state: PositionState) -> tuple[PositionState, PtychographyInfo]:
        """One update of the exit waves and of the object."""
        x = state.position
        waves = [A(x) for A in self.modes]
        size = jnp.sqrt(sum(squared(w) for w in waves))
        wanted = self.amplitude_prox(size)
        dark = size == 0
        ratio = jnp.where(dark, 0, wanted / jnp.where(dark, 1, size))
        alone = (wanted / len(waves) ** 0.5).astype(x.dtype)  # where a wave vanishes, any phase is best: zero
        fixed = [jnp.where(dark, alone, scale(ratio, w)) for w in waves]
        back = sum(A.H(u) for A, u in zip(self.modes, fixed, strict=True))
        z = scale(positive_reciprocal(self.illumination).astype(size.dtype), back)
        light = self.illumination.astype(size.dtype)
        seen = light >= _DARK * jnp.max(light)
        z = jnp.where(seen, z, x)
        new = jnp.where(seen, z if self.denoiser is None else self.denoiser(z, self._level(light, seen)), x)
        return PositionState(new), PtychographyInfo(norm(new - x), self.energy(size))

    def amplitude_prox(self, size: Array) -> Array:
        """``argmin_a data(a) + rho (a - size)^2 / 2`` over amplitudes ``a >= 0``, per pixel of the detector."""
        rho, y = jnp.asarray(self.rho, size.dtype), _intensities(self.likelihood, size)
        if not self._counts:
            return (jnp.sqrt(y) + rho * size) / (1 + rho)
        return (rho * size + jnp.sqrt(squared(rho * size) + (1 + 2 * rho) * y)) / (1 + 2 * rho)

    def energy(self, size: Array) -> Float[Array, ""]:
        """``sum_j data(|F u_j|) + rho |p S_j x - u_j|^2 / 2`` at the best exit waves, from ``|F(p S_j x)|``, without ``R``."""
        rho, y, best = jnp.asarray(self.rho, size.dtype), _intensities(self.likelihood, size), self.amplitude_prox(size)
        data = squared(best - jnp.sqrt(y)) / 2
        if self._counts:
            data = squared(best) / 4 - jnp.where(y > 0, y * jnp.log(jnp.where(best > 0, best, 1)), 0) / 2
        return jnp.sum(data + rho * squared(best - size) / 2)

    @property
    def _counts(self) -> bool:
        return isinstance(self.likelihood.noise, Poisson)

    def _level(self, light: Array, seen: Array) -> Float[Array, "H W"]:
        """The level of every pixel, that of the darkest seen one where nothing is seen; the largest over channels."""
        least = jnp.min(jnp.where(seen, light, jnp.inf))
        level = jnp.asarray(self.lam, light.dtype) / (jnp.asarray(self.rho, light.dtype) * jnp.maximum(light, least))
        return jnp.sqrt(jnp.max(level, -1))


class RPIE(eqx.Module):
    """The regularised ptychographic iterative engine: positions one after the other, in a random order in each step.

    ``S_j x <- S_j x + conj(p) / ((1 - alpha) |p|^2 + alpha max |p|^2) (F^H(y_j w / |w|) - p S_j x)`` with ``w = F(p S_j x)``.
    One step is a sweep over all positions; ``alpha = 1`` is ePIE. The probe is known. A random method: give ``iterate`` a key.

    Raises ``ValueError`` unless ``0 <= alpha <= 1`` and the likelihood is of ``PhaseRetrieval(Ptychography(...))``.

    Source: Maiden, Johnson and Li (2017), Optica 4(7), equation 12.
    """

    likelihood: Any
    alpha: Array = eqx.field(converter=real, default=0.5)

    def __check_init__(self):
        _ptychography(self.likelihood)
        require(self.alpha, "alpha", nonnegative=True)
        require(1 - self.alpha, "1 - alpha", nonnegative=True)

    def init(self, x: Complex[Array, "H W C"], key: Any = None) -> PositionState:
        """Start at ``x``: ones, usually."""
        return PositionState(x)

    def step(self, key: PRNGKeyArray, state: PositionState) -> tuple[PositionState, Any]:
        """One sweep."""
        x, count = state.position, self.likelihood.y.shape[0]

        def visit(x: Array, j: Array) -> tuple[Array, None]:
            return self._update(x, j), None

        new, _ = jax.lax.scan(visit, x, jax.random.permutation(key, count))
        gap = norm(new - x)
        return PositionState(new), PtychographyInfo(gap, jnp.full_like(gap, jnp.nan))

    def _update(self, x: Array, j: Array) -> Array:
        operator = _ptychography(self.likelihood)
        window, probe, corner = operator.look(x, operator.shifts[j])
        exit_wave = probe * window
        wave = operator.propagator(exit_wave)
        size, y = jnp.sqrt(squared(wave)), _intensities(self.likelihood, x.real)[j]
        dark = size == 0
        wanted = scale(jnp.where(dark, 0, jnp.sqrt(y) / jnp.where(dark, 1, size)), wave)
        light, alpha = squared(probe), jnp.asarray(self.alpha, x.real.dtype)
        weight = (1 - alpha) * light + alpha * jnp.max(light)
        gain = scale(jnp.where(weight > 0, 1 / jnp.where(weight > 0, weight, 1), 0), probe.conj())
        moved = window + gain * (operator.propagator.H(wanted) - exit_wave)
        return jax.lax.dynamic_update_slice(x, moved, corner)


def _ptychography(likelihood: Any) -> Ptychography:
    """The linear operator of the likelihood. Raises ``ValueError`` for other forward models."""
    require_phase_retrieval(likelihood)
    operator = likelihood.operator.operator
    if not isinstance(operator, Ptychography):
        raise ValueError(f"likelihood: expected PhaseRetrieval of Ptychography, got of {type(operator).__name__}")
    return operator


def _intensities(likelihood: Any, like: Array) -> Array:
    """The measured intensities; what noise made negative counts as zero, NaN stays."""
    y = likelihood.y.astype(like.dtype)
    return jnp.where(y < 0, 0, y)
