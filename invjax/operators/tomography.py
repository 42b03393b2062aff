"""X-ray transforms: parallel and fan beams through images, parallel and cone beams through volumes, with exact adjoints.

**Geometry.** x points to the right and y upwards in an image ``(H, W, C)`` (row 0 is on top); z is the first axis of a volume
``(D, H, W, C)`` and the axis of rotation. The origin, which is the centre of rotation, is the middle of the grid. At the angle
``theta`` (radians) the detector lies along ``u = (cos theta, sin theta)`` and rays go in the direction
``e = (-sin theta, cos theta)``: at 0 the source is below, rays go upwards, and detectors are counted from left to right. A
growing angle turns source and detector counter-clockwise. The middle of the detector is on the ray through the origin, so that
``num`` detectors have the coordinates ``(k - (num - 1) / 2) spacing``. Rows of a flat detector are counted along z.

The value of a detector is the line integral over the ray through its middle. Detectors much wider than a pixel do not see all
pixels, unless ``oversample`` gives them several rays, whose mean they measure. No entry of the matrix is negative. Nothing
outside the grid counts; a field of view that is a disc is the product with a ``Mask``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..types import real, require
from . import joseph, joseph_3d, joseph_parallel
from .base import LinearOperator
from .structure import at_precision_of, is_complex, structure
from .transposable import with_transpose


class XRayTransform(LinearOperator):
    """``y[angle, detector] = integral of x along the ray``; made by ``parallel_beam``, ``fan_beam`` or ``cone_beam``.

    Takes ``(H, W, C)`` to ``(angles, detectors, C)``, or ``(D, H, W, C)`` to ``(angles, rows, columns, C)``, real or complex. The
    adjoint is the exact transpose, also inside ``jax.grad``. All lengths have the unit of ``pixel_size``. Angles, spacing,
    pixel size and distances are leaves: differentiable almost everywhere (the interpolation has kinks). The loop over lines of
    pixels, or over angles in the adjoint, keeps the memory at a few times input and output. ``taps``: how many rays of one
    angle can meet a pixel, in rows and columns of the detector; it follows from the geometry and is static.
    """

    angles: Array = eqx.field(converter=real)
    detector_spacing: Array = eqx.field(converter=real)
    pixel_size: Array = eqx.field(converter=real)
    source_distance: Array | None = eqx.field(converter=real)
    detector_distance: Array | None = eqx.field(converter=real)
    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    out_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    oversample: int = eqx.field(static=True)
    taps: tuple[int, ...] = eqx.field(static=True)

    def apply(self, x):
        A = self._at_precision_of(x)
        return on_real_channels(lambda v: A.pixel_size * with_transpose(A._project, A._back_project, v), x)

    def adjoint(self, y):
        A = self._at_precision_of(y)
        return on_real_channels(lambda v: A.pixel_size * with_transpose(A._back_project, A._project, v), y)

    def subset(self, index: Any) -> XRayTransform:
        """The operator of the angles that ``index`` (a slice or integers) selects: a part of the measurement."""
        angles = self.angles[index]
        out = structure((angles.shape[0], *self.out_structure.shape[1:]), is_complex(self.out_structure))
        return dataclasses.replace(self, angles=angles, out_structure=out)

    def rays(self) -> tuple[Array, Array]:
        """A point and the unit direction of each detector's ray: ``(angles, [rows,] detectors, 2 or 3)``, in (x, y, z)."""
        spacing, divergence = self.virtual_detector()
        counts = self.out_structure.shape[1:-1]
        *heights, along = joseph.detector_grid(counts, spacing)
        turns = self.angles.reshape(-1, *(1,) * len(counts))
        cos, sin = jnp.cos(turns), jnp.sin(turns)
        first = jnp.stack(jnp.broadcast_arrays(along * cos, along * sin, *heights), -1)
        directions = jnp.stack(jnp.broadcast_arrays(-sin, cos, *(0.0 * h for h in heights)), -1) + divergence * first
        return first * self.pixel_size, directions / jnp.linalg.norm(directions, axis=-1, keepdims=True)

    def virtual_detector(self) -> tuple[Array, Array]:
        """Spacing of the detector moved to the origin along its rays, and 1 / source distance (0 if parallel), in pixels."""
        spacing = jnp.broadcast_to(self.detector_spacing / self.pixel_size, len(self.out_structure.shape) - 2)
        if self.source_distance is None or self.detector_distance is None:
            return spacing, jnp.zeros((), spacing.dtype)
        return spacing / (1 + self.detector_distance / self.source_distance), self.pixel_size / self.source_distance

    def _at_precision_of(self, x: Array) -> XRayTransform:
        return jax.tree.map(lambda a: at_precision_of(x, a), self)

    def _project(self, x: Array) -> Array:
        k, counts = self.oversample, self.out_structure.shape[1:-1]
        spacing, divergence = self.virtual_detector()
        spacing, fine = spacing / k, tuple(k * n for n in counts)
        if self.source_distance is None and len(counts) == 1:
            y = joseph_parallel.project(x, self.angles, spacing[0], fine[0])
        elif self.source_distance is None:
            y = joseph_parallel.project_volume(x, self.angles, spacing, fine)
        elif len(counts) == 1:
            y = joseph.project(x, self.angles, spacing[0], divergence, fine[0])
        else:
            y = joseph_3d.project(x, self.angles, spacing, divergence, fine)
        for axis in range(1, y.ndim - 1) if k > 1 else ():
            y = y.reshape(*y.shape[:axis], -1, k, *y.shape[axis + 1 :]).mean(axis + 1)
        return y

    def _back_project(self, y: Array) -> Array:
        k, sizes = self.oversample, self.in_structure.shape[:-1]
        spacing, divergence = self.virtual_detector()
        spacing = spacing / k
        for axis in range(1, y.ndim - 1) if k > 1 else ():
            y = jnp.repeat(y, k, axis) / k
        if self.source_distance is None and len(sizes) == 2:
            return joseph_parallel.back_project(y, self.angles, spacing[0], sizes, self.taps[0])
        if self.source_distance is None:
            return joseph_parallel.back_project_volume(y, self.angles, spacing, sizes, self.taps[1])
        if len(sizes) == 2:
            return joseph.back_project(y, self.angles, spacing[0], divergence, sizes, self.taps[0])
        return joseph_3d.back_project(y, self.angles, spacing, divergence, sizes, self.taps)


def on_real_channels(fn: Any, x: Array) -> Array:
    """A real linear map over all axes but the channels, on real or complex arrays."""
    if not is_complex(x):
        return fn(x)
    real_part, imaginary_part = jnp.split(fn(jnp.concatenate([x.real, x.imag], -1)), 2, -1)
    return jax.lax.complex(real_part, imaginary_part)


def parallel_beam(
    angles: Any,
    shape: tuple[int, ...],
    num_detectors: int | tuple[int, int],
    *,
    detector_spacing: Any = None,
    pixel_size: Any = 1.0,
    oversample: int = 1,
    complex: bool = False,
) -> XRayTransform:
    """Parallel-beam tomography of an image ``(H, W, C)``, or with ``num_detectors=(rows, columns)`` of a volume ``(D, H, W, C)``.

    ``angles`` (radians) is any vector. ``detector_spacing`` is a scalar or ``(row, column)``, and ``pixel_size`` by default; then
    ``|A|^2`` is about the number of angles times the width, for a pixel size of 1.

    Raises ``ValueError`` for arrays or shapes that do not belong together, for sizes that are not positive, and for a traced
    spacing, pixel size or distance: they fix how many rays can meet a pixel. Build the operator outside ``jit`` and replace these
    leaves by ``eqx.tree_at`` to differentiate in them or to batch them.
    """
    spacing = pixel_size if detector_spacing is None else detector_spacing
    return _build(angles, shape, num_detectors, (spacing, pixel_size, None, None), oversample, complex)


def fan_beam(
    angles: Any,
    shape: tuple[int, int, int],
    num_detectors: int,
    *,
    source_distance: Any,
    detector_distance: Any,
    detector_spacing: Any = None,
    pixel_size: Any = 1.0,
    oversample: int = 1,
    complex: bool = False,
) -> XRayTransform:
    """Fan-beam tomography of an image ``(H, W, C)``: a point source on a circle and a straight detector opposite.

    ``source_distance`` and ``detector_distance`` are those of the origin from the source and from the detector. A pixel at the
    origin casts a shadow ``1 + detector_distance / source_distance`` times as wide; this is ``detector_spacing`` by default.
    Raises ``ValueError`` as ``parallel_beam`` does, and for a source inside the circle around the image.
    """
    if len(shape) != 3:
        raise ValueError(f"shape: expected (H, W, C), got {shape}; volumes need a cone_beam")
    geometry = _diverging(detector_spacing, pixel_size, source_distance, detector_distance)
    return _build(angles, shape, num_detectors, geometry, oversample, complex)


def cone_beam(
    angles: Any,
    shape: tuple[int, int, int, int],
    num_detectors: tuple[int, int],
    *,
    source_distance: Any,
    detector_distance: Any,
    detector_spacing: Any = None,
    pixel_size: Any = 1.0,
    oversample: int = 1,
    complex: bool = False,
) -> XRayTransform:
    """Cone-beam tomography of a volume ``(D, H, W, C)``: as ``fan_beam``, with a flat detector of ``(rows, columns)``.

    The source moves on the circle in the plane z = 0. ``detector_spacing`` is a scalar or ``(row, column)``. Rays step from one
    vertical plane of voxels to the next, so those much steeper than 45 degrees are sampled coarsely. Raises ``ValueError`` as
    ``fan_beam`` does.
    """
    if len(shape) != 4:
        raise ValueError(f"shape: expected (D, H, W, C), got {shape}; images need a fan_beam")
    geometry = _diverging(detector_spacing, pixel_size, source_distance, detector_distance)
    return _build(angles, shape, num_detectors, geometry, oversample, complex)


Geometry = tuple[Any, Any, Any, Any]  # detector spacing, pixel size, distances of source and detector


def _diverging(spacing: Any, pixel_size: Any, source_distance: Any, detector_distance: Any) -> Geometry:
    require(source_distance, "source_distance", positive=True, shape=())
    require(detector_distance, "detector_distance", nonnegative=True, shape=())
    if spacing is None:
        spacing = pixel_size * (1 + detector_distance / source_distance)
    return spacing, pixel_size, source_distance, detector_distance


def _build(
    angles: Any, shape: tuple[int, ...], num_detectors: Any, geometry: Geometry, oversample: int, complex: bool
) -> XRayTransform:
    angles = jnp.asarray(angles)
    angles = angles if jnp.issubdtype(angles.dtype, jnp.floating) else angles.astype(float)
    require(angles, "angles", ndim=1)
    counts = (num_detectors,) if np.ndim(num_detectors) == 0 else tuple(num_detectors)
    if len(shape) != len(counts) + 2 or len(counts) > 2:
        raise ValueError(
            f"num_detectors: expected a number for an image (H, W, C) or (rows, columns) for a volume (D, H, W, C), "
            f"got {num_detectors} for {shape}"
        )
    if oversample < 1:
        raise ValueError(f"oversample: expected an integer >= 1, got {oversample}")
    spacing, pixel_size, source_distance, detector_distance = geometry
    return XRayTransform(
        angles=angles,
        detector_spacing=spacing,
        pixel_size=pixel_size,
        source_distance=source_distance,
        detector_distance=detector_distance,
        in_structure=structure(shape, complex),
        out_structure=structure((angles.size, *counts, shape[-1]), complex),
        oversample=oversample,
        taps=_taps(shape[:-1], geometry, oversample),
    )


def _taps(sizes: tuple[int, ...], geometry: Geometry, oversample: int) -> tuple[int, ...]:
    """Bound on the rays that meet a pixel, for rows and columns of the detector: the hat is widest nearest to the source."""
    if any(isinstance(value, jax.core.Tracer) for value in geometry):
        raise ValueError(
            "geometry: expected concrete values, got traced ones; replace the leaves by eqx.tree_at instead"
        )
    spacing, pixel_size = (np.asarray(value, float) for value in geometry[:2])
    require(pixel_size, "pixel_size", positive=True, shape=())
    require(spacing, "detector_spacing", positive=True)
    axes = len(sizes) - 1
    if spacing.shape not in ((), (2,)[: axes - 1]):
        raise ValueError(f"detector_spacing: expected a scalar{' or (row, column)' * (axes - 1)}, got {spacing}")
    across = along = 1.0  # half-widths of the hat in pixels, at the origin and across or along the axis of rotation
    if geometry[2] is not None:
        source, detector = (float(np.asarray(value)) for value in geometry[2:])
        radius = float(pixel_size) * (
            float(np.hypot(sizes[-2], sizes[-1])) / 2 + 1
        )  # one pixel more: as far as a hat reaches
        require(source, "source_distance", at_least=radius * (1 + 1e-6))
        turns, nearness = np.linspace(0, np.pi, 181), radius / source
        distance = 1 - nearness * np.cos(turns)
        across, along = np.max(np.hypot(distance, nearness * np.sin(turns)) / distance**2), 1 / (1 - nearness)
        spacing = spacing / (1 + detector / source)
    pitch = np.broadcast_to(spacing / pixel_size / oversample, axes)
    halves = (along, across)[-axes:]
    return tuple(int(np.ceil(2 * half / step - 1e-6)) for half, step in zip(halves, pitch, strict=True))
