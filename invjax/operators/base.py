"""Linear operators: ``A(x)``, ``A.H(y)``, ``A @ B``, ``A + B``, ``2 * A``, with automatic exact adjoints and known spectra."""

from typing import Any, overload

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..types import real, squared
from . import estimators, services
from .operator import Chained, Operator
from .spectrum import Spectrum, promoted
from .structure import add, at_precision, is_complex, precision_of, scale


class LinearOperator(Operator):
    """A linear map between two structures (``jax.ShapeDtypeStruct`` or tuples of them) of arrays.

    A subclass defines ``in_structure``, ``out_structure`` and ``apply``; the adjoint (conjugate transpose for the real or
    complex Euclidean inner product, no pixel-size weights) follows by exact transposition. It may define ``spectrum``, or
    ``gram_spectrum`` (of ``A^H A``) or ``cogram_spectrum`` (of ``A A^H``) alone; the services use what is known.
    The precision is that of the input; batches come from ``jax.vmap``.
    """

    def adjoint(self, y: PyTree) -> PyTree:
        """``A^H y`` for a checked ``y``; exact transposition unless a subclass has something faster."""
        transpose = jax.linear_transpose(self.apply, at_precision(self.in_structure, precision_of(y)))
        (x,) = transpose(jax.tree.map(jnp.conj, y))
        return jax.tree.map(jnp.conj, x)

    def vjp(self, x):
        return self.apply(x), self.adjoint

    @property
    def spectrum(self) -> Spectrum | None:
        """``V diag U^H`` when it is known, else None."""
        return None

    @property
    def gram_spectrum(self) -> Spectrum | None:
        """Spectrum of ``A^H A`` when it is known, else None."""
        return None if self.spectrum is None else self.spectrum.gram

    @property
    def cogram_spectrum(self) -> Spectrum | None:
        """Spectrum of ``A A^H`` when it is known, else None."""
        return None if self.spectrum is None else self.spectrum.adjoint.gram

    def push_spectrum(self, inner: Spectrum) -> Spectrum | None:
        """Spectrum of ``A G A^H`` for a Hermitian ``G`` of spectrum ``inner``, when it is known."""
        if inner.values.size == 1 and self.cogram_spectrum is not None:
            return self.cogram_spectrum.map(lambda v: jnp.multiply(*promoted(inner.values.reshape(()), v)))
        if self.spectrum is None or self.spectrum.right != inner.left:
            return None
        square = Spectrum(squared(self.spectrum.values), self.spectrum.left, self.spectrum.right)
        product = square @ inner
        return None if product is None else Spectrum(product.values, square.left, square.left)

    @property
    def H(self) -> "LinearOperator":
        """The adjoint (conjugate transpose)."""
        return Adjoint(self)

    @property
    def T(self) -> "LinearOperator":
        """The plain transpose: ``A.T(y) = conj(A.H(conj(y)))``; ``A.H`` where both sides are real."""
        sides = jax.tree.leaves((self.in_structure, self.out_structure))
        return Transpose(self) if any(is_complex(s) for s in sides) else self.H

    @property
    def gram(self) -> "LinearOperator":
        """``A^H A``; an operator may have something faster than its two halves, which iterative solves then use."""
        return Gram(self)

    def norm(self) -> Array:
        """Largest singular value; see ``services.norm`` (deterministic, constant under differentiation)."""
        return services.norm(self)

    def cond(self) -> Array:
        """Largest over smallest singular value that is not zero; see ``services.cond``."""
        return services.cond(self)

    def dense(self) -> Array:
        """Matrix of the operator (small sizes); see ``services.dense``."""
        return services.dense(self)

    def pinv(self, y: PyTree) -> PyTree:
        """Minimum-norm least-squares solution ``A^+ y``; see ``services.pinv``."""
        return services.pinv(self, y)

    def prox(self, x: PyTree, y: PyTree, step_size: Any) -> PyTree:
        """``argmin_z step_size |A z - y|^2 / 2 + |z - x|^2 / 2``; see ``services.least_squares_prox``."""
        return services.least_squares_prox(self, x, y, step_size)

    def shifted_solve(self, rhs: PyTree, step_size: Array) -> PyTree:
        """``(I + step_size A^H A)^(-1) rhs``; see ``services.shifted_solve``."""
        return services.shifted_solve(self, rhs, step_size)

    def trace(self, key: PRNGKeyArray, num_probes: int = 32) -> tuple[Array, Array]:
        """Hutchinson estimate of the trace and its standard error; see ``estimators.trace``."""
        return estimators.trace(key, self, num_probes)

    @overload
    def __matmul__(self, other: "LinearOperator") -> "LinearOperator": ...

    @overload
    def __matmul__(self, other: Operator) -> Operator: ...

    def __matmul__(self, other):
        return Composed(self, other) if isinstance(other, LinearOperator) else super().__matmul__(other)

    def __add__(self, other: "LinearOperator") -> "LinearOperator":
        if not isinstance(other, LinearOperator):
            return NotImplemented
        return Sum(self, other)

    def __sub__(self, other: "LinearOperator") -> "LinearOperator":
        return self + (-1.0) * other

    def __mul__(self, scalar: Any) -> "LinearOperator":
        if isinstance(scalar, LinearOperator):
            return NotImplemented
        return Scaled(self, scalar)

    __rmul__ = __mul__

    def __neg__(self) -> "LinearOperator":
        return (-1.0) * self


class Adjoint(LinearOperator):
    """``A^H``; made by ``A.H``."""

    operator: LinearOperator

    @property
    def in_structure(self):
        return self.operator.out_structure

    @property
    def out_structure(self):
        return self.operator.in_structure

    def apply(self, x):
        return self.operator.adjoint(x)

    def adjoint(self, y):
        return self.operator.apply(y)

    @property
    def spectrum(self):
        s = self.operator.spectrum
        return None if s is None else s.adjoint

    @property
    def gram_spectrum(self):
        return self.operator.cogram_spectrum

    @property
    def cogram_spectrum(self):
        return self.operator.gram_spectrum

    @property
    def H(self):
        return self.operator


class Gram(LinearOperator):
    """``A^H A``; made by ``A.gram``."""

    operator: LinearOperator

    @property
    def in_structure(self):
        return self.operator.in_structure

    @property
    def out_structure(self):
        return self.operator.in_structure

    def apply(self, x):
        return self.operator.adjoint(self.operator.apply(x))

    def adjoint(self, y):
        return self.apply(y)

    @property
    def spectrum(self):
        return self.operator.gram_spectrum

    @property
    def H(self):
        return self


class Transpose(LinearOperator):
    """``A^T``, without conjugation; made by ``A.T``."""

    operator: LinearOperator

    @property
    def in_structure(self):
        return self.operator.out_structure

    @property
    def out_structure(self):
        return self.operator.in_structure

    def apply(self, x):
        y = self.operator.adjoint(jax.tree.map(jnp.conj, x))
        return jax.tree.map(jnp.conj, y)

    @property
    def T(self):
        return self.operator


class Scaled(LinearOperator):
    """``scalar * A``; a complex scalar needs complex structures on both sides."""

    operator: LinearOperator
    scalar: Array = eqx.field(converter=real)

    def __check_init__(self):
        if jnp.shape(self.scalar) != ():
            raise ValueError(
                f"scalar: expected a scalar, got shape {jnp.shape(self.scalar)}; use Mask for a pixelwise product"
            )
        sides = jax.tree.leaves((self.in_structure, self.out_structure))
        if jnp.iscomplexobj(self.scalar) and not all(is_complex(s) for s in sides):
            raise ValueError(f"scalar: expected a real scalar for an operator with a real side, got {self.scalar}")

    @property
    def in_structure(self):
        return self.operator.in_structure

    @property
    def out_structure(self):
        return self.operator.out_structure

    def apply(self, x):
        return scale(self.scalar, self.operator.apply(x))

    @property
    def spectrum(self):
        s = self.operator.spectrum
        return None if s is None else Spectrum(self.scalar, s.left, s.left) @ s

    @property
    def gram_spectrum(self):
        return self._squared(self.operator.gram_spectrum)

    @property
    def cogram_spectrum(self):
        return self._squared(self.operator.cogram_spectrum)

    def _squared(self, s: Spectrum | None) -> Spectrum | None:
        return None if s is None else s.map(lambda v: jnp.asarray(squared(self.scalar), v.dtype) * v)


class Composed(Chained, LinearOperator):
    """``outer @ inner``. Factors with a common basis are merged into one known spectrum, in whatever order they were joined."""

    outer: LinearOperator
    inner: LinearOperator

    def adjoint(self, y):
        return self.inner.adjoint(self.outer.adjoint(y))

    @property
    def gram(self):
        square = self.outer.gram
        return Gram(self) if isinstance(square, Gram) else self.inner.H @ square @ self.inner

    @property
    def factors(self) -> tuple[LinearOperator, ...]:
        """The product as a flat tuple, outermost first."""
        parts = (self.outer, self.inner)
        return tuple(f for p in parts for f in (p.factors if isinstance(p, Composed) else (p,)))

    @property
    def spectrum(self):
        return _product(self.factors)

    @property
    def gram_spectrum(self):
        return super().gram_spectrum if self.spectrum is not None else _cogram([f.H for f in self.factors[::-1]])

    @property
    def cogram_spectrum(self):
        return super().cogram_spectrum if self.spectrum is not None else _cogram(self.factors)


def _product(factors) -> Spectrum | None:
    """Spectrum of a product of factors with known spectra in matching bases."""
    result = factors[-1].spectrum
    for factor in factors[-2::-1]:
        if result is None or factor.spectrum is None:
            return None
        result = factor.spectrum @ result
    return result


def _cogram(factors) -> Spectrum | None:
    """Spectrum of ``A A^H`` for a product, pushed from the innermost factor outwards."""
    result = factors[-1].cogram_spectrum
    for factor in factors[-2::-1]:
        result = None if result is None else factor.push_spectrum(result)
    return result


class Sum(LinearOperator):
    """``first + second``; the spectrum is kept when both have the same bases."""

    first: LinearOperator
    second: LinearOperator

    def __check_init__(self):
        ours = (self.first.in_structure, self.first.out_structure)
        theirs = (self.second.in_structure, self.second.out_structure)
        if ours != theirs:
            raise ValueError(f"A + B: expected equal structures, got {ours} and {theirs}")

    @property
    def in_structure(self):
        return self.first.in_structure

    @property
    def out_structure(self):
        return self.first.out_structure

    def apply(self, x):
        return add(self.first.apply(x), self.second.apply(x))

    def adjoint(self, y):
        return add(self.first.adjoint(y), self.second.adjoint(y))

    @property
    def spectrum(self):
        a, b = self.first.spectrum, self.second.spectrum
        return None if a is None or b is None else a + b
