"""Unitary transforms by phases in Fourier space: sub-pixel shifts, rotations by three shears, errors of phase."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..operators.structure import at_precision_of, complex_dtype, is_complex
from ..types import real, require
from .base import Transform
from .permutations import quarter_turns


def fourier_shift(x: Array, shift: Array, axis: int) -> Array:
    """``x`` shifted by ``shift`` pixels (a fraction too) along ``axis``, periodically: exact for band-limited signals, unitary.

    ``shift`` is a scalar, or has the axes of ``x`` and size one along ``axis``. The Nyquist frequency of an even size stays as
    it is: its real unitary shift by half a pixel does not exist. So shifts add up, real images stay real, and shifts by
    whole pixels are those of ``numpy.roll`` for images without that frequency.
    """
    n = x.shape[axis]
    frequency = jnp.fft.fftfreq(n, dtype=x.real.dtype) if is_complex(x) else jnp.fft.rfftfreq(n, dtype=x.dtype)
    frequency = jnp.where(jnp.abs(frequency) == 0.5, 0, frequency)
    frequency = frequency.reshape((1,) * axis + (-1,) + (1,) * (x.ndim - 1 - axis))
    phase = jnp.exp(-2j * jnp.pi * (frequency * shift).astype(complex_dtype(x.dtype)))
    if is_complex(x):
        return jnp.fft.ifft(phase * jnp.fft.fft(x, axis=axis), axis=axis)
    return jnp.fft.irfft(phase * jnp.fft.rfft(x, axis=axis), n, axis=axis)


class UnitaryAddition(Transform):
    """Base of the unitary transforms whose parameters add up."""

    def inverse(self, g):
        return -g

    def compose(self, g, h):
        return g + h

    @property
    def unitary(self):
        return True


class FourierShift(UnitaryAddition):
    """Periodic shifts by ``g = (rows, columns)`` pixels, fractions too, in Fourier space (see ``fourier_shift``): unitary.

    ``sample`` draws both uniformly in ``[-max_shift, max_shift]``.
    """

    max_shift: Array = eqx.field(converter=real, default=1.0)

    def sample(self, key):
        return self.max_shift * jax.random.uniform(key, (2,), minval=-1)

    def check(self, g, x):
        super().check(g, x)
        require(g, "g", shape=(2,))
        require_image(x)

    def apply(self, g, x):
        g = at_precision_of(x, g)
        return fourier_shift(fourier_shift(x, g[0], 0), g[1], 1)


class ShearRotation(UnitaryAddition):
    """Rotation by the angle ``g`` (radians, counter-clockwise) about the centre, as three shears in Fourier space: unitary.

    ``R = S(tan(g / 2)) S'(-sin g) S(tan(g / 2))``, with rows shifted by ``S`` and columns by ``S'``, periodically, after quarter
    turns (half turns of a rectangle) have left the smallest angle. ``T_(-g)`` is the exact inverse of ``T_g``. Compositions
    are rotations by the sum of angles where the image is band-limited and far from the border. ``sample`` draws angles
    uniformly in ``[-max_angle, max_angle]``. Source: Unser, Thevenaz and Yaroslavsky (1995).
    """

    max_angle: Array = eqx.field(converter=real, default=jnp.pi)

    def sample(self, key):
        return self.max_angle * jax.random.uniform(key, minval=-1)

    def check(self, g, x):
        super().check(g, x)
        require(g, "g", shape=())
        require_image(x)

    def apply(self, g, x):
        g = at_precision_of(x, g)
        step = 1 if x.shape[0] == x.shape[1] else 2  # quarter turns at a time
        turns = step * jnp.round(g / (step * jnp.pi / 2))
        angle = g - turns * (jnp.pi / 2)
        turns = turns.astype(int)
        # Turns and shears do not commute: turning last for g >= 0 and first for g < 0 makes T_(-g) the inverse of T_g.
        x = quarter_turns(jnp.where(g < 0, turns, 0), x)
        x = _shears(angle, x)
        return quarter_turns(jnp.where(g < 0, 0, turns), x)


def _shears(angle: Array, x: Array) -> Array:
    rows, columns = (jnp.arange(n, dtype=angle.dtype) - (n - 1) / 2 for n in x.shape[:2])
    across = jnp.tan(angle / 2) * rows[:, None, None]
    x = fourier_shift(x, across, 1)
    x = fourier_shift(x, -jnp.sin(angle) * columns[None, :, None], 0)
    return fourier_shift(x, across, 1)


class RandomPhaseError(UnitaryAddition):
    """Errors of phase on the lines of k-space ``(H, W, C)``: ``y_k exp(i g[k mod 2])``, one phase for even and one for odd rows.

    As after inconsistent gradients in echo-planar MRI (Desai et al. 2022, VORTEX). ``sample`` draws both phases uniformly in
    ``[-max_phase, max_phase]`` (radians). Unitary; for complex arrays only. On images, wrap it in ``FourierTransform``.
    """

    max_phase: Array = eqx.field(converter=real, default=jnp.pi)

    def sample(self, key):
        return self.max_phase * jax.random.uniform(key, (2,), minval=-1)

    def check(self, g, x):
        super().check(g, x)
        require(g, "g", shape=(2,))
        if not is_complex(x):
            raise ValueError(f"x: expected complex k-space, got {x.dtype}")

    def apply(self, g, x):
        g = at_precision_of(x, g)
        phase = g[jnp.arange(x.shape[0]) % 2].reshape((-1,) + (1,) * (x.ndim - 1))
        return jnp.exp(1j * phase.astype(x.dtype)) * x


def require_image(x: Array | jax.ShapeDtypeStruct) -> None:
    """Raise ``ValueError`` unless ``x`` is ``(H, W, C)``."""
    if x.ndim != 3:
        raise ValueError(f"x: expected an image (H, W, C), got shape {x.shape}")
