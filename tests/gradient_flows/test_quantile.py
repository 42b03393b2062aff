"""Flows of quantile functions on the line: closed forms, exact discrete flows, invariants."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

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
from invjax.gradient_flows.line_targets import increasing_root
from invjax.types import Fn

from ..registry import build
from .lines import EPS, SMALL, TARGETS, N, S, path, paths, rms, start

every_target = pytest.mark.parametrize("name", TARGETS)


# The oracles. Time t of a path is its row times the step size.


@pytest.fixture(scope="module")
def dirac_paths():
    steps = np.array([0.1, 0.05, 0.025])
    g, info = paths(lambda tau: ImplicitQuantileFlow(DiracTarget(0.0), tau), steps, -np.ones(N), 80)
    return steps, np.asarray(g), info


def test_dirac_to_dirac_is_exact_for_every_step_size(dirac_paths):
    """``g_t(s) = min(-1 + 2 s t, 0)``; 80 additions of numbers below one round by 40 eps at most, twice."""
    steps, g, info = dirac_paths
    t = steps[:, None] * np.arange(81)
    np.testing.assert_allclose(g, np.minimum(2 * t[..., None] * S - 1, 0), rtol=0, atol=80 * EPS)
    assert np.all(np.diff(g) >= 0)
    np.testing.assert_array_equal(info.slack, np.diff(g[:, 1:]).min(-1))
    np.testing.assert_allclose(info.residual, np.sqrt(N) * rms(g[:, 1:] - g[:, :-1]), rtol=1e-12)
    one = functools.partial(exact_quantile_flow, g0=-jnp.ones(N), target=DiracTarget(0.0))
    np.testing.assert_allclose(jax.vmap(one)(jnp.asarray(t[0])), g[0], rtol=0, atol=80 * EPS)


def test_a_dirac_is_diffuse_at_once_and_an_atom_grows_at_the_target(dirac_paths):
    """Before t = 1/2 a uniform law of density 1 / (2 t); after it, that on (-1, 0) and an atom of mass 1 - 1 / (2 t)."""
    _, g, _ = dirac_paths
    for k, t in ((1, 0.1), (20, 2.0)):
        law = jax.jit(quantile_to_density)(g[0, k])
        smooth = g[0, k, 1:] < 0
        np.testing.assert_allclose(law.density[smooth], 1 / (2 * t), rtol=1e-9)  # gaps of 2 t / N from rounded numbers
        assert abs(np.sum(law.mass) - max(1 - 1 / (2 * t), 0)) <= 1 / N
        assert np.all(np.isfinite(law.density))
        np.testing.assert_allclose(np.sum(law.density * np.diff(g[0, k])) + np.sum(law.mass), 1 - 1 / N, rtol=1e-9)
    assert np.all(np.diff(g[0, 1]) > 0)


def test_implicit_euler_towards_a_dirac_is_soft_thresholding():
    """``g_new = a + soft(g - a + 2 tau s - tau, tau)``."""
    a, tau, g = 0.3, 0.4, start(n=N)
    inner = g - a + 2 * tau * S - tau
    expected = a + np.sign(inner) * np.maximum(np.abs(inner) - tau, 0)
    method = ImplicitQuantileFlow(DiracTarget(a), tau)
    np.testing.assert_allclose(method.fixed_point(jnp.asarray(g)), expected, rtol=0, atol=20 * EPS)
    jump = ContinuousTarget(Fn(lambda x, a: (x >= a).astype(x.dtype), a), -9, 9)  # the same law, found by the iteration
    by_search = jax.jit(lambda m, g: m.fixed_point(g))(ImplicitQuantileFlow(jump, tau), g)
    np.testing.assert_allclose(by_search, expected, rtol=0, atol=1e-14)


def test_uniform_target_decays_exponentially_and_implicit_euler_is_of_first_order():
    """``g_t = s + (g_0 - s) exp(-2 t)``, a step is ``(g + 2 tau s) / (1 + 2 tau)``; by hand, the errors at t = 1 are as below."""
    steps = np.array([0.1, 0.05, 0.025])
    g, _ = paths(lambda tau: ImplicitQuantileFlow(UniformTarget(0, 1), tau), steps, np.full(N, 0.3), 40)
    tau = steps[:, None, None]
    np.testing.assert_allclose(g[:, 1:], (g[:, :-1] + 2 * tau * S) / (1 + 2 * tau), rtol=0, atol=4 * EPS)
    at_one = np.stack([g[0, 10], g[1, 20], g[2, 40]])
    errors = rms(at_one - (S + (0.3 - S) * np.exp(-2)))
    np.testing.assert_allclose(errors, [9.19e-3, 4.67e-3, 2.36e-3], rtol=0, atol=5e-6)
    energies = jax.vmap(quantile_energy, (0, None))(g[2], UniformTarget(0, 1))
    exact = rms(g[2] - S) ** 2  # for values in [0, 1]: the area between a graph and the diagonal, reflected
    assert np.all(np.abs(np.sqrt(energies) - np.sqrt(exact)) <= 2 / (2 * N))
    np.testing.assert_allclose(exact, exact[0] * (1 + 2 * 0.025) ** (-2.0 * np.arange(41)), rtol=1e-10)


def test_energy_has_its_closed_form_and_the_error_of_midpoint_levels():
    """``F(U[0, 1], delta_.3) = (.3^3 + .7^3) / 3``, and ``1 / (6 n^2)`` more for n atoms when 0.3 n is whole (by hand)."""
    n = 1000
    g, exact = quantile_levels(n), (0.3**3 + 0.7**3) / 3
    np.testing.assert_allclose(quantile_energy(g, DiracTarget(0.3)), exact + 1 / (6 * n**2), rtol=0, atol=1e-14)
    np.testing.assert_allclose(quantile_energy(jnp.full(n, 0.3), UniformTarget()), exact + 1 / (6 * n**2), atol=1e-14)
    assert quantile_energy(g, UniformTarget()) == 0


@pytest.mark.parametrize("name", ["discrete", "mixture"])
def test_energy_equals_the_double_sums_in_any_order(name):
    """``E|X - Y| - E|X - X'| / 2 - E|Y - Y'| / 2``, dense; nu itself if discrete, its midpoint quantiles otherwise."""
    target, g = build(TARGETS, name), np.random.default_rng(1).normal(size=SMALL)
    y = target.atoms if name == "discrete" else target.quantile(quantile_levels(SMALL))
    w = target.weights if name == "discrete" else jnp.full(SMALL, 1 / SMALL)

    def mean_distance(x, u, y, v):
        return np.asarray(u) @ np.abs(np.asarray(x)[:, None] - np.asarray(y)) @ np.asarray(v)

    m = np.full(SMALL, 1 / SMALL)
    expected = mean_distance(g, m, y, w) - mean_distance(g, m, g, m) / 2 - mean_distance(y, w, y, w) / 2
    np.testing.assert_allclose(quantile_energy(g, target), expected, rtol=0, atol=1e-14)


def discrete(seed=0, n=N):
    """Five random atoms and a start that reaches over all of them."""
    return build(TARGETS, "discrete", seed), start(seed, n)


def test_energy_falls_at_the_rate_of_the_squared_velocity():
    """``dF/dt = -4 int (s - R)^2`` along the exact flow, with the element of [R^-, R] nearest to s. By forward derivatives."""
    target, g0 = discrete()

    @jax.jit
    @jax.vmap
    def rates(t):
        g = exact_quantile_flow(t, g0, target)
        velocity = 2 * (S - jnp.clip(S, target.cdf_left(g), target.cdf(g)))
        energy = jax.jvp(lambda t: quantile_energy(exact_quantile_flow(t, g0, target), target), (t,), (1.0,))
        return *energy, -jnp.mean(velocity**2)

    energy, slope, expected = rates(jnp.linspace(0.05, 3, 60))
    np.testing.assert_allclose(slope, expected, rtol=1e-9)  # sums of a thousand terms of both signs
    assert np.all(np.diff(energy) < 0)
    difference = np.diff(energy) / np.diff(np.linspace(0.05, 3, 60))  # F is convex along the flow: between the slopes
    assert np.all(expected[:-1] - 1e-12 <= difference)
    assert np.all(difference <= expected[1:] + 1e-12)


def test_every_implicit_step_dissipates_and_keeps_the_order():
    """``F(g_k) - F(g_{k+1}) >= |g_{k+1} - g_k|^2 / tau``: the prox of a convex function. Large and small steps."""
    target, g0 = discrete()
    steps = np.array([0.02, 0.3, 5.0])
    g, info = paths(lambda tau: ImplicitQuantileFlow(target, tau), steps, g0, 40)
    energies = jax.jit(jax.vmap(jax.vmap(lambda g: quantile_energy(g, target))))(g)
    drop = -np.diff(energies) - np.asarray(info.residual) ** 2 / N / steps[:, None]
    assert np.all(drop >= -1e-14)
    assert np.all(info.slack >= -1e-12)
    # For U[0, 1] and values in it, E|x - Y| = x^2 - x + 1/2: F of n atoms is the mean of (g - s)^2 up to a constant.
    g, info = paths(lambda tau: ImplicitQuantileFlow(UniformTarget(0, 1), tau), steps, 0.5 + g0 / 20, 40)
    drop = -np.diff(rms(g - S) ** 2) - np.asarray(info.residual) ** 2 / N / steps[:, None]
    assert np.all(drop >= -1e-15)
    assert np.all(info.slack >= -1e-12)


@every_target
def test_two_flows_never_part(name):
    """``|g_k - h_k|`` falls, as F is convex; rounding moves each by a few eps per step."""
    method = ImplicitQuantileFlow(build(TARGETS, name), 0.3)
    starts = jnp.stack([start(1, N), 1 + 0.3 * start(2, N)])
    g, info = jax.vmap(lambda g: path(method, g, 40))(starts)
    distance = rms(g[0] - g[1])
    assert np.all(np.diff(distance) <= 1e-14)
    assert distance[-1] < 0.9 * distance[0]
    assert np.all(info.slack >= -1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_discrete_flow_is_the_limit_of_both_schemes(seed):
    """Within ``2 tau``: a crossing of an atom of weight w is a step late or early, which costs ``2 w tau`` and never grows."""
    target, g0 = discrete(seed)
    steps = np.array([0.08, 0.04, 0.02])
    t = steps[:, None] * np.arange(51)
    exact = jax.jit(jax.vmap(jax.vmap(lambda t: exact_quantile_flow(t, g0, target))))(t)
    for scheme in (ImplicitQuantileFlow, ExplicitQuantileFlow):
        g, info = paths(lambda tau, scheme=scheme: scheme(target, tau), steps, g0, 50)
        assert np.all(np.abs(g - exact).max((1, 2)) <= 2 * steps + 1e-12)
        assert np.all(np.asarray(info.slack) >= -1e-12) == (scheme is ImplicitQuantileFlow)
    np.testing.assert_array_equal(exact[:, 0], np.broadcast_to(g0, (3, N)))
    assert np.min(np.diff(exact)) >= -1e-12


def test_discrete_flow_equals_gradient_descent_of_the_energy_distance():
    """Particles in the dense energy distance, by automatic derivatives: n times the gradient is minus the velocity."""
    target, g0 = discrete(n=51)
    tau, num_steps = 0.01, 100

    def energy(x):
        to_target = jnp.abs(x[:, None] - target.atoms) @ target.weights
        return jnp.mean(to_target) - jnp.mean(jnp.abs(x[:, None] - x)) / 2

    @jax.jit
    def descend(x):
        return jax.lax.scan(lambda x, _: (x - tau * x.size * jax.grad(energy)(x), None), x, None, num_steps)[0]

    exact = exact_quantile_flow(tau * num_steps, g0, target)
    assert np.max(np.abs(descend(jnp.asarray(g0)) - exact)) <= 2 * tau + 1e-12


def test_explicit_euler_with_atoms_leaves_the_cone():
    """Neighbours on the two sides of an atom jump over it: their order is lost by O(tau), where the implicit step keeps it."""
    g0, tau = np.linspace(-1, 1, N), 0.1
    target = DiracTarget(0.0)
    g, info = path(ExplicitQuantileFlow(target, tau), g0, 40)
    assert np.min(np.diff(g[1])) < -0.9 * tau  # levels about 1/2 move by tau, and that at the atom not
    assert np.min(info.slack) <= np.min(np.diff(g[1]))
    _, info = path(ImplicitQuantileFlow(target, tau), g0, 40)
    assert np.min(info.slack) >= -1e-12
    at_the_atom = ExplicitQuantileFlow(target, tau).fixed_point(jnp.zeros(N))
    np.testing.assert_array_equal(at_the_atom, np.zeros(N))  # minimal norm: an atom at the target rests


@pytest.mark.parametrize("name", ["discrete", "mixture"])
def test_flow_is_equivariant_under_shift_and_scale(name):
    """Starts and targets ``a + b X``, times ``b t``: the same flow, scaled."""
    a, b, tau, g0 = 1.7, 2.5, 0.2, start(n=N)

    def moved(target):
        if name == "discrete":
            return DiscreteTarget(a + b * target.atoms, target.weights)
        return NormalMixtureTarget(a + b * target.means, b * target.stds, target.weights)

    target = build(TARGETS, name)
    g, _ = path(ImplicitQuantileFlow(target, tau), g0, 20)
    h, _ = path(ImplicitQuantileFlow(moved(target), b * tau), a + b * g0, 20)
    np.testing.assert_allclose(h, a + b * g, rtol=0, atol=1e-12)
    if name == "discrete":
        exact = exact_quantile_flow(b * 1.3, a + b * g0, moved(target))
        np.testing.assert_allclose(exact, a + b * exact_quantile_flow(1.3, g0, target), rtol=0, atol=1e-12)


def test_gaussian_to_wider_gaussian_at_time_100():
    """N(0, .5^2) to N(0, 2^2): W2 falls below 5 % of its start, and agrees with SciPy's integration of the ODE."""
    target, z = NormalMixtureTarget(0.0, 2.0), scipy.stats.norm.ppf(S)
    g0 = 0.5 * z

    def velocity(t, g):
        return 2 * (S - scipy.stats.norm.cdf(g / 2))

    reference = scipy.integrate.solve_ivp(velocity, (0, 100), g0, rtol=1e-8, atol=1e-10).y[:, -1]
    steps = np.array([0.25, 0.125])
    g, info = paths(lambda tau: ImplicitQuantileFlow(target, tau), steps, g0, 800)
    ends = np.stack([g[0, 400], g[1, 800]])
    error = rms(ends - reference)
    assert 1.9 < error[0] / error[1] < 2.1  # first order
    assert error[1] < 1e-3
    assert np.all(info.slack >= -1e-12)
    ratio = rms(ends - 2 * z) / rms(g0 - 2 * z)
    np.testing.assert_allclose(rms(reference - 2 * z) / rms(g0 - 2 * z), 0.0491, atol=5e-5)
    assert np.all(ratio < 0.05)


def test_schemes_differ_by_order_tau_for_a_continuous_target():
    target, g0, steps = build(TARGETS, "mixture"), start(n=N), np.array([0.1, 0.05])
    implicit, _ = paths(lambda tau: ImplicitQuantileFlow(target, tau), steps, g0, 40)
    explicit, info = paths(lambda tau: ExplicitQuantileFlow(target, tau), steps, g0, 40)
    gap = [rms(implicit[0, 20] - explicit[0, 20]), rms(implicit[1, 40] - explicit[1, 40])]
    assert 1.8 < gap[0] / gap[1] < 2.2
    assert np.all(info.slack >= 0)  # 2 tau L = 0.2 L, and L is below 1


# Targets


def test_targets_agree_with_scipy():
    x, s = np.linspace(-4, 4, N), S
    mixture, r = build(TARGETS, "mixture"), np.random.default_rng(0)
    parts = [scipy.stats.norm(m, d) for m, d in zip(mixture.means, mixture.stds, strict=True)]
    np.testing.assert_allclose(
        mixture.cdf(x), sum(w * p.cdf(x) for w, p in zip(mixture.weights, parts, strict=True)), atol=1e-15
    )
    np.testing.assert_allclose(
        NormalMixtureTarget(0.4, 1.7).quantile(s), scipy.stats.norm(0.4, 1.7).ppf(s), rtol=0, atol=1e-13
    )
    atoms, weights = r.integers(0, 6, 40), r.integers(0, 3, 40)  # equal atoms, weights of zero
    target = DiscreteTarget(atoms, weights)
    grid = np.linspace(-1, 7, 81)
    mass = weights / weights.sum()
    np.testing.assert_allclose(target.cdf(grid), (mass * (atoms <= grid[:, None])).sum(1), atol=1e-15)
    np.testing.assert_allclose(target.cdf_left(grid), (mass * (atoms < grid[:, None])).sum(1), atol=1e-15)
    assert target.cdf(0.3).shape == mixture.cdf(0.3).shape == UniformTarget().quantile(0.3).shape == ()


@every_target
def test_quantiles_invert_the_distribution_function_and_rest(name):
    """``R(Q(s)-) <= s <= R(Q(s))``; quantiles of the target are fixed points for short and long steps."""
    target = build(TARGETS, name)

    @jax.jit
    def results(target):
        q = target.quantile(S)
        moved = [ImplicitQuantileFlow(target, tau).fixed_point(q) for tau in (0.01, 100.0)]
        return (
            q,
            target.cdf_left(q),
            target.cdf(q),
            jnp.stack([*moved, ExplicitQuantileFlow(target, 0.1).fixed_point(q)]),
        )

    q, left, right, moved = results(target)
    assert np.all(left <= S + 4 * EPS)
    assert np.all(right >= S - 4 * EPS)
    assert np.all(np.diff(q) >= 0)
    # R(q) = s up to a few eps, so a step of length tau moves by a few tau eps.
    np.testing.assert_allclose(moved, np.broadcast_to(q, moved.shape), rtol=0, atol=200 * 8 * EPS)


def test_implicit_step_equals_bisection():
    """Closed forms, and the iteration on a narrow peak and a staircase, with steps from short to long."""
    g = start(n=N)
    narrow = NormalMixtureTarget([0.0, 0.5, 1.0], [1e-6, 3.0, 1e-3], [0.6, 0.1, 0.3])
    stairs = ContinuousTarget(Fn(lambda x, a: jnp.clip(jnp.floor(a * x), 0, 7) / 7, 5.0), -3, 3)
    for target in (build(TARGETS, "uniform"), build(TARGETS, "discrete"), narrow, stairs):

        @jax.jit
        @jax.vmap
        def both(c, target=target):
            def residual(x):
                return x - g + c * (target.cdf(x) - S)

            return target.implicit_step(jnp.asarray(g), S, c), increasing_root(residual, g - c, g + c)

        step, bisection = both(jnp.array([0.02, 1.0, 50.0]))
        np.testing.assert_allclose(step, bisection, rtol=0, atol=2e-13)  # rounding of c R(x), c = 50


def test_density_is_finite_where_quantiles_coincide():
    g = jnp.array([0.0, 0.0, 1e-320, 0.5, 1.0, 1.0 + EPS, 2.0, 2.001])
    law = quantile_to_density(g)
    np.testing.assert_allclose(law.mass, np.array([1, 1, 0, 0, 1, 0, 0]) / 8)
    np.testing.assert_allclose(law.density, [0, 0, 0.25, 0.25, 0, 1 / (8 * (1 - EPS)), 125], rtol=1e-11)
    np.testing.assert_allclose(quantile_to_density(g, 0.01).mass[-1], 1 / 8)
