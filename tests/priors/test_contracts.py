"""Contracts that every explicit prior keeps: calculus of the prox, gradients, dtype, jit, vmap, compile count, lowering.

Two compiled programs per prior compute what they compare, because compilation takes most of the time: everything at one
image, and its value and prox under ``vmap`` over weights, images and steps.
"""

import functools

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import priors

from ..registry import build, strictly
from .registry import ARGUMENTS, INDICATORS, NONCONVEX, PRIORS, PROXIMABLE, SMOOTH, point

every = pytest.mark.parametrize("name", PRIORS)
proximable = pytest.mark.parametrize("name", PROXIMABLE)
convex = pytest.mark.parametrize("name", [name for name in PROXIMABLE if name not in NONCONVEX])
smooth = pytest.mark.parametrize("name", SMOOTH)
STEP = 0.7
SHORT = 1e-5  # of central differences
CONE = ("zero", *INDICATORS)  # the weight has no effect on the prox
TRACES = []


def views(g, name, x, step):
    """What every prior of its kind computes at one image."""
    out = {"value": g(x)}
    if name in SMOOTH:
        out |= {"grad": g.grad(x), "score": g.score(x)}
    elif name not in INDICATORS:
        out["slope"] = jax.grad(g)(x)
    if name in PROXIMABLE:
        out["prox"] = g.prox(x, step)
    return out


@eqx.filter_jit
def alone(g, name, x, step):
    """Everything at one image, and the 40th and 41st call of the warm form."""
    TRACES.append(1)
    out = views(g, name, x, step)
    if name in PROXIMABLE:

        def call(aux, _):
            return g.prox_step(x, step, aux, 30)[::-1]

        out["warm"] = jax.lax.scan(call, g.prox_init(x), None, 41)[1][-2:]
    return out


@eqx.filter_jit
def together(g, name, lams, xs, steps):
    """Value and prox of weighted priors at many images."""

    def lane(lam, x, step):
        h = lam * g
        return h(x), h.prox(x, step) if name in PROXIMABLE else x

    return jax.vmap(lane)(lams, xs, steps)


def at(name, rows):
    """Values and proxes for rows ``(weight, image, step)``, always eight, so that nothing compiles again."""
    rows = [*rows, *[rows[0]] * (8 - len(rows))]
    g, given = build_once(name), (np.stack([np.asarray(a) for a in column]) for column in zip(*rows, strict=True))
    with strictly():
        return tuple(np.asarray(a) for a in together(g, name, *given))


def by_itself(g, name, x, step=STEP):
    with strictly():
        return jax.tree.map(np.asarray, alone(g, name, x, np.asarray(step)))


@functools.cache
def build_once(name):
    return build(PRIORS, name)


@functools.cache
def image(name, seed=3):
    """A random image: seeds 3 and 4 are points, 5 is a direction and a point of its own."""
    return np.asarray(point(jax.random.key(seed), name))


@functools.cache
def solved(name):
    """Values and proxes where the tests compare them (the rows below), and everything at the first image by itself."""
    x, u, v = image(name), image(name, 4), image(name, 5)
    rows = [(1.0, x, STEP), (2.0, x, STEP / 2), (0.0, x, STEP), (1.0, u, STEP), (0.4, v, 0.3), (1.0, 0 * x, STEP)]
    rows += [(1.0, x + SHORT * v, STEP), (1.0, x - SHORT * v, STEP)]
    return (*at(name, rows), by_itself(build_once(name), name, x))


@functools.cache
def around(name):
    """Values and proxes around the prox z of the first image: at z, 2 z and near z, a step of 1e-3 inside every domain."""
    z, v = solved(name)[1][0], image(name, 5)
    return at(name, [(1.0, z, STEP), (2.0, z, STEP), (1.0, 2 * z, STEP), (1.0, z + v, 1e-3), (1.0, z + v / 100, 1e-3)])


def square(a):
    return np.vdot(a, a).real


def inner(a, b):
    return np.vdot(a, b).real


@convex
def test_prox_is_optimal(name):
    x, z = image(name), solved(name)[1][0]
    values, near = around(name)
    best = STEP * values[0] + square(z - x) / 2
    assert np.isfinite(best)
    heights = at(name, [(1.0, u, STEP) for u in near[3:5]])[0]
    for u, height in zip(near[3:5], heights, strict=False):  # strong convexity: F(u) >= F(z) + |u - z|^2 / 2
        assert STEP * height + square(u - x) / 2 >= best + square(u - z) / 2 - 1e-9 * (1 + best)


@convex
def test_prox_gives_a_subgradient(name):
    """y = (x - z) / s is one at z: g(u) >= g(z) + <y, u - z> for u = 0, u = x and u = 2 z, where g is finite."""
    x, (values, proxes, _), (near, _) = image(name), solved(name), around(name)
    z = proxes[0]
    for u, value in ((0 * x, values[5]), (x, values[0]), (2 * z, near[2])):
        assert value >= near[0] + inner((x - z) / STEP, u - z) - 1e-5


@pytest.mark.parametrize("name", ["l1_complex", "group_l1", "group_l1_complex", "box", "tv_complex", "huber_tv"])
def test_moreau_identity(name):
    """x = prox_{s g}(x) + s prox_{g* / s}(x / s), in code that all priors share but groups, which have their own."""
    g, x = build_once(name), image(name)

    @eqx.filter_jit
    def both(g, x, step):
        return g.conj_prox(x / step.astype(x.dtype), 1 / step), g.moreau_grad(x, step)

    with strictly():
        dual, gradient = both(g, x, np.asarray(STEP))
        single = x.astype(np.complex64 if np.iscomplexobj(x) else np.float32)
        kinds = eqx.filter_eval_shape(both, g, single, np.asarray(STEP))
    z = solved(name)[1][0]
    np.testing.assert_allclose(z + STEP * dual, x, atol=1e-12)
    np.testing.assert_allclose(gradient, (x - z) / STEP, atol=1e-12)
    assert {a.dtype for a in kinds} == {single.dtype}


@convex
def test_prox_is_firmly_nonexpansive(name):
    x, u, proxes = image(name), image(name, 4), solved(name)[1]
    z, w = proxes[0], proxes[3]
    assert square(z - w) <= inner(z - w, x - u) + 1e-5


@proximable
def test_weight_and_step_enter_as_a_product(name):
    g, (_, proxes, _), (near, _) = build_once(name), solved(name), around(name)
    for scaled in (2 * g, g * 2.0, jnp.asarray(2.0) * g):
        assert eqx.tree_equal(eqx.tree_at(lambda g: g.lam, scaled, g.lam), g)
        assert scaled.lam == 2 * g.lam
    np.testing.assert_allclose(proxes[1], proxes[0], atol=1e-6)
    np.testing.assert_allclose(near[1], 2 * near[0], rtol=1e-12)
    np.testing.assert_allclose(proxes[2], proxes[0] if name in CONE else image(name), atol=1e-12)


@every
def test_calculus_refuses_negative_weights(name):
    g = build_once(name)
    with pytest.raises(ValueError, match="scalar: expected non-negative"):
        -1.0 * g
    with pytest.raises(ValueError, match="lam: expected non-negative"):
        type(g)(*ARGUMENTS.get(name, ()), lam=-1.0)
    with pytest.raises(TypeError):
        g * g


@proximable
def test_warm_form_reaches_the_prox(name):
    out = solved(name)[2]
    for warmed in out["warm"]:  # |z - exact|^2 <= 2 gap, gap <= 1e-11 times about 10
        np.testing.assert_allclose(warmed, out["prox"], atol=2e-5)


@smooth
def test_gradient_equals_finite_differences(name):
    g, x, v = build_once(name), image(name), image(name, 5)
    values, _, out = solved(name)
    np.testing.assert_allclose(inner(out["grad"], v), (values[6] - values[7]) / (2 * SHORT), rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(out["score"], -out["grad"])
    assert np.all(np.isfinite(by_itself(g, name, np.ones_like(x))["grad"]))
    if hasattr(g, "lipschitz"):
        other = by_itself(g, name, v)["grad"]
        assert np.sqrt(square(out["grad"] - other)) <= g.lipschitz * np.sqrt(square(x - v)) * (1 + 1e-12)


@pytest.mark.parametrize("name", [n for n in PRIORS if n not in SMOOTH])
def test_non_smooth_priors_have_no_gradient(name):
    g, x = build_once(name), image(name)
    with pytest.raises(ValueError, match="not smooth; use prox"):
        g.grad(x)
    with pytest.raises(ValueError, match="not smooth; use prox"):
        g.score(x)
    if name not in INDICATORS:  # autodiff of the potential is finite at the kinks all the same
        assert np.all(np.isfinite(by_itself(g, name, 0 * x)["slope"]))


@every
def test_dtype_follows_the_input(name):
    """Under strict promotion, as all programs here: parameters and a step of double precision do not promote a float32 image."""
    g, x, out = build_once(name), image(name), solved(name)[2]
    single = x.astype(np.complex64 if np.iscomplexobj(x) else np.float32)
    with strictly():
        for step in (0.5, np.float64(0.5)):
            shapes = jax.eval_shape(lambda x, s=step: views(g, name, x, s), single)
            assert {n: a.dtype for n, a in shapes.items()} == of_precision(shapes, single.dtype)
            if name in PROXIMABLE:
                aux = jax.eval_shape(g.prox_init, single)
                z, after = jax.eval_shape(lambda x, aux, s=step: g.prox_step(x, s, aux, 2), single, aux)
                assert z.dtype == single.dtype
                assert jax.tree.map(lambda a: a.dtype, aux) == jax.tree.map(lambda a: a.dtype, after)
    assert {n: a.dtype for n, a in out.items()} == of_precision(out, x.dtype)
    with pytest.raises(ValueError, match="x: expected a"):
        g(np.ones(x.shape, np.int32))


def of_precision(names, dtype):
    """The dtypes of the results for images of ``dtype``: the value is real."""
    return {n: np.empty(0, dtype).real.dtype if n == "value" else dtype for n in names}


@every
def test_vmap_over_images_weights_and_steps_equals_a_loop(name):
    g, (values, proxes, out) = build_once(name), solved(name)
    other = by_itself(0.4 * g, name, image(name, 5), 0.3)
    for i, one in ((0, out), (4, other)):
        np.testing.assert_allclose(values[i], one["value"], rtol=1e-12)
        if name in PROXIMABLE:
            np.testing.assert_allclose(proxes[i], one["prox"], atol=1e-9)


@every
def test_built_twice_or_restored_compiles_once(name):
    """The restored pytree gives the same results to the bit: there is no hidden state."""
    out, before = solved(name)[2], len(TRACES)
    by_itself(build(PRIORS, name, 1), name, image(name))
    leaves, tree = jax.tree.flatten(build_once(name))
    again = tree.unflatten(leaves)
    assert isinstance(again, priors.Prior)
    jax.tree.map(np.testing.assert_array_equal, by_itself(again, name, image(name)), out)
    assert len(TRACES) == before


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
