"""The L1 norm of orthonormal wavelet coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..operators import Wavelet
from ..operators.structure import conform
from ..types import real, squared
from .base import Prior, as_point, safe_sqrt, shrink
from .sum import Sum


class WaveletL1(Prior):
    """``lam sum |W x|`` with the orthonormal wavelet transform W (``operators.Wavelet``); prox ``W^H soft(W x)``, exact.

    ``details_only`` (default) leaves the coarsest approximation unpenalised. Raises ``ValueError`` as ``Wavelet`` does for
    an unknown wavelet or indivisible sizes, and for x of another shape or kind.
    """

    operator: Wavelet
    lam: Array = eqx.field(converter=real)
    details_only: bool = eqx.field(static=True)
    smooth: ClassVar[bool] = False

    def __init__(
        self,
        shape: tuple[int, ...],
        wavelet: str = "db4",
        level: int | None = None,
        lam: Any = 1.0,
        *,
        details_only: bool = True,
        complex: bool = False,
    ):
        self.operator = Wavelet(shape, wavelet, level, complex=complex)
        self.lam = lam
        self.details_only = details_only

    def __call__(self, x):
        x = self._point(x)
        sizes = safe_sqrt(squared(self.operator(x)))
        return self._weighted(jnp.sum(sizes * self._penalised(sizes)), sizes)

    def prox(self, x, step_size):
        x = self._point(x)
        t = self._threshold(x, step_size) * self._penalised(x)
        return self.operator.H(shrink(self.operator(x), t))

    def _point(self, x: Any) -> Array:
        return conform(as_point(x), self.operator.in_structure, "x")

    def _penalised(self, x: Array) -> Array:
        """One where a coefficient is penalised, zero elsewhere, of the shape of x."""
        mask = self.operator.is_detail if self.details_only else True
        return jnp.broadcast_to(jnp.asarray(mask, x.real.dtype), x.shape)


def wavelet_dictionary(
    shape: tuple[int, ...],
    wavelets: Sequence[str] = ("haar", "db4"),
    level: int | None = None,
    lam: Any = 1.0,
    *,
    details_only: bool = True,
    complex: bool = False,
    rtol: Any = 1e-5,
    max_inner: int = 5000,
) -> Sum:
    """``lam sum_b |W_b x|_1`` over several orthonormal wavelet bases: fewer artefacts than one basis makes.

    A ``Sum`` of ``WaveletL1``, whose arguments these are; the prox is iterative (see ``SplitPrior``).
    """
    parts = (WaveletL1(shape, w, level, details_only=details_only, complex=complex) for w in wavelets)
    return Sum(tuple(parts), lam, rtol=rtol, max_inner=max_inner)
