"""Particles along a flow: where they are at some times, and the ways they take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from .charts import clock
from .figures import COLOURS, INK, charts, columns_of, legend

_BEHIND = "#AAAAAA"  # of a target on which other things are drawn


def particles(
    snapshots: Mapping[str, Any],
    *,
    target: Any = None,
    times: Any = None,
    limits: Any = None,
    columns: int | None = None,
    xlabel: str = "",
    ylabel: str = "",
    title: str | None = None,
) -> Figure:
    """Particles side by side on one scale: each snapshot is ``(n, 2)``, or ``(n, 1)`` or ``(n,)`` on the line.

    In the plane every particle is a dot; on the line it is a tick, and their histogram is an outline. ``target``, particles
    of the same dimension, is grey behind them. ``times``, one for each snapshot, stand under the names. ``limits`` are
    ``(low, high)``, or such a pair for each axis; by default all particles are inside. Up to four snapshots make one row
    unless ``columns`` says otherwise. Particles that are not finite are not drawn, but counted under the name.
    """
    clouds = {f"snapshots {name!r}": _particles(x, f"snapshots {name!r}", 2) for name, x in snapshots.items()}
    if not clouds:
        raise ValueError("snapshots: expected at least one, got none")
    behind, box = _scale(clouds, target, limits)
    captions = _captions(snapshots, clouds.values(), _seconds(times, len(clouds)))
    names = [] if behind is None else ["particles", "target"]
    labels = xlabel, ylabel or ("density" if len(box) == 1 else "")
    figure, axes = _charts(captions, box, columns, title=title, names=names, labels=labels)
    if len(box) == 1:
        _histograms(axes, list(clouds.values()), behind, box)
    else:
        for axis, x in zip(axes, clouds.values(), strict=True):
            _plane(axis, behind, box)
            _dots(axis, x, color=COLOURS[0], label="particles")
    legend(figure, names, axes[0])
    return figure


def trajectories(
    paths: Any,
    *,
    target: Any = None,
    step_size: Any = 1.0,
    every: int = 1,
    limits: Any = None,
    columns: int | None = None,
    xlabel: str = "",
    ylabel: str = "",
    title: str | None = None,
) -> Figure:
    """The ways of particles: ``paths`` is ``(T, n, 2)``, or ``(T, n, 1)`` or ``(T, n)`` on the line, T at least 2.

    A dict of such arrays is drawn side by side on one scale. In the plane the start of a particle is a ring and its end a dot.
    On the line its position is drawn against time, in colours from the particle that starts lowest (dark) to the highest;
    the first row is at time 0, and two rows are ``every`` steps of ``step_size`` apart, a number or one for each name.
    ``target``, ``limits`` of the positions and ``columns`` are as in ``particles``; a target on the line is a line for each of
    its particles. What is not finite leaves a gap.
    """
    named = paths if isinstance(paths, Mapping) else {"": paths}
    ways = {f"paths {name!r}": _particles(x, f"paths {name!r}", 3) for name, x in named.items()}
    if not ways:
        raise ValueError("paths: expected at least one, got none")
    times = [clock(len(x), step_size, every, name) for name, x in zip(named, ways.values(), strict=True)]
    behind, box = _scale(ways, target, limits)
    names = (["start", "end"] if len(box) == 2 else []) + ([] if behind is None else ["target"])
    labels = xlabel or ("time" if len(box) == 1 else ""), ylabel
    captions = _captions(named, ways.values(), None)
    figure, axes = _charts(captions, box, columns, title=title, names=names, labels=labels, tall=True)
    for axis, x, t in zip(axes, ways.values(), times, strict=True):
        if len(box) == 1:
            _against_time(axis, t, x[..., 0], behind)
            axis.set(xlim=np.array([-0.03, 1.03]) * max(t[-1] for t in times), ylim=box[0])
        else:
            _plane(axis, behind, box)
            _in_plane(axis, x)
    legend(figure, names, axes[0])
    return figure


def _particles(x: Any, name: str, ndim: int) -> np.ndarray:
    """``(n, d)`` or ``(T, n, d)`` with d = 1 or 2, and NaN for particles that are not finite."""
    points = np.asarray(x, np.float64)
    points = points[..., None] if points.ndim == ndim - 1 else points
    if points.ndim != ndim or points.shape[-1] not in (1, 2) or points.size == 0 or (ndim == 3 and len(points) < 2):
        expected = "(n, 1) or (n, 2)" if ndim == 2 else "(T, n, 1) or (T, n, 2) with T at least 2"
        raise ValueError(f"{name}: expected shape {expected}, got {np.shape(x)}")
    points = np.where(np.isfinite(points).all(-1, keepdims=True), points, np.nan)
    if np.isnan(points).all():
        raise ValueError(f"{name}: expected finite particles, got none")
    return points


def _scale(named: Mapping[str, np.ndarray], target: Any, limits: Any) -> tuple[np.ndarray | None, np.ndarray]:
    """The target ``(m, d)``, and the limits ``(d, 2)`` of all axes."""
    behind = None if target is None else _particles(target, "target", 2)
    d = next(iter(named.values())).shape[-1]
    for name, x in [*named.items(), *([] if behind is None else [("target", behind)])]:
        if x.shape[-1] != d:
            raise ValueError(f"{name}: expected dimension {d}, got {x.shape[-1]}")
    if limits is None:
        points = np.concatenate([x.reshape(-1, d) for x in named.values()] + ([] if behind is None else [behind]))
        low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
        margin = 0.05 * np.max(high - low) or 0.5 * max(1.0, np.max(np.abs(high)))
        return behind, np.stack([low - margin, high + margin], axis=1)
    box = np.asarray(limits, np.float64)
    box = np.tile(box, (d, 1)) if box.shape == (2,) else box
    if box.shape != (d, 2) or not np.all(box[:, 0] < box[:, 1]):
        raise ValueError(f"limits: expected (low, high), or such a pair for each of {d} axes, got {limits}")
    return behind, box


def _seconds(times: Any, num: int) -> list[str] | None:
    if times is None:
        return None
    values = np.asarray(times, np.float64)
    if values.shape != (num,):
        raise ValueError(f"times: expected one for each of {num} snapshots, got shape {values.shape}")
    return [f"t = {value:.4g}" for value in values]


def _captions(names: Iterable[str], arrays: Iterable[np.ndarray], seconds: Sequence[str] | None) -> list[str]:
    """Name, second line, and how many particles are not finite at some time."""
    captions = []
    for i, (name, x) in enumerate(zip(names, arrays, strict=True)):
        broken = np.isnan(x[..., 0]).reshape(-1, x.shape[-2]).any(0)
        count = f"{broken.sum()} of {broken.size} not finite" if broken.any() else ""
        captions.append("\n".join(line for line in (name, seconds[i] if seconds else "", count) if line))
    return captions


def _charts(
    captions: Sequence[str], box: np.ndarray, columns: int | None, *, tall: bool = False, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Axes on one scale, of the aspect of the plane."""
    columns = columns_of(len(captions)) if columns is None else max(1, columns)
    edge = 2.5 if columns > 2 and len(captions) > 2 else 3.3
    sides = np.diff(box)[:, 0]
    height = edge * np.clip(sides[1] / sides[0], 0.4, 1.3) if len(sides) == 2 else 3.2 if tall else 0.75 * edge
    return charts(captions, (edge, float(height)), columns, **options, sharex=True, sharey=True)


def _dots(axis: Axes, x: np.ndarray, **style: Any) -> None:
    """Few of them are large."""
    axis.scatter(x[:, 0], x[:, 1], s=float(np.clip(2000 / len(x), 4, 25)), linewidths=0.7, **style)


def _plane(axis: Axes, behind: np.ndarray | None, box: np.ndarray) -> None:
    axis.set(xlim=box[0], ylim=box[1], aspect="equal")
    if behind is not None:
        _dots(axis, behind, color=_BEHIND, label="target")


def _histograms(axes: Sequence[Axes], clouds: Sequence[np.ndarray], behind: np.ndarray | None, box: np.ndarray) -> None:
    """Densities on common bins, above a strip with one tick for each particle."""
    num = int(np.clip(2 * np.sqrt(max(map(len, clouds))), 12, 60))
    edges = np.linspace(box[0, 0], box[0, 1], num + 1)

    def density(x: np.ndarray) -> np.ndarray:
        finite = x[np.isfinite(x)]
        return np.histogram(finite, edges)[0] / (finite.size * (edges[1] - edges[0]))

    top = 1.05 * max(density(x).max() for x in [*clouds, *([] if behind is None else [behind])]) or 1.0
    for axis, x in zip(axes, clouds, strict=True):
        if behind is not None:
            axis.stairs(density(behind), edges, fill=True, color=_BEHIND, label="target")
        axis.stairs(density(x), edges, color=COLOURS[0], linewidth=1.4, label="particles")
        axis.vlines(x[:, 0], 0.01, 0.06, transform=axis.get_xaxis_transform(), color=COLOURS[0], linewidth=0.6)
        axis.set(xlim=box[0], ylim=(-0.08 * top, top))


def _against_time(axis: Axes, times: np.ndarray, x: np.ndarray, behind: np.ndarray | None) -> None:
    if behind is not None:
        faint = float(np.clip(20 / len(behind), 0.03, 1))
        across: dict[str, Any] = {"transform": axis.get_yaxis_transform(), "linewidth": 1.0, "alpha": faint}
        axis.yaxis.grid(False)  # which one could take for the target
        axis.hlines(behind[:, 0], 0, 1, color=_BEHIND, **across)
        axis.plot([], [], color=_BEHIND, label="target")  # in the legend, where a faint line would not be seen
    rank = np.argsort(np.argsort(x[0]))
    colours = matplotlib.colormaps["viridis"](0.9 * rank / max(1, len(rank) - 1))
    axis.add_collection(_lines(np.broadcast_to(times[:, None], x.shape), x, colors=colours))


def _in_plane(axis: Axes, x: np.ndarray) -> None:
    axis.add_collection(_lines(x[..., 0], x[..., 1], colors=COLOURS[0]))
    _dots(axis, x[0], facecolors="white", edgecolors=INK, zorder=2.5, label="start")
    _dots(axis, x[-1], color=INK, zorder=3, label="end")


def _lines(x: np.ndarray, y: np.ndarray, **options: Any) -> LineCollection:
    """One line for each column of ``(T, n)``; many of them are thin."""
    thin = {"linewidths": 1.0} if x.shape[1] <= 50 else {"linewidths": 0.5, "alpha": 0.6}
    return LineCollection(list(np.stack([x, y], axis=-1).swapaxes(0, 1)), **thin, **options)
