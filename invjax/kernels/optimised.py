"""Direction sets of largest distance sum: computed by L-BFGS, kept in memory and in a cache folder."""

from __future__ import annotations

import functools
import io
import os
import pathlib

import numpy as np
from scipy.optimize import minimize

from ..data.files import write_bytes

_VERSION = 1  # of the sets: a change of the method makes new files
_MAX_STEPS = 400


@functools.cache
def most_distant(num: int, dim: int) -> np.ndarray:
    """The ``num`` directions in dimension ``dim`` that maximise ``sum_pq |xi_p - xi_q| + |xi_p + xi_q|``, a local maximum.

    Deterministic: the start is drawn from a fixed seed. Points are optimised on the sphere by L-BFGS in float64; time and memory
    are those of ``num^2`` numbers. Files are kept in ``$INVJAX_CACHE``, or ``$XDG_CACHE_HOME/invjax`` or ``~/.cache/invjax``; a
    folder that cannot be written is ignored. Source: Hertrich, Jahn and Quellmalz (2025), section 4.1.
    """
    path = cache_folder() / f"directions_v{_VERSION}_{dim}_{num}.npy"
    if path.is_file():
        stored = np.load(io.BytesIO(path.read_bytes()))
        if stored.shape == (num, dim):
            return stored
    points = optimise(np.random.default_rng(0).normal(size=(num, dim)))
    buffer = io.BytesIO()
    np.save(buffer, points)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, buffer.getvalue())
    except OSError:
        pass
    return points


def cache_folder() -> pathlib.Path:
    """Where direction sets are kept between runs."""
    if "INVJAX_CACHE" in os.environ:
        return pathlib.Path(os.environ["INVJAX_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME")
    return (pathlib.Path(base) if base else pathlib.Path.home() / ".cache") / "invjax"


def optimise(start: np.ndarray, max_steps: int = _MAX_STEPS) -> np.ndarray:
    """A local maximum of the distance sum, from a start with rows that are not zero."""
    shape = start.shape

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        z = flat.reshape(shape)
        length = np.linalg.norm(z, axis=1, keepdims=True)
        value, gradient = distance_sum(z / length)
        tangential = gradient - np.sum(gradient * z, 1, keepdims=True) * z / length**2
        return -value, -(tangential / length).ravel()

    options = {"maxiter": max_steps, "maxcor": 20, "ftol": 1e-15, "gtol": 1e-10}
    found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=options).x.reshape(shape)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def distance_sum(points: np.ndarray) -> tuple[float, np.ndarray]:
    """``num^-2 sum_pq |xi_p - xi_q| + |xi_p + xi_q|`` of unit vectors, and its gradient."""
    num = len(points)
    inner = np.clip(points @ points.T, -1, 1)
    apart, opposite = np.sqrt(2 - 2 * inner), np.sqrt(2 + 2 * inner)
    np.fill_diagonal(apart, np.inf)  # a point has distance 0 to itself, at every place
    np.fill_diagonal(opposite, 2)
    inverse_apart, inverse_opposite = 1 / np.maximum(apart, 1e-13), 1 / np.maximum(opposite, 1e-13)
    np.fill_diagonal(apart, 0)
    gradient = points * (inverse_apart + inverse_opposite).sum(1, keepdims=True)
    gradient += (inverse_opposite - inverse_apart) @ points
    return float(apart.sum() + opposite.sum()) / num**2, 2 * gradient / num**2
