"""Compressed sensing: Gaussian matrices that are never stored, and structured random transforms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from .base import LinearOperator
from .basic import Mask
from .crop import Crop
from .fourier import CosineTransform, FourierTransform
from .hadamard import Hadamard
from .structure import is_complex, structure

Transform = Literal["fourier", "cosine", "hadamard"]


class GaussianSensing(LinearOperator):
    """``y = A x`` with independent ``A_ij ~ N(0, 1 / m)``; complex: real and imaginary parts ``N(0, 1 / (2 m))``.

    ``|A|^2`` tends to ``(1 + sqrt(n / m))^2``. The rows are drawn again from ``key`` at every use, ``block`` of them at a
    time: memory ``block * n`` instead of ``m * n``. They are drawn in float32 at every precision, so that the operator is
    the same at all of them. Raises ``ValueError`` unless the counts are positive.
    """

    key: PRNGKeyArray
    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    out_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    block: int = eqx.field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        num_measurements: int,
        shape: tuple[int, ...],
        *,
        block: int = 64,
        complex: bool = False,
    ):
        if num_measurements < 1:
            raise ValueError(f"num_measurements: expected an integer >= 1, got {num_measurements}")
        if block < 1:
            raise ValueError(f"block: expected an integer >= 1, got {block}")
        self.key, self.block = key, min(block, num_measurements)
        self.in_structure, self.out_structure = structure(shape, complex), structure((num_measurements,), complex)

    @property
    def _num_blocks(self) -> int:
        return -(-self.out_structure.shape[0] // self.block)

    @property
    def _num_unknowns(self) -> int:
        return math.prod(self.in_structure.shape)

    def _rows(self, index: Array, dtype: Any) -> Array:
        kind = jnp.complex64 if is_complex(self.in_structure) else jnp.float32
        draw = jax.random.normal(jax.random.fold_in(self.key, index), (self.block, self._num_unknowns), kind)
        return draw.astype(dtype) * self.out_structure.shape[0] ** -0.5

    def apply(self, x):
        flat = x.ravel()
        blocks = jax.lax.map(lambda i: self._rows(i, x.dtype) @ flat, jnp.arange(self._num_blocks))
        return blocks.ravel()[: self.out_structure.shape[0]]

    def adjoint(self, y):
        rest = self._num_blocks * self.block - y.size
        blocks = jnp.pad(y, (0, rest)).reshape(self._num_blocks, self.block)

        def add(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
            index, values = part
            return total + jnp.conj(self._rows(index, y.dtype)).T @ values, None

        total, _ = jax.lax.scan(add, jnp.zeros(self._num_unknowns, y.dtype), (jnp.arange(self._num_blocks), blocks))
        return total.reshape(self.in_structure.shape)


def structured_random(
    key: PRNGKeyArray,
    shape: tuple[int, ...],
    out_shape: tuple[int, ...] | None = None,
    *,
    num_layers: int = 2,
    transform: Transform = "fourier",
) -> LinearOperator:
    """``A = R (F D_L) ... (F D_1)``: random diagonals and fast transforms, then a crop ``R`` to ``out_shape``.

    The diagonals are random phases for "fourier" (a complex operator) and random signs for "cosine" and "hadamard" (real).
    A larger ``out_shape`` pads the image with zeros first. Unitary when the shapes are equal; ``A A^H = I`` after a crop.
    Raises ``ValueError`` for another transform, or shapes that are neither smaller nor larger in all axes.
    """
    if transform not in get_args(Transform):
        raise ValueError(f"transform: expected one of {get_args(Transform)}, got {transform!r}")
    out_shape = shape if out_shape is None else tuple(out_shape)
    if len(out_shape) != len(shape):
        raise ValueError(f"out_shape: expected {len(shape)} axes, got {out_shape}")
    larger = tuple(max(a, b) for a, b in zip(shape, out_shape, strict=True))
    if larger not in (shape, out_shape):
        raise ValueError(
            f"out_shape: expected no axis smaller where another is larger than in {shape}, got {out_shape}"
        )
    complex = transform == "fourier"
    make: dict[str, Callable[..., LinearOperator]]
    make = {"fourier": FourierTransform, "cosine": CosineTransform, "hadamard": Hadamard}
    operator: LinearOperator | None = Crop(larger, shape, complex=complex).H if larger != shape else None
    for layer_key in jax.random.split(key, num_layers):
        layer = make[transform](larger) @ Mask(_diagonal(layer_key, larger, complex), larger, complex=complex)
        operator = layer if operator is None else layer @ operator
    if operator is None:
        raise ValueError(f"num_layers: expected an integer >= 1, got {num_layers}")
    return Crop(larger, out_shape, complex=complex) @ operator if larger != out_shape else operator


def _diagonal(key: PRNGKeyArray, shape: tuple[int, ...], complex: bool) -> Array:
    if not complex:
        return jax.random.rademacher(key, shape, jnp.float32)
    angle = jax.random.uniform(key, shape, jnp.float32, maxval=2 * jnp.pi)
    return jax.lax.complex(jnp.cos(angle), jnp.sin(angle))
