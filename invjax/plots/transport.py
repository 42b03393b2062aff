"""Transport: couplings as matrices and as lines between two clouds, maps as arrows, and the cells of sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from ..ot import Cells
from .figures import COLOURS, charts, columns_of, legend

_EDGE = "#666666"
_BEHIND = "#BBBBBB"  # of a target on which arrows are drawn


def couplings(
    matrices: Mapping[str, Any],
    *,
    columns: int | None = None,
    xlabel: str = "target",
    ylabel: str = "source",
    title: str | None = None,
) -> Figure:
    """Couplings side by side, each an ``(n, m)`` matrix whose rows are drawn from the top.

    Dark is much mass: the shade goes with the square root of an entry over the largest of its matrix, so that entries of one per
    cent of it can be seen. What is not finite is red. Raises ``ValueError`` for what is not a matrix, and for negative entries.
    """
    given = {name: _matrix(m, f"matrices {name!r}") for name, m in _some(matrices, "matrices").items()}
    columns = columns_of(len(given)) if columns is None else columns
    edge = 2.6 if columns > 2 else 3.2
    figure, axes = charts(list(given), (edge, edge), columns, title=title, names=[], labels=(xlabel, ylabel))
    for axis, matrix in zip(axes, given.values(), strict=True):
        top = np.nanmax(matrix, initial=0) or 1.0
        shades = matplotlib.colormaps["Greys"].with_extremes(bad="red")
        axis.imshow(matrix, cmap=shades, norm=PowerNorm(0.5, 0, top), aspect="auto", interpolation="nearest")
        axis.grid(False)
    return figure


def transport_lines(
    x: Any,
    y: Any,
    matrices: Mapping[str, Any],
    *,
    least: float = 0.02,
    columns: int | None = None,
    xlabel: str = "",
    ylabel: str = "",
    title: str | None = None,
) -> Figure:
    """Couplings of two clouds in the plane as lines: from ``x`` (n, 2), dots, to ``y`` (m, 2), rings, side by side.

    A line is the darker the more mass goes along it, relative to the most that does; less than the share ``least`` is not drawn.
    Dots and rings are as large as their row and column sums say, so mass that stays where it is can be seen.
    Raises ``ValueError`` for shapes that do not fit, negative or non-finite entries.
    """
    x, y = _plane(x, "x"), _plane(y, "y")
    given = {}
    for name, m in _some(matrices, "matrices").items():
        given[name] = _matrix(m, f"matrices {name!r}")
        if given[name].shape != (len(x), len(y)) or not np.isfinite(given[name]).all():
            raise ValueError(f"matrices {name!r}: expected finite, shape {(len(x), len(y))}, got {given[name].shape}")
    columns = columns_of(len(given)) if columns is None else columns
    points = np.concatenate([x, y])
    size = _size(points, columns)
    names = ["source", "target"]
    figure, axes = charts(
        list(given), size, columns, title=title, names=names, labels=(xlabel, ylabel), sharex=True, sharey=True
    )
    for axis, matrix in zip(axes, given.values(), strict=True):
        most = matrix.max() or 1.0
        i, j = np.nonzero(matrix >= max(least, 1e-12) * most)
        shades = np.zeros((len(i), 4))  # black
        shades[:, 3] = 0.1 + 0.6 * matrix[i, j] / most
        axis.add_collection(LineCollection(list(np.stack([x[i], y[j]], 1)), colors=shades, linewidths=0.8, zorder=1))
        largest = float(np.clip(3000 / len(points), 8, 40))
        filled: Any = {"color": COLOURS[0], "label": "source"}
        hollow: Any = {"facecolors": "none", "edgecolors": COLOURS[1], "label": "target"}
        for cloud, mass, style in ((x, matrix.sum(1), filled), (y, matrix.sum(0), hollow)):
            size_of = 2 + largest * mass / (mass.max() or 1.0)
            axis.scatter(cloud[:, 0], cloud[:, 1], s=size_of, linewidths=0.9, zorder=2, **style)
        axis.set_aspect("equal")
    legend(figure, names, axes[0])
    return figure


def maps(
    x: Any,
    images: Mapping[str, Any],
    *,
    target: Any = None,
    colours: Any = COLOURS[0],
    columns: int | None = None,
    xlabel: str = "",
    ylabel: str = "",
    title: str | None = None,
) -> Figure:
    """Maps of the plane as arrows, side by side on one scale: from ``x`` (n, 2) to the images ``T(x)`` (n, 2) of each map.

    ``target`` (m, 2) is grey behind them. ``colours`` is one for all arrows, or one (r, g, b) in [0, 1] for each, (n, 3). An
    image that is not finite has no arrow and is counted under the name. Raises ``ValueError`` for shapes that do not fit.
    """
    x, behind = _plane(x, "x"), None if target is None else _plane(target, "target")
    ends = _ends(images, x)
    if not isinstance(colours, str) and np.shape(colours) != (len(x), 3):
        raise ValueError(f"colours: expected a name or shape {(len(x), 3)}, got {np.shape(colours)}")
    columns = columns_of(len(ends)) if columns is None else columns
    drawn = {name: np.isfinite(z).all(1) for name, z in ends.items()}
    points = np.concatenate([x, *(z[drawn[name]] for name, z in ends.items()), *([] if behind is None else [behind])])
    captions = [n if drawn[n].all() else f"{n}\n{(~drawn[n]).sum()} of {len(x)} not finite" for n in ends]
    names = [] if behind is None else ["target"]
    options: dict[str, Any] = {"names": names, "labels": (xlabel, ylabel), "sharex": True, "sharey": True}
    figure, axes = charts(captions, _size(points, columns), columns, title=title, **options)
    margin = 0.04 * (np.ptp(points, axis=0).max() or 1.0)
    box = np.stack([points.min(0) - margin, points.max(0) + margin], 1)
    for axis, (name, z) in zip(axes, ends.items(), strict=True):
        axis.set(xlim=box[0], ylim=box[1], aspect="equal")
        if behind is not None:
            axis.scatter(behind[:, 0], behind[:, 1], s=4, color=_BEHIND, linewidths=0, label="target")
        keep = drawn[name]
        tints = colours if isinstance(colours, str) else np.asarray(colours)[keep]
        units: Any = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.006}
        axis.quiver(*x[keep].T, *(z - x)[keep].T, color=tints, zorder=2, **units)
    legend(figure, names, axes[0])
    return figure


def cells(
    cells: Cells,
    sites: Any,
    *,
    values: Any = None,
    colormap: str = "viridis",
    title: str | None = None,
) -> Figure:
    """Cells in the plane, as ``ot.power_cells`` and ``ot.polygon_transport`` have them, and a line from each to its site.

    ``sites`` is (m, 2). ``values`` (m,) colour the cells, from dark (low) to bright. A line starts at the centroid of its cell
    and ends at the site that the mass of the cell goes to. Raises ``ValueError`` for shapes that do not fit.
    """
    polygons, centroids, sites = np.asarray(cells.corners), np.asarray(cells.centroids()), _plane(sites, "sites")
    if len(polygons) != len(sites):
        raise ValueError(f"sites: expected one for each of {len(polygons)} cells, got {len(sites)}")
    if values is not None and np.shape(values) != (len(sites),):
        raise ValueError(f"values: expected shape {(len(sites),)}, got {np.shape(values)}")
    figure, (axis,) = charts([""], (4.2, 4.2), 1, title=title, names=["site"], labels=("", ""))
    faces: Any = {"facecolors": "#F2F2F2"} if values is None else {"array": np.asarray(values), "cmap": colormap}
    axis.add_collection(PolyCollection(list(polygons), edgecolors=_EDGE, linewidths=0.6, **faces))
    axis.add_collection(LineCollection(list(np.stack([centroids, sites], 1)), colors=COLOURS[1], linewidths=0.5))
    axis.scatter(sites[:, 0], sites[:, 1], s=8, color=COLOURS[1], label="site", zorder=3)
    axis.autoscale_view()
    axis.set_aspect("equal")
    axis.grid(False)
    legend(figure, ["site"], axis)
    return figure


def _ends(images: Mapping[str, Any], x: np.ndarray) -> dict[str, np.ndarray]:
    ends = {name: np.asarray(z, np.float64) for name, z in _some(images, "images").items()}
    for name, z in ends.items():
        if z.shape != x.shape:
            raise ValueError(f"images {name!r}: expected shape {x.shape}, got {z.shape}")
    return ends


def _some(named: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if not named:
        raise ValueError(f"{name}: expected at least one, got none")
    return named


def _matrix(m: Any, name: str) -> np.ndarray:
    matrix = np.asarray(m, np.float64)
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(f"{name}: expected a matrix (n, m), got shape {matrix.shape}")
    if np.nanmin(matrix, initial=0) < 0:
        raise ValueError(f"{name}: expected entries >= 0, got minimum {np.nanmin(matrix)}")
    return np.where(np.isfinite(matrix), matrix, np.nan)


def _size(points: np.ndarray, columns: int) -> tuple[float, float]:
    """Inches of axes that show these points, of about their aspect."""
    spans = np.ptp(points, axis=0) + 1e-12
    edge = 2.6 if columns > 2 else 3.3
    return edge, edge * float(np.clip(spans[1] / spans[0], 0.4, 1.3))


def _plane(x: Any, name: str) -> np.ndarray:
    points = np.asarray(x, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all() or not len(points):
        raise ValueError(f"{name}: expected finite points (n, 2), got shape {points.shape}")
    return points
