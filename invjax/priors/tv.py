"""Total variation."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..operators import FiniteDifferences
from ..operators.structure import conform
from ..types import real, require
from .acceleration import at_rest, require_inner
from .base import Prior, as_point
from .group import GroupL1
from .tv_prox import DualProblem, TVDual, tv_prox
from .variation import Channels, Grouping, Kind, channels_first, channels_last, squared_norm


class TV(Prior):
    """Total variation ``lam sum |D x|`` of ``(H, W, C)``, ``(D, H, W, C)``, ..., real or complex.

    ``kind="isotropic"``: Euclidean norm over the directions at a pixel; "anisotropic": sum over the directions.
    ``channels="joint"``: one norm over the channels too (vectorial TV: edges coincide); "separate": sum over the channels.
    D is ``operators.FiniteDifferences(shape, boundary)``. Rudin, Osher and Fatemi (1992); Bresson and Chan (2008). The TV-l1
    model is this prior under ``likelihoods.Laplace`` noise, in ``ChambollePock``, ``ADMM`` or ``SDMM``.

    ``prox`` runs until the duality gap is at most ``rtol`` times the objective, or ``max_inner`` (rounded up to tens) inner
    iterations; the squared error of z is at most twice the gap. It is differentiable once, in both modes, in x, lam and
    step_size: the derivative of the solution, to the accuracy that ``rtol`` gives. ``prox_step`` runs exactly ``num_inner``
    accelerated dual iterations from ``aux`` and differentiates through them, without limit of order.

    Raises ``ValueError`` for an unknown kind, channels or boundary, and for x of another shape or kind.
    """

    operator: FiniteDifferences
    lam: Array = eqx.field(converter=real)
    rtol: Array = eqx.field(converter=real)
    grouping: Grouping = eqx.field(static=True)
    max_inner: int = eqx.field(static=True)
    smooth: ClassVar[bool] = False

    def __init__(
        self,
        shape: tuple[int, ...],
        lam: Any = 1.0,
        kind: Kind = "isotropic",
        channels: Channels = "joint",
        *,
        boundary: Literal["neumann", "circular"] = "neumann",
        complex: bool = False,
        rtol: Any = 1e-5,
        max_inner: int = 5000,
    ):
        self.operator = FiniteDifferences(shape, boundary, complex=complex)
        self.lam = lam
        self.rtol = rtol
        self.grouping = Grouping(kind, channels)
        self.max_inner = max_inner

    def __check_init__(self):
        require(self.rtol, "rtol", nonnegative=True)
        require_inner(self.max_inner, "max_inner")

    def __call__(self, x):
        x = self._point(x)
        return self._weighted(self._problem.variation(channels_first(x)), x)

    def prox(self, x, step_size):
        """``argmin_z step_size lam TV(z) + |z - x|^2 / 2``, from zero dual variables, to ``rtol``."""
        x = self._point(x)
        return _cold(self._problem, x, self._threshold(x, step_size), self._tolerance(x))

    def prox_and_dual(self, x: Array, step_size: Any) -> tuple[Array, TVDual]:
        """``prox`` and the ``aux`` that it ended with, to start ``prox_step`` or to compute the gap; no reverse mode."""
        x = self._point(x)
        return _cold_with_dual(self._problem, x, self._threshold(x, step_size), self._tolerance(x))

    def prox_init(self, x):
        """Zero dual variables."""
        return self._problem.start(channels_first(self._point(x)))

    def prox_step(self, x, step_size, aux, num_inner):
        """``(z, aux)`` after ``num_inner >= 1`` accelerated dual iterations from ``aux``, beginning at rest."""
        require_inner(num_inner, "num_inner")
        x = self._point(x)
        return _warm(self._problem, x, self._threshold(x, step_size), aux, num_inner)

    def split(self) -> tuple[GroupL1, FiniteDifferences]:
        """``(outer, K)`` with ``TV(x) = outer(K(x))`` and a closed-form ``outer.prox``: what the splitting solvers use."""
        return GroupL1(self.lam, self.grouping.axes), self.operator

    def dual(self, aux: TVDual) -> Array:
        """The dual variables of ``aux`` as an array of the structure of ``operator(x)``, norms at most one."""
        return jnp.stack([channels_last(p) for p in aux.dual])

    def duality_gap(self, x: Array, z: Array, p: Array, step_size: Any) -> Float[Array, ""]:
        """Gap at primal z and dual p (``dual(aux)``, norms <= 1): ``step_size lam (TV(z) - <p, D z>) + |z - x + ...|^2 / 2``.

        Non-negative, and at least ``|z - prox(x, step_size)|^2 / 2``.
        """
        x, z = self._point(x), self._point(z)
        p = conform(p, self.operator.out_structure, "p")
        weight = self._threshold(x, step_size)
        return self._problem.gap(channels_first(x), channels_first(z), tuple(channels_first(a) for a in p), weight)

    @property
    def _problem(self) -> DualProblem:
        return DualProblem(self.grouping, self.operator.boundary, squared_norm(self.operator), self.max_inner)

    def _point(self, x: Any) -> Array:
        return conform(as_point(x), self.operator.in_structure, "x")

    def _tolerance(self, x: Array) -> Array:
        return jnp.asarray(self.rtol).astype(x.real.dtype)


@eqx.filter_jit
def _cold(problem: DualProblem, x: Array, weight: Array, rtol: Array) -> Array:
    return channels_last(tv_prox(problem, channels_first(x), weight, rtol))


@eqx.filter_jit
def _cold_with_dual(problem: DualProblem, x: Array, weight: Array, rtol: Array) -> tuple[Array, TVDual]:
    z, aux = problem.search(channels_first(x), weight, rtol)
    return channels_last(z), aux


@eqx.filter_jit
def _warm(problem: DualProblem, x: Array, weight: Array, aux: TVDual, num_inner: int) -> tuple[Array, TVDual]:
    x = channels_first(x)
    aux = problem.advance(x, weight, at_rest(aux), num_inner)
    return channels_last(problem.primal(x, weight, aux.dual)), aux
