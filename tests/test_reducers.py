"""Reducers against NumPy on the same observations."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import Fn, iterate
from invjax.reducers import ArgBest, Every, Last, Moments, Quantiles

from .registry import strictly


class State(NamedTuple):
    position: jax.Array
    i: jax.Array


class Replay(eqx.Module):
    """Visits the rows of ``data`` in turn."""

    data: jax.Array

    def init(self, x, key=None):
        return State(x, jnp.zeros((), jnp.int32))

    def step(self, state):
        return State(self.data[state.i], state.i + 1), {"row": state.i}


@eqx.filter_jit
def reduce(reducer, data):
    with strictly():
        return iterate(Replay(data), jnp.zeros_like(data[0]), len(data), trace=reducer)[1]


DATA = np.random.default_rng(0).normal(size=(23, 4))


@pytest.mark.parametrize("k", [1, 5, 23, 30])
def test_every(k):
    np.testing.assert_array_equal(reduce(Every(k), jnp.asarray(DATA)), DATA[::k])


def test_last_of_a_function_of_state_and_info():
    got = reduce({"a": Last(), "b": (Last(of=lambda s, i: i["row"]), Every(4, of=lambda s, i: s.i))}, jnp.asarray(DATA))
    np.testing.assert_array_equal(got["a"], DATA[-1])
    assert got["b"][0] == 22
    np.testing.assert_array_equal(got["b"][1], 1 + np.arange(0, 23, 4))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128, np.int32, jnp.bfloat16])
def test_moments_equal_numpy(dtype):
    data = (10 * DATA + (1j * DATA[::-1] if np.issubdtype(dtype, np.complexfloating) else 0)).astype(dtype)
    got = reduce(Moments(), jnp.asarray(data))
    wide = data.astype(np.complex128 if np.iscomplexobj(data) else np.float64)
    eps = 1e-5 if np.dtype(got.variance.dtype) == np.float32 else 1e-13
    np.testing.assert_allclose(got.mean, wide.mean(0), rtol=eps, atol=eps)
    np.testing.assert_allclose(got.variance, wide.var(0, ddof=1), rtol=10 * eps)
    np.testing.assert_allclose(got.std, wide.std(0, ddof=1), rtol=10 * eps)
    assert int(got.count) == 23
    assert got.mean.dtype == (dtype if dtype not in (np.int32, jnp.bfloat16) else np.float32)


def test_moments_far_from_zero_in_float32():
    """Mean 1e6, standard deviation 1, 20 000 draws: a plain Welford mean stalls after some tens of draws."""
    data = np.float32(1e6 + np.random.default_rng(1).normal(size=(20_000, 3)))
    got = reduce(Moments(), jnp.asarray(data))
    wide = data.astype(np.float64)
    np.testing.assert_allclose(got.mean, wide.mean(0), atol=0.04)  # half a unit in the last place of 1e6
    np.testing.assert_allclose(got.variance, wide.var(0, ddof=1), rtol=1e-4)


def test_moments_of_one_observation_and_of_trees():
    got = reduce(Moments(of=lambda s, i: {"x": s.position, "y": (2 * s.position,)}), jnp.asarray(DATA))
    np.testing.assert_allclose(got.mean["y"][0], 2 * DATA.mean(0))
    np.testing.assert_allclose(got.std["x"], DATA.std(0, ddof=1))
    one = reduce(Moments(), jnp.asarray(DATA[:1]))
    np.testing.assert_array_equal(one.variance, 0)
    np.testing.assert_array_equal(one.mean, DATA[0])


def test_argbest_keeps_the_first_of_the_smallest_and_ignores_nan():
    target = jnp.arange(4.0)
    got = reduce(ArgBest(Fn(lambda x, t: jnp.sum((x - t) ** 2), target)), jnp.asarray(DATA))
    values = ((DATA - np.arange(4)) ** 2).sum(1)
    np.testing.assert_array_equal(got.position, DATA[values.argmin()])
    np.testing.assert_allclose(got.value, values.min())
    got = reduce(ArgBest(lambda x: jnp.log(x[0])), jnp.asarray(DATA))  # NaN for negative entries
    np.testing.assert_array_equal(got.position[0], DATA[DATA[:, 0] > 0, 0].min())


def p_square(draws, p):
    """Jain and Chlamtac (1985), box 1, in plain Python."""
    q, n = sorted(draws[:5]), [1, 2, 3, 4, 5]
    for count, x in enumerate(draws[5:], 6):
        q[0], q[4] = min(q[0], x), max(q[4], x)
        for i in range(1, 5):
            n[i] += x < q[i] or i == 4
        desired = [1 + (count - 1) * r for r in (0, p / 2, p, (1 + p) / 2, 1)]
        for i in (1, 2, 3):
            gap = desired[i] - n[i]
            if (gap >= 1 and n[i + 1] - n[i] > 1) or (gap <= -1 and n[i - 1] - n[i] < -1):
                d = 1 if gap > 0 else -1
                up, down = (q[i + 1] - q[i]) / (n[i + 1] - n[i]), (q[i] - q[i - 1]) / (n[i] - n[i - 1])
                new = q[i] + d / (n[i + 1] - n[i - 1]) * ((n[i] - n[i - 1] + d) * up + (n[i + 1] - n[i] - d) * down)
                q[i] = new if q[i - 1] < new < q[i + 1] else q[i] + d * (q[i + d] - q[i]) / (n[i + d] - n[i])
                n[i] += d
    return q[2]


def test_quantiles_are_those_of_the_published_algorithm():
    probs, draws = np.array([0.0512, 0.3141, 0.951]), np.random.default_rng(2).normal(size=(300, 4))
    got = reduce(Quantiles(probs), jnp.asarray(draws))
    exact = [[p_square(list(column), p) for column in draws.T] for p in probs]
    np.testing.assert_allclose(got, exact, rtol=1e-9)


@pytest.mark.parametrize("num", [1, 3, 5])
def test_quantiles_of_few_observations_are_order_statistics(num):
    draws = np.random.default_rng(2).normal(size=(num, 4))
    got = reduce(Quantiles([0.25, 0.5, 0.75]), jnp.asarray(draws))
    rows = np.round(np.array([0.25, 0.5, 0.75]) * (num - 1)).astype(int)
    np.testing.assert_array_equal(got, np.sort(draws, 0)[rows])


@pytest.mark.parametrize(("num", "chains", "centre", "tail"), [(500, 2000, 0.03, 0.06), (5000, 500, 0.005, 0.025)])
def test_error_of_quantiles_is_the_documented_one(num, chains, centre, tail):
    """Root mean square over normal chains, within 15 %.

    That is five standard errors, 1 / sqrt(2 chains) each, for 500 chains. One stuck marker, which is off by 0.3, adds as much.
    """
    probs, draws = np.array([0.05, 0.25, 0.5, 0.75, 0.95]), np.random.default_rng(3).normal(size=(num, chains))
    error = np.asarray(reduce(Quantiles(probs), jnp.asarray(draws))) - np.quantile(draws, probs, axis=0)
    rms = np.sqrt((error**2).mean(1))
    assert rms[1:4].max() <= 1.15 * centre
    assert rms[[0, 4]].max() <= 1.15 * tail
    density = np.exp(-0.5 * np.array([1.645, 0.674, 0, 0.674, 1.645]) ** 2) / np.sqrt(2 * np.pi)
    monte_carlo = np.sqrt(probs * (1 - probs) / num) / density
    assert (rms <= monte_carlo * np.array([1, 0.5, 0.5, 0.5, 1])).all()
    assert np.mean(np.abs(error) >= 0.3) <= 3e-3


def test_reducers_under_vmap():
    data = jnp.asarray(np.random.default_rng(4).normal(size=(3, 23, 4)), jnp.float32)
    reducers = {"m": Moments(), "q": Quantiles([0.2, 0.8]), "e": Every(6), "b": ArgBest(jnp.sum)}
    together = jax.vmap(lambda d: reduce(reducers, d))(data)
    for i in range(3):
        alone = reduce(reducers, data[i])
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6), together, alone)
    assert together["q"].shape == (3, 2, 4)
    assert together["q"].dtype == jnp.float32


def test_messages():
    with pytest.raises(ValueError, match="k: expected a positive integer, got 0"):
        Every(0)
    for bad in ([0.0, 0.5], [0.5, 1.0]):
        with pytest.raises(ValueError, match="probs: expected"):
            Quantiles(bad)
    with pytest.raises(ValueError, match="probs: expected 1 dimensions"):
        Quantiles(0.5)
    with pytest.raises(ValueError, match="of: expected one real array per observation"):
        reduce(Quantiles([0.5]), jnp.asarray(DATA + 0j))
