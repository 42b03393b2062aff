"""How well a line approximates f, and the cosine series of the fewest frequencies that reaches a tolerance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_PERIOD = 1.25  # of the series, over the smallest possible one: room for a smooth continuation
_MOST = 1024


class CosineFit(eqx.Module):
    """``f(t) ~ sum_k c_k cos((first + k) omega t)`` on ``|t| <= 2 radius``, by least squares: ``c = expand (project f(nodes))``.

    The matrices do not depend on f, so that coefficients can be computed, and differentiated, for other parameters of the kernel.
    They are two because their product has large entries, whose roundings would not cancel.
    """

    expand: Float[Array, "K r"]
    project: Float[Array, "r S"]
    places: Float[Array, " S"]
    first: int = eqx.field(static=True)

    def nodes(self, radius: Array) -> Array:
        """Where f is sampled."""
        return self.places.astype(radius.dtype) * (2 * radius)

    def omega(self, radius: Array) -> Array:
        """The base frequency: the period is ``4 radius`` times a little more than one."""
        return 2 * math.pi / (4 * radius * _PERIOD)

    def cosines(self, samples: Array) -> Array:
        """The coefficients for the values of f at the nodes."""
        components = jnp.matmul(self.project.astype(samples.dtype), samples, precision="highest")
        return jnp.matmul(self.expand.astype(samples.dtype), components, precision="highest")


def fit_cosines(f: Callable[[np.ndarray], np.ndarray], radius: float, tol: float) -> tuple[CosineFit, float]:
    """The shortest band whose error, root mean square over pairs of points, is at most ``tol``; and that error.

    A series with a period longer than the range leaves f free outside of it, so smooth functions converge spectrally although
    they are not periodic (Huybrechs 2010, SIAM J. Numer. Anal. 47(6)); singular values below the tolerance are cut, which keeps
    the coefficients of moderate size. A kink in f limits the rate to ``1/K``: after 1024 frequencies the best is returned.
    """
    places = (np.arange(4096) + 0.5) / 4096
    exact = f(2 * radius * places)
    scale = np.abs(exact).max()
    density = 2 * (1 - places)  # of |u - v| / (2 radius) for uniform pairs
    best, least, num = None, math.inf, 4
    while num <= _MOST and least > tol:
        fit = _least_squares(num, tol / scale)
        error = _error(fit, f, radius, places, exact, density)
        if best is not None and error > 0.9 * least and num > 32:
            break  # at the accuracy of the cut
        if error < least or best is None:
            best, least = fit, error
        num = math.ceil(1.5 * num)
    if best is None:
        raise RuntimeError("no series was tried")
    best = _trimmed(best, f, radius, tol)
    return best, max(least, _error(best, f, radius, places, exact, density))


def _least_squares(num: int, tol: float) -> CosineFit:
    places = (1 - np.cos(np.pi * (np.arange(4 * num) + 0.5) / (4 * num))) / 2
    basis = np.cos(np.pi / _PERIOD * np.outer(places, np.arange(num)))
    root = np.sqrt(np.sin(np.pi * (np.arange(4 * num) + 0.5) / (4 * num)))[:, None]  # quadrature weights of the places
    rounding = 10 * float(jnp.finfo(jnp.zeros(()).dtype).eps)
    left, singular, right = np.linalg.svd(root * basis, full_matrices=False)
    kept = singular > max(min(tol, 1e-3) * 1e-2, rounding) * singular[0]
    expand, project = right[kept].T / singular[kept], left[:, kept].T * root.T
    return CosineFit(jnp.asarray(expand), jnp.asarray(project), jnp.asarray(places), 0)


def _trimmed(fit: CosineFit, f: Callable, radius: float, tol: float) -> CosineFit:
    """Without the frequencies at both ends that together change f by less than a tenth of the tolerance."""
    size = np.abs(_coefficients(fit, f, radius))
    low = int(np.searchsorted(np.cumsum(size), tol / 20))
    high = len(size) - int(np.searchsorted(np.cumsum(size[::-1]), tol / 20))
    low = min(low, len(size) - 1)
    return CosineFit(fit.expand[low : max(high, low + 1)], fit.project, fit.places, fit.first + low)


def _coefficients(fit: CosineFit, f: Callable, radius: float) -> np.ndarray:
    expand, project, places = (np.asarray(a, np.float64) for a in (fit.expand, fit.project, fit.places))
    return expand @ (project @ f(2 * radius * places))


def _error(fit: CosineFit, f: Any, radius: float, places: np.ndarray, exact: np.ndarray, density: np.ndarray) -> float:
    cosines = _coefficients(fit, f, radius)
    k = fit.first + np.arange(len(cosines))
    found = np.cos(np.pi / _PERIOD * np.outer(places, k)) @ cosines
    return float(np.sqrt(np.mean(density * (found - exact) ** 2)))


def grid_error(f: Callable[[np.ndarray], np.ndarray], radius: float, num_nodes: int) -> float:
    """Root mean square error, over pairs of points of the range, of f interpolated linearly in both points."""
    random = np.random.default_rng(0)
    spacing = 2 * radius / (num_nodes - 1)
    # Pairs in one or in neighbouring cells are rare and have the largest errors: both strata are drawn.
    parts = random.uniform(size=(2, 4096))
    distance = random.integers(2, num_nodes - 1, 4096)
    distance[:1024] = random.integers(-1, 2, 1024)
    left, right = parts
    found = sum(
        wa * wb * f(spacing * np.abs(distance + b - a))
        for a, wa in ((0, 1 - left), (1, left))
        for b, wb in ((0, 1 - right), (1, right))
    )
    error = (found - f(spacing * np.abs(distance + right - left))) ** 2
    near = min(1.0, 3 / num_nodes)
    far = 2 * (1 - distance[1024:] / num_nodes)
    return float(np.sqrt(near * error[:1024].mean() + (far * error[1024:]).mean()))
