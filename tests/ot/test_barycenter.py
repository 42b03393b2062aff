"""Barycentres: entropic ones against ott-jax, SciPy and Gaussians in closed form, sliced ones against quantiles and shifts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
from ott.geometry import geometry
from ott.problems.linear import barycenter_problem
from ott.solvers.linear import discrete_barycenter

from invjax import check, iterate, ot
from invjax.drive import Status
from invjax.reducers import Every

EPSILON = 0.5


def measures(size, num=3, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(size), num)


def points(rows=3, seed=0):
    """Of a grid of spacing one, moved a little: debiasing would be ill-conditioned for points that nearly coincide."""
    grid = np.stack(np.meshgrid(np.arange(rows), np.arange(2)), -1).reshape(-1, 2)
    return grid + np.random.default_rng(seed).uniform(-0.2, 0.2, size=grid.shape)


def square_distances(x, y):
    return np.sum((x[:, None] - y[None]) ** 2, -1)


def entropic_cost(C, a, b):
    """By SciPy and NumPy: ``min <P, C> + EPSILON KL(P | a b^T)`` and the potential of the rows."""
    g = np.zeros(len(b))
    for _ in range(2000):
        f = -EPSILON * scipy.special.logsumexp((g - C) / EPSILON, axis=1, b=b)
        g = -EPSILON * scipy.special.logsumexp((f[:, None] - C) / EPSILON, axis=0, b=a[:, None])
    return a @ f + b @ g, f


@pytest.mark.parametrize("debiased", [False, True])
def test_solves_the_convex_programme(debiased):
    """Proved by the gradient s of the objective F, from potentials: F is convex, so ``F(p) - min F <= <p, s> - min s``."""
    x, w = points(), np.array([0.5, 0.2, 0.3])
    y = x if debiased else points(2, 1)
    C, B = square_distances(x, y), measures(len(y))
    found = check(ot.entropic_barycenter(C, B, EPSILON, w, debiased=debiased, atol=1e-11, max_steps=20_000))
    p = np.asarray(found.masses)
    costs, potentials = zip(*(entropic_cost(C, p, b) for b in B), strict=True)
    value, slope = w @ costs, w @ np.stack(potentials)
    if debiased:
        own, f = entropic_cost(C, p, p)
        value, slope = value - own / 2, slope - (f - f @ p + own / 2)  # the potential that both sides share
    else:
        value, slope = value + EPSILON * p @ np.log(p * len(p)), slope + EPSILON * np.log(p)
    assert p @ slope - slope.min() < 1e-9
    np.testing.assert_allclose(found.value, value, rtol=1e-12)
    for k, b in enumerate(B):  # the plans are those between the barycentre and the measures
        plan = p[:, None] * b * np.exp((found.f[k][:, None] + found.g[k] - C) / EPSILON)
        np.testing.assert_allclose(plan.sum(0), b, atol=1e-12)
        np.testing.assert_allclose(plan.sum(1), p, atol=1e-10)


def test_agrees_with_ott():
    """On a grid in the plane, where kernels are applied axis by axis, as on the same points."""
    axes = np.linspace(0, 1, 4), np.linspace(0, 1.5, 5)
    cost, B, w = ot.GridCost(axes), measures(20), np.array([0.1, 0.6, 0.3])
    geom = geometry.Geometry(jnp.asarray(cost.points.block(cost.rows)), epsilon=0.05)
    given = barycenter_problem.FixedBarycenterProblem(geom, jnp.asarray(B), jnp.asarray(w))
    other = jax.jit(discrete_barycenter.FixedBarycenter(threshold=1e-12, max_iterations=20_000))(given)
    for c in (cost, cost.points):
        found = check(ot.entropic_barycenter(c, B, 0.05, w, atol=1e-12))
        np.testing.assert_allclose(found.masses, other.histogram, atol=1e-11)


@functools.cache
def line():
    x = np.linspace(-1.2, 1.2, 121)
    return x, ot.GridCost((x,))


def gaussians(means, deviations):
    x, _ = line()
    density = np.exp(-((x - np.array(means)[:, None]) ** 2) / (2 * np.array(deviations)[:, None] ** 2))
    return density / density.sum(1, keepdims=True)


def gaussian_cost(S, T, epsilon):
    """Of centred Gaussians of variances S and T, relative to the Lebesgue measure (Janati et al. 2020, NeurIPS)."""
    half = epsilon / 2
    D = np.sqrt(4 * S * T + half**2)
    return S + T - D + half * (1 - np.log(2 * half)) + half * np.log(D + half)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("deviations", [(0.1, 0.1), (0.08, 0.16)])
def test_gaussians(debiased, deviations):
    """Means and variances; equal variances s^2 give ``s^2 + epsilon / 2``, and s^2 without bias (Janati et al. 2020, ICML).

    Tails are cut at five deviations or more, and a trapezoidal sum of Gaussians wider than the spacing is exact to rounding.
    """
    (x, cost), epsilon, w = line(), 0.01, np.array([0.3, 0.7])
    B = gaussians((-0.3, 0.2), deviations)
    found = ot.entropic_barycenter(cost, B, epsilon, w, debiased=debiased, atol=1e-8, max_steps=5000)
    mean = found.masses @ x
    variance = found.masses @ (x - mean) ** 2

    def objective(S):
        each = w @ [gaussian_cost(S, s**2, epsilon) for s in deviations]
        return each - (gaussian_cost(S, S, epsilon) if debiased else epsilon * np.log(S)) / 2

    exact = scipy.optimize.minimize_scalar(objective, bounds=(1e-3, 1e-1), method="bounded", options={"xatol": 1e-12}).x
    if deviations[0] == deviations[1]:
        assert abs(exact - (deviations[0] ** 2 + (0 if debiased else epsilon / 2))) < 1e-9
    assert abs(mean - w @ [-0.3, 0.2]) < 1e-6
    assert abs(variance - exact) < 1e-6


def test_derivatives_of_the_value_are_well_conditioned():
    """In a weight it is the cost of its measure, also on a grid much finer than sqrt(epsilon), where masses are not."""
    (_, cost), B, w = line(), gaussians((-0.3, 0.2), (0.1, 0.1)), jnp.array([0.3, 0.7])
    found = ot.entropic_barycenter(cost, B, 0.01, w, debiased=True, atol=1e-6)
    slope = jax.grad(lambda w: ot.entropic_barycenter(cost, B, 0.01, w, debiased=True, atol=1e-6).value)(w)
    costs = [check(ot.sinkhorn(ot.Problem(cost, found.masses, b), 0.01)).value for b in B]
    np.testing.assert_allclose(slope[0] - slope[1], costs[0] - costs[1], atol=1e-6)


def test_one_measure_is_its_own_barycentre_without_bias():
    """And is blurred by the kernel otherwise: ``p_i = sum_j b_j k_ij / sum_i k_ij``."""
    x, (b,) = points(), measures(6, 1)
    C = square_distances(x, x)
    found = check(ot.entropic_barycenter(C, b[None], EPSILON, debiased=True, atol=1e-11, max_steps=20_000))
    np.testing.assert_allclose(found.masses, b, atol=1e-8)
    kernel = np.exp(-C / EPSILON)
    blurred = check(ot.entropic_barycenter(C, b[None], EPSILON, atol=1e-12))
    np.testing.assert_allclose(blurred.masses, (kernel / kernel.sum(0)) @ b, atol=1e-11)


def test_the_unbiased_one_minimises_sinkhorn_divergences():
    """Their mean, by ``sinkhorn_divergence``, is the value less the own costs of the measures; other masses are worse."""
    x, B, w = points(), measures(6), np.array([0.5, 0.2, 0.3])
    cost = ot.PointCost(x, x)
    found = check(ot.entropic_barycenter(cost, B, EPSILON, w, debiased=True, atol=1e-9, max_steps=20_000))
    r = np.random.default_rng(1)
    directions = r.normal(size=(3, 6)) * np.asarray(found.masses)
    trials = [found.masses + 0.1 * t * (d - found.masses * d.sum()) for d in directions for t in (-1, 1)]

    @jax.jit
    def mean(p):
        return sum(w[k] * ot.sinkhorn_divergence(x, x, EPSILON, p, B[k], atol=1e-12) for k in range(3))

    best = mean(found.masses)
    assert all(mean(p) > best for p in trials)
    own = [ot.sinkhorn(ot.Problem(cost, b, b), EPSILON, atol=1e-12).value for b in B]
    np.testing.assert_allclose(found.value - w @ jnp.stack(own) / 2, best, atol=1e-10)


@pytest.mark.parametrize("debiased", [False, True])
def test_masses_and_weights_may_be_zero(debiased):
    """A measure without weight says nothing, nor columns without mass; derivatives exist, on the boundary of the simplex too."""
    x, B = points(), measures(6) * (np.arange(6) != 2)
    B[1:, 3] = 0
    B /= B.sum(1, keepdims=True)
    C = square_distances(x, x)

    @jax.jit
    def masses(w):
        found = ot.entropic_barycenter(C, B, EPSILON, w, debiased=debiased, atol=1e-13, max_steps=20_000)
        return found.masses, found.status

    w = jnp.array([0.0, 0.4, 0.6])
    p, status = masses(w)
    assert status == Status.CONVERGED
    alone = ot.entropic_barycenter(C, B[1:], EPSILON, w[1:], debiased=debiased, atol=1e-13, max_steps=20_000)
    np.testing.assert_allclose(p, alone.masses, atol=1e-10)
    if debiased:
        assert p[2] < 1e-11  # nothing of what is minimised is gained there: the boundary
    move, h = jnp.array([0.0, 1.0, -1.0]), 1e-4
    exact = jax.jvp(lambda w: masses(w)[0], (w,), (move,))[1]
    differences = (masses(w + h * move)[0] - masses(w - h * move)[0]) / (2 * h)
    np.testing.assert_allclose(exact, differences, atol=1e-6)
    assert np.abs(exact).max() > 0.1


def test_invariances_and_status():
    """Of the order of measures, and of scales of cost and epsilon; stopped early, a status says so."""
    x, B, w = points(), measures(6), np.array([0.5, 0.2, 0.3])
    C = square_distances(x, x)

    def masses(C, B, epsilon, w):
        return ot.entropic_barycenter(C, B, epsilon, w, debiased=True, atol=1e-10, max_steps=20_000).masses

    p = masses(C, B, EPSILON, w)
    np.testing.assert_allclose(masses(C, B[::-1], EPSILON, w[::-1]), p, atol=1e-8)
    np.testing.assert_allclose(masses(100 * C, B, 100 * EPSILON, w), p, atol=1e-8)
    early = ot.entropic_barycenter(C, B, EPSILON, w, max_steps=8)
    assert early.status == Status.MAX_STEPS
    assert early.residual > 1e-8
    np.testing.assert_allclose(early.masses.sum(), 1, rtol=1e-12)
    hole = np.where(np.eye(6) > 0, np.nan, C)
    bad = ot.entropic_barycenter(hole, B, EPSILON, w, debiased=True, atol=1e-10, max_steps=20_000)
    assert bad.status == Status.NON_FINITE


def test_float32_at_small_epsilon(float32):
    """Two squares of an image and their barycentre half-way, without bias as sharp as they are; errors are roundings."""
    axis, epsilon = np.linspace(0, 1, 16).astype(np.float32), 5e-4
    images = np.zeros((2, 16, 16), np.float32)
    images[0, 2:6, 2:6] = images[1, 8:12, 10:14] = 1 / 16
    cost = ot.GridCost((axis, axis))
    found = ot.entropic_barycenter(cost, images.reshape(2, -1), epsilon, debiased=True, atol=0.0, max_steps=300)
    expected = np.zeros((16, 16))
    expected[5:9, 6:10] = 1 / 16
    rounding = 2**-24 * 2 / epsilon  # of an exponent: costs are up to two
    assert found.masses.dtype == jnp.float32
    assert found.residual < rounding
    assert np.abs(found.masses.reshape(16, 16) - expected).sum() < rounding


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda B: ot.entropic_barycenter(np.ones((3, 4)), B, 0.1), "measures: expected shape"),
        (lambda B: ot.entropic_barycenter(np.ones((3, 3)), B[0], 0.1), "measures: expected shape"),
        (lambda B: ot.entropic_barycenter(np.ones((3, 3)), 2 * B, 0.1), r"measures\[0\]: expected weights of sum one"),
        (lambda B: ot.entropic_barycenter(np.ones((3, 3)), -B, 0.1), "measures: expected non-negative"),
        (lambda B: ot.entropic_barycenter(np.ones((3, 3)), B * np.nan, 0.1), "measures: expected non-negative"),
        (lambda B: ot.entropic_barycenter(np.ones((3, 3)), B, 0.0), "epsilon: expected positive"),
        (lambda B: ot.entropic_barycenter(np.ones((3, 3)), B, 0.1, [1.0]), "weights: expected shape"),
        (lambda B: ot.entropic_barycenter(np.ones((3, 3)), B, 0.1, [0.5, 0.6]), "weights: expected weights of sum one"),
        (lambda B: ot.entropic_barycenter(np.eye(4, 3), B, 0.1, debiased=True), "cost: expected the same support"),
        (
            lambda B: ot.entropic_barycenter(np.arange(9.0).reshape(3, 3), B, 0.1, debiased=True),
            "cost: expected a symmetric cost",
        ),
        (
            lambda B: ot.entropic_barycenter(ot.GridCost((np.ones(3),), (np.zeros(3),)), B, 0.1, debiased=True),
            "cost: expected a symmetric cost",
        ),
        (lambda B: ot.sliced_barycenter([], np.eye(2)), "clouds: expected at least one"),
        (lambda B: ot.sliced_barycenter([B, B[:, :2]], np.eye(3)), r"clouds\[1\]: expected points of shape"),
        (lambda B: ot.sliced_barycenter([B], np.eye(3)[:2]), "directions: expected shape"),
        (lambda B: ot.sliced_barycenter([B], np.ones((4, 3))), "directions: expected some that span"),
        (lambda B: ot.sliced_barycenter([B], np.eye(3), [2.0]), "weights: expected weights of sum one"),
        (lambda B: ot.sliced_barycenter([B], np.eye(3), start=np.ones((2, 2))), "start: expected points of shape"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(measures(3, 2))


def clouds(sizes=(20, 30, 15), dim=3, seed=0):
    r = np.random.default_rng(seed)
    return [r.normal(size=(size, dim)) * r.uniform(0.5, 2, dim) + r.normal(size=dim) for size in sizes]


def directions(num=40, dim=3, seed=1):
    v = np.random.default_rng(seed).normal(size=(num, dim))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def test_translated_clouds():
    """Of copies ``x + s_k``: the translate by the mean shift, and the cost of shifts; in any order, also far from the origin."""
    (x,), r = clouds((20,)), np.random.default_rng(2)
    shifts, w, theta = r.normal(size=(3, 3)), np.array([0.5, 0.3, 0.2]), directions()
    mean = w @ shifts
    cost = w @ [np.mean((theta @ (s - mean)) ** 2) for s in shifts]
    for far in (0.0, 1e4):
        copies = np.stack([r.permutation(x) + s + far for s in shifts])
        found = check(ot.sliced_barycenter(copies, theta, w))
        order = np.lexsort(np.asarray(found.positions).T), np.lexsort((x + mean + far).T)
        np.testing.assert_allclose(found.positions[order[0]], (x + mean + far)[order[1]], atol=1e-10)
        np.testing.assert_allclose(found.value, cost, rtol=1e-8)
    same = check(ot.sliced_barycenter([x, x[::-1].copy()], theta))
    np.testing.assert_allclose(same.positions, x, atol=1e-12)
    assert same.value < 1e-24


def test_on_the_line_it_is_the_mean_of_quantiles():
    """Of as many points exactly; with other sizes, of the mean quantile of every n-th of the levels, by a fine partition."""
    ys, w = clouds((6, 4, 9), 1), np.array([0.2, 0.5, 0.3])
    levels = (np.arange(6 * 36) + 0.5) / (
        6 * 36
    )  # 36: the least common multiple of the sizes is 36, of six equal parts each
    exact = sum(
        weight * np.sort(y[:, 0])[(levels * len(y)).astype(int)].reshape(6, 36).mean(1)
        for weight, y in zip(w, ys, strict=True)
    )
    found = check(ot.sliced_barycenter(ys, np.ones((1, 1)), w))
    np.testing.assert_allclose(np.sort(found.positions[:, 0]), exact, atol=1e-12)
    assert found.num_steps <= 3  # one, and one that finds nothing to do
    np.testing.assert_allclose(found.value, objective(found.positions, ys, np.ones((1, 1)), w), rtol=1e-12)


def objective(x, ys, theta, w):
    return sum(weight * ot.sliced_wasserstein(x, y, theta).cost for y, weight in zip(ys, w, strict=True))


def test_the_objective_never_rises():
    """From a start of another size; it is the mean of sliced costs, and where the steps end, its gradient vanishes."""
    ys, theta, w = clouds(), directions(), np.array([0.5, 0.3, 0.2])
    start = np.random.default_rng(3).normal(size=(12, 3)) * 5
    method = ot.SlicedMatching(tuple(map(jnp.asarray, ys)), jnp.asarray(theta), jnp.asarray(w))
    _, values, _ = iterate(method, jnp.asarray(start), 60, trace=Every(1, of=lambda state, info: info.objective))
    assert np.all(np.diff(values) <= 1e-12)
    assert values[-1] < 0.2 * values[0]
    np.testing.assert_allclose(values[0], objective(start, ys, theta, w), rtol=1e-11)
    found = check(ot.sliced_barycenter(ys, theta, w, start=start))
    assert found.residual == 0  # matchings are finitely many: the last step repeats one
    np.testing.assert_allclose(found.value, objective(found.positions, ys, theta, w), rtol=1e-11)
    assert np.abs(jax.grad(objective)(found.positions, ys, theta, w)).max() < 1e-12


def test_memory_is_that_of_some_directions(float32):
    """1000 directions of 20,000 points: far less than their 80 MB of projections for each cloud."""
    cloud, theta = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((20_000, 3), (1000, 3)))
    run = jax.jit(lambda x, y, t: ot.sliced_barycenter((x, y), t, max_steps=5).positions)
    assert run.lower(cloud, cloud, theta).compile().memory_analysis().temp_size_in_bytes < 40e6
