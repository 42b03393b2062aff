"""Phase retrieval: intensities of a linear transform, and coded diffraction patterns."""

from __future__ import annotations

from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..types import real
from .base import LinearOperator
from .operator import Operator
from .spectrum import Fourier, Pixel, Spectrum
from .structure import at_precision_of, default_precision, dtype_at, is_complex, structure

Pattern = Literal["octanary", "phase"]


class PhaseRetrieval(Operator):
    """``A(x) = |B x|^2`` for any linear ``B``; blind to a global phase, ``A(e^{i phi} x) = A(x)``.

    With a linear ``L``, ``A @ L`` is ``PhaseRetrieval(B @ L)``. The derivative is ``h -> 2 Re(conj(B x) B h)``, its adjoint
    ``v -> 2 B^H (v B x)``. Usual choices of ``B``: a complex ``GaussianSensing``, ``structured_random``, ``coded_diffraction``,
    ``Ptychography``, ``FourierTransform`` after ``pad``. Raises ``ValueError`` unless ``B`` is linear.
    """

    operator: LinearOperator

    def __check_init__(self):
        if not isinstance(self.operator, LinearOperator):
            raise ValueError(f"operator: expected a LinearOperator, got {type(self.operator).__name__}")

    @property
    def in_structure(self):
        return self.operator.in_structure

    @property
    def out_structure(self):
        return jax.tree.map(lambda s: structure(s.shape), self.operator.out_structure)

    def apply(self, x):
        return jax.tree.map(_intensity, self.operator.apply(x))

    def __matmul__(self, other):
        return PhaseRetrieval(self.operator @ other) if isinstance(other, LinearOperator) else super().__matmul__(other)

    def vjp(self, x):
        u = self.operator.apply(x)

        def adjoint(v):
            return self.operator.adjoint(jax.tree.map(lambda a, b: (2 * a).astype(b.dtype) * b, v, u))

        return jax.tree.map(_intensity, u), adjoint


def _intensity(u: Array) -> Array:
    return u.real**2 + u.imag**2 if is_complex(u) else u**2


class CodedDiffraction(LinearOperator):
    """``y_k = F (m_k x)``: orthonormal DFTs ``(K, H, W, C)`` of a complex image seen through K masks.

    ``masks`` is ``(K, H, W, C)``, or has size 1 along any axis of the image; volumes ``(D, H, W, C)`` likewise.
    ``A^H A = diag(sum_k |m_k|^2)``: norm, pseudo-inverse and prox are closed form. The zero frequency is at index 0. Raises
    ``ValueError`` for masks of another shape.
    """

    masks: Array = eqx.field(converter=real)
    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)

    def __init__(self, masks: Any, shape: tuple[int, ...]):
        masks = jnp.asarray(masks)
        self.masks = masks.astype(jnp.float32) if masks.dtype.kind in "biu" else masks
        self.in_structure = structure(shape, complex=True)
        fits = all(m in (1, n) for m, n in zip(masks.shape[1:], shape, strict=False))
        if len(shape) < 2 or masks.ndim != len(shape) + 1 or not fits:
            sizes = ", ".join(map(str, shape))
            raise ValueError(f"masks: expected masks that broadcast to (K, {sizes}), got shape {masks.shape}")

    @property
    def out_structure(self):
        return structure((self.masks.shape[0], *self.in_structure.shape), complex=True)

    @property
    def _basis(self) -> Fourier:
        return Fourier(tuple(range(1, len(self.in_structure.shape))))

    def _at(self, x: Array) -> Array:
        return at_precision_of(x, self.masks).astype(x.dtype)

    def apply(self, x):
        return self._basis.forward(self._at(x) * x[None])

    def adjoint(self, y):
        return _sum_slices(jnp.conj(self._at(y)) * self._basis.inverse(y))

    @property
    def gram_spectrum(self):
        masks = jnp.asarray(self.masks, dtype_at(self.masks, default_precision()))
        return Spectrum(_sum_slices(_intensity(masks)), Pixel(), Pixel())


def _sum_slices(a: Array) -> Array:
    """Sum over a short leading axis: XLA on CPU is faster at adding slices than at reducing such an axis."""
    return sum((a[k] for k in range(1, a.shape[0])), a[0])


def coded_diffraction(
    key: PRNGKeyArray, num_masks: int, shape: tuple[int, ...], *, pattern: Pattern = "octanary"
) -> CodedDiffraction:
    """Coded diffraction with random masks, the same in all channels, of ``E |m|^2 = 1``.

    "octanary": ``m = b c`` with b uniform on {1, -1, i, -i} and c = sqrt(1/2) with probability 4/5, else sqrt(3); "phase": a
    uniform phase, for which ``A^H A = K I``. Raises ``ValueError`` for another pattern. Source: Candes, Li and Soltanolkotabi
    (2015), "Phase retrieval from coded diffraction patterns".
    """
    if pattern not in get_args(Pattern):
        raise ValueError(f"pattern: expected one of {get_args(Pattern)}, got {pattern!r}")
    sizes = (num_masks, *shape[:-1], 1)
    angle_key, size_key = jax.random.split(key)
    if pattern == "phase":
        angle, size = jax.random.uniform(angle_key, sizes, jnp.float32, maxval=2 * jnp.pi), jnp.ones(sizes, jnp.float32)
    else:
        angle = jax.random.randint(angle_key, sizes, 0, 4).astype(jnp.float32) * (jnp.pi / 2)
        size = jnp.where(jax.random.bernoulli(size_key, 0.8, sizes), 0.5**0.5, 3**0.5).astype(jnp.float32)
    return CodedDiffraction(jax.lax.complex(size * jnp.cos(angle), size * jnp.sin(angle)), shape)
