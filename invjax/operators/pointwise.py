"""Two pointwise nonlinear models: an image through haze, and a wrapped phase."""

from __future__ import annotations

from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..types import real, require
from .operator import Operator
from .structure import at_precision_of, structure

Rounding = Literal["round", "floor"]


class Haze(Operator):
    """``y = t I + a (1 - t)`` with the transmission ``t = exp(-(beta d + offset))``.

    The unknown is the tuple ``(I, d, a)``: the clear image ``(H, W, C)``, the depth ``(H, W, 1)`` and the airlight ``(C,)``, one
    per channel. ``beta``, the scattering coefficient in units of 1 / depth, and ``offset`` are scalars. Raises ``ValueError``
    unless they are, and non-negative. Source: Narasimhan and Nayar (2002).
    """

    beta: Array = eqx.field(converter=real)
    offset: Array = eqx.field(converter=real)
    out_structure: jax.ShapeDtypeStruct = eqx.field(static=True)

    def __init__(self, shape: tuple[int, int, int], beta: Any = 0.1, offset: Any = 0.0):
        self.out_structure = structure(shape)
        self.beta, self.offset = beta, offset
        if len(shape) != 3:
            raise ValueError(f"shape: expected (H, W, C), got {shape}")

    def __check_init__(self):
        require(self.beta, "beta", nonnegative=True, shape=())
        require(self.offset, "offset", nonnegative=True, shape=())

    @property
    def in_structure(self):
        shape = self.out_structure.shape
        return structure(shape), structure((*shape[:2], 1)), structure(shape[2:])

    def apply(self, x):
        image, depth, airlight = x
        t = jnp.exp(-(at_precision_of(x, self.beta) * depth + at_precision_of(x, self.offset)))
        return t * image + airlight[None, None] * (1 - t)


class WrappedPhase(Operator):
    """``y = x - period q(x / period)``: a phase modulo ``period``, ``q`` is "round" (into ``[-period/2, period/2]``) or "floor".

    Its derivative in ``x`` is the identity almost everywhere. Real ``x`` of any shape. ``likelihoods.Itoh`` is the fidelity that
    unwraps. Raises ``ValueError`` unless ``period`` is a positive scalar, and for another rounding.
    """

    period: Array = eqx.field(converter=real)
    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    rounding: Rounding = eqx.field(static=True)

    def __init__(self, shape: tuple[int, ...], period: Any = 2 * jnp.pi, rounding: Rounding = "round"):
        self.in_structure, self.period, self.rounding = structure(shape), period, rounding
        if rounding not in get_args(Rounding):
            raise ValueError(f"rounding: expected one of {get_args(Rounding)}, got {rounding!r}")

    def __check_init__(self):
        require(self.period, "period", positive=True, shape=())

    @property
    def out_structure(self):
        return self.in_structure

    def apply(self, x):
        period = at_precision_of(x, self.period)
        q = jnp.round if self.rounding == "round" else jnp.floor
        return x - period * q(x / period)
