"""A sample of Fashion-MNIST that comes with the package: a real data set of small images without a download."""

from __future__ import annotations

import pathlib

import jax.numpy as jnp
import numpy as np
import PIL.Image
from jaxtyping import Array, Float, Int

FASHION_CLASSES = (
    "T-shirt",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
"""Names of the ten classes."""

_FILE, _SIZE, _EACH = "fashion_mnist.png", 28, 100


def fashion_mnist(num: int = 1000) -> tuple[Float[Array, "num 28 28 1"], Int[Array, " num"]]:
    """``num`` images of Fashion-MNIST in [0, 1], float32, and their classes 0 to 9 (``FASHION_CLASSES``), class by class in turn.

    They are the first 100 test images of each class (Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747; MIT licence, see
    ``NOTICE.md`` beside the file). Raises ``ValueError`` unless ``1 <= num <= 1000``.
    """
    if not 1 <= num <= 10 * _EACH:
        raise ValueError(f"num: expected 1 to {10 * _EACH}, got {num}")
    mosaic = np.asarray(PIL.Image.open(pathlib.Path(__file__).with_name(_FILE)))
    rows, columns = (side // _SIZE for side in mosaic.shape)
    images = mosaic.reshape(rows, _SIZE, columns, _SIZE).swapaxes(1, 2).reshape(10, _EACH, _SIZE, _SIZE, 1)
    in_turn = images.swapaxes(0, 1).reshape(-1, _SIZE, _SIZE, 1)[:num]
    return jnp.asarray(in_turn, jnp.float32) / 255, jnp.arange(num, dtype=jnp.int32) % 10
