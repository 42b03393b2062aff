"""Transport problems of the benchmarks: costs in [0, 1], float64."""

from __future__ import annotations

import numpy as np

from invjax.data import fashion_mnist

ETA = 1200.0  # one over epsilon, as the source of the sparse Newton method has it


def random_assignment(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Independent uniform costs."""
    return np.random.default_rng(seed).uniform(size=(n, n)), np.full(n, 1 / n), np.full(n, 1 / n)


def images(order: int, size: int = 28) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two images of Fashion-MNIST as masses of their pixels; cost ``|x - y|_1`` or ``|x - y|_2^2`` of pixels, the largest one."""
    pictures, _ = fashion_mnist()
    step = 28 // size
    a, b = (np.asarray(pictures[i], float).reshape(28, 28)[::step, ::step].ravel() + 1e-3 for i in (0, 1))
    side = np.arange(size)
    pixels = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2).astype(float)
    difference = np.abs(pixels[:, None] - pixels[None])
    cost = difference.sum(-1) if order == 1 else (difference**2).sum(-1)
    return cost / cost.max(), a / a.sum(), b / b.sum()


def densities(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two mixtures of normal laws on a grid of the unit interval, squared distance."""
    x = (np.arange(n) + 0.5) / n

    def mixture(*parts: tuple[float, float, float]) -> np.ndarray:
        values = sum(w * np.exp(-((x - m) ** 2) / (2 * s**2)) for w, m, s in parts) + 1e-3
        return values / values.sum()

    cost = (x[:, None] - x[None]) ** 2
    return cost, mixture((0.6, 0.2, 0.05), (0.4, 0.6, 0.1)), mixture((0.5, 0.4, 0.08), (0.5, 0.85, 0.04))
