"""Contracts that every explicit prior keeps: calculus of the prox, gradients, dtype, jit, vmap, compile count, lowering."""

import functools

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import priors
from invjax.types import inner, norm

from ..registry import build, strictly
from .registry import ARGUMENTS, INDICATORS, NONCONVEX, PRIORS, PROXIMABLE, SMOOTH, point

every = pytest.mark.parametrize("name", PRIORS)
proximable = pytest.mark.parametrize("name", PROXIMABLE)
convex = pytest.mark.parametrize("name", [name for name in PROXIMABLE if name not in NONCONVEX])
smooth = pytest.mark.parametrize("name", SMOOTH)
STEP = 0.7
CONE = ("zero", *INDICATORS)  # the weight has no effect on the prox


@eqx.filter_jit
def value(g, x):
    return g(x)


@eqx.filter_jit
def prox(g, x, step):
    return g.prox(x, step)


@eqx.filter_jit
def warm(g, x, step, aux, num_inner=30):
    return g.prox_step(x, step, aux, num_inner)


@functools.cache
def solved(name):
    """A registered prior, a point and its prox there."""
    g, x = build(PRIORS, name), point(jax.random.key(3), name)
    return g, x, prox(g, x, jnp.asarray(STEP))


@convex
def test_prox_is_optimal(name, key):
    g, x, z = solved(name)

    def objective(u):
        return STEP * value(g, u) + norm(u - x) ** 2 / 2

    best = objective(z)
    assert jnp.isfinite(best)
    for size in (1.0, 1e-2):  # strong convexity: F(u) >= F(z) + |u - z|^2 / 2
        u = prox(g, z + size * point(key, name), jnp.asarray(1e-3))  # inside the domain of the indicators
        assert objective(u) >= best + norm(u - z) ** 2 / 2 - 1e-9 * (1 + best)


@convex
def test_moreau_identity(name):
    g, x, z = solved(name)
    dual = g.conj_prox(x / STEP, 1 / STEP)  # x = prox_{s g}(x) + s prox_{g* / s}(x / s)
    np.testing.assert_allclose(z + STEP * dual, x, atol=1e-12)
    np.testing.assert_allclose(g.moreau_grad(x, STEP), (x - z) / STEP, atol=1e-12)
    # Fenchel: y = (x - z) / s is a subgradient at z, so g(u) >= g(z) + <y, u - z> for u = 0 and u = x where g is finite
    y = (x - z) / STEP
    for u in (0 * x, x, 2 * z):
        assert value(g, u) >= value(g, z) + inner(y, u - z) - 1e-5


@convex
def test_prox_is_firmly_nonexpansive(name, key):
    g, x, z = solved(name)
    u = point(jax.random.fold_in(key, 1), name)
    w = prox(g, u, jnp.asarray(STEP))
    assert norm(z - w) ** 2 <= inner(z - w, x - u) + 1e-5


@proximable
def test_weight_and_step_enter_as_a_product(name):
    g, x, z = solved(name)
    for scaled in (2 * g, g * 2.0, jnp.asarray(2.0) * g):
        np.testing.assert_allclose(prox(scaled, x, jnp.asarray(STEP / 2)), z, atol=1e-6)
        np.testing.assert_allclose(value(scaled, z), 2 * value(g, z), rtol=1e-12)
    np.testing.assert_allclose(prox(0 * g, x, jnp.asarray(STEP)), z if name in CONE else x, atol=1e-12)


@every
def test_calculus_refuses_negative_weights(name):
    g = build(PRIORS, name)
    with pytest.raises(ValueError, match="scalar: expected non-negative"):
        -1.0 * g
    with pytest.raises(ValueError, match="lam: expected non-negative"):
        type(g)(*ARGUMENTS.get(name, ()), lam=-1.0)
    with pytest.raises(TypeError):
        g * g


@proximable
def test_warm_form_reaches_the_prox(name):
    g, x, z = solved(name)
    aux = g.prox_init(x)
    for _ in range(40):
        warmed, aux = warm(g, x, jnp.asarray(STEP), aux)
    np.testing.assert_allclose(warmed, z, atol=2e-5)  # |z - exact|^2 <= 2 gap, gap <= 1e-11 times about 10
    again, aux = warm(g, x, jnp.asarray(STEP), aux)
    np.testing.assert_allclose(again, warmed, atol=2e-5)
    assert jnp.array_equal(*(prox(g, x, jnp.asarray(STEP)) for _ in range(2)))  # no hidden state


@smooth
def test_gradient_equals_finite_differences(name, key):
    g, x = build(PRIORS, name), point(key, name)
    v = point(jax.random.fold_in(key, 1), name)
    h = 1e-5
    slope = (value(g, x + h * v) - value(g, x - h * v)) / (2 * h)
    grad = eqx.filter_jit(lambda g, x: g.grad(x))
    np.testing.assert_allclose(inner(grad(g, x), v), slope, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(eqx.filter_jit(lambda g, x: g.score(x))(g, x), -grad(g, x))
    flat = jnp.ones_like(x)
    assert jnp.all(jnp.isfinite(grad(g, flat)))
    if hasattr(g, "lipschitz"):
        assert norm(grad(g, x) - grad(g, v)) <= g.lipschitz * norm(x - v) * (1 + 1e-12)


@pytest.mark.parametrize("name", [n for n in PRIORS if n not in SMOOTH])
def test_non_smooth_priors_have_no_gradient(name, key):
    g, x = build(PRIORS, name), point(key, name)
    with pytest.raises(ValueError, match="not smooth; use prox"):
        g.grad(x)
    with pytest.raises(ValueError, match="not smooth; use prox"):
        g.score(x)
    if name not in INDICATORS:  # autodiff of the potential is finite at the kinks all the same
        assert jnp.all(jnp.isfinite(eqx.filter_jit(eqx.filter_grad(lambda x, g: g(x)))(0 * x, g)))


@every
def test_dtype_follows_the_input(name, key):
    g = build(PRIORS, name)
    for precision in (jnp.float32, jnp.float64):
        x = point(key, name, precision)
        for step in (0.5, np.float64(0.5), jnp.asarray(0.5, precision)):
            with strictly():
                assert jax.eval_shape(g, x).dtype == precision
                if name in PROXIMABLE:
                    aux = g.prox_init(x)
                    z, after = jax.eval_shape(lambda x, s=step, aux=aux: g.prox_step(x, s, aux, 2), x)
                    assert z.dtype == jax.eval_shape(lambda x, s=step: g.prox(x, s), x).dtype == x.dtype
                    assert jax.eval_shape(lambda x, s=step: g.conj_prox(x, s), x).dtype == x.dtype
                    assert jax.tree.map(lambda a: a.dtype, aux) == jax.tree.map(lambda a: a.dtype, after)
                if name in SMOOTH:
                    assert jax.eval_shape(g.grad, x).dtype == x.dtype
    with pytest.raises(ValueError, match="x: expected a"):
        g(jnp.ones(x.shape, jnp.int32))


@proximable
def test_vmap_over_images_weights_and_steps(name, key):
    g, xs = build(PRIORS, name), point(key, name, batch=(3,))
    lams, steps = jnp.array([0.1, 0.4, 1.0]), jnp.array([1.0, 0.5, 0.3])

    @eqx.filter_jit
    def both(g, lams, xs, steps):
        return jax.vmap(lambda lam, x, s: (lam * g).prox(x, s))(lams, xs, steps)

    together = both(g, lams, xs, steps)
    for i in range(3):
        np.testing.assert_allclose(together[i], prox(lams[i] * g, xs[i], steps[i]), atol=1e-9)
    many = eqx.filter_jit(lambda g, xs: jax.vmap(g)(xs))(g, xs)
    np.testing.assert_allclose(many, [value(g, x) for x in xs], rtol=1e-12)


@every
def test_built_twice_compiles_once(name, key):
    traces = []

    @eqx.filter_jit
    def run(g, x):
        traces.append(1)
        return g.prox_step(x, 0.3, g.prox_init(x), 2)[0] if name in PROXIMABLE else g.grad(x)

    for seed in range(2):
        run(build(PRIORS, name, seed), point(key, name))
    assert len(traces) == 1


@every
def test_pytree_round_trip(name, key):
    g, x = build(PRIORS, name), point(key, name)
    leaves, tree = jax.tree.flatten(g)
    np.testing.assert_array_equal(value(g, x), value(tree.unflatten(leaves), x))
    assert isinstance(tree.unflatten(leaves), priors.Prior)


@every
def test_lowers(name, float32):
    g = build(PRIORS, name)
    arrays, static = eqx.partition(g, eqx.is_array)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arrays)
    x = jax.eval_shape(lambda k: point(k, name, jnp.float32), jax.random.key(0))

    def program(arrays, x):
        g = eqx.combine(arrays, static)
        if name in SMOOTH:
            return g(x), g.grad(x)
        return g(x), g.prox(x, 0.5), g.prox_step(x, 0.5, g.prox_init(x), 3)

    exported = jax.export.export(jax.jit(program), platforms=["tpu", "cuda"])(shapes, x)
    assert exported.platforms == ("tpu", "cuda")
