"""Pictures of images, of their errors and of their uncertainty."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..metrics import psnr
from .figures import COLOURS, INK, PAD, columns_of, legend, legend_width, new_figure


def panel(
    images: Mapping[str, Any],
    *,
    metrics: Mapping[str, str] | None = None,
    truth: Any = None,
    limits: tuple[float, float] | None = (0.0, 1.0),
    columns: int | None = None,
    title: str | None = None,
) -> Figure:
    """Images side by side on one scale, each under its name.

    ``limits`` are the values shown as black and white; None takes the smallest and largest value of all images.
    ``metrics`` gives a second line for the images it names. With ``truth`` every image of the same shape that differs from
    it and is not named in ``metrics`` shows its PSNR (data range 1) there. Up to four images make one row unless
    ``columns`` says otherwise.
    """
    pictures = {name: _image(image, name) for name, image in images.items()}
    if not pictures:
        raise ValueError("images: expected at least one image, got none")
    if unknown := sorted(set(metrics or {}) - set(images)):
        raise ValueError(f"metrics: expected names among {list(images)}, got {unknown}")
    second = {**_psnr_lines(pictures, truth), **(metrics or {})}
    shown = [_magnitude(picture) for picture in pictures.values()]
    if limits is None:
        limits = float(min(np.nanmin(p) for p in shown)), float(max(np.nanmax(p) for p in shown))
    if columns is None:
        columns = columns_of(len(shown))
    captions = [[name, second[name]] if name in second else [name] for name in pictures]
    figure, axes = _image_grid(shown, captions, max(1, columns), title)
    for axis, picture in zip(axes, shown, strict=True):
        _show(axis, picture, limits)
    return figure


def barycenters(
    images: Any,
    *,
    given: Sequence[tuple[int, int]] | None = None,
    limits: tuple[float, float] | None = None,
    title: str | None = None,
) -> Figure:
    """A table of images between those that were given: ``images`` are ``(rows, columns, H, W)``, or with channels last.

    The ``given`` ones, pairs (row, column), have a coloured frame; they are the corners by default. All are on one scale, whose
    ``limits`` are the smallest and the largest value by default. Raises ``ValueError`` for other shapes, and pairs outside.
    """
    table = np.asarray(images)
    if table.ndim not in (4, 5):
        raise ValueError(f"images: expected shape (rows, columns, H, W) or with channels last, got {table.shape}")
    rows, columns = table.shape[:2]
    if given is None:
        given = sorted({(i, j) for i in (0, rows - 1) for j in (0, columns - 1)})
    if outside := [pair for pair in given if not (0 <= pair[0] < rows and 0 <= pair[1] < columns)]:
        raise ValueError(f"given: expected pairs (row, column) inside {(rows, columns)}, got {outside}")
    shown = [[_magnitude(_image(image, "images")) for image in row] for row in table]
    if limits is None:
        limits = float(np.nanmin(shown)), float(np.nanmax(shown))
    height, width = shown[0][0].shape[:2]
    edge = float(np.clip(6 / columns, 0.5, 1.6))
    names = ["given"] if given else [""]
    heading = 0.35 if title else 0
    size = columns * edge + legend_width(names), rows * edge * height / width + heading
    figure = new_figure(size, compress=True, pad=0.02)
    if title:
        figure.suptitle(title, fontsize=12, color=INK)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, image in zip(axes.ravel(), itertools.chain(*shown), strict=True):
        _show(axis, image, limits)
        axis.set_axis_off()
    for i, j in given:
        frame: Any = {"fill": False, "edgecolor": COLOURS[1], "linewidth": 3, "clip_on": False, "label": "given"}
        axes[i, j].add_patch(Rectangle((-0.5, -0.5), width, height, **frame))
    legend(figure, names, axes[given[0]] if given else None)
    return figure


def error_map(x: Any, truth: Any, *, limit: float | None = None, title: str = "error") -> Figure:
    """The error ``x - truth`` of a real grey image, signed; the magnitude (over channels) of a complex or colour one.

    ``limit`` is the error at the end of the colour scale, by default the 99.5 % quantile of its magnitude.
    """
    x, truth = _same_shape(x, truth, "x", "truth")
    error = x - truth
    signed = error.shape[-1] == 1 and not np.iscomplexobj(error)
    shown = error[..., 0] if signed else _over_channels(error)
    top = _quantile(shown) if limit is None else limit
    caption = [title, *_psnr_lines({"x": x}, truth).values()]
    figure, (axis,) = _image_grid([shown], [caption], 1, None, bar=True)
    label = r"$x - \mathrm{truth}$" if signed else r"$|x - \mathrm{truth}|$"
    _coloured(axis, shown, (-top if signed else 0.0, top), "RdBu_r" if signed else "magma", label)
    return figure


def uncertainty(
    mean: Any,
    std: Any,
    *,
    truth: Any = None,
    units: str = "",
    limits: tuple[float, float] = (0.0, 1.0),
    title: str | None = None,
) -> Figure:
    """Posterior mean beside the standard deviation of every pixel; with ``truth``, the error on the scale of the latter.

    Where the uncertainty is calibrated, about two thirds of the errors are below the standard deviation. The scale ends at
    the largest 99.5 % quantile of standard deviation and error. Colour images show the root mean square over channels.
    ``units`` stands beside the colour bars.
    """
    mean, std = _same_shape(mean, std, "mean", "std")
    maps = {"standard deviation": _over_channels(std)}
    if truth is not None:
        maps["error of the mean"] = _over_channels(mean - _same_shape(mean, truth, "mean", "truth")[1])
    shown = [_magnitude(mean), *maps.values()]
    figure, axes = _image_grid(shown, [["mean"], *([name] for name in maps)], len(shown), title, bar=True)
    top = max(_quantile(shown) for shown in maps.values())
    if shown[0].ndim == 2:
        _coloured(axes[0], shown[0], limits, "gray", units)
    else:
        _show(axes[0], shown[0], limits)
    for axis, picture in zip(axes[1:], maps.values(), strict=True):
        _coloured(axis, picture, (0.0, top), "viridis", units)
    return figure


def _image(x: Any, name: str) -> np.ndarray:
    """``(H, W, C)`` with C = 1 or 3, floating or complex."""
    image = np.asarray(x)
    image = image[..., None] if image.ndim == 2 else image
    if image.ndim != 3 or image.shape[-1] not in (1, 3) or image.size == 0:
        raise ValueError(f"{name}: expected an image (H, W), (H, W, 1) or (H, W, 3), got shape {np.shape(x)}")
    return image.astype(np.complex128 if np.iscomplexobj(image) else np.float64)


def _same_shape(x: Any, other: Any, name: str, other_name: str) -> tuple[np.ndarray, np.ndarray]:
    x, other = _image(x, name), _image(other, other_name)
    if x.shape != other.shape:
        raise ValueError(f"{other_name}: expected shape {x.shape} of {name}, got {other.shape}")
    return x, other


def _magnitude(image: np.ndarray) -> np.ndarray:
    """What is shown of an image: real ``(H, W)`` or ``(H, W, 3)``."""
    image = np.abs(image) if np.iscomplexobj(image) else image
    return image[..., 0] if image.shape[-1] == 1 else image


def _over_channels(image: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(np.abs(image) ** 2, axis=-1))


def _quantile(values: np.ndarray) -> float:
    """End of a colour scale: a few outliers may lie beyond it."""
    finite = np.abs(values[np.isfinite(values)])
    top = float(np.quantile(finite, 0.995)) if finite.size else 0.0
    return top if top > 0 else 1.0


def _psnr_lines(pictures: Mapping[str, np.ndarray], truth: Any) -> dict[str, str]:
    if truth is None:
        return {}
    truth = _image(truth, "truth")
    values = {
        name: float(psnr(jnp.asarray(p), jnp.asarray(truth))) for name, p in pictures.items() if p.shape == truth.shape
    }
    return {name: f"PSNR {value:.2f} dB" for name, value in values.items() if value != np.inf}


def _image_grid(
    pictures: Sequence[np.ndarray],
    captions: Sequence[Sequence[str]],
    columns: int,
    title: str | None,
    *,
    bar: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Axes for the pictures in a figure whose size fits them, so that neither text nor images run into each other."""
    columns = min(columns, len(pictures))
    edge = 2.4 if columns > 2 else 3.0  # inches
    texts = ["\n".join(textwrap.fill(line, int(11 * edge)) for line in lines) for lines in captions]
    starts = range(0, len(texts), columns)
    in_row = [max(t.count("\n") + 1 for t in texts[i : i + columns]) for i in starts]
    aspects = [max(p.shape[0] / p.shape[1] for p in pictures[i : i + columns]) for i in starts]
    rows = [edge * min(max(a, 0.25), 2.0) + 0.19 * n + 0.08 + 2 * PAD for a, n in zip(aspects, in_row, strict=True)]
    width = columns * (edge + 2 * PAD + 0.75 * bar)
    heading = textwrap.fill(title, int(9 * width)) if title else ""
    height = sum(rows)
    height += 0.08 + 0.2 * (heading.count("\n") + 1) if heading else 0
    figure = new_figure((width, height))
    if heading:
        figure.suptitle(heading + "\n", fontsize=12, color=INK, linespacing=0.6)
    axes = figure.subplots(len(rows), columns, squeeze=False, height_ratios=rows).ravel()
    for i, (axis, text) in enumerate(zip(axes, texts, strict=False)):
        filled = text + "\n " * (in_row[i // columns] - text.count("\n") - 1)  # so that the names of a row are level
        axis.set_title(filled, fontsize=10, color=INK)
    for axis in axes:
        axis.set_axis_off()
    return figure, list(axes[: len(pictures)])


def _show(axis: Axes, picture: np.ndarray, limits: tuple[float, float], colours: str = "gray") -> Any:
    low, high = limits
    high = high if high > low else low + 1
    if picture.ndim == 3:
        return axis.imshow(np.nan_to_num(np.clip((picture - low) / (high - low), 0, 1)))
    cmap = matplotlib.colormaps[colours].with_extremes(bad="red")
    return axis.imshow(picture, cmap=cmap, vmin=low, vmax=high)


def _coloured(axis: Axes, picture: np.ndarray, limits: tuple[float, float], colours: str, label: str) -> None:
    image = _show(axis, picture, limits, colours)
    below, above = np.nanmin(picture) < limits[0], np.nanmax(picture) > limits[1]
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[below, above]
    inset = axis.inset_axes((1.03, 0.0, 0.05, 1.0))  # as high as the image, which a bar beside the axes is not
    bar = axis.figure.colorbar(image, cax=inset, extend=extend)
    bar.set_label(label, fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
