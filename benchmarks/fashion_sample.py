"""Make the picture of Fashion-MNIST images that ships with the package: the first 100 test images of each class, class by class.

    python benchmarks/fashion_sample.py FOLDER

FOLDER holds the IDX files of the Debian package dataset-fashion-mnist (see ``locality.py``). Writes
``invjax/data/fashion_mnist.png``: 25 rows of 40 images of 28 x 28 pixels, 8 bits, lossless.
"""

from __future__ import annotations

import gzip
import pathlib
import sys

import numpy as np
import PIL.Image

ROWS, COLUMNS, SIZE, EACH = 25, 40, 28, 100
TARGET = pathlib.Path(__file__).parent.parent / "invjax" / "data" / "fashion_mnist.png"


def read(folder: pathlib.Path, name: str, header: int) -> np.ndarray:
    """The bytes after the header of an IDX file."""
    (path,) = folder.rglob(name)
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8)[header:]


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    images = read(folder, "t10k-images-idx3-ubyte.gz", 16).reshape(-1, SIZE, SIZE)
    labels = read(folder, "t10k-labels-idx1-ubyte.gz", 8)
    chosen = np.concatenate([np.flatnonzero(labels == label)[:EACH] for label in range(10)])
    tiles = images[chosen].reshape(ROWS, COLUMNS, SIZE, SIZE).swapaxes(1, 2)
    PIL.Image.fromarray(tiles.reshape(ROWS * SIZE, COLUMNS * SIZE)).save(TARGET, optimize=True)


if __name__ == "__main__":
    main()
