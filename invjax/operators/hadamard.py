"""The Walsh-Hadamard transform, fast and orthonormal, and the single-pixel camera that measures a part of it."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .base import LinearOperator
from .basic import Mask
from .structure import is_complex, structure
from .transform import UnitaryTransform

Ordering = Literal["sequency", "cake_cutting", "zig_zag", "xy"]


@dataclasses.dataclass(frozen=True)
class Walsh:
    """Orthonormal Walsh-Hadamard basis over ``axes``, in natural (Sylvester) order: its own inverse."""

    axes: tuple[int, ...]

    def forward(self, x: Array) -> Array:
        """``H x`` by ``log2 n`` passes of sums and differences per axis: O(n log n)."""
        for axis in self.axes:
            n = x.shape[axis]
            y = jnp.moveaxis(x, axis, -1)
            for half in (2**k for k in range(n.bit_length() - 1)):
                pairs = y.reshape(*y.shape[:-1], n // (2 * half), 2, half)
                a, b = pairs[..., 0, :], pairs[..., 1, :]
                y = jnp.stack([a + b, a - b], axis=-2).reshape(y.shape)
            x = jnp.moveaxis(y, -1, axis) * (n**-0.5)
        return x

    def inverse(self, coefficients: Array) -> Array:
        """The same: ``H = H^(-1)``."""
        return self.forward(coefficients)


class Hadamard(UnitaryTransform):
    """Orthonormal Walsh-Hadamard transform over the spatial axes of ``(H, W, C)``, natural order: ``A = A^H = A^(-1)``.

    Raises ``ValueError`` unless the spatial sizes are powers of two.
    """

    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)

    def __init__(self, shape: tuple[int, ...], *, complex: bool = False):
        self.in_structure = structure(shape, complex)
        if len(shape) < 2 or any(n & (n - 1) for n in shape[:-1]):
            raise ValueError(f"shape: expected spatial sizes that are powers of two, and channels, got {shape}")

    @property
    def basis(self) -> Walsh:
        """The Walsh basis of the transform."""
        return Walsh(tuple(range(len(self.in_structure.shape) - 1)))


def sequency(n: int) -> np.ndarray:
    """Number of sign changes of each row of the Sylvester-Hadamard matrix of size ``n``, a power of two: a permutation."""
    bits = n.bit_length() - 1
    reversed_bits = np.array([int(format(i, f"0{bits}b")[::-1], 2) if bits else 0 for i in range(n)])
    binary = reversed_bits.copy()  # from Gray code to binary
    for shift in range(1, bits):
        binary ^= reversed_bits >> shift
    return binary


def hadamard_order(sizes: tuple[int, int], ordering: Ordering = "sequency") -> np.ndarray:
    """Rank ``(H, W)`` of every two-dimensional pattern; patterns of low rank are measured first.

    With ``a, b`` the sign changes of a pattern along the axes: "sequency" ranks by sign changes along the raster scan,
    "cake_cutting" by the number of connected blocks ``(a + 1) (b + 1)`` (Yu 2019), "zig_zag" along anti-diagonals of
    ``(a, b)``, "xy" by the product ``a b``. Ties are broken by ``a + b``, then ``a``. Raises ``ValueError`` for another name.
    """
    if ordering not in get_args(Ordering):
        raise ValueError(f"ordering: expected one of {get_args(Ordering)}, got {ordering!r}")
    a, b = np.meshgrid(sequency(sizes[0]), sequency(sizes[1]), indexing="ij")
    along = np.where((a + b) % 2 == 0, a, b)  # the direction alternates from one anti-diagonal to the next
    keys = {
        "sequency": (sequency(sizes[0] * sizes[1]).reshape(sizes),),
        "cake_cutting": ((a + 1) * (b + 1), a + b, a),
        "zig_zag": (a + b, along),
        "xy": (a * b, a + b, a),
    }[ordering]
    order = np.lexsort([k.ravel() for k in keys[::-1]])
    rank = np.empty(a.size, int)
    rank[order] = np.arange(a.size)
    return rank.reshape(sizes)


def single_pixel_camera(
    shape: tuple[int, int, int], num_measurements: int, ordering: Ordering = "sequency", *, complex: bool = False
) -> LinearOperator:
    """``y = M H x``: the first ``num_measurements`` Hadamard coefficients of an image ``(H, W, C)`` in the given order.

    The measurement keeps the layout of the image, with zeros where nothing is measured. ``|A| = 1``, ``A^+ = A^H``, and the
    prox is closed form. Raises ``ValueError`` for sizes that are no powers of two, or a number outside 1 ... H W.
    """
    transform = Hadamard(shape, complex=complex)
    if len(shape) != 3 or not 1 <= num_measurements <= shape[0] * shape[1]:
        raise ValueError(
            f"num_measurements: expected 1 to the number of pixels of an image {shape}, got {num_measurements}"
        )
    kept = hadamard_order(shape[:2], ordering) < num_measurements
    return Mask(kept[..., None], shape, complex=is_complex(transform.in_structure)) @ transform
