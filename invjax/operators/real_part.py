"""Real images as the input of operators on complex images."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from .base import LinearOperator
from .spectrum import Fourier, Pixel, RealFourier, Spectrum
from .structure import complex_dtype, structure


class RealPart(LinearOperator):
    """``z -> Re z``; the adjoint, for the real inner product ``Re <a, b>``, takes a real image as a complex one."""

    out_structure: jax.ShapeDtypeStruct = eqx.field(static=True)

    def __init__(self, shape: tuple[int, ...]):
        self.out_structure = structure(shape)

    @property
    def in_structure(self):
        return structure(self.out_structure.shape, complex=True)

    def apply(self, x):
        return x.real

    def adjoint(self, y):
        return y.astype(complex_dtype(y.dtype))

    @property
    def cogram_spectrum(self):
        return Spectrum(jnp.ones(()), Pixel(), Pixel())

    def push_spectrum(self, inner: Spectrum) -> Spectrum | None:
        """``Re G`` on real images; for a circulant ``G`` the mean of its spectrum at ``k`` and ``-k``."""
        *sizes, _ = self.out_structure.shape
        axes = tuple(range(len(sizes)))
        basis = inner.right
        if not isinstance(basis, Fourier) or inner.left != basis or basis.axes != axes:
            return super().push_spectrum(inner)
        values = jnp.broadcast_to(inner.values, (*sizes, *(inner.values.shape[-1:] or (1,))))
        if basis.centred:
            values = jnp.fft.ifftshift(values, axes=axes)
        mirrored = jnp.roll(jnp.flip(values, axes), 1, axes)
        half = jax.lax.slice_in_dim((values + mirrored) / 2, 0, sizes[-1] // 2 + 1, axis=axes[-1])
        real_basis = RealFourier(tuple(sizes))
        return Spectrum(half, real_basis, real_basis)


def as_complex(shape: tuple[int, ...]) -> LinearOperator:
    """Take real images as complex ones: composed on the right of an operator on complex images, ``A @ E``.

    The adjoint takes the real part. A circulant ``A^H A`` stays diagonal, in the real Fourier basis.
    """
    return RealPart(shape).H
