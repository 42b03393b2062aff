"""Traces of iterations, and coverage of credible intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
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
    figure, axis = chart((5.4, 3.6), series, title, xlabel, ylabel)
    for i, (name, values) in enumerate(series.items()):
        lines = _lines(values, name, "y" in log)
        thin = {"linewidth": 0.8, "alpha": 0.7} if len(lines) > 1 else {"linewidth": 1.6}
        style: dict[str, Any] = {
            "color": COLOURS[i % len(COLOURS)],
            "linestyle": STYLES[i // len(COLOURS) % len(STYLES)],
            **thin,
        }
        steps = 1 + every * np.arange(lines.shape[-1])
        for j, line in enumerate(lines):
            axis.plot(steps, line, label=wrapped(name) if j == 0 else None, **style)
    axis.set_xscale("log" if "x" in log else "linear")
    axis.set_yscale("log" if "y" in log else "linear")
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
