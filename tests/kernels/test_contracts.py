"""Contracts of every kernel and kind of sum: both modes of differentiation, linearity, batches, dtypes, compilation, lowering."""

import functools

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import kernels as K

from ..registry import strictly
from .registry import DIM, KERNELS, POSITIVE, RADIUS, SUMS, cloud, kernel, planned

TRACES = []
entries = pytest.mark.parametrize("name", SUMS)


def by_pairs(k, plan, x, y, w):
    """The sum that a plan stands for, over all pairs: F, or its sliced form with f at the plan's directions."""
    if plan.method == "dense":
        return k.gram(x, y).T @ w
    t = jnp.abs(plan.directions @ (y[:, None] - x[None]).reshape(-1, x.shape[1]).T)
    values = plan.weights @ k.sliced(t, plan.dim, plan.table)
    return values.reshape(y.shape[0], x.shape[0]) @ w


def views(total, k, plan, points, tangents, cotangent):
    """Value, gradient field, forward derivative (in everything, and in the parameters), reverse derivative, transpose."""
    x, y, w = points
    arrays, static = eqx.partition(k, eqx.is_inexact_array)

    def in_parameters(a):
        return total(eqx.combine(a, static), plan, x, y, w)

    def of(*points):
        return total(k, plan, *points)

    value, along = jax.linearize(of, *points)  # traced once for both modes
    reverse = jax.linear_transpose(along, *points)(cotangent)
    _, parameters = jax.jvp(in_parameters, (arrays,), (jax.tree.map(jnp.ones_like, arrays),))
    transposed = jax.linear_transpose(lambda w: total(k, plan, x, y, w), w)(cotangent)[0]
    return value, along(*tangents), reverse, parameters, transposed


def ours(k, plan, x, y, w):
    return K.kernel_sum(k, x, y, w, plan=plan)


@eqx.filter_jit
def everything(k, plan, points, tangents, cotangent):
    TRACES.append(1)
    return (
        views(ours, k, plan, points, tangents, cotangent),
        views(by_pairs, k, plan, points, tangents, cotangent),
        K.kernel_sum_gradient(k, *points, plan=plan),
        jax.vmap(lambda w: ours(k, plan, *points[:2], w))(jnp.stack([points[2], tangents[2]])),
    )


def arguments(seed=0, dtype=np.float64):
    r = np.random.default_rng(seed)
    points = cloud(1 + seed), cloud(2 + seed, 5), r.normal(size=7)
    tangents = tuple(r.normal(size=a.shape) for a in points)
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), (points, tangents, r.normal(size=5)))


@functools.cache
def computed(name):
    given = *planned(name), *arguments()
    with strictly():
        return jax.tree.map(np.asarray, everything(*given))


def tolerance(name):
    """Of values and of first derivatives: the bound of linear interpolation on the grid, the fit's own error, or rounding."""
    k, plan = planned(name)
    if plan.method == "grid":
        h = 2 * RADIUS / (plan.num_nodes - 1)
        # Kinks and singularities at 0 are smoothed over a cell; no two projections are as near as that here, so only f'' counts.
        t, step = np.linspace(0.02, 2 * RADIUS, 3000, retstep=True)
        f = np.asarray(k.sliced(jnp.asarray(t), plan.dim, plan.table))
        return tuple(h**2 / 4 * np.abs(np.diff(f, order)).max() / step**order for order in (2, 3))
    if plan.method == "fourier":
        # Root mean square error of f; its derivative loses a factor of the highest frequency, about 60 here, twice.
        error = 30 * SUMS[name][2]["tol"]
        return error, 60 * error
    return 1e-12, 1e-11


@entries
def test_sum_and_derivatives_are_those_over_pairs(name):
    (value, forward, reverse, parameters, transposed), exact, *_ = computed(name)
    atol, slope = tolerance(name)
    weight = np.abs(arguments()[0][2]).sum() * 3  # sums of |w|, and tangents of a few units
    np.testing.assert_allclose(value, exact[0], atol=atol * weight + 1e-12)
    np.testing.assert_allclose(forward, exact[1], atol=(slope + atol) * weight * 4 + 1e-11)
    for got, expected in zip(reverse, exact[2], strict=True):
        np.testing.assert_allclose(got, expected, atol=(slope + atol) * weight * 4 + 1e-11)
    np.testing.assert_allclose(parameters, exact[3], atol=(slope + atol) * weight * 4 + 1e-11)
    np.testing.assert_allclose(transposed, exact[4], atol=atol * weight * 2 + 1e-12)


@entries
def test_modes_agree(name):
    """<g, J t> = <J^T g, t>, the transpose in w is the derivative in w, and w enters linearly: exactly, also on a grid."""
    (value, forward, reverse, _, transposed), _, _, batch = computed(name)
    _, tangents, cotangent = arguments()
    left = np.vdot(cotangent, forward)
    right = sum(np.vdot(a, b) for a, b in zip(reverse, tangents, strict=True))
    scale = 1 + sum(np.linalg.norm(a) * np.linalg.norm(b) for a, b in zip(reverse, tangents, strict=True))
    assert abs(left - right) < 1e-12 * scale
    np.testing.assert_allclose(transposed, reverse[2], atol=1e-11)
    np.testing.assert_allclose(np.vdot(transposed, tangents[2]), np.vdot(cotangent, batch[1]), atol=1e-10)
    np.testing.assert_allclose(batch[0], value, atol=1e-11)


@entries
def test_gradient_field_is_the_derivative(name):
    """The field is the reverse derivative for a cotangent of ones; one target at a time it is <field_m, dy_m>."""
    (_, _, reverse, _, _), _, field, _ = computed(name)
    cotangent = np.asarray(arguments()[2])
    np.testing.assert_allclose(reverse[1], cotangent[:, None] * field, atol=1e-11)


@entries
def test_new_values_do_not_compile(name):
    computed(name)
    traces = len(TRACES)
    plan = planned(name)[1]
    other = kernel(SUMS[name][0], 1)
    moved = jax.tree.map(lambda a: a * 1.01 if eqx.is_inexact_array(a) else a, plan)
    given = arguments(3)
    with strictly():  # part of what a program is compiled for
        everything(other, moved, *given)
    assert len(TRACES) == traces


@entries
def test_jit_is_eager(name):
    (value, *_), *_ = computed(name)
    k, plan = planned(name)
    points = arguments()[0]
    np.testing.assert_allclose(K.kernel_sum(k, *points, plan=plan), value, atol=1e-11)


@pytest.mark.parametrize("name", ["gaussian/grid", "laplace/dense", "gaussian/fourier", "negative_distance/sort"])
def test_float32_is_kept(name, float32):
    with jax.enable_x64(True):
        exact = computed(name)[0][0]
    k, plan = planned.__wrapped__(name)
    points = arguments(dtype=np.float32)[0]
    with strictly():
        s = K.kernel_sum(k, *points, plan=plan)
        field = K.kernel_sum_gradient(k, *points, plan=plan)
    assert s.dtype == field.dtype == jnp.float32
    np.testing.assert_allclose(s, exact, atol=2e-5)


@entries
def test_lowers_for_accelerators(name, float32):
    with jax.enable_x64(True):
        made = planned(name)
    made = jax.tree.map(lambda a: a.astype(np.float32) if eqx.is_inexact_array(a) else a, made)
    arrays, static = eqx.partition(made, eqx.is_array)
    points = arguments(dtype=np.float32)[0]

    def fn(arrays, points):
        k, plan = eqx.combine(arrays, static)
        return K.kernel_sum(k, *points, plan=plan), K.kernel_sum_gradient(k, *points, plan=plan)

    exported = jax.export.export(jax.jit(fn), platforms=["tpu", "cuda"])(arrays, points)
    assert exported.platforms == ("tpu", "cuda")
    assert [a.shape for a in exported.out_avals] == [(5,), (5, DIM)]


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_of_pairs(name):
    """Symmetric; F of the distance; the gradient at coinciding points is finite and zero; positive definite where it says so."""
    k, x = kernel(name), jnp.asarray(cloud(1))
    gram = np.asarray(k.gram(x, x))
    np.testing.assert_allclose(gram, gram.T, atol=1e-14)
    np.testing.assert_allclose(gram[0, 1], k(x[0], x[1]), rtol=1e-14)
    field = jax.vmap(jax.grad(k), in_axes=(0, 0))(x, x)
    np.testing.assert_array_equal(field, np.zeros_like(field))
    if name in POSITIVE:
        assert np.linalg.eigvalsh(gram).min() > -1e-12
    centred = gram - gram.mean(0) - gram.mean(1)[:, None] + gram.mean()
    sign = -1 if name == "logarithm" else 1
    if name not in ("thin_plate", "logarithm"):  # conditionally definite of order one
        assert np.linalg.eigvalsh(sign * centred).min() > -1e-12


@pytest.mark.parametrize("name", ["matern_7_2", "gaussian", "inverse_multiquadric"])
def test_smooth_kernels_have_second_derivatives_at_zero(name):
    """d/dq of F(sqrt q) at 0 by one-sided differences: the chain rule through a square root alone would give zero."""
    k = kernel(name)
    slope = jax.grad(lambda q: k.of_square(q))(0.0)
    h = 1e-6
    difference = (-3 * k.of_square(jnp.array(0.0)) + 4 * k.of_square(jnp.array(h)) - k.of_square(jnp.array(2 * h))) / (
        2 * h
    )
    np.testing.assert_allclose(slope, difference, rtol=1e-4)
    assert slope < -0.05
