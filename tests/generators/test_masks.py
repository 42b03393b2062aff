"""Masks and splits: densities, exact counts, odds, and that the two parts of a split are a partition."""

import equinox as eqx
import jax
import numpy as np
import pytest

from invjax import generators as gen
from invjax.generators.masks import gaussian_log_odds, weighted_choice

from ..registry import build
from .registry import GENERATORS

SPLITS = ("splitting", "gaussian_splitting", "phase2phase", "artifact2artifact")


@eqx.filter_jit
def many(generator, key, count):
    return jax.vmap(generator)(jax.random.split(key, count))


def draws(generator, key, count):
    return jax.tree.map(np.asarray, many(generator, key, count))


def test_density_of_bernoulli_masks(key):
    count, probability = 500, np.linspace(0.1, 0.9, 6)[:, None, None]
    masks = draws(gen.BernoulliMask((6, 5, 1), probability), key, count)
    found = masks.mean((0, 2, 3))
    np.testing.assert_array_less(abs(found - probability[:, 0, 0]), 5 * np.sqrt(0.25 / (5 * count)))
    both = masks[:, 0, 0, 0] == masks[:, 0, 1, 0]  # neighbours are independent: equal with odds p^2 + (1 - p)^2
    assert abs(both.mean() - 0.82) < 5 * np.sqrt(0.82 * 0.18 / count)


def test_gaussian_masks_have_an_exact_count_and_more_in_the_centre(key):
    masks = draws(gen.GaussianMask((12, 10, 2), 0.3, 0.2), key, 400)
    np.testing.assert_array_equal(masks.sum((1, 2)), 36)
    assert np.all(masks[..., 0] == masks[..., 1])
    rate = masks[..., 0].mean(0)
    assert rate[6, 5] > 2 * 0.3  # odds: 1 in the centre, exp(-6.25) in the corner
    assert rate[0, 0] < 0.3 / 2
    even = draws(gen.GaussianMask((12, 10, 1), 0.3, np.inf), key, 400)
    np.testing.assert_array_less(abs(even.mean(0) - 0.3), 5 * np.sqrt(0.21 / 400))


def test_gaussian_odds_are_relative_to_the_size():
    odds = np.asarray(gaussian_log_odds((8, 5), np.asarray(0.3)))
    assert odds[4, 2] == 0
    np.testing.assert_allclose(odds[2, 3], -((2 / 8) ** 2 + (1 / 5) ** 2) / (2 * 0.3**2), rtol=1e-14)


def test_draws_without_replacement_have_the_odds_of_successive_draws(key):
    """First pick ``i`` then ``j``: ``p_i p_j / (1 - p_i)``."""
    odds, count = np.array([0.5, 0.3, 0.15, 0.05]), 20000
    chosen = jax.vmap(lambda k: weighted_choice(k, np.log(odds), np.asarray(2)))(jax.random.split(key, count))
    for i, j in ((0, 1), (1, 2), (0, 3)):
        exact = odds[i] * odds[j] * (1 / (1 - odds[i]) + 1 / (1 - odds[j]))
        found = np.mean(chosen[:, i] & chosen[:, j])
        assert abs(found - exact) < 5 * np.sqrt(exact * (1 - exact) / count)
    none = weighted_choice(key, np.array([-np.inf, 0.0]), np.asarray(2))
    np.testing.assert_array_equal(none, [False, True])  # what is impossible is not chosen to make up the count


@pytest.mark.parametrize("name", SPLITS)
def test_splits_are_partitions_of_the_mask(name, key):
    generator = build(GENERATORS, name)
    kept, held_out = draws(generator, key, 50)
    assert kept.dtype == held_out.dtype == bool
    assert not np.any(kept & held_out)
    np.testing.assert_array_equal(kept | held_out, np.broadcast_to(np.asarray(generator.mask), kept.shape))
    assert np.all(held_out.any((1, 2, 3)))
    assert np.all(kept.any((1, 2, 3)))


def test_ratio_of_bernoulli_splitting(key):
    mask = np.random.default_rng(0).uniform(size=(8, 6, 2)) > 0.3
    kept, _ = draws(gen.Splitting(mask, gen.BernoulliMask((8, 6, 1), 0.6)), key, 500)
    pixels = mask.any(-1).sum()
    assert abs(kept.any(-1).sum((1, 2)).mean() / pixels - 0.6) < 5 * np.sqrt(0.24 / (500 * pixels))


def test_gaussian_splitting_has_an_exact_count_keeps_the_centre_and_prefers_it_elsewhere(key):
    mask = np.random.default_rng(0).uniform(size=(16, 12, 1)) > 0.4
    kept, held_out = draws(gen.GaussianSplitting(mask, 0.6, 0.2, (4, 2)), key, 400)
    np.testing.assert_array_equal(held_out.sum((1, 2, 3)), round(0.4 * mask.sum()))
    centre = (slice(None), slice(6, 10), slice(5, 7))
    np.testing.assert_array_equal(kept[centre], np.broadcast_to(mask[centre[1:]], kept[centre].shape))
    rate = held_out[..., 0].mean(0)
    ring = np.zeros((16, 12), bool)
    ring[4:12, 3:9] = True
    ring[6:10, 5:7] = False
    assert rate[ring & mask[..., 0]].mean() > 2 * rate[~ring & mask[..., 0]].mean()


def test_dynamic_splits_are_by_frame(key):
    mask = np.ones((6, 2, 2, 1), bool)
    kept, _ = draws(gen.Phase2Phase(mask), key, 400)
    frames = kept[:, :, 0, 0, 0]
    assert {tuple(f) for f in frames} == {(True, False) * 3, (False, True) * 3}
    assert abs(frames[:, 0].mean() - 0.5) < 5 * np.sqrt(0.25 / 400)
    kept, _ = draws(gen.Artifact2Artifact(mask, 2), key, 400)
    frames = kept[:, :, 0, 0, 0]
    blocks = {tuple(np.arange(6) // 2 == b) for b in range(3)}
    assert {tuple(f) for f in frames} == blocks
    np.testing.assert_array_less(abs(frames.mean(0) - 1 / 3), 5 * np.sqrt(2 / 9 / 400))


ERRORS = {
    "length: expected a divisor of 6 frames, got 4": lambda: gen.Artifact2Artifact(np.ones((6, 2, 2, 1)), 4),
    "mask: expected 4 dimensions": lambda: gen.Phase2Phase(np.ones((6, 2, 1))),
    "probability: expected below": lambda: gen.BernoulliMask((2, 2, 1), 1.5),
    "density: expected non-negative values": lambda: gen.GaussianMask((2, 2, 1), -0.5),
    "pattern: expected one of ('octanary', 'phase'), got 'ternary'": lambda: gen.CodedMasks((2, 2, 1), 2, "ternary"),
    "num_masks: expected an integer >= 1, got 0": lambda: gen.CodedMasks((2, 2, 1), 0),
    "width: expected positive values": lambda: gen.GaussianSplitting(np.ones((4, 4, 1)), 0.5, 0.0),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message]()
    assert message in str(error.value)
