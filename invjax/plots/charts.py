"""Traces of iterations, energies along flows, and coverage of credible intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .figures import COLOURS, INK, STYLES, chart, legend, wrapped


def traces(
    series: Mapping[str, Any],
    *,
    log: str = "",
    every: int = 1,
    xlabel: str = "iteration",
    ylabel: str = "",
    title: str | None = None,
) -> Figure:
    """Quantities against the iteration: each series is ``(n,)``, or ``(chains, n)`` drawn as thin lines of one colour.

    ``log`` names the logarithmic axes: "", "x", "y" or "xy" (values that are not positive leave gaps). ``every`` is the
    number of iterations between two values; the first value belongs to iteration 1.
    """
    if log not in ("", "x", "y", "xy"):
        raise ValueError(f'log: expected "", "x", "y" or "xy", got {log!r}')
    if not series:
        raise ValueError("series: expected at least one, got none")
    lines = {name: _lines(values, name, "y" in log) for name, values in series.items()}
    steps = {name: 1 + every * np.arange(values.shape[-1]) for name, values in lines.items()}
    figure, axis = chart((5.4, 3.6), series, title, xlabel, ylabel)
    _draw(axis, steps, lines, log)
    legend(figure, series)
    return figure


def energy_decay(
    series: Mapping[str, Any],
    *,
    step_size: Any = 1.0,
    every: int = 1,
    floor: float | None = None,
    log: str = "y",
    xlabel: str = "time",
    ylabel: str = "energy",
    title: str | None = None,
) -> Figure:
    """Energies along flows, on a logarithmic axis against time: each is ``(n,)``, or ``(chains, n)`` as in ``traces``.

    The first value belongs to time 0, and two values are ``every`` steps of ``step_size`` apart; ``step_size`` is a number
    or one for every name. Values below ``floor``, zero and negative ones among them, are drawn on a dotted line at it; without
    it those that are not positive leave gaps. ``log="xy"`` takes the logarithm of time as well, where time 0 has no place.
    """
    if log not in ("y", "xy"):
        raise ValueError(f'log: expected "y" or "xy", got {log!r}')
    if not series:
        raise ValueError("series: expected at least one, got none")
    if floor is not None and not 0 < floor < np.inf:
        raise ValueError(f"floor: expected a positive number, got {floor}")
    raised = {name: values if floor is None else np.maximum(values, floor) for name, values in series.items()}
    lines = {name: _lines(values, name, True) for name, values in raised.items()}
    times = {name: clock(values.shape[-1], step_size, every, name) for name, values in lines.items()}
    if log == "xy":
        times = {name: np.where(t > 0, t, np.nan) for name, t in times.items()}
    figure, axis = chart((5.4, 3.6), series, title, xlabel, ylabel)
    if floor is not None:
        axis.axhline(floor, color=INK, linewidth=1, linestyle=":")
    _draw(axis, times, lines, log)
    legend(figure, series)
    return figure


def coverage_curve(
    nominal: Any, empirical: Any, *, standard_error: Any = None, title: str | None = "coverage of credible intervals"
) -> Figure:
    """Fraction of true values inside credible intervals against the nominal level; on the diagonal the intervals are right.

    ``nominal`` is ``(n,)`` in [0, 1]; ``empirical`` is ``(n,)`` or a dict of such arrays, and ``standard_error`` has the same
    form and is drawn as bars of two standard errors.
    """
    curves = empirical if isinstance(empirical, Mapping) else {"": empirical}
    errors = standard_error if isinstance(standard_error, Mapping) else dict.fromkeys(curves, standard_error)
    nominal = np.asarray(nominal, np.float64)
    figure, axis = chart((4.2, 4.2), curves, title, "nominal level", "inside the interval")
    axis.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--")
    for i, (name, values) in enumerate(curves.items()):
        values = np.asarray(values, np.float64)
        if values.shape != nominal.shape or nominal.ndim != 1:
            raise ValueError(
                f"empirical: expected shape (n,) of nominal {nominal.shape}, got {values.shape} for {name!r}"
            )
        bars = None if errors.get(name) is None else 2 * np.asarray(errors[name], np.float64)
        style: dict[str, Any] = {
            "color": COLOURS[i % len(COLOURS)],
            "linewidth": 1.6,
            "markersize": 4,
            "capsize": 2.5,
        }
        axis.errorbar(nominal, values, bars, marker="o", label=wrapped(name), **style)
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    for direction in (axis.xaxis, axis.yaxis):
        direction.set_major_formatter(PercentFormatter(1.0, decimals=0))
    note: dict[str, Any] = {"transform": axis.transAxes, "fontsize": 8, "color": "#777777", "style": "italic"}
    axis.text(0.04, 0.96, "intervals too wide", va="top", **note)
    axis.text(0.96, 0.04, "intervals too narrow", ha="right", **note)
    legend(figure, curves)
    return figure


def clock(num: int, step_size: Any, every: int, name: str) -> np.ndarray:
    """Times of ``num`` values from 0, ``every`` steps apart; ``step_size`` is a number or one for every name."""
    if isinstance(step_size, Mapping):
        if name not in step_size:
            raise ValueError(f"step_size: expected a value for {name!r}, got those for {list(step_size)}")
        step_size = step_size[name]
    step = np.asarray(step_size, np.float64)
    if step.ndim != 0 or not 0 < step < np.inf:
        raise ValueError(f"step_size: expected a positive number, got {step_size}")
    if every < 1:
        raise ValueError(f"every: expected a positive integer, got {every}")
    return step * every * np.arange(num)


def _draw(axis: Axes, places: Mapping[str, np.ndarray], lines: Mapping[str, np.ndarray], log: str) -> None:
    """Every series in its own colour and style; several lines of one series are thin."""
    for i, (name, values) in enumerate(lines.items()):
        thin = {"linewidth": 0.8, "alpha": 0.7} if len(values) > 1 else {"linewidth": 1.6}
        style: dict[str, Any] = {
            "color": COLOURS[i % len(COLOURS)],
            "linestyle": STYLES[i // len(COLOURS) % len(STYLES)],
            **thin,
        }
        for j, line in enumerate(values):
            axis.plot(places[name], line, label=wrapped(name) if j == 0 else None, **style)
    axis.set_xscale("log" if "x" in log else "linear")
    axis.set_yscale("log" if "y" in log else "linear")


def _lines(values: Any, name: str, logarithmic: bool) -> np.ndarray:
    """``(chains, n)``, with NaN for what a logarithmic axis cannot show."""
    lines = np.atleast_2d(np.asarray(values, np.float64))
    if lines.ndim != 2 or lines.shape[-1] == 0:
        raise ValueError(f"series {name!r}: expected shape (n,) or (chains, n), got {np.shape(values)}")
    lines = np.where(lines > 0, lines, np.nan) if logarithmic else lines
    if not np.isfinite(lines).any():
        wanted = "finite positive" if logarithmic else "finite"
        raise ValueError(f"series {name!r}: expected {wanted} values, got none")
    return lines
