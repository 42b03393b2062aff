"""The two halves of the non-uniform FFT as differentiable functions, over the package ``nufftax`` (optional, pure JAX).

Only its plain transforms are used: its primitives fail under ``jax.vmap`` of batched transforms (version 0.6.1). The
derivatives below are transforms again, so they are as accurate as the values.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Complex, Float


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def interpolate(
    points: Float[Array, "m d"], images: Complex[Array, "b ..."], eps: float | None
) -> Complex[Array, "b m"]:
    """``sum_r images[b, r] exp(-i <k_m, r>)``, with ``r = 0`` at index ``n // 2`` of each axis; "type 2"."""
    with _third_party():
        transform = getattr(_transforms("nufft2"), f"nufft{points.shape[1]}d2")
        return transform(*points.T[::-1], images, _accuracy(points, eps), -1)


@functools.partial(interpolate.defjvp, symbolic_zeros=True)
def _interpolate_jvp(eps: float | None, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """``d/dk exp(-i k r) = -i r exp(-i k r)``."""
    (points, images), (dpoints, dimages) = primals, tangents
    tangent = jnp.zeros((images.shape[0], points.shape[0]), images.dtype)
    if not isinstance(dimages, SymbolicZero):
        tangent += interpolate(points, dimages, eps)
    if not isinstance(dpoints, SymbolicZero):
        for axis, r in enumerate(_positions(images)):
            tangent += -1j * dpoints[:, axis].astype(images.dtype) * interpolate(points, r * images, eps)
    return interpolate(points, images, eps), tangent


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def spread(
    points: Float[Array, "m d"], samples: Complex[Array, "b m"], grid: tuple[int, ...], eps: float | None
) -> Complex[Array, "b ..."]:
    """``sum_m samples[b, m] exp(+i <k_m, r>)`` with ``r = 0`` at index ``n // 2``: adjoint of ``interpolate``, "type 1"."""
    with _third_party():
        transform = getattr(_transforms("nufft1"), f"nufft{points.shape[1]}d1")
        return transform(*points.T[::-1], samples, grid[::-1], _accuracy(points, eps), 1)


@functools.partial(spread.defjvp, symbolic_zeros=True)
def _spread_jvp(grid: tuple[int, ...], eps: float | None, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (points, samples), (dpoints, dsamples) = primals, tangents
    images = spread(points, samples, grid, eps)
    tangent = jnp.zeros_like(images)
    if not isinstance(dsamples, SymbolicZero):
        tangent += spread(points, dsamples, grid, eps)
    if not isinstance(dpoints, SymbolicZero):
        for axis, r in enumerate(_positions(images)):
            tangent += 1j * r * spread(points, dpoints[:, axis].astype(samples.dtype) * samples, grid, eps)
    return images, tangent


def _positions(images: Array) -> list[Array]:
    """Pixel coordinates along each axis after the first, shaped to broadcast to the images, at their dtype."""
    grid = images.shape[1:]
    shapes = (tuple(n if a == axis else 1 for a, n in enumerate((1, *grid))) for axis in range(1, len(grid) + 1))
    return [jnp.asarray(np.arange(n) - n // 2, images.dtype).reshape(s) for n, s in zip(grid, shapes, strict=True)]


def _accuracy(points: Array, eps: float | None) -> float:
    return (1e-12 if jnp.finfo(points.dtype).bits == 64 else 1e-6) if eps is None else eps


def _transforms(name: str) -> ModuleType:
    try:
        from nufftax.transforms import nufft1, nufft2
    except ImportError as error:
        raise ImportError("nufftax: expected it to be installed for NUFFT; pip install 'invjax[nufft]'") from error
    return {"nufft1": nufft1, "nufft2": nufft2}[name]


@contextlib.contextmanager
def _third_party() -> Iterator[None]:
    """The package relies on implicit promotion; a user's strict settings are for the user's own code."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
