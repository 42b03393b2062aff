"""The Monge gap, the Sinkhorn divergence and pairs of minibatches."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from invjax import ot
from invjax.train import Trainer


def cloud(seed=0, n=60, d=2):
    return np.random.default_rng(seed).normal(size=(n, d))


def test_gap_of_optimal_maps_is_zero():
    """Shifts, and linear maps with a symmetric positive matrix: gradients of convex functions, on any sample."""
    x, r = cloud(d=3), np.random.default_rng(1)
    root = r.normal(size=(3, 3))
    for z in (x, x + r.normal(size=3), x @ (root @ root.T) + 1.0):
        assert abs(ot.monge_gap(x, z)) < 1e-10
        assert abs(ot.monge_gap(x + 5.0, z)) < 1e-10


def test_gap_of_a_reflection():
    """``T(x) = -x`` on a sample that is symmetric: the images are the sample itself, so all that is paid is gap."""
    half = cloud()
    x = np.concatenate([half, -half])
    np.testing.assert_allclose(ot.monge_gap(x, -x), 4 * np.mean(np.sum(x**2, 1)), rtol=1e-12)


def test_gap_of_a_rotation():
    """A quarter turn of N(0, I) in the plane has gap 2 (1 - cos) E|x|^2 = 4; 400 points, within 10 %."""
    x = cloud(2, 400)
    np.testing.assert_allclose(ot.monge_gap(x, x @ np.array([[0.0, 1.0], [-1.0, 0.0]])), 4.0, rtol=0.1)


@pytest.mark.parametrize("power", [1.5, 3.0])
def test_gap_on_the_line_is_zero_exactly_for_monotone_maps(power):
    x = np.sort(cloud(3, 30, 1), 0)
    cost_fn = ot.Distance(power)
    assert abs(ot.monge_gap(x, x**3, cost_fn=cost_fn)) < 1e-10
    swapped = (x**3)[np.r_[1, 0, 2:30]]
    assert ot.monge_gap(x, swapped, cost_fn=cost_fn) > 1e-6


def test_entropic_gap():
    """The floor ``epsilon log n`` for every map; the value by dense algebra; the primal one tends to the exact gap."""
    x = cloud(4, 40)
    z = x @ np.array([[0.5, 0.4], [-0.3, 1.0]])
    for epsilon in (0.01, 0.1, 1.0):
        for image in (x, z):
            assert ot.monge_gap(x, image, epsilon, kind="entropic", atol=1e-3, max_steps=5000) >= epsilon * np.log(40)
    P = np.asarray(ot.sinkhorn(ot.between(x, z), 0.5, atol=1e-12).matrix)
    cost = np.sum((x[:, None] - z[None]) ** 2, -1)
    expected = np.trace(cost) / 40 - np.sum(P * cost) - 0.5 * np.sum(P * np.log(P))
    np.testing.assert_allclose(ot.monge_gap(x, z, 0.5, kind="entropic", atol=1e-12), expected, rtol=1e-9)
    primal = ot.monge_gap(x, z, 0.01, kind="primal", atol=1e-5, max_steps=5000)
    assert 0 <= ot.monge_gap(x, z) - primal < 0.01 * np.log(40)
    assert np.isnan(ot.monge_gap(x, z, 1e-3, kind="primal", atol=1e-12, max_steps=2))


def test_sinkhorn_divergence():
    """Zero for equal clouds, positive else; W_2^2 of a shift for small epsilon; NaN where it was not computed."""
    x = cloud(5, 30)
    assert abs(ot.sinkhorn_divergence(x, x[::-1], 0.5, atol=1e-12)) < 1e-11
    assert ot.sinkhorn_divergence(x, 1.1 * x, 0.5, atol=1e-10) > 1e-4
    # A shift adds |shift|^2 + linear terms to the cost, which change the coupling by nothing: exact for every epsilon.
    np.testing.assert_allclose(ot.sinkhorn_divergence(x, x + np.array([0.3, 0.4]), 0.5, atol=1e-12), 0.25, rtol=1e-9)
    assert np.isnan(ot.sinkhorn_divergence(x, x + 1, 1e-3, atol=1e-12, max_steps=2))


def test_training_with_the_gap_makes_maps_optimal():
    """A linear map from N(0, I) to a rotated Gaussian: many fit it; with the gap, the one that is symmetric is found."""
    r = np.random.default_rng(6)
    x = r.normal(size=(48, 2))
    target = np.array([[1.5, 0.4], [0.4, 0.8]])
    y = r.normal(size=(48, 2)) @ target
    turn = np.array([[np.cos(1.0), -np.sin(1.0)], [np.sin(1.0), np.cos(1.0)]])

    def trained(lam):
        trainer = Trainer(ot.MapLoss(lambda A, x: x @ A.T, lam, 0.2), optax.adam(0.1))
        state = trainer.init(jnp.asarray(turn), jax.random.key(0))

        def step(state, _):
            return trainer.step(state, (jnp.asarray(x), jnp.asarray(y)))

        return jax.jit(lambda state: jax.lax.scan(step, state, None, length=60))(state)[0].params

    without, with_gap = trained(0.0), trained(1.0)
    gaps = [float(ot.monge_gap(x, x @ A.T)) for A in (without, with_gap)]
    assert gaps[1] < gaps[0] / 50
    fits = [float(ot.sinkhorn_divergence(x @ A.T, y, 0.2, atol=1e-4)) for A in (4 * turn, without, with_gap)]
    assert fits[2] < fits[1] + 0.02 * fits[0]  # next to a map that is far off, both fit


def test_loss_says_its_parts():
    x, y = cloud(7, 20), cloud(8, 20) + 1
    loss = ot.MapLoss(lambda shift, x: x + shift, 0.7, 0.5)
    fit, gap, solved = loss.parts(jnp.zeros(2), (x, y))
    assert solved
    np.testing.assert_allclose(fit, ot.sinkhorn_divergence(x, y, 0.5), rtol=1e-3)
    np.testing.assert_allclose(gap, ot.monge_gap(x, x, 0.5, kind="entropic"), rtol=1e-3)
    np.testing.assert_allclose(loss(jnp.zeros(2), jax.random.key(0), (x, y)), fit + 0.7 * gap, rtol=1e-12)
    for values in ((-1.0, 0.5), (1.0, 0.0)):
        with pytest.raises(ValueError, match=r"lam|epsilon"):
            ot.MapLoss(lambda p, x: x, *values)


def test_pairs():
    """Exact pairs are the assignment; entropic ones have the rows in order and columns by the rows of the coupling."""
    x0, x1 = cloud(9, 30), cloud(10, 30)
    i, j = ot.ExactPairing()(jax.random.key(0), x0, x1)
    np.testing.assert_array_equal(i, np.arange(30))
    np.testing.assert_array_equal(j, ot.assignment(ot.between(x0, x1)).columns)
    pairing = eqx.filter_jit(ot.EntropicPairing(0.5))
    P = np.asarray(ot.sinkhorn(ot.between(x0, x1), 0.5).matrix)
    keys = jax.random.split(jax.random.key(1), 2000)
    i, j = jax.vmap(pairing, (0, None, None))(keys, x0, x1)
    np.testing.assert_array_equal(i[5], np.arange(30))
    counts = np.zeros((30, 30))
    np.add.at(counts, (np.asarray(i).ravel(), np.asarray(j).ravel()), 1)
    # Each entry is binomial of 2000: five standard errors, of 900 entries.
    probability = 30 * P
    assert np.all(np.abs(counts / 2000 - probability) < 5.5 * np.sqrt(probability * (1 - probability) / 2000) + 1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ot.monge_gap(x, x[:5]), "z: expected an image for each point"),
        (lambda x: ot.monge_gap(x, x, kind="other"), "kind: expected"),
        (lambda x: ot.monge_gap(x, x, kind="primal"), "epsilon: expected a positive number"),
        (lambda x: ot.EntropicPairing(0.0), "epsilon: expected positive"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(cloud())
