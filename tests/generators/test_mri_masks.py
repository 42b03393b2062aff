"""Sampling masks: number of lines, centre, law of the draws, batches over keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import generators

SHAPE = (5, 40, 1)
RANDOM = [generators.UniformLines, generators.PolynomialLines, generators.GaussianLines]
KEYS = 4000
Z = 4.5  # standard errors: for the 40 lines of a test the chance of one beyond is 3e-4, and the keys are fixed


def draws(mask, key, acceleration, centre_fraction, **options):
    many = jax.jit(jax.vmap(lambda k: mask(SHAPE, acceleration, centre_fraction, **options)(k)))
    return np.asarray(many(jax.random.split(key, KEYS)))[:, 0, :, 0]


@pytest.mark.parametrize("mask", RANDOM)
@pytest.mark.parametrize("acceleration", [2, 5])
def test_random_masks_have_exactly_the_lines_asked_for(mask, acceleration, key):
    taken = draws(mask, key, acceleration, 0.1)
    assert taken.shape == (KEYS, 40)
    np.testing.assert_array_equal(taken.sum(1), 40 // acceleration)
    assert np.all(taken[:, 18:22])


def law(name, r):
    return {"UniformLines": np.ones_like(r), "PolynomialLines": (1 - r) ** 8, "GaussianLines": np.exp(-(r**2) / 0.32)}[
        name
    ]


@pytest.mark.parametrize("mask", RANDOM)
def test_one_line_outside_the_centre_follows_the_density(mask, key):
    taken = draws(mask, key, 40 / 5, 0.1)  # four lines in the centre and one more
    outside = np.delete(np.arange(40), range(18, 22))
    density = law(mask.__name__, np.abs(outside - 20) / 20)
    p = density / density.sum()
    frequency = taken[:, outside].mean(0)
    assert np.all(np.abs(frequency - p) <= Z * np.sqrt(p * (1 - p) / KEYS) + 1 / KEYS)


def test_keys_are_independent(key):
    taken = draws(generators.UniformLines, key, 4, 0.0).astype(float)
    centred = taken - 0.25
    correlation = np.mean(centred[1:] * centred[:-1], axis=0) / (0.25 * 0.75)
    assert np.all(np.abs(correlation) <= Z / np.sqrt(KEYS - 1))
    assert np.all(np.abs(taken.mean(0) - 0.25) <= Z * np.sqrt(0.25 * 0.75 / KEYS))


@pytest.mark.parametrize(("acceleration", "fraction"), [(4, 0.0), (4, 0.1), (3.7, 0.2)])
def test_equispaced_masks_have_the_expected_number_of_lines(acceleration, fraction, key):
    taken = draws(generators.EquispacedLines, key, acceleration, fraction)
    centre = round(40 * fraction)
    spacing = (40 - centre) / (40 / acceleration - centre)
    p = 1 / spacing
    outside = [i for i in range(40) if not 20 - centre // 2 <= i < 20 + centre - centre // 2]
    assert np.all(taken[:, 20 - centre // 2 : 20 + centre - centre // 2])
    assert np.all(np.abs(taken[:, outside].mean(0) - p) <= Z * np.sqrt(p * (1 - p) / KEYS))
    if fraction == 0:
        for row in taken[:20]:
            steps = np.diff(np.nonzero(row)[0])
            assert set(steps) <= {int(np.floor(spacing)), int(np.ceil(spacing))}


def test_interleaved_frames_sample_every_line_once(key):
    masks = np.asarray(generators.InterleavedLines(SHAPE, 4, 0.0, num_frames=8)(key))
    assert masks.shape == (8, 1, 40, 1)
    np.testing.assert_array_equal(masks[:4].sum(0), 1)
    np.testing.assert_array_equal(masks[4:], masks[:4])
    for t in range(3):  # by one line from frame to frame
        np.testing.assert_array_equal(masks[t, 0, 1:, 0], masks[t + 1, 0, :-1, 0])


def test_two_phase_encoding_axes(key):
    mask = np.asarray(generators.PolynomialLines((12, 10, 7, 1), 6, 0.2, axes=(0, 1))(key))
    assert mask.shape == (12, 10, 1, 1)
    assert mask.sum() == 20
    assert np.all(mask[5:7, 4:6])


def test_acceleration_may_be_traced(key):
    factors = jnp.asarray([2.0, 4.0, 8.0])
    taken = jax.vmap(lambda R: generators.GaussianLines(SHAPE, R)(key))(factors)
    np.testing.assert_array_equal(taken.sum((1, 2, 3)), [20, 10, 5])
    np.testing.assert_array_equal(taken[1], generators.GaussianLines(SHAPE, 4)(key))
    equispaced = jax.vmap(lambda R: generators.EquispacedLines(SHAPE, R, 0.0)(key))(factors)
    np.testing.assert_array_equal(equispaced.sum((1, 2, 3)), [20, 10, 5])


def test_wrong_input_is_refused(key):
    with pytest.raises(ValueError, match="acceleration: expected at least 1"):
        generators.UniformLines(SHAPE, 0.5)
    with pytest.raises(ValueError, match="centre_fraction: expected non-negative"):
        generators.EquispacedLines(SHAPE, 4, -0.1)
    with pytest.raises(ValueError, match="axes: expected spatial axes"):
        generators.PolynomialLines(SHAPE, 4, axes=(2,))(key)
