"""What the benchmarks of kernel sums share: kernels, point clouds, and sums over all pairs in float64.

Bandwidths are the median distance of a point of x and a point of y. Fashion-MNIST as in Hertrich, Jahn and Quellmalz (2025):
pixels in [0, 1], centred, the first principal components, y = x, unit weights.
"""

from __future__ import annotations

import gzip
import pathlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from invjax import kernels

CHECKED = 1000
DATASETS = pathlib.Path("/usr/share/datasets/fashion-mnist")

KERNELS: dict[str, Callable[[float], kernels.RadialKernel]] = {
    "gauss": lambda bandwidth: kernels.Gaussian(np.float32(bandwidth)),
    "matern 3.5": lambda bandwidth: kernels.Matern(3.5, np.float32(bandwidth)),
    "matern 1.5": lambda bandwidth: kernels.Matern(1.5, np.float32(bandwidth)),
    "laplace": lambda bandwidth: kernels.Laplace(np.float32(bandwidth)),
    "negative distance": lambda bandwidth: kernels.NegativeDistance(),
}

PROFILES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gauss": lambda s: np.exp(-(s**2) / 2),
    "matern 3.5": lambda s: (1 + (z := np.sqrt(7) * s) + 2 / 5 * z**2 + z**3 / 15) * np.exp(-z),
    "matern 1.5": lambda s: (1 + np.sqrt(3) * s) * np.exp(-np.sqrt(3) * s),
    "laplace": lambda s: np.exp(-s),
    "negative distance": lambda s: -s,
}
"""Of the distance over the bandwidth (which is one for the negative distance), in NumPy."""


class Clouds(NamedTuple):
    """Points x ``(N, d)`` and y ``(M, d)``, weights of x, the bandwidth, and a bound of the projections."""

    x: np.ndarray
    y: np.ndarray
    w: np.ndarray
    bandwidth: float
    radius: float


def gaussian_clouds(num: int, dim: int, seed: int = 0) -> Clouds:
    """Points x and y of the standard normal law, weights uniform in [0, 1], float32."""
    r = np.random.default_rng(seed)
    x, y = (r.normal(size=(num, dim)).astype(np.float32) for _ in range(2))
    return _clouds(x, y, r.uniform(size=num).astype(np.float32))


def fashion_clouds(folder: pathlib.Path, num: int, dim: int) -> Clouds:
    """The first ``dim`` principal components of the first ``num`` training images, twice; unit weights."""
    found = sorted(folder.rglob("train-images-idx3-ubyte.gz"))
    if not found:
        raise FileNotFoundError(
            f"{folder}: expected train-images-idx3-ubyte.gz of the Debian package dataset-fashion-mnist; run "
            "'apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb FOLDER'"
        )
    raw = np.frombuffer(gzip.decompress(found[0].read_bytes()), np.uint8)
    images = raw[16:].reshape(-1, 784)[:num] / 255
    images -= images.mean(0)
    components = np.linalg.eigh(images.T @ images)[1][:, : -dim - 1 : -1]
    x = (images @ components).astype(np.float32)
    return _clouds(x, x, np.ones(num, np.float32))


def _clouds(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> Clouds:
    r = np.random.default_rng(1)
    some = [cloud[r.permutation(len(cloud))[:1000]].astype(np.float64) for cloud in (x, y)]
    radius = max(float(np.linalg.norm(cloud, axis=1).max()) for cloud in (x, y))
    return Clouds(x, y, w, float(np.median(distances(*some))), 1.0001 * radius)


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """All distances, in the precision of the points."""
    squares = np.sum(x**2, 1)[:, None] + np.sum(y**2, 1) - 2 * x @ y.T
    return np.sqrt(np.maximum(squares, 0))


def exact_sums(names: Iterable[str], clouds: Clouds, num: int = CHECKED) -> dict[str, np.ndarray]:
    """The sums at the first ``num`` points of y over all pairs in float64, for every kernel named."""
    names, y = list(names), clouds.y[:num].astype(np.float64)
    sums = {name: np.zeros(len(y)) for name in names}
    for start in range(0, len(clouds.x), 10_000):
        part = slice(start, start + 10_000)
        lengths, weights = distances(clouds.x[part].astype(np.float64), y), clouds.w[part].astype(np.float64)
        for name in names:
            scale = 1.0 if name == "negative distance" else clouds.bandwidth
            sums[name] += weights @ PROFILES[name](lengths / scale)
    return sums
