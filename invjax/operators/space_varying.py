"""Blurs whose kernel changes over the image: sums of products and convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..types import real
from .base import LinearOperator
from .blur import Blur, Boundary
from .structure import at_precision_of, is_complex

Order = Literal["product_convolution", "convolution_product"]


class SpaceVaryingBlur(LinearOperator):
    """``y = sum_k h_k * (w_k x)`` ("product_convolution") or ``sum_k w_k (h_k * x)`` ("convolution_product").

    ``kernels`` are ``(K, h, w)`` or ``(K, h, w, C)`` (volumes: one more axis) with the boundaries of ``Blur``; ``weights`` are
    ``(K, H, W, 1)`` or ``(K, H, W, C)``, on the input grid in the first order and on the output grid in the second. Weights that
    sum to one blend the kernels: by the pixel that light comes from in the first order, by the one that it falls on in the
    second. ``K + 1`` Fourier transforms, one image of memory beyond the arrays. As in ``Blur``, build the operator inside the
    function that is differentiated in the kernels. Raises ``ValueError`` when the arrays do not fit the image.

    Reference: Escande and Weiss (2017), Approximation of integral operators using product-convolution expansions.
    """

    blurs: Blur
    weights: Array
    order: Order = eqx.field(static=True)

    def __init__(
        self,
        kernels: Any,
        weights: Any,
        shape: tuple[int, ...],
        boundary: Boundary = "circular",
        *,
        order: Order = "product_convolution",
        complex: bool = False,
    ):
        if order not in get_args(Order):
            raise ValueError(f"order: expected one of {get_args(Order)}, got {order!r}")
        kernels, self.weights, self.order = real(kernels), real(weights), order
        if kernels.ndim not in (len(shape), len(shape) + 1):
            raise ValueError(
                f"kernels: expected a leading axis of kernels and {len(shape) - 1} spatial axes, got shape {kernels.shape}"
            )
        self.blurs = eqx.filter_vmap(lambda kernel: Blur(kernel, shape, boundary, complex=complex))(kernels)
        expected = (kernels.shape[0], *self._weighted.shape)
        if self.weights.shape not in (expected, (*expected[:-1], 1)):
            raise ValueError(f"weights: expected shape {(*expected[:-1], 1)} or {expected}, got {self.weights.shape}")
        if is_complex(self.weights) and not complex:
            raise ValueError("weights: expected real weights for a real image (or complex=True), got complex ones")

    @property
    def _weighted(self):
        """The structure that the weights multiply."""
        return self.in_structure if self.order == "product_convolution" else self.out_structure

    @property
    def in_structure(self):
        return self.blurs.in_structure

    @property
    def out_structure(self):
        return self.blurs.out_structure

    def apply(self, x):
        blurs, terms = self.blurs, (at_precision_of(x, self.blurs.transfer), at_precision_of(x, self.weights))
        plane = jax.eval_shape(blurs.to_fourier, x)
        if self.order == "product_convolution":
            return blurs.from_fourier(
                _sum(lambda h, w: h.astype(plane.dtype) * blurs.to_fourier(w.astype(x.dtype) * x), terms, plane)
            )
        coefficients = blurs.to_fourier(x)
        image = jax.eval_shape(blurs.from_fourier, plane)
        return _sum(
            lambda h, w: w.astype(x.dtype) * blurs.from_fourier(h.astype(plane.dtype) * coefficients), terms, image
        )


def _sum(term: Callable[[Array, Array], Array], terms: tuple[Array, Array], like: jax.ShapeDtypeStruct) -> Array:
    """``sum_k term(*terms_k)``, one term at a time: faster on CPU than a batch, and the memory of one."""
    zero = jnp.zeros(like.shape, like.dtype)
    return jax.lax.scan(lambda total, t: (total + term(*t), None), zero, terms)[0]
