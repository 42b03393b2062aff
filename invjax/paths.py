"""Gaussian paths ``x_t = alpha(t) x_clean + sigma(t) n`` and the exact conversions among the views of a diffusion model.

``t`` is in [0, 1]: 0 is the source (noise), 1 is data. With ``n ~ N(0, I)`` independent of ``x_clean``, the views at (t, x) are

    denoiser   D = E[x_clean | x_t = x]
    epsilon    e = E[n | x_t = x],                               x = alpha D + sigma e
    score      s = grad log p_t(x) = -e / sigma                  (Tweedie's formula)
    velocity   v = E[alpha' x_clean + sigma' n | x_t = x] = alpha' D + sigma' e

and each determines the others, by an affine map with coefficients that depend on t only (Song et al. 2021, "Score-based
generative modeling through stochastic differential equations"; Lipman et al. 2023, "Flow matching for generative modeling";
Albergo, Boffi and Vanden-Eijnden 2023, "Stochastic interpolants"). Every conversion is written in the form that stays finite
at both ends wherever the limit exists. Some limits do not: at alpha = 0 every prior has the same epsilon and score, at
sigma = 0 the same denoiser (x) and epsilon (0), so what these do not determine comes out as NaN or infinite there.

A function here takes one point ``x`` (any shape, real or complex) and a scalar ``t``; the result has the dtype of ``x``.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from .types import real, require

Scalar = Float[Array, ""]
ViewName = Literal["denoiser", "epsilon", "score", "velocity"]


class Path(eqx.Module):
    """Base class: a path defines ``alpha``, ``sigma`` and ``time``; derivatives are exact (forward mode)."""

    @abc.abstractmethod
    def alpha(self, t: Any) -> Scalar:
        """Signal coefficient, increasing in t."""

    @abc.abstractmethod
    def sigma(self, t: Any) -> Scalar:
        """Noise standard deviation, decreasing in t."""

    @abc.abstractmethod
    def time(self, noise_level: Any) -> Scalar:
        """The t at which ``sigma(t) / alpha(t) = noise_level``."""

    def alpha_dot(self, t: Any) -> Scalar:
        """``d alpha / dt``."""
        return _derivative(self.alpha, t)

    def sigma_dot(self, t: Any) -> Scalar:
        """``d sigma / dt``."""
        return _derivative(self.sigma, t)

    def noise_rate(self, t: Any) -> Scalar:
        """``sigma sigma' = (d sigma^2 / dt) / 2``, finite also where ``sigma'`` is not: v = alpha' D - sigma sigma' s."""
        return self.sigma(t) * self.sigma_dot(t)

    def score_rate(self, t: Any) -> Scalar:
        """``g = sigma (alpha' sigma - alpha sigma') >= 0``: alpha v = alpha' x + g s."""
        alpha, sigma = self.alpha(t), self.sigma(t)
        return self.alpha_dot(t) * sigma**2 - alpha * self.noise_rate(t)

    def velocity_inverse(self, t: Any) -> tuple[Scalar, Scalar, Scalar, Scalar]:
        """The (a, b, c, d) with ``D = a x + b v, e = c x + d v``, from ``x = alpha D + sigma e, v = alpha' D + sigma' e``."""
        alpha, sigma, alpha_dot, sigma_dot = self.alpha(t), self.sigma(t), self.alpha_dot(t), self.sigma_dot(t)
        wronskian = alpha_dot * sigma - alpha * sigma_dot
        return -sigma_dot / wronskian, sigma / wronskian, alpha_dot / wronskian, -alpha / wronskian

    def snr(self, t: Any) -> Scalar:
        """Signal-to-noise ratio ``alpha^2 / sigma^2`` (infinite where sigma = 0)."""
        return (self.alpha(t) / self.sigma(t)) ** 2

    def interpolate(self, t: Any, x_clean: Inexact[Array, "*n"], noise: Inexact[Array, "*n"]) -> Inexact[Array, "*n"]:
        """``alpha(t) x_clean + sigma(t) noise``."""
        alpha, sigma = _like(x_clean, self.alpha(t), self.sigma(t))
        return alpha * x_clean + sigma * noise


class Linear(Path):
    """``alpha = t, sigma = 1 - t``: rectified flow and conditional optimal transport (Liu et al. 2023; Lipman et al. 2023)."""

    def alpha(self, t):
        return _time(t)

    def sigma(self, t):
        return 1 - _time(t)

    def time(self, noise_level):
        return 1 / (1 + _time(noise_level))


class VE(Path):
    """Variance exploding: ``alpha = 1, sigma = sigma_max (sigma_min / sigma_max)^t`` (Song et al. 2021).

    ``time`` of a level outside [sigma_min, sigma_max] is outside [0, 1]. Raises ``ValueError`` unless
    0 < sigma_min < sigma_max.
    """

    sigma_min: Array = eqx.field(converter=real, default=0.01)
    sigma_max: Array = eqx.field(converter=real, default=50.0)

    def __check_init__(self):
        require(self.sigma_min, "sigma_min", positive=True)
        require(self.sigma_max - self.sigma_min, "sigma_max - sigma_min", positive=True)

    def alpha(self, t):
        return jnp.ones_like(_time(t))

    def sigma(self, t):
        low, high = self._logs(t)
        return jnp.exp(high + _time(t) * (low - high))

    def time(self, noise_level):
        low, high = self._logs(noise_level)
        return (high - jnp.log(_time(noise_level))) / (high - low)

    def _logs(self, t):
        return tuple(jnp.log(s) for s in _like(_time(t), self.sigma_min, self.sigma_max))


class VP(Path):
    """Variance preserving, linear schedule: with s = 1 - t, ``alpha = exp(-B(s) / 2), sigma^2 = 1 - exp(-B(s))``,
    ``B(s) = beta_min s + (beta_max - beta_min) s^2 / 2`` (Song et al. 2021, continuous form of DDPM).

    ``alpha^2 + sigma^2 = 1``; ``sigma'`` is -inf at t = 1, where the score still determines the velocity. The source is
    N(0, I) only up to alpha(0) (6.6e-3 by default). Raises ``ValueError`` unless both rates are positive.
    """

    beta_min: Array = eqx.field(converter=real, default=0.1)
    beta_max: Array = eqx.field(converter=real, default=20.0)

    def __check_init__(self):
        require(self.beta_min, "beta_min", positive=True)
        require(self.beta_max, "beta_max", positive=True)

    def alpha(self, t):
        return jnp.exp(-self._integral(t) / 2)

    def sigma(self, t):
        variance = -jnp.expm1(-self._integral(t))
        noisy = variance > 0  # the derivative of sqrt at 0 would make gradients in beta NaN at t = 1
        return jnp.where(noisy, jnp.sqrt(jnp.where(noisy, variance, 1)), 0)

    def time(self, noise_level):
        level = _time(noise_level)
        low, high = _like(level, self.beta_min, self.beta_max)
        integral = jnp.log1p(level**2)
        # The root of B(s) = integral, in the form without cancellation (it also holds for beta_max = beta_min).
        return 1 - 2 * integral / (low + jnp.sqrt(low**2 + 2 * (high - low) * integral))

    def sigma_dot(self, t):
        return self.noise_rate(t) / self.sigma(t)

    def noise_rate(self, t):
        return -self.alpha(t) * self.alpha_dot(t)

    def velocity_inverse(self, t):
        alpha, sigma, alpha_dot = self.alpha(t), self.sigma(t), self.alpha_dot(t)
        return alpha, sigma**2 / alpha_dot, sigma, -alpha * sigma / alpha_dot

    def _integral(self, t):
        low, high = _like(_time(t), self.beta_min, self.beta_max)
        s = 1 - _time(t)
        return s * (low + (high - low) * s / 2)


def _time(t: Any) -> Array:
    return jnp.asarray(real(t))


def _like(x: Array, *values: Array) -> tuple[Array, ...]:
    """The values in the dtype of ``x``: neither t nor a hyper-parameter may promote an image."""
    return tuple(jnp.asarray(v).astype(x.dtype) for v in values)


def _derivative(fn: Callable[[Array], Array], t: Any) -> Array:
    t = _time(t)
    return jax.jvp(fn, (t,), (jnp.ones_like(t),))[1]


def denoiser_to_epsilon(path: Path, t: Any, x: Array, denoiser: Array) -> Array:
    """``(x - alpha D) / sigma``; at sigma = 0 its limit, zero (the score of a smooth density is finite)."""
    alpha, sigma = _like(x, path.alpha(t), path.sigma(t))
    noisy = sigma != 0
    return jnp.where(noisy, (x - alpha * denoiser) / jnp.where(noisy, sigma, 1), 0)


def denoiser_to_score(path: Path, t: Any, x: Array, denoiser: Array) -> Array:
    """``(alpha D - x) / sigma^2``; not determined at sigma = 0."""
    alpha, sigma = _like(x, path.alpha(t), path.sigma(t))
    return (alpha * denoiser - x) / sigma**2


def denoiser_to_velocity(path: Path, t: Any, x: Array, denoiser: Array) -> Array:
    """``alpha' D + sigma' e``; at sigma = 0 alpha' x when sigma' is finite, else (VP) not determined."""
    alpha_dot, sigma_dot = _like(x, path.alpha_dot(t), path.sigma_dot(t))
    return alpha_dot * denoiser + sigma_dot * denoiser_to_epsilon(path, t, x, denoiser)


def epsilon_to_denoiser(path: Path, t: Any, x: Array, epsilon: Array) -> Array:
    """``(x - sigma e) / alpha``; not determined at alpha = 0."""
    alpha, sigma = _like(x, path.alpha(t), path.sigma(t))
    return (x - sigma * epsilon) / alpha


def epsilon_to_score(path: Path, t: Any, x: Array, epsilon: Array) -> Array:
    """``-e / sigma``; not determined at sigma = 0."""
    (sigma,) = _like(x, path.sigma(t))
    return -epsilon / sigma


def epsilon_to_velocity(path: Path, t: Any, x: Array, epsilon: Array) -> Array:
    """``alpha' D + sigma' e`` with ``D = (x - sigma e) / alpha``; not determined at alpha = 0, nor for VP at sigma = 0."""
    alpha_dot, sigma_dot = _like(x, path.alpha_dot(t), path.sigma_dot(t))
    return alpha_dot * epsilon_to_denoiser(path, t, x, epsilon) + sigma_dot * epsilon


def score_to_denoiser(path: Path, t: Any, x: Array, score: Array) -> Array:
    """``(x + sigma^2 s) / alpha``; not determined at alpha = 0."""
    alpha, sigma = _like(x, path.alpha(t), path.sigma(t))
    return (x + sigma**2 * score) / alpha


def score_to_epsilon(path: Path, t: Any, x: Array, score: Array) -> Array:
    """``-sigma s``."""
    (sigma,) = _like(x, path.sigma(t))
    return -sigma * score


def score_to_velocity(path: Path, t: Any, x: Array, score: Array) -> Array:
    """``(alpha' x + g s) / alpha`` with ``g = path.score_rate``; finite at sigma = 0, not determined at alpha = 0."""
    alpha, alpha_dot, rate = _like(x, path.alpha(t), path.alpha_dot(t), path.score_rate(t))
    return (alpha_dot * x + rate * score) / alpha


def velocity_to_denoiser(path: Path, t: Any, x: Array, velocity: Array) -> Array:
    """``(sigma v - sigma' x) / (alpha' sigma - alpha sigma')``; Linear: ``x + (1 - t) v``. Finite at both ends."""
    a, b, _, _ = _like(x, *path.velocity_inverse(t))
    return a * x + b * velocity


def velocity_to_epsilon(path: Path, t: Any, x: Array, velocity: Array) -> Array:
    """``(alpha' x - alpha v) / (alpha' sigma - alpha sigma')``; Linear: ``x - t v``. Finite at both ends."""
    _, _, c, d = _like(x, *path.velocity_inverse(t))
    return c * x + d * velocity


def velocity_to_score(path: Path, t: Any, x: Array, velocity: Array) -> Array:
    """``(alpha v - alpha' x) / g`` with ``g = path.score_rate``; not determined where g = 0 (Linear at t = 1)."""
    alpha, alpha_dot, rate = _like(x, path.alpha(t), path.alpha_dot(t), path.score_rate(t))
    return (alpha * velocity - alpha_dot * x) / rate


_CONVERSIONS: dict[tuple[str, str], Callable[[Path, Any, Array, Array], Array]] = {
    ("denoiser", "epsilon"): denoiser_to_epsilon,
    ("denoiser", "score"): denoiser_to_score,
    ("denoiser", "velocity"): denoiser_to_velocity,
    ("epsilon", "denoiser"): epsilon_to_denoiser,
    ("epsilon", "score"): epsilon_to_score,
    ("epsilon", "velocity"): epsilon_to_velocity,
    ("score", "denoiser"): score_to_denoiser,
    ("score", "epsilon"): score_to_epsilon,
    ("score", "velocity"): score_to_velocity,
    ("velocity", "denoiser"): velocity_to_denoiser,
    ("velocity", "epsilon"): velocity_to_epsilon,
    ("velocity", "score"): velocity_to_score,
}
_VIEWS = ("denoiser", "epsilon", "score", "velocity")


def convert(path: Path, source: ViewName, target: ViewName, t: Any, x: Array, value: Array) -> Array:
    """The view ``target`` at (t, x) from the ``value`` of the view ``source`` there. Raises ``ValueError`` for other names."""
    for name, view in (("source", source), ("target", target)):
        if view not in _VIEWS:
            raise ValueError(f"{name}: expected one of {_VIEWS}, got {view!r}")
    return value if source == target else _CONVERSIONS[source, target](path, t, x, value)


class View(eqx.Module):
    """A model ``fn(t, x)`` of the view ``source`` seen as the view ``target``: ``View(net, path, "epsilon", "velocity")``."""

    fn: Callable
    path: Path
    source: ViewName = eqx.field(static=True)
    target: ViewName = eqx.field(static=True)

    def __call__(self, t: Any, x: Array) -> Array:
        return convert(self.path, self.source, self.target, t, x, self.fn(t, x))


class PathDenoiser(eqx.Module):
    """The denoiser view ``(t, x) -> D(x / alpha, sigma / alpha)`` from ``D(x, sigma) = E[clean | clean + sigma n = x]``.

    At alpha = 0 the limit is the mean of the prior; alpha is kept above the machine epsilon, so that D is evaluated at a
    level of at most 1 / eps, where a denoiser that is accurate at all levels returns that mean to relative accuracy eps.
    """

    denoiser: Callable
    path: Path

    def __call__(self, t: Any, x: Array) -> Array:
        alpha, sigma = _like(x.real, self.path.alpha(t), self.path.sigma(t))
        alpha = jnp.maximum(alpha, jnp.finfo(alpha.dtype).eps)
        return self.denoiser(x / alpha.astype(x.dtype), sigma / alpha)


class LevelDenoiser(eqx.Module):
    """``D(x, sigma) = E[clean | clean + sigma n = x]`` from a path's denoiser view ``fn(t, x)``: the inverse of ``PathDenoiser``.

    ``D(x, sigma) = fn(t, alpha(t) x)`` with ``t = path.time(sigma)``; sigma must be a level that the path reaches.
    """

    fn: Callable
    path: Path

    def __call__(self, x: Array, sigma: Any) -> Array:
        t = self.path.time(sigma)
        (alpha,) = _like(x, self.path.alpha(t))
        return self.fn(t, alpha * x)
