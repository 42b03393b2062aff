"""Pictures of images, errors, uncertainty, traces, coverage, flows and transport, as matplotlib figures.

Every function takes arrays and returns a ``matplotlib.figure.Figure`` made without pyplot: no backend, no global state,
nothing to close. The figure shows itself in a notebook; ``save_figure`` and ``figure_png`` write it. Images are ``(H, W)``,
``(H, W, 1)`` or ``(H, W, 3)``; complex ones are shown by their magnitude, and NaN in red (black where there is colour).
"""

from .charts import coverage_curve, energy_decay, traces
from .figures import NotebookFigure, figure_png, save_figure
from .flows import particles, trajectories
from .images import barycenters, error_map, panel, uncertainty
from .laws import quantiles
from .transport import cells, couplings, maps, transport_lines

__all__ = [
    "NotebookFigure",
    "barycenters",
    "cells",
    "couplings",
    "coverage_curve",
    "energy_decay",
    "error_map",
    "figure_png",
    "maps",
    "panel",
    "particles",
    "quantiles",
    "save_figure",
    "traces",
    "trajectories",
    "transport_lines",
    "uncertainty",
]
