"""Contracts that every registered noise model keeps: dtype, jit, vmap, gradients, compile count, lowering."""

import functools

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import InverseProblem, Likelihood
from invjax import operators as ops
from invjax.likelihoods import NoiseModel
from invjax.operators.structure import at_precision, precision_of

from ..registry import build, strictly
from .registry import LIKELIHOODS, SHAPE, clean, measured, structure

every = pytest.mark.parametrize("name", LIKELIHOODS)
of_an_array = pytest.mark.parametrize(
    "name", [n for n in LIKELIHOODS if n not in ("poisson_gaussian_exact", "stacked")]
)


def pair(name, dtype=jnp.float64):
    """Noise model, clean values and a measurement at the given precision."""
    noise, u, y = drawn(name)
    u = jax.tree.map(lambda a: a.astype(a.dtype if dtype == jnp.float64 else _single(a.dtype)), u)
    return noise, u, jax.tree.map(lambda a, b: a.astype(b.dtype), y, u)


@functools.cache
def drawn(name):
    noise, u = build(LIKELIHOODS, name), clean(np.random.default_rng(1), name)
    return noise, u, eqx.filter_jit(measured)(jax.random.key(0), noise, u)


def _single(dtype):
    return jnp.complex64 if jnp.issubdtype(dtype, jnp.complexfloating) else jnp.float32


def views(noise, u, y):
    """Everything that a noise model or fidelity computes."""
    out = {"potential": noise.potential(u, y), "grad": noise.grad(u, y), "score": noise.score(u, y)}
    out["lipschitz"] = noise.lipschitz(y)
    if isinstance(noise, NoiseModel):
        out["log_prob"] = noise.log_prob(u, y)
    if getattr(noise, "num_terms", None) is None:
        out["prox"] = noise.prox(u, y, 0.3)
    return out


def dtypes(tree):
    """The dtype of every leaf."""
    return jax.tree.map(lambda a: jnp.dtype(a.dtype), tree)


def density(noise, u, y):
    return noise.log_prob(u, y) if isinstance(noise, NoiseModel) else -noise.potential(u, y)


@every
def test_dtype_is_kept_under_strict_promotion(name, key):
    for dtype in (jnp.float32, jnp.float64):
        noise, u, y = pair(name, dtype)
        with strictly():
            assert dtypes(jax.eval_shape(measured, key, noise, u)) == dtypes(u) == dtypes(y)
            out = eqx.filter_eval_shape(views, noise, u, y)
        scalars = ("potential", "log_prob", "lipschitz")
        precision = precision_of(u)
        assert dtypes(out) == {n: precision if n in scalars else dtypes(u) for n in out}


@every
def test_jit_equals_eager_and_vmap_equals_a_loop(name):
    noise, u, y = pair(name)
    eager = views(noise, u, y)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), eager, eqx.filter_jit(views)(noise, u, y)
    )
    us = jax.tree.map(lambda a: jnp.stack([a, 1.1 * a]), u)
    both = eqx.filter_jit(lambda noise: jax.vmap(lambda v: views(noise, v, y))(us))(noise)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-10, atol=1e-12), both, eager)


@every
def test_vmap_over_the_parameters(name):
    noises = [build(LIKELIHOODS, name, seed) for seed in range(2)]
    _, u, y = pair(name)
    arrays = [eqx.filter(n, eqx.is_array) for n in noises]
    static = eqx.filter(noises[0], eqx.is_array, inverse=True)
    if not jax.tree.leaves(arrays[0]):
        assert name in ("noiseless", "zero")  # nothing to batch
        return
    batch = jax.tree.map(lambda *a: jnp.stack(a), *arrays)
    run = jax.jit(jax.vmap(lambda a: density(eqx.combine(a, static), u, y)))
    np.testing.assert_allclose(run(batch), [density(n, u, y) for n in noises], rtol=1e-12)


@every
def test_derivative_in_the_parameters(name):
    """Learning sigma or gain: the gradient of the normalised log density equals central differences."""
    noise, u, y = pair(name)
    arrays, static = eqx.partition(noise, eqx.is_array)

    @jax.jit
    def value_and_slope(t):
        def value(t):
            return density(eqx.combine(jax.tree.map(lambda a: a * (1 + t), arrays), static), u, y)

        return jax.value_and_grad(value)(t)

    h = 1e-5
    exact = (value_and_slope(h)[0] - value_and_slope(-h)[0]) / (2 * h)
    np.testing.assert_allclose(value_and_slope(0.0)[1], exact, rtol=1e-6, atol=1e-9)


@every
def test_built_twice_compiles_once(name):
    traces = []

    @eqx.filter_jit
    def run(noise, u, y):
        traces.append(1)
        return views(noise, u, y)

    for seed in range(2):
        _, u, y = pair(name)
        run(build(LIKELIHOODS, name, seed), u, y)
    assert len(traces) == 1


@every
def test_pytree_round_trip(name):
    noise, u, y = pair(name)
    leaves, tree = jax.tree.flatten(noise)
    assert tree.unflatten(leaves).potential(u, y) == noise.potential(u, y)


@every
def test_lowers(name, float32):
    arrays, static = eqx.partition(build(LIKELIHOODS, name), eqx.is_array)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arrays)
    u = at_precision(structure(name), jnp.float32)

    def program(arrays, key, u):
        noise = eqx.combine(arrays, static)
        return views(noise, u, measured(jax.random.wrap_key_data(key), noise, u))

    exported = jax.export.export(jax.jit(program), platforms=["tpu", "cuda"])(
        shapes, jax.ShapeDtypeStruct((2,), jnp.uint32), u
    )
    assert exported.platforms == ("tpu", "cuda")


@eqx.filter_jit
def twice(problem, key, u, y):
    """What a problem with A = I computes, and what its noise model does."""
    f = problem.likelihood(y)
    ours = {"potential": f(u), "grad": f.grad(u), "score": f.score(u), "lipschitz": f.lipschitz, "prox": f.prox(u, 0.3)}
    theirs = views(problem.noise, u, y)
    if isinstance(problem.noise, NoiseModel):
        ours |= {"log_prob": f.log_prob(u), "sample": problem.measure(key, u)}
        theirs["sample"] = problem.noise.sample(key, u)
    return ours, theirs


@of_an_array
def test_likelihood_with_identity(name, key):
    noise, u, y = pair(name)
    problem = InverseProblem(ops.Identity(SHAPE, complex=jnp.iscomplexobj(u)), noise)
    assert isinstance(problem.likelihood(u), Likelihood)
    ours, theirs = twice(problem, key, u, y)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13), ours, theirs)


@pytest.mark.parametrize("sigma", [0.5, np.full((4, 3, 1), 0.5)])
def test_precision_of_the_likelihood_is_that_of_the_image(sigma):
    from invjax.likelihoods import Gaussian

    y = np.ones((4, 3, 1))  # float64
    f = Likelihood(ops.Identity((4, 3, 1)), Gaussian(sigma), y)
    x = jnp.ones((4, 3, 1), jnp.float32)
    with strictly():
        assert {f(x).dtype, f.grad(x).dtype, f.prox(x, 0.1).dtype, f.log_prob(x).dtype} == {jnp.dtype("float32")}
    assert Likelihood(ops.Identity((4, 3, 1)), Gaussian(0.5), y.astype(np.float32)).lipschitz.dtype == jnp.float32
