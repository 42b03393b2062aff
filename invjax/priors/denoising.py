"""Priors that are given by a denoiser: its place in a splitting (plug-and-play), and its residual as a gradient (RED)."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, PyTree

from ..operators.structure import scale
from ..types import inner, real, require
from .base import _scalar, as_point


class PlugAndPlay(eqx.Module):
    """A denoiser in place of a prox: ``prox(x, step_size) = D(x, sqrt(lam step_size))``.

    A prox of ``step_size lam R`` is the MAP estimate of an image with the density ``exp(-R)`` seen in noise of variance
    ``lam step_size``; the noise level follows the step in the same way. With ``sigma`` the level is that, whatever the
    step. There is no potential, so a solver's fixed points need not minimise anything. Use it as the prior of
    ``ProximalGradient``, ``FISTA``, ``HQS``, ``ADMM``, ``DouglasRachford``; ``num_inner`` has no meaning here.

    Args:
        denoiser: ``D(x, sigma)``, one sample: a network (``nn.frozen(net)``), ``priors.GaussianMixture(...).denoiser``, or a
            user's Module or function.
        lam: Weight, non-negative (``ValueError``).
        sigma: Noise level that replaces ``sqrt(lam step_size)``, non-negative (``ValueError``), or None.

    Source: Venkatakrishnan, Bouman and Wohlberg (2013), IEEE GlobalSIP; the level of a step: Zhang et al. 2022, IEEE TPAMI
    44(10), equation 10.
    """

    denoiser: Any
    lam: Array = eqx.field(converter=real, default=1.0)
    sigma: Array | None = eqx.field(converter=real, default=None)

    def __check_init__(self):
        _require_denoiser(self.denoiser)
        require(self.lam, "lam", nonnegative=True)
        require(self.sigma, "sigma", nonnegative=True)

    def prox(self, x: Inexact[Array, "*n"], step_size: Any) -> Inexact[Array, "*n"]:
        """The denoised ``x``."""
        x = as_point(x)
        require(step_size, "step_size", nonnegative=True)
        if self.sigma is not None:
            return self.denoiser(x, _scalar(self.sigma, "sigma", x))
        return self.denoiser(x, jnp.sqrt(_scalar(self.lam, "lam", x) * _scalar(step_size, "step_size", x)))

    def prox_init(self, x: Array) -> PyTree:
        """Nothing is carried from call to call."""
        return ()

    def prox_step(self, x: Array, step_size: Any, aux: PyTree, num_inner: int) -> tuple[Array, PyTree]:
        """``(prox(x, step_size), aux)``."""
        return self.prox(x, step_size), aux


class RED(eqx.Module):
    """A denoiser's residual as a gradient: ``grad(x) = lam (x - D(x, sigma)) / sigma^2``.

    For the exact ``D = E[clean | x]`` this is ``-lam grad log p_sigma`` of the prior smoothed by N(0, sigma^2 I) (Tweedie), so
    it is the prior of ``GradientDescent``, ``PnPSGD``, ``PnPULA`` and every other sampler that needs a score. Regularisation by
    denoising weighs the residual alone: its weight is ``lam / sigma^2``. No other denoiser's residual need be a gradient, and
    there is no potential; ``GradientStep`` has one.

    Args:
        denoiser: ``D(x, sigma)``, as for ``PlugAndPlay``.
        sigma: Noise level, a standard deviation (the ``sqrt`` of the papers' epsilon). Positive, or ``ValueError``.
        lam: Weight, non-negative (``ValueError``).

    Sources: Romano, Elad and Milanfar (2017), SIAM J. Imaging Sci. 10(4), equation 12; Laumont et al. (2022), SIAM J. Imaging
    Sci. 15(2), equation 3.2.
    """

    denoiser: Any
    sigma: Array = eqx.field(converter=real)
    lam: Array = eqx.field(converter=real, default=1.0)

    def __check_init__(self):
        _require_denoiser(self.denoiser)
        require(self.sigma, "sigma", positive=True)
        require(self.lam, "lam", nonnegative=True)

    def grad(self, x: Inexact[Array, "*n"]) -> Inexact[Array, "*n"]:
        """``lam (x - D(x, sigma)) / sigma^2``."""
        return -self.score(x)

    def score(self, x: Inexact[Array, "*n"]) -> Inexact[Array, "*n"]:
        """``lam (D(x, sigma) - x) / sigma^2``."""
        x = as_point(x)
        sigma = _scalar(self.sigma, "sigma", x)
        return scale(_scalar(self.lam, "lam", x) / sigma**2, self.denoiser(x, sigma) - x)


class GradientStep(eqx.Module):
    """``g(x) = lam |x - N(x, sigma)|^2 / 2`` of any network ``N``: a prior with a potential, whatever ``N`` is.

    Its gradient is ``lam (x - N - J_N^T (x - N))``, and ``denoise(x) = x - grad g / lam`` is the gradient-step denoiser, which
    training makes a good one. ``GradientStepPnP`` minimises ``f + g``. Real images.

    Args:
        network: ``N(x, sigma)``: for weights trained as ``nn.GradientStep(net)``, the frozen ``net``.
        sigma: Noise level, non-negative (``ValueError``).
        lam: Weight, non-negative (``ValueError``).

    Source: Hurault, Leclaire and Papadakis (2022), ICLR, equations 7 to 9.
    """

    network: Any
    sigma: Array = eqx.field(converter=real)
    lam: Array = eqx.field(converter=real, default=1.0)

    def __check_init__(self):
        _require_denoiser(self.network, "network")
        require(self.sigma, "sigma", nonnegative=True)
        require(self.lam, "lam", nonnegative=True)

    def __call__(self, x: Float[Array, "*n"]) -> Float[Array, ""]:
        """``lam |x - N(x, sigma)|^2 / 2``."""
        x = self._point(x)
        gap = self._residual(x)
        return _scalar(self.lam, "lam", x) * inner(gap, gap) / 2

    def grad(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """Gradient of the potential: one evaluation of the network and one of its transposed derivative."""
        x = self._point(x)
        return scale(_scalar(self.lam, "lam", x), self._direction(x))

    def score(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """``-grad(x)``."""
        return -self.grad(x)

    def denoise(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """``x - grad g(x) / lam``, the denoiser at level ``sigma``."""
        x = self._point(x)
        return x - self._direction(x)

    def _residual(self, x: Array) -> Array:
        return x - self.network(x, _scalar(self.sigma, "sigma", x))

    def _direction(self, x: Array) -> Array:
        gap, transpose = jax.vjp(self._residual, x)
        return transpose(gap)[0]

    def _point(self, x: Any) -> Array:
        x = as_point(x)
        if jnp.iscomplexobj(x):
            raise ValueError(f"x: expected a real floating dtype, got {x.dtype}")
        return x


def _require_denoiser(denoiser: Any, name: str = "denoiser") -> None:
    if not callable(denoiser):
        raise ValueError(f"{name}: expected a callable {name}(x, sigma), got {type(denoiser).__name__}")
