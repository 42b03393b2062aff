"""Projections and penalties that are not convex, against brute force, closed forms and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from invjax import priors

PENALTIES = {
    "l0": priors.L0(0.5),
    "mcp": priors.MCP(0.5, 0.8),
    "mcp_hard": priors.MCP(0.5, 0.2),  # width below the threshold: hard thresholding
    "scad": priors.SCAD(0.5, 0.4, 3.5),
    "scad_hard": priors.SCAD(1.5, 0.1, 2.5),
    "log_sum": priors.LogSum(0.5, 0.15),
    "huber": priors.Huber(0.5, 0.3),
    "l1_minus_l2": priors.L1MinusL2(0.5, 0.3),  # of one entry: 0.7 times the l1 norm
}
POINTS = np.array([-2.3, -0.9, -0.4, 0.05, 0.3, 0.55, 0.8, 1.4])


@pytest.mark.parametrize("name", PENALTIES)
def test_prox_is_the_global_minimiser(name):
    """Against 400 001 points; the objective, as minimisers may be two."""
    g, step, grid = PENALTIES[name], 0.6, np.append(np.linspace(-3, 3, 400_001), 0.0)
    value = jax.jit(jax.vmap(lambda v: g(v[None])))
    prox = jax.jit(jax.vmap(lambda x: g.prox(x[None], step)[0]))
    penalty, found = step * np.asarray(value(grid)), np.asarray(prox(POINTS))
    at_found = step * np.asarray(value(found)) + (found - POINTS) ** 2 / 2
    for x, p, objective in zip(POINTS, found, at_found, strict=True):
        all_values = penalty + (grid - x) ** 2 / 2
        assert objective <= all_values.min() + 1e-12
        assert np.abs(grid[all_values < all_values.min() + 1e-9] - p).min() < 1e-4


CASES = {"above": 2.0, "equal": 0.8, "between": 0.5, "below": 0.06}
"""The four cases of the lemma: the largest entry against t = 0.8 and (1 - ratio) t = 0.08."""


@pytest.mark.parametrize("case", CASES)
def test_l1_minus_l2_prox_is_no_worse_than_any_descent(case):
    """Of a vector: no start of a local search finds a lower objective, in each case of the lemma."""
    r, g, t = np.random.default_rng(0), priors.L1MinusL2(1.0, 0.9), 0.8
    x = CASES[case] * np.array([-0.3, 1.0, 0.7])

    def objective(z):
        return t * (np.abs(z).sum() - 0.9 * np.linalg.norm(z)) + ((z - x) ** 2).sum() / 2

    p = np.asarray(g.prox(jnp.asarray(x), t))
    starts = [x, 0 * x, *np.eye(3), *-np.eye(3), *r.normal(size=(12, 3))]
    found = [
        scipy.optimize.minimize(objective, s, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13}).fun
        for s in starts
    ]
    assert objective(p) <= min(found) + 1e-9
    assert np.count_nonzero(p) == {"above": 2, "equal": 1, "between": 1, "below": 0}[case]


@pytest.mark.parametrize("radius", [0.7, 2.5])
def test_projection_on_the_simplex(radius):
    """Karush-Kuhn-Tucker: x - p is one constant where p > 0, and below it elsewhere."""
    x = np.random.default_rng(1).normal(size=(5, 4))
    p = np.asarray(priors.Simplex(radius).prox(jnp.asarray(x), 1.0))
    np.testing.assert_allclose(p.sum(), radius, rtol=1e-12)
    assert p.min() >= 0
    level = (x - p)[p > 0]
    assert np.ptp(level) < 1e-12
    assert np.all((x - p)[p == 0] <= level.max() + 1e-12)


@pytest.mark.parametrize("complex", [False, True])
def test_projection_on_the_l1_ball(complex):
    r = np.random.default_rng(2)
    x = r.normal(size=12) + (1j * r.normal(size=12) if complex else 0)
    ball = priors.L1Ball(3.0)
    p = np.asarray(ball.prox(jnp.asarray(x), 1.0))
    np.testing.assert_allclose(np.abs(p).sum(), 3, rtol=1e-12)
    kept = np.abs(p) > 0
    assert np.ptp((np.abs(x) - np.abs(p))[kept]) < 1e-12  # one level
    np.testing.assert_allclose(np.angle(p[kept]), np.angle(x[kept]), atol=1e-12)
    inside = 0.1 * x
    np.testing.assert_array_equal(ball.prox(jnp.asarray(inside), 1.0), inside)
    assert ball(jnp.asarray(p)) == 0
    assert ball(jnp.asarray(x)) == jnp.inf


def test_huber_of_groups():
    """Entries along the axis share one norm; a pair is moved along itself as its norm is."""
    x, g = np.array([[3.0, 0.03], [4.0, 0.04]]), priors.Huber(0.5, 0.1, axes=(0,))
    np.testing.assert_allclose(g(x), 0.5 * ((5 - 0.05) + 0.05**2 / 0.2), rtol=1e-13)
    norms = priors.Huber(0.5, 0.1).prox(np.array([5.0, 0.05]), 0.6)
    np.testing.assert_allclose(g.prox(x, 0.6), x * np.asarray(norms) / np.array([5.0, 0.05]), rtol=1e-13)


def test_balls_have_their_radius():
    x = jnp.array([3.0, -4.0])
    np.testing.assert_allclose(priors.L2Ball(1.0).prox(x, 1.0), [0.6, -0.8], rtol=1e-12)
    np.testing.assert_array_equal(priors.LInfBall(3.5).prox(x, 1.0), [3.0, -3.5])
    for ball in (priors.L2Ball(6.0), priors.LInfBall(6.0)):  # inside
        np.testing.assert_array_equal(ball.prox(x, 1.0), x)


def test_nuclear_norm_of_a_low_rank_matrix():
    r = np.random.default_rng(3)
    u, _, vh = np.linalg.svd(r.normal(size=(6, 4)), full_matrices=False)
    x = jnp.asarray((u * [3.0, 2.0, 0.4, 0.1]) @ vh)
    g = priors.NuclearNorm(0.5)
    np.testing.assert_allclose(g(x), 0.5 * 5.5, rtol=1e-12)
    np.testing.assert_allclose(g.prox(x, 1.0), (u * [2.5, 1.5, 0, 0]) @ vh, atol=1e-12)


ERRORS = {
    "radius: expected positive values, got 0.0": lambda: priors.L2Ball(0.0),
    "x: expected a real array for Simplex, got complex128": lambda: priors.Simplex()(jnp.ones(2) * 1j),
    "width: expected positive values, got -1.0": lambda: priors.MCP(1.0, -1),
    "a - 2: expected positive values, got 0.0": lambda: priors.SCAD(1.0, 1.0, 2.0),
    "eps: expected positive values, got 0.0": lambda: priors.LogSum(1.0, 0),
    "1 - ratio: expected non-negative values, got": lambda: priors.L1MinusL2(1.0, 1.5),
    "delta: expected positive values, got 0.0": lambda: priors.Huber(1.0, 0),
    "x: expected matrices in the last two axes, got shape (3,)": lambda: priors.NuclearNorm()(jnp.ones(3)),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        ERRORS[message]()
    assert message in str(error.value)
