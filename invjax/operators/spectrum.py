"""Known spectra: ``A = V diag(values) U^H`` with fast orthonormal bases U (right) and V (left).

An operator that knows such a form gets its norm, pseudo-inverse and least-squares prox in closed form, and composition,
sums and scaling keep the form. A basis is a static object with ``forward`` (coefficients) and ``inverse``.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy import fft as jfft
from jaxtyping import Array

from ..types import squared
from .structure import at_precision_of, complex_dtype, is_complex, precision_of


class Basis(Protocol):
    """An orthonormal basis: ``inverse(forward(x)) == x`` and ``|forward(x)| == |x|`` (counting both half-planes).

    A basis that keeps a half-plane has ``multiplicity(shape)``: how often each coefficient of that shape counts.
    """

    def forward(self, x: Array) -> Array: ...

    def inverse(self, coefficients: Array) -> Array: ...


@dataclasses.dataclass(frozen=True)
class Pixel:
    """The standard basis."""

    def forward(self, x: Array) -> Array:
        return x

    def inverse(self, coefficients: Array) -> Array:
        return coefficients


@dataclasses.dataclass(frozen=True)
class RealFourier:
    """Real Fourier basis over leading axes of ``sizes``; keeps the half-plane of ``rfftn``."""

    sizes: tuple[int, ...]

    def forward(self, x: Array) -> Array:
        return jnp.fft.rfftn(x, axes=range(len(self.sizes)), norm="ortho")

    def inverse(self, coefficients: Array) -> Array:
        return jnp.fft.irfftn(coefficients, s=self.sizes, axes=range(len(self.sizes)), norm="ortho")

    def multiplicity(self, shape: tuple[int, ...]) -> Array:
        """2 for the frequencies whose conjugates are not kept, else 1."""
        last = len(self.sizes) - 1
        column = jnp.arange(shape[last])
        # The frequency zero and that of Nyquist are their own conjugates.
        alone = (column == 0) | (2 * column == self.sizes[-1])
        return jnp.broadcast_to(jnp.where(alone, 1, 2).reshape(-1, *(1,) * (len(shape) - 1 - last)), shape)


@dataclasses.dataclass(frozen=True)
class Fourier:
    """Complex Fourier basis over ``axes``; ``centred`` puts the origin of both domains at index n // 2."""

    axes: tuple[int, ...]
    centred: bool = False

    def forward(self, x: Array) -> Array:
        if not self.centred:
            return jnp.fft.fftn(x, axes=self.axes, norm="ortho")
        shifted = jnp.fft.ifftshift(x, axes=self.axes)
        return jnp.fft.fftshift(jnp.fft.fftn(shifted, axes=self.axes, norm="ortho"), axes=self.axes)

    def inverse(self, coefficients: Array) -> Array:
        if not self.centred:
            return jnp.fft.ifftn(coefficients, axes=self.axes, norm="ortho")
        shifted = jnp.fft.ifftshift(coefficients, axes=self.axes)
        return jnp.fft.fftshift(jnp.fft.ifftn(shifted, axes=self.axes, norm="ortho"), axes=self.axes)


@dataclasses.dataclass(frozen=True)
class Cosine:
    """Orthonormal DCT-II over ``axes``: diagonalises differences with Neumann boundary."""

    axes: tuple[int, ...]

    def forward(self, x: Array) -> Array:
        if jnp.iscomplexobj(x):
            return self.forward(x.real) + 1j * self.forward(x.imag)
        return jfft.dctn(x, axes=self.axes, norm="ortho")

    def inverse(self, coefficients: Array) -> Array:
        if jnp.iscomplexobj(coefficients):
            return self.inverse(coefficients.real) + 1j * self.inverse(coefficients.imag)
        return jfft.idctn(coefficients, axes=self.axes, norm="ortho")


class Spectrum(eqx.Module):
    """``V diag(values) U^H``; ``values`` broadcasts against the coefficients."""

    values: Array
    left: Basis = eqx.field(static=True)
    right: Basis = eqx.field(static=True)

    @property
    def adjoint(self) -> Spectrum:
        """Spectrum of the adjoint."""
        return Spectrum(jnp.conj(self.values), self.right, self.left)

    @property
    def gram(self) -> Spectrum:
        """Spectrum of ``A^H A``: real and non-negative."""
        return Spectrum(squared(self.values), self.right, self.right)

    def apply(self, x: Array) -> Array:
        """``V diag(values) U^H x`` at the precision of ``x``."""
        coefficients = self.right.forward(x)
        return self.left.inverse(at_precision_of(x, self.values).astype(coefficients.dtype) * coefficients)

    def trace(self, struct: jax.ShapeDtypeStruct) -> Array:
        """Sum of the eigenvalues, with their multiplicities, of a Hermitian operator on arrays of ``struct``."""
        shape = jax.eval_shape(self.right.forward, struct).shape
        values = jnp.broadcast_to(self.values, shape)
        multiplicity = getattr(self.right, "multiplicity", None)
        return jnp.sum(values if multiplicity is None else values * multiplicity(shape).astype(values.dtype))

    def map(self, fn) -> Spectrum:
        """The same bases with ``fn(values)``: functional calculus when left and right agree."""
        return Spectrum(fn(self.values), self.left, self.right)

    def __matmul__(self, other: Spectrum) -> Spectrum | None:
        if self.right != other.left:
            return None
        return Spectrum(jnp.multiply(*promoted(self.values, other.values)), self.left, other.right)

    def __add__(self, other: Spectrum) -> Spectrum | None:
        first = self._in_basis_of(other)
        second = other._in_basis_of(first)
        if (first.left, first.right) != (second.left, second.right):
            return None
        return Spectrum(jnp.add(*promoted(first.values, second.values)), first.left, first.right)

    def _in_basis_of(self, other: Spectrum) -> Spectrum:
        """A multiple of the identity is diagonal in every basis; anything else stays as it is."""
        if self.values.size > 1 or self.left != self.right or other.left != other.right:
            return self
        return Spectrum(self.values.reshape(()), other.left, other.right)


def promoted(a: Array, b: Array) -> tuple[Array, Array]:
    """Both at their common dtype: factors may hold arrays of different precision."""
    precision = precision_of((a, b))
    dtype = complex_dtype(precision) if is_complex(a) or is_complex(b) else precision
    return a.astype(dtype), b.astype(dtype)
