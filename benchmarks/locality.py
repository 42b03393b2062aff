"""Error of analytic denoisers on Fashion-MNIST: optimal, Wiener, locality with an exact and with an averaged softmax.

    python benchmarks/locality.py FOLDER

FOLDER holds the IDX files of the Debian package dataset-fashion-mnist: ``apt-get download dataset-fashion-mnist``, then
``dpkg -x dataset-fashion-mnist_*.deb FOLDER``. The denoisers are made of the first training images in [-1, 1]; the quality is the
mean squared error to the clean test images, with noise of the levels t of the linear-beta schedule (1e-4 to 0.02, 1000 levels).
The comparison is that of Lukoianov, Yuan, Solomon and Sitzmann 2025 (arXiv 2509.09672), scaled down; blocks of 500 images.
"""

from __future__ import annotations

import gzip
import pathlib
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from harness import Stopwatch, emit, parser, record

from invjax import priors

LEVELS, THRESHOLD, BLOCK, LANES = (60, 150, 300, 500), 0.005, 500, 16


def images(folder: pathlib.Path, name: str, num: int) -> np.ndarray:
    """The first ``num`` images (num, 28, 28, 1) of an IDX file, in [-1, 1]."""
    found = sorted(folder.rglob(f"{name}-images-idx3-ubyte.gz"))
    if not found:
        raise FileNotFoundError(
            f"{folder}: expected {name}-images-idx3-ubyte.gz of the Debian package dataset-fashion-mnist; run "
            "'apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb FOLDER'"
        )
    raw = np.frombuffer(gzip.decompress(found[0].read_bytes()), np.uint8)
    sizes = raw[4:16].view(">u4")
    return raw[16:].reshape(*sizes, 1)[:num].astype(np.float32) / 127.5 - 1


def sigma_of(t: int) -> float:
    """Noise level over signal level after the beta of index t."""
    signal = np.prod(1 - np.linspace(1e-4, 0.02, 1000)[: t + 1])
    return float(np.sqrt((1 - signal) / signal))


@eqx.filter_jit
def restored(denoise: Callable, noisy: jax.Array, sigma: jax.Array) -> jax.Array:
    """All images, a few at a time."""
    return jax.lax.map(lambda x: denoise(x, sigma), noisy, batch_size=LANES)


def denoisers(points: np.ndarray) -> dict[str, Callable]:
    """Every denoiser by name, on the same data."""
    wiener = priors.fit_gaussian(points)
    exact = priors.Locality(points, wiener, THRESHOLD, block_size=BLOCK)
    averaged = priors.Locality(points, wiener, THRESHOLD, block_size=BLOCK, block_average=True)
    optimal = priors.Empirical(points, block_size=BLOCK).denoiser
    return {"optimal": optimal, "Wiener": wiener.denoiser, "locality": exact, "locality, block average": averaged}


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("folder", type=pathlib.Path, help="where the package dataset-fashion-mnist was unpacked")
    args = options.parse_args()
    num_points, num_tests = (1000, 32) if args.quick else (3000, 256)
    points, clean = images(args.folder, "train", num_points), images(args.folder, "t10k", num_tests)
    noise = np.random.default_rng(0).normal(size=clean.shape).astype(np.float32)
    lines = []
    for t in LEVELS:
        sigma, found = jnp.float32(sigma_of(t)), denoisers(points)
        ones = float(found["locality"].mask(sigma).mean())
        for name, denoise in found.items():
            watch = Stopwatch(lambda d=denoise, s=sigma: restored(d, jnp.asarray(clean + s * noise), s))
            for _ in range(args.repeats or 1):
                watch()
            mse = float(np.mean((watch.result - clean) ** 2))
            sizes = {"points": num_points, "images": num_tests, "shape": list(clean.shape[1:])}
            facts = {"sigma": float(sigma), "ones_in_mask": ones if "locality" in name else None}
            facts["seconds_per_image"] = min(watch.seconds) / num_tests
            lines.append(record(f"locality/t={t}/{name}", sizes, watch.times(), mse, "mean squared error", **facts))
    emit(lines)


if __name__ == "__main__":
    main()
