"""Identity, pixelwise products (inpainting), dense matrices, and operators from a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..types import Fn, real
from .base import LinearOperator
from .spectrum import Pixel, Spectrum
from .structure import (
    at_precision,
    at_precision_of,
    default_precision,
    dtype_at,
    floating,
    is_complex,
    precision_of,
    structure,
)


class Identity(LinearOperator):
    """``A x = x`` (denoising) for images of ``shape``."""

    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)

    def __init__(self, shape: tuple[int, ...], *, complex: bool = False):
        self.in_structure = structure(shape, complex)

    @property
    def out_structure(self):
        return self.in_structure

    def apply(self, x):
        return x

    @property
    def spectrum(self):
        return Spectrum(jnp.ones(()), Pixel(), Pixel())

    def __matmul__(self, other):
        return (
            other
            if isinstance(other, LinearOperator) and other.out_structure == self.in_structure
            else super().__matmul__(other)
        )


class Mask(LinearOperator):
    """Pixelwise product ``y = m x`` (inpainting, apodisation): ``A^H = conj(m)``, ``A = A^+`` for a binary mask.

    ``mask`` has the shape of the image, or broadcasts to it (``(H, W, 1)`` for colour); bool, real, or complex for complex
    images. Kernel: zeros of the mask; the measurement keeps the image's shape.
    """

    mask: Array = eqx.field(converter=real)
    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)

    def __init__(self, mask: Any, shape: tuple[int, ...] | None = None, *, complex: bool = False):
        self.mask = mask = floating(mask)
        shape = mask.shape if shape is None else shape
        self.in_structure = structure(shape, complex or is_complex(self.mask))
        if mask.ndim != len(shape) or any(m not in (1, n) for m, n in zip(mask.shape, shape, strict=True)):
            raise ValueError(
                f"mask: expected a shape that broadcasts to {shape} with {len(shape)} axes, got {mask.shape}"
            )

    @property
    def out_structure(self):
        return self.in_structure

    def apply(self, x):
        return at_precision_of(x, self.mask).astype(x.dtype) * x

    @property
    def spectrum(self):
        return Spectrum(self.mask, Pixel(), Pixel())


class Matrix(LinearOperator):
    """A dense matrix ``[m, n]`` on vectors, or on arrays of ``in_shape`` (raveled in C order)."""

    matrix: Array = eqx.field(converter=real)
    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    out_structure: jax.ShapeDtypeStruct = eqx.field(static=True)

    def __init__(self, matrix: Any, in_shape: tuple[int, ...] | None = None, *, complex: bool = False):
        self.matrix = floating(matrix)
        if jnp.ndim(self.matrix) != 2:
            raise ValueError(f"matrix: expected two dimensions, got shape {jnp.shape(self.matrix)}")
        rows, columns = self.matrix.shape
        in_shape = (columns,) if in_shape is None else tuple(in_shape)
        if int(np.prod(in_shape)) != columns:
            raise ValueError(f"in_shape: expected a product of {columns}, the number of columns, got {in_shape}")
        complex = complex or is_complex(self.matrix)
        self.in_structure = structure(in_shape, complex)
        self.out_structure = structure((rows,), complex)

    def apply(self, x):
        return at_precision_of(x, self.matrix).astype(x.dtype) @ x.reshape(-1)

    def subset(self, index: Any) -> Matrix:
        """The rows that ``index`` (a slice or integers) selects, as an operator: a part of the measurement."""
        return Matrix(self.matrix[index], self.in_structure.shape, complex=is_complex(self.in_structure))


class Diagonalised(LinearOperator):
    """``V diag(values) U^H`` on arrays of ``in_structure``: an operator that is given by its spectrum.

    A function of a Hermitian operator, say: ``Diagonalised(A.gram.spectrum.map(jnp.sqrt), A.in_structure)`` is
    ``(A^H A)^(1/2)``. Coefficients are arrays of the structure in the basis ``right``, and the result is one in ``left``.
    """

    decomposition: Spectrum
    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)

    @property
    def out_structure(self):
        out = jax.eval_shape(self.apply, self.in_structure)
        return structure(out.shape, is_complex(out))

    def apply(self, x):
        return self.decomposition.apply(x)

    @property
    def spectrum(self):
        return self.decomposition


class FunctionOperator(LinearOperator):
    """See ``from_function``."""

    fn: Callable
    in_structure: PyTree = eqx.field(static=True)

    @property
    def out_structure(self):
        out = jax.eval_shape(self.apply, self.in_structure)
        return jax.tree.map(lambda s: structure(s.shape, is_complex(s)), out)

    def apply(self, x):
        fn = jax.tree.map(lambda a: at_precision_of(x, a) if eqx.is_inexact_array(a) else a, self.fn)
        return jax.tree.map(lambda a: a.astype(dtype_at(a, precision_of(x))), fn(x))


def from_function(fn: Callable, in_shape: tuple[int, ...], *arrays: Any, complex: bool = False) -> FunctionOperator:
    """An operator from a linear JAX function ``fn(x, *arrays)``; its exact adjoint is derived.

    ``arrays`` are leaves of the operator (kernels, maps, ...): ``vmap`` over them, differentiate in them, change them
    without compiling again. Raises ``ValueError`` when ``fn`` is not linear.
    """
    if arrays or not isinstance(fn, eqx.Module):
        fn = Fn(fn, *arrays)
    operator = FunctionOperator(in_structure=structure(in_shape, complex), fn=fn)
    _require_linear(operator)
    return operator


def _require_linear(A: FunctionOperator) -> None:
    precision = default_precision()
    x, y = at_precision(A.in_structure, precision), at_precision(A.out_structure, precision)
    try:
        jax.eval_shape(A.adjoint, y)
    except Exception as error:  # JAX has no one exception for this: it depends on the primitive that is not linear
        raise ValueError(f"fn: expected a linear function of x, but it cannot be transposed ({error})") from error
    at_zero = jax.tree.leaves(A.apply(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), x)))
    # An affine function passes transposition, so its value at zero is checked too (when it is concrete).
    if any(not isinstance(a, jax.core.Tracer) and bool(jnp.any(a != 0)) for a in at_zero):
        raise ValueError("fn: expected a linear function of x, but fn(0) is not zero")
