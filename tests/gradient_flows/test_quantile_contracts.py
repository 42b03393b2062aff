"""Contracts of the flows of quantile functions: drivers, batches, derivatives, dtypes, compile counts, lowering, refusals."""

import functools

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from invjax import iterate, solve
from invjax.drive import Status
from invjax.gradient_flows import (
    ContinuousTarget,
    DiracTarget,
    DiscreteTarget,
    ExplicitQuantileFlow,
    ImplicitQuantileFlow,
    NormalMixtureTarget,
    UniformTarget,
    exact_quantile_flow,
    quantile_energy,
    quantile_levels,
    quantile_to_density,
)
from invjax.reducers import Every
from invjax.types import Fn

from ..registry import build, strictly
from .lines import METHODS, SMALL, TARGETS, logistic, path, start

STEPS = 3
TRACES = []
every = pytest.mark.parametrize("name", METHODS)
every_target = pytest.mark.parametrize("name", TARGETS)
one_of_a_kind = pytest.mark.parametrize(
    "name", ["implicit_discrete", "implicit_mixture", "implicit_uniform", "explicit_discrete"]
)


@eqx.filter_jit
def single(method, g):
    TRACES.append(1)
    state, info, status = iterate(method, g, STEPS, trace=Every(of=lambda state, info: info))
    return state.position, info, status


@functools.cache
def result(name, seed=0):
    position, info, status = single(build(METHODS, name, seed), start())
    assert status == Status.CONVERGED
    return position, info


@one_of_a_kind
def test_eager_equals_jit(name):
    method = build(METHODS, name)
    state = method.init(jnp.asarray(start()))
    for _ in range(STEPS):
        state, info = method.step(state)
    position, infos = result(name)
    np.testing.assert_allclose(state.position, position, rtol=0, atol=1e-13)
    np.testing.assert_allclose(info.residual, infos.residual[-1], rtol=1e-9)
    np.testing.assert_allclose(info.slack, infos.slack[-1], rtol=1e-9)


@every
def test_vmap_equals_loop_and_a_bad_lane_stays_alone(name):
    methods = [build(METHODS, name, seed) for seed in range(3)]
    many = jax.tree.map(lambda *a: jnp.stack(a), *methods)
    starts = jnp.broadcast_to(start(), (3, SMALL)).at[1, 4].set(jnp.nan)
    run = eqx.filter_jit(eqx.filter_vmap(lambda m, g: iterate(m, g, STEPS)[::2]))
    states, status = run(many, starts)
    np.testing.assert_array_equal(status, [Status.CONVERGED, Status.NON_FINITE, Status.CONVERGED])
    for i in (0, 2):
        np.testing.assert_allclose(states.position[i], result(name, i)[0], rtol=0, atol=1e-13)


@every
def test_compiles_once_and_survives_its_leaves(name):
    position, _ = result(name)
    before = len(TRACES)
    leaves, tree = jax.tree.flatten(build(METHODS, name))
    np.testing.assert_array_equal(single(tree.unflatten(leaves), start())[0], position)
    single(build(METHODS, name, 1), start(1))
    assert len(TRACES) == before


@every
def test_float32_is_kept(name):
    g = jnp.asarray(start(), jnp.float32)
    method = build(METHODS, name)  # float64 hyper-parameters
    assert {a.dtype for a in jax.tree.leaves(method)} == {jnp.dtype(jnp.float64)}

    def everything(method, g):
        with strictly():
            state = method.init(g)
            return (
                state,
                method.step(state),
                method.fixed_point(g),
                quantile_energy(g, method.target),
                quantile_to_density(g),
            )

    dtypes = {a.dtype for a in jax.tree.leaves(jax.eval_shape(everything, method, g))}
    assert dtypes == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("name", ["implicit_mixture", "implicit_discrete"])
def test_float32_is_accurate(name):
    """Three steps in float32 within rounding of those in float64: sums of numbers below 8, a few roundings per step."""
    position, _, _ = single(build(METHODS, name), start().astype(np.float32))
    np.testing.assert_allclose(position, result(name)[0], rtol=0, atol=STEPS * 8 * np.finfo(np.float32).eps * 8)


def test_short_steps_move_in_float32():
    """A motion of a few units in the last place is made, not taken for convergence. Linearised: the slope of R is that at 10."""
    method = ImplicitQuantileFlow(NormalMixtureTarget(10.0, 1.0), 0.005)
    g, _ = path(method, jnp.array([10 - 1e-3], jnp.float32), 100)
    left = 1e-3 * (1 + 0.01 * scipy.stats.norm.pdf(0)) ** -100.0
    np.testing.assert_allclose(10 - g[-1], left, atol=100 * np.spacing(np.float32(10)) / 2)  # half a unit for each step


@every
def test_lowers(name, float32):
    arrays, static = eqx.partition(build(METHODS, name), eqx.is_array)

    def program(arrays, g):
        method = eqx.combine(arrays, static)
        return method.step(method.init(g)), quantile_energy(g, method.target)

    exported = jax.export.export(jax.jit(program), platforms=["tpu", "cuda"])(arrays, jnp.asarray(start()))
    assert exported.platforms == ("tpu", "cuda")


def test_exact_flow_is_a_function_of_arrays(float32):
    def program(t, g, atoms, weights):
        TRACES.append(1)
        with strictly():
            return exact_quantile_flow(t, g, DiscreteTarget(atoms, weights))

    r, before = np.random.default_rng(0), len(TRACES)
    many = jax.jit(jax.vmap(program, (0, None, None, None)))
    for _ in range(2):
        t = np.float32([0.0, 0.4, 9.0])
        g, atoms, weights = np.float32(start()), np.float32(r.normal(size=4)), np.float32(r.uniform(size=4))
        together = many(t, g, atoms, weights)
        assert together.dtype == jnp.float32
    assert len(TRACES) == before + 1
    for i in range(3):
        alone = exact_quantile_flow(t[i], g, DiscreteTarget(atoms, weights))
        np.testing.assert_allclose(together[i], alone, rtol=0, atol=1e-6)
    arguments = (jnp.float32(0.3), jnp.asarray(g), jnp.asarray(atoms), jnp.asarray(weights))
    assert jax.export.export(jax.jit(program), platforms=["tpu", "cuda"])(*arguments).platforms == ("tpu", "cuda")


def slopes(value, at, seed):
    """Directional derivatives of ``value`` at a pytree: by finite differences, forward and reverse."""
    r = np.random.default_rng(seed)
    move = jax.tree.map(lambda a: jnp.asarray(r.normal(size=a.shape)), at)
    h = 1e-6

    @jax.jit
    def all_three(at, move):
        ends = [value(jax.tree.map(lambda a, m, h=h: a + h * m, at, move)) for h in (h, -h)]
        gradient = jax.grad(value)(at)
        reverse = sum(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum(a * b), gradient, move)))
        return (ends[0] - ends[1]) / (2 * h), jax.jvp(value, (at,), (move,))[1], reverse

    return all_three(at, move)


@every
def test_derivatives_equal_finite_differences(name):
    """In the step size, the start and every array of the target at once; the error of the differences is about 1e-9."""
    method, weights = build(METHODS, name), np.random.default_rng(4).normal(size=SMALL)
    arrays, static = eqx.partition(method, eqx.is_array)

    def value(at):
        arrays, g = at
        return weights @ iterate(eqx.combine(arrays, static), g, 2)[0].position

    difference, forward, reverse = slopes(value, (arrays, jnp.asarray(start())), 5)
    np.testing.assert_allclose(forward, difference, rtol=1e-6)
    np.testing.assert_allclose(reverse, forward, rtol=1e-10)
    assert abs(forward) > 1e-2


def test_derivatives_of_the_exact_flow_and_the_quantiles():
    """The flow in time, start, atoms and weights, seen by the energy; quantiles in the level and the parameters."""
    g0, weights = start(), np.random.default_rng(4).normal(size=SMALL)
    discrete = build(TARGETS, "discrete")

    def flow(at):
        t, g, atoms, mass = at
        target = DiscreteTarget(atoms, mass)
        flown = exact_quantile_flow(t, g, target)
        return weights @ flown + quantile_energy(flown, target)

    def quantiles(at):
        s, means, stds, mass, centre = at
        mixture = NormalMixtureTarget(means, stds, mass)
        other = ContinuousTarget(Fn(logistic, centre, 0.5), -60, 60)
        return weights @ (mixture.quantile(s) + other.quantile(s)) + quantile_energy(g0, mixture)

    points = [
        (flow, (jnp.asarray(0.6), jnp.asarray(g0), discrete.atoms, discrete.weights)),
        (
            quantiles,
            (
                quantile_levels(SMALL),
                jnp.array([-0.4, 0.9]),
                jnp.array([0.5, 0.8]),
                jnp.array([1.0, 2.0]),
                jnp.asarray(0.2),
            ),
        ),
    ]
    for value, at in points:
        difference, forward, reverse = slopes(value, at, 6)
        np.testing.assert_allclose(forward, difference, rtol=1e-6)
        np.testing.assert_allclose(reverse, forward, rtol=1e-10)


def test_a_particle_at_an_atom_follows_the_atom_alone():
    """At a kink the derivative in the step size and in the particle is zero."""

    def value(g, tau, a):
        return ImplicitQuantileFlow(DiracTarget(a), tau).fixed_point(g)

    g, s = jnp.array([-0.9, -0.1, 0.1, 0.9]), quantile_levels(4)
    tau = 0.3
    by_g, by_tau, by_atom = jax.jit(jax.jacobian(value, (0, 1, 2)))(g, jnp.asarray(tau), jnp.asarray(0.0))
    rests = np.array([False, True, True, False])
    np.testing.assert_array_equal(by_g, np.diag(~rests).astype(float))
    np.testing.assert_allclose(by_tau, np.where(rests, 0, 2 * (s - (g > 0))), rtol=1e-15)
    np.testing.assert_array_equal(by_atom, rests.astype(float))
    # A level that is exactly R_1 rests at the first atom of two as well.
    middle = ImplicitQuantileFlow(DiscreteTarget([0.0, 9.0]), tau)
    np.testing.assert_array_equal(jax.jacobian(middle.fixed_point)(jnp.array([-3.0, 0.0, 3.0]))[1], np.zeros(3))


@pytest.mark.parametrize("name", ["mixture", "discrete"])
def test_solve_finds_the_quantiles_and_differentiates_them(name):
    """The fixed points of the implicit step are the quantiles of the target; their derivative is that of the quantiles."""
    arrays, static = eqx.partition(build(TARGETS, name), eqx.is_array)

    def found(arrays):
        method = ImplicitQuantileFlow(eqx.combine(arrays, static), 20.0)
        return solve(method, start(), rtol=0, atol=1e-13, max_steps=200)

    def exact(arrays):
        return eqx.combine(arrays, static).quantile(quantile_levels(SMALL))

    solution = jax.jit(found)(arrays)
    assert solution.status == Status.CONVERGED
    np.testing.assert_allclose(solution.position, exact(arrays), rtol=0, atol=1e-11)
    weights = np.random.default_rng(4).normal(size=SMALL)
    by_solve, by_quantile = (
        jax.jit(jax.grad(lambda a, f=f: weights @ f(a)))(arrays) for f in (lambda a: found(a).position, exact)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12), by_solve, by_quantile)


def test_a_start_that_is_not_finite_is_reported():
    for target in ("discrete", "mixture", "uniform"):
        *_, status = iterate(ImplicitQuantileFlow(build(TARGETS, target), 0.1), jnp.array([0.0, jnp.nan]), 2)
        assert status == Status.NON_FINITE


BAD = {
    "step_size": lambda: ImplicitQuantileFlow(UniformTarget(), 0.0),
    "step_size:": lambda: ExplicitQuantileFlow(UniformTarget(), [0.1, 0.2]),
    "x: expected a floating": lambda: ImplicitQuantileFlow(UniformTarget(), 0.1).init(jnp.zeros((2, 3))),
    "got int": lambda: ImplicitQuantileFlow(UniformTarget(), 0.1).init(jnp.arange(3)),
    "atoms: expected at least one": lambda: DiscreteTarget([]),
    "atoms: expected 1": lambda: DiscreteTarget(np.zeros((2, 2))),
    "magnitudes of atoms": lambda: DiscreteTarget([0.0, np.nan]),
    "weights: expected shape": lambda: DiscreteTarget([0.0, 1.0], [1.0]),
    "weights: expected non-negative": lambda: DiscreteTarget([0.0, 1.0], [1.0, -1.0]),
    "sum of weights": lambda: NormalMixtureTarget([0.0, 1.0], [1.0, 1.0], [0.0, 0.0]),
    "location": lambda: DiracTarget([0.0, 1.0]),
    "high - low": lambda: UniformTarget(1.0, 1.0),
    "stds: expected positive": lambda: NormalMixtureTarget(0.0, 0.0),
    "stds: expected shape": lambda: NormalMixtureTarget([0.0, 1.0], [1.0]),
    "means": lambda: NormalMixtureTarget(np.inf, 1.0),
    "distribution": lambda: ContinuousTarget(3.0, 0.0, 1.0),
    "high - low: expected positive": lambda: ContinuousTarget(jnp.tanh, 2.0, 1.0),
    "n: expected": lambda: quantile_levels(0),
    "t: expected non-negative": lambda: exact_quantile_flow(-1.0, jnp.zeros(3), DiracTarget(0.0)),
    "target: expected a DiscreteTarget": lambda: exact_quantile_flow(1.0, jnp.zeros(3), UniformTarget()),
    "g0": lambda: exact_quantile_flow(1.0, jnp.zeros(()), DiracTarget(0.0)),
    "g: expected": lambda: quantile_energy(jnp.zeros(0), DiracTarget(0.0)),
    "width": lambda: quantile_to_density(jnp.zeros(3), -1.0),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused(message):
    with pytest.raises(ValueError, match=message):
        BAD[message]()
