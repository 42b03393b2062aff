"""Sweeps equal a loop, in bounded memory, on one device and on eight, without communication."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from invjax import Fn, grid_product, solve, sweep

from .methods import X, landweber

MESH = Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
GRID = {"w": np.linspace(1, 2, 11), "k": np.arange(11)}
V = np.array([1.0, 2.0])


def weighted(point, v):
    return {"sum": jnp.sum(point["w"] * v), "all": point["w"] * v + point["k"]}


@pytest.mark.parametrize("batch_size", [None, 1, 3, 11, 50])
@pytest.mark.parametrize("mesh", [None, MESH], ids=["one", "eight"])
def test_sweep_equals_a_loop(batch_size, mesh):
    got = sweep(weighted, GRID, V, batch_size=batch_size, mesh=mesh)
    np.testing.assert_allclose(got["sum"], 3 * GRID["w"], rtol=1e-15)
    np.testing.assert_allclose(got["all"], GRID["w"][:, None] * V + GRID["k"][:, None], rtol=1e-15)


@pytest.mark.parametrize("num", [1, 7, 8])
def test_fewer_points_than_devices(num):
    got = sweep(weighted, jax.tree.map(lambda a: a[:num], GRID), V, mesh=MESH)
    np.testing.assert_allclose(got["sum"], 3 * GRID["w"][:num], rtol=1e-15)


def solution(shift, m):
    m = eqx.tree_at(lambda m: m.shift, m, shift)
    s = solve(m, X, rtol=1e-12, max_steps=3000)
    return s.position, s.num_steps


def test_sweep_of_solves_stops_lane_by_lane_and_does_not_communicate():
    shifts, m = jnp.geomspace(0.01, 1, 16), landweber()
    positions, steps = sweep(solution, shifts, m, mesh=MESH)
    single = jax.jit(solution)
    alone, alone_steps = zip(*[single(s, m) for s in np.asarray(shifts)], strict=True)
    np.testing.assert_allclose(positions, alone, rtol=1e-9)
    np.testing.assert_array_equal(steps, alone_steps)
    assert len(set(steps.tolist())) > 5
    text = jax.jit(lambda s, m: sweep(solution, s, m, mesh=MESH)).lower(shifts, m).compile().as_text()
    assert "while(" in text
    for collective in ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert text.count(f"{collective}(") + text.count(f"{collective}-start(") == 0


def test_keys_pytrees_and_modules_sweep():
    keys = jax.random.split(jax.random.key(0), 5)
    got = sweep(lambda p, fn: fn(jax.random.normal(p["key"], (2,))), {"key": keys}, Fn(jnp.multiply, 3.0), batch_size=2)
    np.testing.assert_allclose(got, [3 * jax.random.normal(k, (2,)) for k in keys], rtol=1e-14)
    np.testing.assert_array_equal(sweep(Fn(jnp.multiply, V[0] * 3), np.arange(4.0), mesh=MESH), 3 * np.arange(4.0))


def test_new_values_compile_nothing():
    traces = []

    def counted(point, v):
        traces.append(1)
        return point * v

    sweep(counted, np.arange(6.0), np.float32(2) * np.ones(1), batch_size=4)
    first = len(traces)
    sweep(counted, np.arange(6.0) + 1, np.float32(3) * np.ones(1), batch_size=4)
    assert len(traces) == first > 0


def test_memory_is_that_of_a_batch():
    def large(s):
        return jnp.sum(jnp.sin(s * jnp.arange(100_000.0))[::-1].cumsum())

    points = jnp.arange(64.0)
    programs = [jax.jit(lambda p, b=b: sweep(large, p, batch_size=b)).lower(points).compile() for b in (4, 64)]
    memory = [p.memory_analysis().temp_size_in_bytes for p in programs]
    assert memory[0] < memory[1] / 8


def test_inside_jit_and_grad():
    value, slope = jax.jit(jax.value_and_grad(lambda v: jnp.sum(sweep(weighted, GRID, v, batch_size=4)["sum"])))(V)
    np.testing.assert_allclose(value, 3 * GRID["w"].sum())
    np.testing.assert_allclose(slope, [GRID["w"].sum()] * 2)


def test_grid_product_has_the_last_axis_fastest():
    grid = grid_product({"a": [1.0, 2.0], "b": np.arange(3), "c": 0.5})
    np.testing.assert_array_equal(grid["a"], [1, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(grid["b"], [0, 1, 2, 0, 1, 2])
    np.testing.assert_array_equal(grid["c"], [0.5] * 6)
    assert grid["b"].dtype == np.arange(3).dtype


MESSAGES = {
    "grid: expected leaves with one common, non-empty leading axis, got leading axes [(2,), (3,)]": lambda: sweep(
        weighted, {"w": np.ones(2), "k": np.ones(3)}, V
    ),
    "grid: expected leaves with one common, non-empty leading axis, got leading axes []": lambda: sweep(
        weighted, {}, V
    ),
    "got leading axes [(0,)]": lambda: sweep(weighted, np.ones(0), V),
    "got leading axes [()]": lambda: sweep(weighted, 1.0, V),
    "batch_size: expected an integer >= 1, got 0": lambda: sweep(weighted, GRID, V, batch_size=0),
    "axes['a']: expected a 1D array, got shape (2, 2)": lambda: grid_product({"a": np.ones((2, 2))}),
}


@pytest.mark.parametrize("message", MESSAGES)
def test_messages(message):
    with pytest.raises(ValueError) as error:
        MESSAGES[message]()
    assert message in str(error.value)
