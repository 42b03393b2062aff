"""Denoisers for images that a network was not made for: other ranges, more channels, complex values, turned images."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Inexact, PyTree

from ..operators import local_mean
from ..transforms import Transform
from ..types import real, require


class Rescaled(eqx.Module):
    """``D`` of images in [0, 1] used on images from ``low`` to ``high``: ``low + s D((x - low) / s, sigma / s)``, s = high - low.

    Raises ``ValueError`` unless ``low < high``.
    """

    denoiser: Any
    low: Array = eqx.field(converter=real, default=0.0)
    high: Array = eqx.field(converter=real, default=1.0)

    def __check_init__(self):
        if not any(isinstance(v, jax.core.Tracer) for v in (self.low, self.high)):
            require(self.high - self.low, "high - low", positive=True)

    def __call__(self, x: Inexact[Array, "*n"], sigma: Any) -> Inexact[Array, "*n"]:
        low = jnp.asarray(self.low, x.dtype)
        size = jnp.asarray(self.high, x.dtype) - low
        return low + size * self.denoiser((x - low) / size, sigma / size)


class PerChannel(eqx.Module):
    """A denoiser of grey images ``(H, W, 1)`` on each channel of ``(H, W, C)``, as one batch."""

    denoiser: Any

    def __call__(self, x: Inexact[Array, "H W C"], sigma: Any) -> Inexact[Array, "H W C"]:
        return jax.vmap(lambda channel: self.denoiser(channel[..., None], sigma)[..., 0], in_axes=-1, out_axes=-1)(x)


class ComplexParts(eqx.Module):
    """A denoiser of real images on the real and on the imaginary part, as one batch; ``sigma`` is the level of each part.

    ``x`` is turned by the phase that makes ``sum x`` real, and back after: the result follows a global phase of x, which is
    unknown in phase retrieval.
    """

    denoiser: Any

    def __call__(self, x: Complex[Array, "*n"], sigma: Any) -> Complex[Array, "*n"]:
        total = jnp.sum(x)
        size = jnp.abs(total)
        turn = jnp.where(size > 0, total / jnp.where(size > 0, size, 1), 1)
        aligned = x * turn.conj()
        parts = jax.vmap(lambda part: self.denoiser(part, sigma))(jnp.stack([aligned.real, aligned.imag]))
        return turn * jax.lax.complex(parts[0], parts[1])


class MeanPreserving(eqx.Module):
    """``D(x, sigma) + G (x - D(x, sigma))``: a denoiser that leaves local means as they are.

    G is ``operators.local_mean`` of ``width`` pixels, each value weighted by how little noise it has, ``1 / sigma^2``. A network
    moves local means a little; where the data determine them and it is applied in each of many steps (ptychography), that adds
    up. Not for data without means, such as inpainting.

    ``sigma`` is a level or a map ``(H, W)`` (below 0.1 % of the largest: that); ``width`` in pixels, positive (``ValueError``).
    """

    denoiser: Any
    width: Array = eqx.field(converter=real)

    def __check_init__(self):
        require(self.width, "width", positive=True)

    def __call__(self, x: Inexact[Array, "H W C"], sigma: Any) -> Inexact[Array, "H W C"]:
        cleaned = self.denoiser(x, sigma)
        variance = jnp.square(jnp.asarray(sigma, x.real.dtype))
        largest = jnp.max(variance)
        trust = jnp.where(largest > 0, largest / jnp.maximum(variance, 1e-6 * largest), 1)
        return cleaned + local_mean(x - cleaned, self.width, trust)


class Transformed(eqx.Module):
    """``D_g(x, sigma) = T_g^(-1) D(T_g x, sigma)`` with one element ``g`` of a group.

    Drawn anew in each step (``solvers.Randomised``), it is equivariant in expectation at the price of one denoiser call;
    ``transforms.Symmetrised`` averages over the group. Source: Terris, Moreau, Pustelnik and Tachella (2024), CVPR,
    definition 1 and algorithm 1.
    """

    denoiser: Any
    transform: Transform
    element: PyTree

    def __call__(self, x: Inexact[Array, "*n"], sigma: Any) -> Inexact[Array, "*n"]:
        return self.transform.apply_inverse(self.element, self.denoiser(self.transform(self.element, x), sigma))
