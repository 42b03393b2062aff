"""Ptychography: a probe scanned over an object, and the wave that leaves it propagated to a detector."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..types import real
from .base import LinearOperator
from .fourier import FourierTransform
from .spectrum import Pixel, Spectrum
from .structure import at_precision_of, complex_dtype, default_precision, floating, real_dtype, structure


class Ptychography(LinearOperator):
    """``y_l = F (p x[s_l : s_l + (h, w)])``: a complex object ``(H, W, C)`` to waves on the detector ``(L, h, w, C)``.

    ``probe`` is ``(h, w, C)`` or ``(h, w, 1)``; ``shifts`` ``(L, 2)`` are the upper left corners of the windows in pixels.
    Floating shifts are rounded for the window and the rest moves the probe by a Fourier phase (periodic in its window, so
    let it vanish at the edge): the operator is then differentiable in them. ``propagator`` is ``F``: by default the
    orthonormal DFT (far field, zero frequency at index 0); or ``FourierTransform(..., centred=True)``, ``fresnel``,
    ``angular_spectrum`` (near field) of the window's shape ``(h, w, C)``. Where ``F`` is known to be unitary,
    ``A^H A = diag(sum_l T_l^T |p_l|^2)`` exactly, so norm, pseudo-inverse and prox are closed form. ``PhaseRetrieval`` of it
    gives intensities. ``block`` positions are computed at a time, which bounds the memory.

    Raises ``ValueError`` for a probe, shifts or a propagator that do not fit; traced shifts that leave the object are moved
    to its edge.
    """

    probe: Array = eqx.field(converter=real)
    shifts: Array = eqx.field(converter=real)
    propagator: LinearOperator
    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    block: int = eqx.field(static=True)

    def __init__(
        self,
        probe: Any,
        shifts: Any,
        shape: tuple[int, int, int],
        propagator: LinearOperator | None = None,
        *,
        block: int = 32,
    ):
        shifts = jnp.asarray(shifts)
        self.shifts = shifts if jnp.issubdtype(shifts.dtype, jnp.inexact) else shifts.astype(jnp.int32)
        self.probe = probe = floating(probe)
        self.in_structure = structure(shape, complex=True)
        window = self._check(shape, probe.shape)
        self.propagator = FourierTransform(window) if propagator is None else propagator
        self.block = min(block, self.shifts.shape[0])
        if self.propagator.in_structure != structure(window, complex=True):
            raise ValueError(f"propagator: expected complex {window} as input, got {self.propagator.in_structure}")
        if block < 1:
            raise ValueError(f"block: expected an integer >= 1, got {block}")

    def _check(self, shape: tuple[int, ...], probe: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a window."""
        if len(shape) != 3 or len(probe) != 3 or probe[2] not in (1, shape[2]):
            raise ValueError(f"probe: expected (h, w, 1) or (h, w, C) for an object (H, W, C) = {shape}, got {probe}")
        if self.shifts.ndim != 2 or self.shifts.shape[1] != 2 or not self.shifts.size:
            raise ValueError(f"shifts: expected (L, 2), got shape {self.shifts.shape}")
        room = np.subtract(shape[:2], probe[:2])
        if np.any(room < 0):
            raise ValueError(f"probe: expected at most the size of the object {shape}, got {probe}")
        if not isinstance(self.shifts, jax.core.Tracer):
            corners = np.round(np.asarray(self.shifts))
            if not np.all((corners >= 0) & (corners <= room)):
                raise ValueError(
                    f"shifts: expected corners from (0, 0) to {tuple(room.tolist())}, got {_range(corners)}"
                )
        return (*probe[:2], shape[2])

    @property
    def out_structure(self):
        out = self.propagator.out_structure
        return structure((self.shifts.shape[0], *out.shape), complex=True)

    def look(self, x: Array, shift: Array) -> tuple[Array, Array, tuple[Array, Array, Array]]:
        """The window of ``x`` at ``shift``, the probe there at the precision of ``x``, and the window's corner in ``x``."""
        probe = at_precision_of(x, self.probe).astype(complex_dtype(x.dtype))
        if jnp.issubdtype(shift.dtype, jnp.inexact):
            corner = jnp.round(shift)
            probe = _translated(probe, (shift - corner).astype(real_dtype(x.dtype)))
            shift = corner.astype(jnp.int32)
        start = (shift[0], shift[1], jnp.zeros_like(shift[0]))
        return jax.lax.dynamic_slice(x, start, (*probe.shape[:2], x.shape[2])), probe, start

    def apply(self, x):
        def one(shift):
            window, probe, _ = self.look(x, shift)
            return self.propagator.apply(probe * window)

        return jax.lax.map(one, self.shifts, batch_size=self.block)

    @property
    def illumination(self) -> Array:
        """``sum_l T_l^T |p_l|^2``, the intensity that every pixel of the object receives, real ``(H, W, C)``."""

        def received(x: Array) -> Array:
            def one(shift: Array) -> Array:
                window, probe, _ = self.look(x, shift)
                return jnp.sum((probe.real**2 + probe.imag**2) * window)

            return jnp.sum(jax.lax.map(one, self.shifts, batch_size=self.block))

        return jax.grad(received)(jnp.zeros(self.in_structure.shape, default_precision()))

    @property
    def gram_spectrum(self):
        inner = self.propagator.gram_spectrum
        if inner is None or inner.values.size != 1:
            return None
        illumination = self.illumination
        return Spectrum(inner.values.reshape(()).astype(illumination.dtype) * illumination, Pixel(), Pixel())


def _translated(probe: Array, shift: Array) -> Array:
    """The probe moved by ``shift`` pixels (periodic, band-limited interpolation)."""
    for axis in range(2):
        f = jnp.fft.fftfreq(probe.shape[axis], dtype=shift.dtype)
        angle = jnp.expand_dims(-2 * jnp.pi * shift[axis] * f, [a for a in range(3) if a != axis])
        turn = jax.lax.complex(jnp.cos(angle), jnp.sin(angle))
        probe = jnp.fft.ifft(turn * jnp.fft.fft(probe, axis=axis), axis=axis)
    return probe


def _range(corners: np.ndarray) -> str:
    return f"{tuple(corners.min(0).tolist())} to {tuple(corners.max(0).tolist())}"
