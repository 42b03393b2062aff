"""Contracts that every registered noise model keeps: dtype, jit, vmap, gradients, compile count, lowering.

Two compiled programs per model compute what they compare, because compilation takes most of the time: everything at one
clean measurement, and the same under ``vmap`` over clean measurements and the parameters of the model.
"""

import functools

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import InverseProblem, Likelihood, types
from invjax import operators as ops
from invjax.likelihoods import NoiseModel
from invjax.operators.structure import at_precision, precision_of

from ..registry import build, strictly
from .registry import LIKELIHOODS, SHAPE, SMOOTH, clean, measured, structure

every = pytest.mark.parametrize("name", LIKELIHOODS)
SHORT = 1e-5  # of central differences
TRACES = []


def views(noise, u, y):
    """Everything that a noise model or fidelity computes."""
    out = {"potential": noise.potential(u, y), "grad": noise.grad(u, y), "score": noise.score(u, y)}
    out["lipschitz"] = noise.lipschitz(y)
    if isinstance(noise, NoiseModel):
        out["log_prob"] = noise.log_prob(u, y)
    if getattr(noise, "num_terms", None) is None:
        out["prox"] = noise.prox(u, y, 0.3)
    return out


def density(noise, u, y):
    return noise.log_prob(u, y) if isinstance(noise, NoiseModel) else -noise.potential(u, y)


@eqx.filter_jit
def alone(noise, u, y):
    """Everything at one clean measurement, and derivatives by autodiff: in ``u``, and in a factor of all parameters."""
    TRACES.append(1)
    slope = jax.jvp(lambda t: density(grown(noise, t), u, y), (0.0,), (1.0,))[1]
    autodiff = types.grad(lambda v: noise.potential(v, y), u)
    return {"views": views(noise, u, y), "density": density(noise, u, y), "slope": slope, "autodiff": autodiff}


@eqx.filter_jit
def together(static, arrays, us, y):
    return jax.vmap(lambda a, u: views(eqx.combine(a, static), u, y))(arrays, us)


def grown(noise, t):
    """All parameters times ``1 + t``."""
    arrays, static = eqx.partition(noise, eqx.is_array)
    return eqx.combine(jax.tree.map(lambda a: a * (1 + t), arrays), static)


@functools.cache
def given(name):
    """Noise model, clean values and a measurement."""
    noise, u = build(LIKELIHOODS, name), clean(np.random.default_rng(1), name)
    return noise, u, eqx.filter_jit(measured)(jax.random.key(0), noise, u)


def by_itself(noise, u, y):
    with strictly():
        return jax.tree.map(np.asarray, alone(noise, u, y))


@functools.cache
def results(name):
    return by_itself(*given(name))


def dtypes(tree):
    """The dtype of every leaf."""
    return jax.tree.map(lambda a: jnp.dtype(a.dtype), tree)


def close(a, b, **tolerances):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerances), a, b)


@every
def test_dtype_is_kept_under_strict_promotion(name):
    noise, u, y = given(name)
    single = at_precision(structure(name), jnp.float32)
    with strictly():
        drawn = eqx.filter_eval_shape(measured, jax.random.key(0), noise, single)
        out = eqx.filter_eval_shape(views, noise, single, single)
    assert dtypes(drawn) == dtypes(single)
    assert dtypes(y) == dtypes(u)
    for clean_values, found in ((single, out), (u, results(name)["views"])):
        precision = precision_of(clean_values)
        scalars = ("potential", "log_prob", "lipschitz")
        assert dtypes(found) == {n: precision if n in scalars else dtypes(clean_values) for n in found}


@every
def test_jit_equals_eager(name):
    """Potential and prox; the gradient, which is compiled, equals autodiff and differences below."""
    noise, u, y = given(name)
    out = results(name)["views"]
    np.testing.assert_allclose(noise.potential(u, y), out["potential"], rtol=1e-12, atol=1e-12)
    if "prox" in out:
        close(noise.prox(u, y, 0.3), out["prox"], rtol=1e-12, atol=1e-12)


@every
def test_vmap_over_parameters_and_values_equals_a_loop(name):
    """The second model has other parameters and other values."""
    noise, u, y = given(name)
    other, moved = build(LIKELIHOODS, name, 1), jax.tree.map(lambda a: 1.1 * a, u)
    arrays = jax.tree.map(lambda *a: np.stack(a), *(eqx.filter(n, eqx.is_array) for n in (noise, other)))
    us = jax.tree.map(lambda *a: np.stack(a), u, moved)
    both = together(eqx.filter(noise, eqx.is_array, inverse=True), arrays, us, y)
    for i, one in enumerate((results(name), by_itself(other, moved, y))):
        close(jax.tree.map(lambda a, i=i: a[i], both), one["views"], rtol=1e-10, atol=1e-12)


@every
def test_derivative_in_the_parameters(name):
    """Learning sigma or gain: the gradient of the normalised log density equals central differences."""
    noise, u, y = given(name)
    high, low = (by_itself(grown(noise, h), u, y)["density"] for h in (SHORT, -SHORT))
    np.testing.assert_allclose(results(name)["slope"], (high - low) / (2 * SHORT), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_equals_autodiff_and_normalisation_is_free_of_u(name):
    noise, _, y = given(name)
    out, other = results(name), by_itself(noise, clean(np.random.default_rng(2), name), y)
    close(out["views"]["grad"], out["autodiff"], rtol=1e-10, atol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, -b), out["views"]["score"], out["views"]["grad"])
    constants = [o["density"] + o["views"]["potential"] for o in (out, other)]
    np.testing.assert_allclose(*constants, rtol=1e-10, atol=1e-10)


@every
def test_built_twice_or_restored_compiles_once(name):
    noise, u, y = given(name)
    out, before = results(name), len(TRACES)
    by_itself(build(LIKELIHOODS, name, 1), u, y)
    leaves, tree = jax.tree.flatten(noise)
    jax.tree.map(np.testing.assert_array_equal, by_itself(tree.unflatten(leaves), u, y), out)
    assert len(TRACES) == before


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
def of_a_problem(problem, key, u, y):
    """What a problem with A = I computes, and a sample of its noise model."""
    f = problem.likelihood(y)
    out = {"potential": f(u), "grad": f.grad(u), "score": f.score(u), "lipschitz": f.lipschitz, "prox": f.prox(u, 0.3)}
    if not isinstance(problem.noise, NoiseModel):
        return out, ()
    return out | {"log_prob": f.log_prob(u)}, (problem.measure(key, u), problem.noise.sample(key, u))


# One per path through ``Likelihood``: its own formulas, a whitener, the prox of the model; real and complex; no law.
PATHS = ["gaussian", "gaussian_complex", "gaussian_per_pixel", "correlated", "circulant_complex", "poisson_per_channel"]
PATHS += ["laplace_complex", "rician", "huber", "ball"]


@pytest.mark.parametrize("name", PATHS)
def test_likelihood_with_identity(name, key):
    noise, u, y = given(name)
    problem = InverseProblem(ops.Identity(SHAPE, complex=jnp.iscomplexobj(u)), noise)
    assert isinstance(problem.likelihood(u), Likelihood)
    ours, samples = of_a_problem(problem, key, u, y)
    close(ours, results(name)["views"], rtol=1e-10, atol=1e-13)
    if samples:
        np.testing.assert_array_equal(*samples)


@pytest.mark.parametrize("sigma", [0.5, np.full((4, 3, 1), 0.5)])
def test_precision_of_the_likelihood_is_that_of_the_image(sigma):
    from invjax.likelihoods import Gaussian

    y = np.ones((4, 3, 1))  # float64
    f = Likelihood(ops.Identity((4, 3, 1)), Gaussian(sigma), y)
    x = jnp.ones((4, 3, 1), jnp.float32)
    with strictly():
        assert {f(x).dtype, f.grad(x).dtype, f.prox(x, 0.1).dtype, f.log_prob(x).dtype} == {jnp.dtype("float32")}
    assert Likelihood(ops.Identity((4, 3, 1)), Gaussian(0.5), y.astype(np.float32)).lipschitz.dtype == jnp.float32
