"""Radial kernels, their sums, multiples and products."""

from __future__ import annotations

import abc
import math
import numbers
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from ..types import real
from .clouds import floating, pair


class RadialKernel(eqx.Module):
    """``K(x, y) = F(|x - y|)`` of two points ``(d,)``; a kernel says how it depends on ``q = |x - y|^2``.

    ``kernel(x, y)`` is one value, ``kernel.gram(x, y)`` the matrix of point clouds ``(n, d)`` and ``(m, d)``; for sums see
    ``kernel_sum``. Kernels are closed under ``+``, ``*`` and multiples. Precision is that of the points.

    Slicing needs the one-dimensional counterpart f, with ``F(s) = E f(<xi, s e>)`` over the uniform directions xi of the sphere:
    ``tabulate(dim, reach)`` computes on the host what f needs on ``|t| <= reach``, and ``sliced(t, dim, table)`` evaluates it for
    ``t >= 0``, differentiable in t and in the parameters.
    """

    singular: ClassVar[bool] = False
    """True where F is infinite at 0: coinciding points then do not interact."""
    smooth: ClassVar[bool] = False
    """True where the mixed derivative ``grad_x grad_y K`` is continuous, also at coinciding points."""

    @abc.abstractmethod
    def of_square(self, q: Array) -> Array:
        """``F(sqrt(q))``, elementwise, for ``q >= 0``."""

    def tabulate(self, dim: int, reach: float) -> PyTree:
        """What ``sliced`` needs in dimension ``dim`` for ``t`` up to ``reach``. Raises ``ValueError`` where f is not known."""
        raise ValueError(
            f"kernel: expected a kernel whose one-dimensional counterpart is known, got {type(self).__name__}; use "
            'method="dense"'
        )

    def sliced(self, t: Array, dim: int, table: PyTree) -> Array:
        """The one-dimensional counterpart ``f(t)`` in dimension ``dim``, for ``t >= 0``."""
        raise NotImplementedError

    def covers(self, table: PyTree, reach: Array) -> Bool[Array, ""]:
        """Whether a table serves ``t`` up to ``reach`` with the present parameters, which may be others than it was made for."""
        return jnp.asarray(True)

    def __call__(self, x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
        x, y = floating(x, "x"), floating(y, "y")
        if x.shape != y.shape or x.ndim != 1:
            raise ValueError(f"x, y: expected two points of one shape (d,), got {x.shape} and {y.shape}")
        return self.of_square(jnp.sum((x - y) ** 2))

    def gram(self, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """The matrix ``K(x_i, y_j)``, from exact differences: for clouds of a size that can be squared."""
        x, y = pair(x, y)
        one = jax.vmap(self.__call__, in_axes=(None, 0))
        return jax.vmap(one, in_axes=(0, None))(x, y)

    def __add__(self, other: Any) -> RadialKernel:
        if isinstance(other, numbers.Real) and other == 0:  # where sum() starts
            return self
        return Sum((self, other)) if isinstance(other, RadialKernel) else NotImplemented

    __radd__ = __add__

    def __mul__(self, other: Any) -> RadialKernel:
        if isinstance(other, RadialKernel):
            return Product((self, other))
        scalar = isinstance(other, numbers.Real) or (isinstance(other, (jax.Array, np.ndarray)) and other.ndim == 0)
        return Multiple(other, self) if scalar else NotImplemented

    __rmul__ = __mul__

    def __neg__(self) -> RadialKernel:
        return -1.0 * self

    def __sub__(self, other: Any) -> RadialKernel:
        return self + -other if isinstance(other, RadialKernel) else NotImplemented

    def __truediv__(self, other: Any) -> RadialKernel:
        return NotImplemented if isinstance(other, RadialKernel) else self * (1 / other)


class Sum(RadialKernel):
    """The sum of kernels."""

    terms: tuple[RadialKernel, ...]

    @property
    def singular(self) -> bool:  # type: ignore[override]
        return any(term.singular for term in self.terms)

    @property
    def smooth(self) -> bool:  # type: ignore[override]
        return all(term.smooth for term in self.terms)

    def of_square(self, q):
        return sum(term.of_square(q) for term in self.terms)

    def tabulate(self, dim, reach):
        return tuple(term.tabulate(dim, reach) for term in self.terms)

    def sliced(self, t, dim, table):
        return sum(term.sliced(t, dim, part) for term, part in zip(self.terms, table, strict=True))

    def covers(self, table, reach):
        every = [term.covers(part, reach) for term, part in zip(self.terms, table, strict=True)]
        return jnp.all(jnp.stack(every))


class Multiple(RadialKernel):
    """``weight K``: positive definite for a positive weight."""

    weight: Array = eqx.field(converter=real)
    kernel: RadialKernel

    @property
    def singular(self) -> bool:  # type: ignore[override]
        return self.kernel.singular

    @property
    def smooth(self) -> bool:  # type: ignore[override]
        return self.kernel.smooth

    def of_square(self, q):
        return in_dtype(self.weight, q) * self.kernel.of_square(q)

    def tabulate(self, dim, reach):
        return self.kernel.tabulate(dim, reach)

    def sliced(self, t, dim, table):
        return in_dtype(self.weight, t) * self.kernel.sliced(t, dim, table)

    def covers(self, table, reach):
        return self.kernel.covers(table, reach)


class Product(RadialKernel):
    """The product of kernels. Its one-dimensional counterpart is not known, so sums are dense."""

    factors: tuple[RadialKernel, ...]

    @property
    def singular(self) -> bool:  # type: ignore[override]
        return any(factor.singular for factor in self.factors)

    @property
    def smooth(self) -> bool:  # type: ignore[override]
        return all(factor.smooth for factor in self.factors)

    def of_square(self, q):
        return math.prod(factor.of_square(q) for factor in self.factors)


def require_scalars(kernel: RadialKernel) -> None:
    """Raise ``ValueError`` for a kernel with an array as a parameter: many kernels are a ``vmap``."""
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(kernel) if eqx.is_array(leaf)]
    if any(shapes):
        raise ValueError(
            f"kernel: expected parameters that are numbers, got shapes {shapes}; vmap over them for many kernels"
        )


def in_dtype(value: Any, x: Array) -> Array:
    """A parameter in the dtype of ``x``."""
    return jnp.asarray(value).astype(x.dtype)


def safe_sqrt(q: Array) -> Array:
    """``sqrt(q)`` with derivative 0 at 0: a kernel's gradient between coinciding points is 0, by symmetry."""
    zero = q <= 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, q)))
