"""The two halves of the non-uniform FFT as JAX primitives, over the plain transforms of ``nufftax`` (optional, pure JAX).

They are linear in their values and transposes of each other, and their derivatives in the points are transforms again: exact to
any order, where those of an interpolation kernel are not finite at points of its grid. (The package's own primitives, version
0.6.1, fail under ``jax.vmap`` of several transforms.) They hold P sets of points and B transforms of each, which ``vmap`` merges.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Complex, Float


def interpolate(
    points: Float[Array, "m d"], images: Complex[Array, "b ..."], eps: float | None
) -> Complex[Array, "b m"]:
    """``sum_r images[b, r] exp(-i <k_m, r>)``, with ``r = 0`` at index ``n // 2`` of each axis ("type 2")."""
    return _interpolate_p.bind(points[None], images[None], eps=_accuracy(points, eps), sign=-1)[0]


def spread(
    points: Float[Array, "m d"], samples: Complex[Array, "b m"], grid: tuple[int, ...], eps: float | None
) -> Complex[Array, "b ..."]:
    """``sum_m samples[b, m] exp(+i <k_m, r>)``: the adjoint of ``interpolate``, on a ``grid`` ("type 1")."""
    return _spread_p.bind(points[None], samples[None], grid=tuple(grid), eps=_accuracy(points, eps), sign=1)[0]


def _accuracy(points: Array, eps: float | None) -> float:
    return (1e-12 if jnp.finfo(points.dtype).bits == 64 else 1e-6) if eps is None else eps


def _interpolate_once(points: Array, images: Array, *, eps: float, sign: int) -> Array:
    transform = getattr(_transforms()[1], f"nufft{points.shape[1]}d2")
    with _third_party():
        return transform(*points.T[::-1], images, eps, sign)


def _spread_once(points: Array, samples: Array, *, grid: tuple[int, ...], eps: float, sign: int) -> Array:
    transform = getattr(_transforms()[0], f"nufft{points.shape[1]}d1")
    with _third_party():
        return transform(*points.T[::-1], samples, grid[::-1], eps, sign)


def _interpolate_shape(points: Any, images: Any, **_: Any) -> Any:
    return jax.core.ShapedArray((*images.shape[:2], points.shape[1]), images.dtype)


def _spread_shape(points: Any, samples: Any, *, grid: tuple[int, ...], **_: Any) -> Any:
    return jax.core.ShapedArray((*samples.shape[:2], *grid), samples.dtype)


def _interpolate_jvp(primals: tuple, tangents: tuple, **params: Any) -> tuple[Array, Array]:
    """``d/dk exp(i s k r) = i s r exp(i s k r)`` with the sign s. JAX calls this when at least one tangent is not zero."""
    (points, images), (dpoints, dimages) = primals, tangents
    transform = functools.partial(_interpolate_p.bind, points, **params)
    terms = [] if type(dimages) is ad.Zero else [transform(dimages)]
    if type(dpoints) is not ad.Zero:
        weights = 1j * params["sign"] * jnp.moveaxis(dpoints, -1, 0)[:, :, None]
        positions = _positions(images.shape[2:], images.dtype)
        terms += [w.astype(images.dtype) * transform(r * images) for w, r in zip(weights, positions, strict=True)]
    return transform(images), functools.reduce(jnp.add, terms)


def _spread_jvp(primals: tuple, tangents: tuple, **params: Any) -> tuple[Array, Array]:
    (points, samples), (dpoints, dsamples) = primals, tangents
    transform = functools.partial(_spread_p.bind, points, **params)
    terms = [] if type(dsamples) is ad.Zero else [transform(dsamples)]
    if type(dpoints) is not ad.Zero:
        weights = 1j * params["sign"] * jnp.moveaxis(dpoints, -1, 0)[:, :, None]
        positions = _positions(params["grid"], samples.dtype)
        terms += [r * transform(w.astype(samples.dtype) * samples) for w, r in zip(weights, positions, strict=True)]
    return transform(samples), functools.reduce(jnp.add, terms)


def _positions(grid: tuple[int, ...], dtype: Any) -> list[Array]:
    """Pixel coordinates along each axis, shaped to broadcast to ``(P, B, *grid)``."""
    steps = np.meshgrid(*(np.arange(n) - n // 2 for n in grid), indexing="ij", sparse=True)
    return [jnp.asarray(r[None, None], dtype) for r in steps]


def _interpolate_transpose(cotangent: Array, points: Array, images: Any, **params: Any) -> tuple[None, Array]:
    return None, _spread_p.bind(points, cotangent, grid=images.aval.shape[2:], **params)


def _spread_transpose(
    cotangent: Array, points: Array, samples: Any, *, grid: tuple[int, ...], **params: Any
) -> tuple[None, Array]:
    return None, _interpolate_p.bind(points, cotangent, **params)


def _batch(primitive: Primitive, arguments: tuple, axes: tuple, **params: Any) -> tuple[Array, int]:
    """A batch of values at the same points is more transforms; a batch of points is more sets of points."""
    (points, values), (points_axis, values_axis) = arguments, axes
    if points_axis is None:
        values = jnp.moveaxis(values, values_axis, 1)
        out = primitive.bind(points, values.reshape(points.shape[0], -1, *values.shape[3:]), **params)
        return out.reshape(*values.shape[:3], *out.shape[2:]), 1
    points = jnp.moveaxis(points, points_axis, 0)
    size = points.shape[0]
    if values_axis is None:
        values = jnp.broadcast_to(values[None], (size, *values.shape))
    else:
        values = jnp.moveaxis(values, values_axis, 0)
    merged = (a.reshape(-1, *a.shape[2:]) for a in (points, values))
    out = primitive.bind(*merged, **params)
    return out.reshape(size, -1, *out.shape[1:]), 0


def _primitive(name: str, once: Any, shape: Any, jvp: Any, transpose: Any) -> Primitive:
    def every_set(points: Array, values: Array, **params: Any) -> Array:
        if points.shape[0] == 1:
            return once(points[0], values[0], **params)[None]
        return jax.vmap(lambda p, v: once(p, v, **params))(points, values)

    primitive = Primitive(name)
    primitive.def_impl(jax.jit(every_set, static_argnames=("grid", "eps", "sign")))
    primitive.def_abstract_eval(shape)
    mlir.register_lowering(primitive, mlir.lower_fun(every_set, multiple_results=False))
    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = functools.partial(_batch, primitive)
    return primitive


_interpolate_p = _primitive(
    "nufft_interpolate", _interpolate_once, _interpolate_shape, _interpolate_jvp, _interpolate_transpose
)
_spread_p = _primitive("nufft_spread", _spread_once, _spread_shape, _spread_jvp, _spread_transpose)


def _transforms() -> tuple[ModuleType, ModuleType]:
    try:
        from nufftax.transforms import nufft1, nufft2
    except ImportError as error:
        raise ImportError("nufftax: expected it to be installed for NUFFT; pip install 'invjax[nufft]'") from error
    return nufft1, nufft2


@contextlib.contextmanager
def _third_party() -> Iterator[None]:
    """The package relies on implicit promotion; a user's strict settings are for the user's own code."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
