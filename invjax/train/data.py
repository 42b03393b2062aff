"""Random patches of images, as a pure function of seed and step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Patches:
    """``patches(step)`` is the batch ``(batch_size, size, size, C)`` of that step: crops, turned and mirrored at random.

    Nothing is remembered from step to step, so a resumed run sees what an uninterrupted one does, and process p of n takes
    its own rows of the batch. Images are drawn in proportion to their number of pixels.

    Args:
        images: Arrays ``(H, W, C)``, uint8 or floating, of different sizes. Bytes are scaled to [0, 1].
        size: Side of a patch; every image must hold one (``ValueError``).
        batch_size: Number of patches.
        seed: Seed of all draws.
    """

    def __init__(self, images: Sequence[Any], size: int, batch_size: int, seed: int = 0):
        if not len(images):
            raise ValueError("images: expected at least one image, got none")
        for image in images:
            if image.ndim != 3 or min(image.shape[:2]) < size or image.shape[-1] != images[0].shape[-1]:
                raise ValueError(
                    f"images: expected shapes (H, W, {images[0].shape[-1]}) of at least {size} pixels a side, got {image.shape}"
                )
        self.images, self.size, self.batch_size, self.seed = list(images), size, batch_size, seed
        area = np.array([image.shape[0] * image.shape[1] for image in images], float)
        self.share = area / area.sum()

    def __call__(self, step: int) -> np.ndarray:
        """The batch of this step, float32."""
        draws = np.random.default_rng((self.seed, step))
        chosen = draws.choice(len(self.images), self.batch_size, p=self.share)
        return np.stack([self._crop(draws, self.images[i]) for i in chosen])

    def _crop(self, draws: np.random.Generator, image: Any) -> np.ndarray:
        top, left = (draws.integers(0, n - self.size + 1) for n in image.shape[:2])
        patch = np.asarray(image[top : top + self.size, left : left + self.size])
        patch = patch.astype(np.float32) / (255 if patch.dtype == np.uint8 else 1)
        patch = np.rot90(patch, int(draws.integers(4)))
        return patch[::-1] if draws.integers(2) else patch
