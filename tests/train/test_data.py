"""Random patches: a pure function of seed and step, fair over pixels and the eight turns."""

import numpy as np
import pytest

from invjax.train import Patches


def images():
    return [np.arange(40 * 30 * 2).reshape(40, 30, 2) / 2400, np.full((16, 20, 2), 255, np.uint8)]


def test_a_batch_depends_on_seed_and_step_alone():
    one, two = Patches(images(), 8, 5, seed=1), Patches(images(), 8, 5, seed=1)
    later = [one(i) for i in range(4)]
    np.testing.assert_array_equal(two(3), later[3])
    assert later[0].shape == (5, 8, 8, 2)
    assert later[0].dtype == np.float32
    assert not np.array_equal(later[0], later[1])
    assert not np.array_equal(later[0], Patches(images(), 8, 5, seed=2)(0))


def test_images_are_drawn_in_proportion_to_their_pixels_and_bytes_are_scaled():
    patches = Patches(images(), 8, 4000)(0)
    ones = np.all(patches == 1, axis=(1, 2, 3))
    share = 320 / 1520
    assert abs(ones.mean() - share) <= 4 * np.sqrt(share * (1 - share) / 4000)


def test_all_eight_symmetries_occur_equally():
    corners = [tuple(np.argsort(p[[0, 0, -1, -1], [0, -1, 0, -1], 0])) for p in Patches(images()[:1], 8, 4000)(1)]
    counts = np.unique(corners, axis=0, return_counts=True)[1]
    assert len(counts) == 8
    assert np.abs(counts - 500).max() <= 4 * np.sqrt(500 * 7 / 8)


def test_refusals():
    with pytest.raises(ValueError, match="at least one image"):
        Patches([], 8, 2)
    with pytest.raises(ValueError, match="at least 32 pixels"):
        Patches(images(), 32, 2)
    with pytest.raises(ValueError, match="images: expected shapes"):
        Patches([np.zeros((9, 9, 1)), np.zeros((9, 9, 3))], 8, 2)
