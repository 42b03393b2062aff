"""Figures made without pyplot, their files, and the look that all charts share."""

from __future__ import annotations

import io
import os
import pathlib
import textwrap
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import PIL.Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ..data import write_bytes

COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)  # Okabe and Ito: colour-blind safe
STYLES = ("-", "--", ":", "-.")
INK = "#333333"
PAD = 0.07  # inches around every part of a figure


class NotebookFigure(Figure):
    """A figure that shows itself in a notebook whether or not pyplot is in use."""

    def _repr_png_(self) -> bytes:
        return figure_png(self)


def figure_png(figure: Figure, *, dpi: float = 100) -> bytes:
    """The figure as the content of a PNG file."""
    return _encoded(figure, "png", dpi)


def save_figure(path: str | os.PathLike, figure: Figure, *, dpi: float = 150) -> None:
    """Write the figure as ``.png``, ``.pdf`` or ``.svg``; the file appears whole or not at all."""
    kind = pathlib.Path(path).suffix.lower()[1:]
    if kind not in ("png", "pdf", "svg"):
        raise ValueError(f"path: expected a name that ends in .png, .pdf or .svg, got {os.fspath(path)!r}")
    write_bytes(path, _encoded(figure, kind, dpi))


def _encoded(figure: Figure, kind: str, dpi: float) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=dpi)
    return _smallest_png(buffer) if kind == "png" else buffer.getvalue()


def _smallest_png(buffer: io.BytesIO) -> bytes:
    """The same opaque picture without its alpha channel, and without its colours where it has none: half the bytes."""
    picture = PIL.Image.open(buffer).convert("RGB")
    grey = picture.convert("L")
    out = io.BytesIO()
    colourless = np.array_equal(np.asarray(picture), np.asarray(grey.convert("RGB")))
    (grey if colourless else picture).save(out, "png", dpi=picture.info.get("dpi"), optimize=True)
    return out.getvalue()


def new_figure(size: tuple[float, float], *, compress: bool = False, pad: float = PAD) -> Figure:
    """An empty figure of this size in inches; ``compress`` draws axes of fixed aspect together, ``pad`` inches around each."""
    engine = ConstrainedLayoutEngine(w_pad=pad, h_pad=pad, compress=compress)
    return NotebookFigure(figsize=size, dpi=100, layout=engine)


def chart(
    size: tuple[float, float], names: Collection[str], title: str | None, xlabel: str, ylabel: str
) -> tuple[Figure, Axes]:
    """Axes of about ``size`` inches, and room for a legend beside them."""
    figure = new_figure((size[0] + legend_width(names), size[1]))
    axis = figure.subplots()
    dress(axis, xlabel, ylabel)
    if title:
        axis.set_title(textwrap.fill(title, int(9 * size[0])), fontsize=11, color=INK)
    return figure, axis


def charts(
    captions: Sequence[str],
    size: tuple[float, float],
    columns: int,
    *,
    title: str | None,
    names: Collection[str],
    labels: tuple[str, str],
    **options: Any,
) -> tuple[Figure, list[Axes]]:
    """Axes of about ``size`` inches under their captions, in rows of ``columns``, and room for a legend beside them.

    The labels of the axes stand below every column and beside every row. ``options`` go to ``Figure.subplots``.
    """
    columns = max(1, min(columns, len(captions)))
    texts = ["\n".join(textwrap.fill(line, int(11 * size[0])) for line in text.split("\n")) for text in captions]
    in_row = [max(t.count("\n") + 1 for t in texts[i : i + columns]) for i in range(0, len(texts), columns)]
    width = columns * size[0] + 0.4
    heading = textwrap.fill(title, int(9 * width)) if title else ""
    height = len(in_row) * size[1] + 0.17 * sum(in_row) + 0.4 + 0.22 * (heading.count("\n") + 1) * bool(heading)
    figure = new_figure((width + legend_width(names), height), compress=True)
    if heading:
        centre = width / 2 / figure.get_figwidth()  # of the axes, without the legend
        figure.suptitle(heading, x=centre, fontsize=12, color=INK)
    axes = list(figure.subplots(len(in_row), columns, squeeze=False, **options).ravel())
    for spare in axes[len(captions) :]:
        spare.set_axis_off()
    for i, (axis, text) in enumerate(zip(axes, texts, strict=False)):
        lowest = i + columns >= len(captions)  # of its column
        dress(axis, labels[0] if lowest else "", labels[1] if i % columns == 0 else "")
        axis.set_title(text, fontsize=10, color=INK)
        if lowest:
            axis.tick_params(labelbottom=True)
    return figure, axes[: len(captions)]


def columns_of(num: int) -> int:
    """Up to four pictures make one row, and more of them two rows or rows of four."""
    return num if num <= 4 else min(-(-num // 2), 4)


def dress(axis: Axes, xlabel: str, ylabel: str) -> None:
    """The look of axes that show numbers."""
    axis.set_xlabel(xlabel, fontsize=10, color=INK)
    axis.set_ylabel(ylabel, fontsize=10, color=INK)
    axis.tick_params(labelsize=9, colors=INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(True, color="#DDDDDD", linewidth=0.6)
    axis.set_axisbelow(True)


def wrapped(name: str) -> str:
    """The name in lines short enough for a legend."""
    return textwrap.fill(name, 26)


def legend_width(names: Collection[str]) -> float:
    """Inches that the names need; one unnamed curve needs none."""
    if set(names) <= {""}:
        return 0.0
    return 0.6 + 0.075 * max(len(line) for name in names for line in wrapped(name).split("\n"))


def legend(figure: Figure, names: Collection[str], axis: Axes | None = None) -> None:
    """Beside the axes, where it hides nothing: of everything with a name, or of what ``axis`` shows."""
    if legend_width(names):
        options: dict[str, Any] = {} if axis is None else {"handles": axis.get_legend_handles_labels()[0]}
        figure.legend(loc="outside right upper", fontsize=9, frameon=False, labelcolor=INK, **options)
