"""The base class of explicit priors (regularisers): a weighted potential with its prox, gradient and calculus."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, PyTree

from ..operators.structure import scale
from ..types import grad, real, require, squared


class Prior(eqx.Module):
    """A regulariser ``g(x) = lam R(x)`` with ``lam >= 0``; ``c * g`` scales the weight, ``g + h`` is a ``Sum``.

    A subclass defines ``__call__`` and ``prox`` and sets ``smooth``. Methods call the warm form (``prox_init``,
    ``prox_step``), which here is the closed form; iterative proxes carry their unknowns in ``aux``. One sample, real or
    complex; results have the precision of x. ``step_size`` is a non-negative scalar.
    """

    lam: eqx.AbstractVar[Array]
    smooth: ClassVar[bool]

    def __check_init__(self):
        require(self.lam, "lam", nonnegative=True)

    @abc.abstractmethod
    def __call__(self, x: Inexact[Array, "*n"]) -> Float[Array, ""]:
        """``lam R(x)``."""

    @abc.abstractmethod
    def prox(self, x: Inexact[Array, "*n"], step_size: Any) -> Inexact[Array, "*n"]:
        """``argmin_z step_size lam R(z) + |z - x|^2 / 2``."""

    def grad(self, x: Inexact[Array, "*n"]) -> Inexact[Array, "*n"]:
        """Gradient of the potential. Raises ``ValueError`` for a prior that is not smooth."""
        if not self.smooth:
            raise ValueError(
                f"grad: {type(self).__name__} is not smooth; use prox, the gradient moreau_grad of its Moreau envelope, "
                "or a smooth prior such as SmoothedTV or Tikhonov"
            )
        return grad(self, as_point(x))

    def score(self, x: Inexact[Array, "*n"]) -> Inexact[Array, "*n"]:
        """``-grad(x)``. Raises ``ValueError`` for a prior that is not smooth."""
        return -self.grad(x)

    def conj_prox(self, x: Inexact[Array, "*n"], step_size: Any) -> Inexact[Array, "*n"]:
        """Prox of the convex conjugate, ``x - s prox(x / s, 1 / s)`` with ``s = step_size > 0`` (Moreau's identity)."""
        x = as_point(x)
        require(step_size, "step_size", positive=True)
        step = _scalar(step_size, "step_size", x)
        return x - scale(step, self.prox(scale(1 / step, x), 1 / step))

    def moreau_grad(self, x: Inexact[Array, "*n"], step_size: Any) -> Inexact[Array, "*n"]:
        """``(x - prox(x, step_size)) / step_size``, the gradient of the Moreau envelope; 1/step_size-Lipschitz."""
        x = as_point(x)
        require(step_size, "step_size", positive=True)
        return scale(1 / _scalar(step_size, "step_size", x), x - self.prox(x, step_size))

    def prox_init(self, x: Inexact[Array, "*n"]) -> PyTree:
        """What ``prox_step`` carries from call to call: nothing, for a closed form."""
        return ()

    def prox_step(self, x: Inexact[Array, "*n"], step_size: Any, aux: PyTree, num_inner: int) -> tuple[Array, PyTree]:
        """``(z, aux)`` after ``num_inner`` inner iterations from ``aux``; the exact prox where that is closed form."""
        return self.prox(x, step_size), aux

    def __mul__(self, scalar: Any) -> Prior:
        if isinstance(scalar, eqx.Module):
            return NotImplemented
        require(scalar, "scalar", nonnegative=True)
        return eqx.tree_at(lambda g: g.lam, self, self.lam * real(scalar))

    __rmul__ = __mul__

    def __add__(self, other: Prior) -> Prior:
        if not isinstance(other, Prior):
            return NotImplemented
        from .sum import Sum  # here, since a sum is a prior

        return Sum(tuple(g for term in (self, other) for g in (term.terms if isinstance(term, Sum) else (term,))))

    def _threshold(self, x: Array, step_size: Any) -> Array:
        """``lam * step_size`` at the precision of x."""
        require(step_size, "step_size", nonnegative=True)
        return _scalar(self.lam, "lam", x) * _scalar(step_size, "step_size", x)

    def _weighted(self, value: Array, x: Array) -> Array:
        """``lam * value`` at the precision of x."""
        return _scalar(self.lam, "lam", x) * value


def _scalar(value: Any, name: str, x: Array) -> Array:
    array = jnp.asarray(real(value))
    require(array, name, shape=())
    return array.astype(x.real.dtype)


def as_point(x: Any) -> Array:
    """The array x. Raises ``ValueError`` unless it is real floating or complex."""
    x = jnp.asarray(real(x))
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise ValueError(f"x: expected a floating or complex dtype, got {x.dtype}")
    return x


def safe_sqrt(square: Array) -> Array:
    """Square root whose gradient at zero is zero (not NaN)."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def shrink(x: Array, threshold: Array) -> Array:
    """Soft-thresholding of the magnitude, ``x max(1 - threshold / |x|, 0)``; ``threshold`` is a scalar or of the shape of x."""
    if not jnp.iscomplexobj(x):
        return x - jnp.clip(x, -threshold, threshold)
    size = safe_sqrt(squared(x))
    kept = size > threshold
    return scale(jnp.where(kept, 1 - threshold / jnp.where(kept, size, 1), 0), x)
