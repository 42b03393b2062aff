"""Total generalised variation of second order."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..implicit import frozen, implicit_solve
from ..operators import FiniteDifferences
from ..operators.structure import conform
from ..types import inner, real, require
from .acceleration import require_inner
from .base import Prior, as_point
from .tgv_prox import TGVProblem, TGVState, total
from .variation import Channels, Grouping, channels_first, channels_last


class TGV(Prior):
    """``lam min_w |D x - w| + ratio |E w|`` of ``(H, W, C)``, ``(D, H, W, C)``, ..., real or complex: no staircases.

    ``D x - w`` and the symmetrised differences ``E w`` are measured by the sum over pixels of their Euclidean (Frobenius) norms,
    over the channels too ("joint") or channel by channel ("separate"). Affine images cost nothing, and ``TGV <= TV``. In
    the usual notation ``alpha_1 = lam`` and ``alpha_0 = lam ratio``. Bredies, Kunisch and Pock (2010).

    Value and prox are iterative (see ``priors.tgv_prox``), until the duality gap is at most ``rtol`` times the objective or
    ``max_inner`` (rounded up to tens) iterations; the squared error of the prox is at most twice the gap. The prox has the
    derivative of the solution, in both modes; that of the value is a subgradient, of first order only. ``prox_step`` runs
    exactly ``num_inner`` iterations from ``aux`` and differentiates through them.

    Raises ``ValueError`` for an unknown boundary or channels, ``ratio <= 0``, and for x of another shape or kind.
    """

    operator: FiniteDifferences
    lam: Array
    ratio: Array
    rtol: Array
    grouping: Grouping = eqx.field(static=True)
    max_inner: int = eqx.field(static=True)
    smooth: ClassVar[bool] = False

    def __init__(
        self,
        shape: tuple[int, ...],
        lam: Any = 1.0,
        ratio: Any = 2.0,
        channels: Channels = "joint",
        *,
        boundary: Literal["neumann", "circular"] = "neumann",
        complex: bool = False,
        rtol: Any = 1e-4,
        max_inner: int = 5000,
    ):
        self.operator = FiniteDifferences(shape, boundary, complex=complex)
        self.lam, self.ratio, self.rtol = real(lam), real(ratio), real(rtol)
        self.grouping = Grouping("isotropic", channels)
        self.max_inner = max_inner

    def __check_init__(self):
        require(self.ratio, "ratio", positive=True, shape=())
        require(self.rtol, "rtol", nonnegative=True)
        require_inner(self.max_inner, "max_inner")

    def __call__(self, x):
        x = self._point(x)
        return self._weighted(_value(self._problem(x, jnp.ones((), x.real.dtype), denoise=False), *self._stop(x)), x)

    def prox(self, x, step_size):
        """``argmin_z step_size lam TGV(z) + |z - x|^2 / 2``, from zero dual variables, to ``rtol``."""
        x = self._point(x)
        return _cold(self._problem(x, self._threshold(x, step_size)), *self._stop(x))

    def prox_init(self, x):
        """``z = x``, the rest zero."""
        x = self._point(x)
        return self._problem(x, self._threshold(x, 1.0)).start()

    def prox_step(self, x: Any, step_size: Any, aux: TGVState, num_inner: int) -> tuple[Array, TGVState]:
        """``(z, aux)`` after ``num_inner >= 1`` iterations from ``aux``."""
        require_inner(num_inner, "num_inner")
        x = self._point(x)
        return _warm(self._problem(x, self._threshold(x, step_size)), aux, num_inner)

    def duality_gap(self, x: Array, aux: TGVState, step_size: Any) -> Float[Array, ""]:
        """Gap of ``aux`` in the problem of the prox: at least ``|z - prox(x, step_size)|^2 / 2``."""
        x = self._point(x)
        return self._problem(x, self._threshold(x, step_size)).gap(aux)[0]

    def _problem(self, x: Array, weight: Array, denoise: bool = True) -> TGVProblem:
        ratio = jnp.asarray(self.ratio).astype(weight.dtype)
        return TGVProblem(channels_first(x), weight, ratio, self.grouping, self.operator.boundary, denoise)

    def _point(self, x: Any) -> Array:
        return conform(as_point(x), self.operator.in_structure, "x")

    def _stop(self, x: Array) -> tuple[Array, int]:
        return jnp.asarray(self.rtol).astype(x.real.dtype), self.max_inner


@eqx.filter_jit
def _value(problem: TGVProblem, rtol: Array, max_inner: int) -> Float[Array, ""]:
    """The objective at the minimising ``w``; by duality its derivative in x is ``D^H p``, and that in ratio is ``|E w|``."""
    rtol, fixed = frozen((rtol, problem))
    state = fixed.search(rtol, max_inner)
    p, q = fixed.certificate(state)
    slope, bend = (total(fixed.grouping.norms(v)) for v in fixed.apply(fixed.x, state.w))
    pull, _ = fixed.adjoint(p, q)
    return slope + problem.ratio * bend + inner(pull, problem.x - fixed.x)


@eqx.filter_jit
def _cold(problem: TGVProblem, rtol: Array, max_inner: int) -> Array:
    state, _ = implicit_solve(problem, lambda fixed, rtol: (fixed.search(rtol, max_inner), ()), rtol)
    return channels_last(state.z)


@eqx.filter_jit
def _warm(problem: TGVProblem, aux: TGVState, num_inner: int) -> tuple[Array, TGVState]:
    aux = problem.advance(aux, num_inner)
    return channels_last(aux.z), aux
