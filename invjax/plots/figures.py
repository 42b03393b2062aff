"""Figures made without pyplot, their files, and the look that all charts share."""

from __future__ import annotations

import io
import os
import pathlib
import textwrap
from collections.abc import Mapping
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


def new_figure(size: tuple[float, float]) -> Figure:
    return NotebookFigure(figsize=size, dpi=100, layout=ConstrainedLayoutEngine(w_pad=PAD, h_pad=PAD))


def chart(
    size: tuple[float, float], names: Mapping[str, Any], title: str | None, xlabel: str, ylabel: str
) -> tuple[Figure, Axes]:
    """Axes of about ``size`` inches, and room for a legend beside them."""
    beside = 0.6 + 0.075 * max(len(line) for name in names for line in wrapped(name).split("\n"))
    figure = new_figure((size[0] + beside * (set(names) != {""}), size[1]))
    axis = figure.subplots()
    axis.set_xlabel(xlabel, fontsize=10, color=INK)
    axis.set_ylabel(ylabel, fontsize=10, color=INK)
    axis.tick_params(labelsize=9, colors=INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(True, color="#DDDDDD", linewidth=0.6)
    axis.set_axisbelow(True)
    if title:
        axis.set_title(textwrap.fill(title, int(9 * size[0])), fontsize=11, color=INK)
    return figure, axis


def wrapped(name: str) -> str:
    return textwrap.fill(name, 26)


def legend(figure: Figure, names: Mapping[str, Any]) -> None:
    """Beside the axes, where it hides nothing; one unnamed curve needs none."""
    if set(names) != {""}:
        figure.legend(loc="outside right upper", fontsize=9, frameon=False, labelcolor=INK)
