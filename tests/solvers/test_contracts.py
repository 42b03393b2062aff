"""Contracts that every registered solver keeps: jit, vmap, dtype, compile count, lowering, reproducible runs, derivatives."""

import contextlib
import functools
from typing import Any

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import iterate, priors, solve, solvers
from invjax import operators as ops
from invjax.drive import Status, check

from ..registry import build, strictly
from .registry import CASES, IMAGE, SOLVERS, assemble, draw, start

every = pytest.mark.parametrize("name", SOLVERS)
STEPS = 3
TRACES = []


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def close(a, b, rtol=1e-9):
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=rtol, atol=1e-10), a, b)


def key_of(name):
    """The key that selects the random form of a step."""
    return jax.random.key(3) if CASES[name].random else None


def run(name, method, x, num_steps, **kwargs):
    return iterate(method, x, num_steps, key=key_of(name), **kwargs)


def step(name, method, i, state):
    return method.step(jax.random.fold_in(key_of(name), i), state) if CASES[name].random else method.step(state)


def arrays(name, seed=0):
    return jax.tree.map(jnp.asarray, draw(np.random.default_rng(seed), name))


@eqx.filter_jit
def single(name, method, x):
    """One run: a program per solver, whatever its arrays."""
    TRACES.append(1)
    state, _, status = run(name, method, x, STEPS)
    return state, status


@eqx.filter_jit
def batched(name, many, x):
    """All lanes of arrays in one program."""

    def one(lane):
        state, _, status = run(name, assemble(name, **lane), x, STEPS)
        return state, status

    return jax.vmap(one)(many)


@functools.cache
def result(name, seed=0):
    state, status = single(name, build(SOLVERS, name, seed), start(name))
    assert status == Status.CONVERGED
    return state


@every
def test_eager_equals_jit(name):
    method, x = build(SOLVERS, name), start(name)
    eager = method.init(x)
    for i in range(STEPS):
        eager, info = step(name, method, i, eager)
    close(eager, result(name))
    assert info.residual > 0


@every
def test_vmap_equals_loop_and_a_bad_lane_stays_alone(name):
    lanes, x = [arrays(name, seed) for seed in range(3)], start(name)  # other kernels, data, weights and steps
    many = jax.tree.map(lambda *a: jnp.stack(a), *lanes)
    states, status = batched(name, many, x)
    assert jnp.all(status == Status.CONVERGED)
    for i in range(3):
        close(jax.tree.map(lambda a, i=i: a[i], states), result(name, i))
    broken, status = batched(name, many | {"y": many["y"].at[1, 2, 3].set(jnp.nan)}, x)
    np.testing.assert_array_equal(status, [Status.CONVERGED, Status.NON_FINITE, Status.CONVERGED])
    with pytest.raises(RuntimeError, match="1"):
        check(status)
    kept = np.array([0, 2])
    equal(jax.tree.map(lambda a: a[kept], broken), jax.tree.map(lambda a: a[kept], states))
    assert all(jnp.all(jnp.isfinite(a)) for a in jax.tree.leaves(broken.position))


@every
def test_built_again_or_rebuilt_from_its_leaves_compiles_once(name):
    result(name)
    before, x = len(TRACES), start(name)
    leaves, tree = jax.tree.flatten(build(SOLVERS, name))
    equal(single(name, tree.unflatten(leaves), x)[0], result(name))
    single(name, build(SOLVERS, name, 1), x)
    assert len(TRACES) == before


class Counted(eqx.Module):
    """A method that records how often its step is traced."""

    method: Any

    def init(self, x, key=None):
        return self.method.init(x)

    def step(self, *args):
        TRACES.append(1)
        return self.method.step(*args)


@pytest.mark.parametrize("name", ["fista_backtracking", "chambolle_pock", "spdhg"])
def test_the_drivers_compile_once(name):
    """Called outside of any ``jit``, as in a notebook."""
    x, key = start(name), key_of(name)
    runs = (lambda m: iterate(m, x, STEPS, key=key), lambda m: solve(m, x, max_steps=STEPS, key=key))
    for once in runs:
        before = len(TRACES)
        once(Counted(build(SOLVERS, name, 0)))
        traced = len(TRACES)
        once(Counted(build(SOLVERS, name, 1)))
        assert len(TRACES) == traced > before


@every
def test_float32_is_kept(name):
    given, x = arrays(name), start(name)
    given["y"] = given["y"].astype(_single(given["y"]))
    x = jax.tree.map(lambda a: a.astype(_single(a)), x)

    def everything(given, x):
        method = assemble(name, **given)
        with strictly() if name != "gradient_adam" else contextlib.nullcontext():  # optax promotes inside
            state = method.init(x)
            after, info = step(name, method, 0, state)
            unknowns = method.unknowns(state) if hasattr(method, "unknowns") else state.position
            image = method.fixed_point(unknowns) if hasattr(method, "fixed_point") else unknowns
        return state, after, info, unknowns, image

    state, after, info, unknowns, image = jax.eval_shape(everything, given, x)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), unknowns) == jax.tree.map(lambda a: (a.shape, a.dtype), image)
    allowed = {jnp.dtype(d) for d in (jnp.float32, jnp.complex64, jnp.int32)}
    assert {a.dtype for a in jax.tree.leaves((state, after, info))} <= allowed
    assert jax.tree.map(lambda a: (a.shape, a.dtype), state) == jax.tree.map(lambda a: (a.shape, a.dtype), after)


def _single(a):
    return np.complex64 if np.iscomplexobj(a) else np.float32


@every
def test_lowers(name, float32):
    def program(given, x):
        method = assemble(name, **given)
        return step(name, method, 0, method.init(x))

    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (arrays(name), start(name)))
    exported = jax.export.export(jax.jit(program), platforms=["tpu", "cuda"])(*shapes)
    assert exported.platforms == ("tpu", "cuda")


@pytest.mark.parametrize("name", ["fista_backtracking", "admm", "spdhg", "chambolle_pock_dual", "proximal_gradient_tv"])
def test_whole_chunked_and_resumed_runs_are_identical(name):
    method, x = build(SOLVERS, name), start(name)
    whole, runs = run(name, method, x, 4), []
    chunked = run(name, method, x, 4, num_chunks=2, on_chunk=runs.append)
    resumed = run(name, method, x, 4, resume=runs[0])
    equal(whole[0], chunked[0])
    equal(whole[0], resumed[0])


DIRECTIONS = ("lam", "y", "kernel")


def derivatives(name, prior, unrolled_steps, max_steps):
    """Slopes of a linear functional of the solution along lam, y and the operator's array: implicit and unrolled."""
    given, x = arrays(name), start(name)
    r = np.random.default_rng(5)
    weights = r.normal(size=IMAGE)
    moves = {n: np.asarray(r.normal(size=given[n].shape), given[n].dtype) for n in DIRECTIONS}

    def value(position):
        return jnp.sum(weights * position.real)

    def implicit(some):
        return value(solve(assemble(name, **given | some, prior=prior), x, rtol=1e-12, max_steps=max_steps).position)

    def unrolled(some):
        return value(iterate(assemble(name, **given | some, prior=prior), x, unrolled_steps)[0].position)

    some = {n: given[n] for n in DIRECTIONS}
    slopes = jax.jit(jax.grad(implicit))(some)
    by_grad = [
        np.sum(np.asarray(slopes[n]) * moves[n]).real for n in DIRECTIONS
    ]  # JAX's gradient pairs without conjugation
    only = [{n: np.asarray(moves[n] * (n == m)) for n in DIRECTIONS} for m in DIRECTIONS]
    many = jax.tree.map(lambda *a: np.stack(a), *only)
    by_steps = jax.jit(jax.vmap(lambda d: jax.jvp(unrolled, (some,), (d,))[1]))(many)
    return np.array(by_grad), np.array(by_steps)


@pytest.mark.parametrize("name", [n for n in SOLVERS if CASES[n].implicit])
def test_implicit_derivative_equals_unrolled(name):
    prior = CASES[name].implicit
    by_grad, by_steps = derivatives(name, prior, 400 if prior == "group" else 2000, 4000)
    np.testing.assert_allclose(by_grad, by_steps, rtol=1e-4, atol=1e-7)
    assert np.all(np.abs(by_grad[0 if name != "mlem" else 1 :]) > 1e-2)  # the likelihood alone has no weight


class Halving(eqx.Module):
    """A method without ``fixed_point``."""

    scale: jax.Array

    def init(self, x, key=None):
        return solvers.gradient.GradientState(x, ())

    def step(self, state):
        new = state.position * self.scale
        return solvers.gradient.GradientState(new, ()), solvers.base.Info(jnp.abs(new))


def test_a_method_without_fixed_point_is_not_differentiable():
    def value(scale):
        return solve(Halving(scale), jnp.ones(())).position

    assert value(jnp.asarray(0.5)) < 1e-5
    with pytest.raises(ValueError, match="Halving has no fixed_point"):
        jax.grad(value)(jnp.asarray(0.5))


@pytest.mark.parametrize("name", ["fista", "admm", "douglas_rachford"])
def test_sixteen_weights_in_one_program_equal_sixteen_runs(name):
    given, x, before = arrays(name), start(name), len(TRACES)
    lams = np.geomspace(0.02, 2.0, 16)

    def one(lam, given):
        TRACES.append(1)
        return solve(assemble(name, **given | {"lam": lam}), x, rtol=1e-9, max_steps=4000)

    sweep, alone = jax.jit(jax.vmap(one, (0, None))), jax.jit(one)
    together = sweep(lams, given)
    sweep(2 * lams, given)
    assert len(TRACES) == before + 1
    assert len(set(np.asarray(together.num_steps))) > 4  # lanes stop on their own
    for i, lam in enumerate(lams):
        end = alone(lam, given)
        np.testing.assert_allclose(together.position[i], end.position, atol=1e-6)
        assert together.status[i] == end.status == Status.CONVERGED


@pytest.mark.parametrize("kind", ["isotropic", "anisotropic"])
@pytest.mark.parametrize("channels", ["joint", "separate"])
@pytest.mark.parametrize("complex", [False, True])
def test_split_of_total_variation(kind, channels, complex, key):
    """``outer(K x)`` is the variation, and its prox w is optimal: 0.3 outer(w) + |w - K x|^2 / 2 grows in every direction."""

    @jax.jit
    def results(x):
        out = []
        for boundary in ("neumann", "circular"):
            g = priors.TV((4, 5, 3), 0.7, kind, channels, boundary=boundary, complex=complex)
            outer, K = g.split()
            assert isinstance(outer, priors.GroupL1)
            assert isinstance(K, ops.FiniteDifferences)
            t = K(x)
            w = outer.prox(t, 0.3)
            us = w + 0.1 * jax.vmap(lambda k, w=w: jax.random.normal(k, w.shape, w.dtype))(jax.random.split(key, 3))
            costs = jax.vmap(lambda u, t=t, g=outer: 0.3 * g(u) + jnp.sum(jnp.abs(u - t) ** 2) / 2)
            values = costs(jnp.concatenate([w[None], us]))
            out.append((outer(t), g(x), values, jax.vmap(lambda u, w=w: jnp.sum(jnp.abs(u - w) ** 2) / 2)(us)))
        return out

    x = jax.random.normal(key, (4, 5, 3), jnp.complex128 if complex else jnp.float64)
    for split, whole, values, least in jax.tree.map(np.asarray, results(x)):
        np.testing.assert_allclose(split, whole, rtol=1e-12)
        assert np.all(values[1:] - values[0] >= least - 1e-12)
