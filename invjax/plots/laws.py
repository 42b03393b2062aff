"""Laws on the line along a flow: their quantile functions, densities and atoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figures import COLOURS, charts, dress, legend, wrapped


class _Law(NamedTuple):
    """A quantile function as it is drawn on the left; density ``(x, y)`` and atoms ``(place, mass)`` of the right."""

    levels: np.ndarray
    g: np.ndarray
    density: tuple[np.ndarray, np.ndarray]
    atoms: tuple[np.ndarray, np.ndarray]


def quantiles(
    functions: Mapping[str, Any],
    *,
    levels: Any = None,
    target: Any = None,
    width: float = 0.0,
    density_limit: float | None = None,
    title: str | None = None,
) -> Figure:
    """Quantile functions, coloured from the first (dark) to the last (bright), and beside them the laws that they describe.

    Each is ``(n,)``, values at the increasing ``levels`` in (0, 1), by default ``(i - 1/2) / n``. A gap d between neighbours has
    the density ``1 / (n d)`` at its middle (for other levels, their difference over d). Values no farther apart than rounding,
    or than ``width``, are an atom: a dot at its mass, on an axis of its own. An atom cuts the gap beside it short, so that the
    density there is at most that of the next gap. The axis of densities ends at ``density_limit``, by default where one per
    cent of the gaps of some law are above it. Values out of order are drawn as they are, and the law is that of the sorted
    ones; what is not finite leaves a gap and is not in the law. ``target``, another one, is dashed. The gaps of random draws are
    mostly noise: ``particles`` shows their histogram.
    """
    if not functions:
        raise ValueError("functions: expected at least one, got none")
    if not width >= 0:
        raise ValueError(f"width: expected a number that is not negative, got {width}")
    if density_limit is not None and not 0 < density_limit < np.inf:
        raise ValueError(f"density_limit: expected a positive number, got {density_limit}")
    laws = _drawn(functions, levels, target, width)
    names = [name for name, _, _ in laws]
    captions = ["quantile functions", "laws"]
    figure, (left, right) = charts(captions, (4.2, 3.3), 2, title=title, names=names, labels=("", ""))
    dress(left, "level s", "quantile g(s)")
    dress(right, "x", "density")
    for name, law, style in laws:
        left.plot(law.levels, law.g, label=name, marker="o" if law.g.size == 1 else None, **style)
        right.plot(*law.density, **style)
    left.set(xlim=(-0.02, 1.02))
    right.set(ylim=(0, _top([law for _, law, _ in laws]) if density_limit is None else density_limit))
    _draw_atoms(right, [(law.atoms, style["color"]) for _, law, style in laws])
    legend(figure, names)
    return figure


def _drawn(
    functions: Mapping[str, Any], levels: Any, target: Any, width: float
) -> list[tuple[str, _Law, dict[str, Any]]]:
    """Name, law and style of every line."""
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(functions)))
    drawn: list[tuple[str, _Law, dict[str, Any]]] = [
        (wrapped(name), _law(g, levels, width, f"functions {name!r}"), {"color": shade, "linewidth": 1.6})
        for (name, g), shade in zip(functions.items(), shades, strict=True)
    ]
    if target is not None:
        style = {"color": COLOURS[1], "linewidth": 1.4, "linestyle": "--"}
        drawn.append(("target", _law(target, levels, width, "target"), style))
    return drawn


def _law(g: Any, levels: Any, width: float, name: str) -> _Law:
    values = np.asarray(g)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"{name}: expected shape (n,), got {values.shape}")
    precision = jnp.finfo(values.dtype if jnp.issubdtype(values.dtype, jnp.floating) else np.float64)
    values = values.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        raise ValueError(f"{name}: expected finite values, got none")
    s = _levels(levels, values.size, name)
    g, places = np.sort(values[finite]), s[finite]
    gap = np.diff(g)
    rounding = np.maximum(float(precision.eps) * np.maximum(np.abs(g[1:]), np.abs(g[:-1])), float(precision.tiny))
    joined = gap <= np.maximum(rounding, width)
    x = np.concatenate([g[:1], (g[1:] + g[:-1]) / 2, g[-1:]])
    density = x, np.concatenate([[0], _heights(gap, np.diff(places), joined), [0]])
    return _Law(s, np.where(finite, values, np.nan), density, _atoms(g, places, joined))


def _heights(gap: np.ndarray, mass: np.ndarray, joined: np.ndarray) -> np.ndarray:
    """The density in every gap, 0 in an atom; a gap that an atom cuts short has at most that of the gap next to it."""
    heights = np.where(joined, np.inf, mass / np.where(joined, 1, gap))
    padded, atom = np.pad(heights, 1, constant_values=np.inf), np.pad(joined, 1)
    for neighbour, beside in ((padded[:-2], atom[2:]), (padded[2:], atom[:-2])):
        heights = np.where(beside, np.minimum(heights, neighbour), heights)
    return np.where(joined, 0, heights)


def _levels(levels: Any, n: int, name: str) -> np.ndarray:
    if levels is None:
        return (np.arange(n) + 0.5) / n
    s = np.asarray(levels, np.float64)
    if s.shape != (n,):
        raise ValueError(f"levels: expected shape ({n},) of {name}, got {s.shape}")
    if not (s[0] > 0 and s[-1] < 1 and np.all(np.diff(s) > 0)):
        raise ValueError("levels: expected increasing numbers in (0, 1)")
    return s


def _atoms(g: np.ndarray, levels: np.ndarray, joined: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places and masses of joined neighbours. Each value holds the levels that are nearer to its own than to others."""
    held = np.diff(np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]]))
    group = np.concatenate([[0], np.cumsum(~joined)])
    count = np.bincount(group)
    many = (count > 1) | (g.size == 1)
    return (np.bincount(group, g) / count)[many], np.bincount(group, held)[many]


def _top(laws: Sequence[_Law]) -> float:
    """End of the axis of densities: a few short gaps may lie beyond it."""
    heights = [law.density[1][law.density[1] > 0] for law in laws]
    return 1.1 * max((float(np.quantile(h, 0.99)) for h in heights if h.size), default=1.0)


def _draw_atoms(axis: Axes, atoms: Sequence[tuple[tuple[np.ndarray, np.ndarray], Any]]) -> None:
    """Stems on a second axis, if there are any."""
    masses = [mass for (_, found), _ in atoms for mass in found]
    if not masses:
        return
    axis.set_ylabel("density (lines)")
    second = axis.twinx()
    dress(second, "", "mass of an atom (dots)")
    second.grid(False)
    second.spines["right"].set_visible(True)
    for (places, found), colour in atoms:
        for place, mass in zip(places, found, strict=True):
            second.plot([place, place], [0, mass], color=colour, linestyle=":", marker="o", markevery=[1])
    second.set(ylim=(0, 1.1 * max(masses)))
