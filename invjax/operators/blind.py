"""The forward model of blind deconvolution: the blurred image as a function of the image and the kernel."""

from __future__ import annotations

import math
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from .base import LinearOperator
from .blur import Blur
from .operator import Operator
from .structure import at_precision_of, conform, structure


class BlindBlur(Operator):
    """``(x, h) -> h * x``: linear in each, for real images of ``shape`` and kernels ``(h, w)`` or ``(h, w, C)``.

    ``of_image(h)`` and ``of_kernel(x)`` are the linear operators of one with the other held fixed. Boundaries as in
    ``Blur``: circular, valid or zero. Raises ``ValueError`` for another boundary.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    kernel_shape: tuple[int, ...] = eqx.field(static=True)
    boundary: Literal["circular", "valid", "zero"] = eqx.field(static=True, default="circular")

    def __check_init__(self):
        if self.boundary not in ("circular", "valid", "zero"):
            raise ValueError(f"boundary: expected circular, valid or zero, got {self.boundary!r}")
        _ = self.out_structure

    @property
    def in_structure(self):
        return structure(self.shape), structure(self.kernel_shape)

    @property
    def out_structure(self):
        blur = eqx.filter_eval_shape(self._blur, self.in_structure[1])
        return blur.out_structure

    def apply(self, x):
        return self._blur(x[1]).apply(x[0])

    def of_image(self, h: Array) -> LinearOperator:
        """The operator ``x -> h * x``."""
        return self._blur(conform(h, self.in_structure[1], "h"))

    def of_kernel(self, x: Array) -> LinearOperator:
        """The operator ``h -> h * x``."""
        return _WithImage(self, conform(x, self.in_structure[0], "x"))

    def norms(self, x: Array, h: Array) -> tuple[Array, Array]:
        """Cheap upper bounds of the norms of ``of_image(h)`` and ``of_kernel(x)``.

        ``max |DFT(h)|``, exact for a circular boundary; and ``sqrt(k) |x|`` for a kernel of ``k`` pixels (Young's
        inequality: ``|h * x|_2 <= |h|_1 |x|_2``), close for a positive image and a small kernel.
        """
        square = jnp.sum(x**2, axis=range(x.ndim - 1))
        shared = len(self.kernel_shape) < len(self.shape) or self.kernel_shape[-1] == 1
        pixels = math.prod(self.kernel_shape[: len(self.shape) - 1])
        square = jnp.sum(square) if shared else jnp.max(square)
        return jnp.max(jnp.abs(self._blur(h).transfer)), jnp.sqrt(pixels * square)

    def _blur(self, h: Array) -> Blur:
        return Blur(h, self.shape, self.boundary)


class _WithImage(LinearOperator):
    """``h -> h * image``."""

    model: BlindBlur
    image: Array

    @property
    def in_structure(self):
        return self.model.in_structure[1]

    @property
    def out_structure(self):
        return self.model.out_structure

    def apply(self, x):
        return self.model.apply((at_precision_of(x, self.image), x))
