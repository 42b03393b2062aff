"""Flows of particles against closed forms, against each other, and against brute force."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import check, iterate, priors, solve
from invjax import gradient_flows as gf
from invjax import kernels as K
from invjax.drive import Status
from invjax.reducers import Every
from invjax.types import Fn


@pytest.fixture
def draws():
    """A generator for this test alone."""
    return np.random.default_rng(0)


@pytest.mark.parametrize("method", [None, "sort"])
def test_on_a_line_it_is_the_explicit_flow_of_quantiles(method, draws):
    """Particles at the midpoint levels of their ranks, with atoms that nothing meets: the same scheme, step by step."""
    atoms, x = np.sort(draws.normal(size=9)), np.sort(2 * draws.normal(size=20))
    plan = None if method is None else K.plan(K.NegativeDistance(), ((29, 1), (20, 1)), 20.0, method=method)
    particles = gf.ParticleFlow(gf.MMDEnergy(K.NegativeDistance(), atoms[:, None], plan=plan), 0.01)
    quantiles = gf.ExplicitQuantileFlow(gf.DiscreteTarget(atoms), 0.01)
    moved = check(iterate(particles, x[:, None], 40))[0].position
    # The scheme of quantiles keeps the level of a particle, that of particles its rank: equal while the order is kept.
    found, expected = np.asarray(moved)[:, 0], np.asarray(iterate(quantiles, x, 40)[0].position)
    assert np.all(np.diff(expected) > 0)
    np.testing.assert_allclose(found, expected, atol=1e-11)


@pytest.mark.parametrize("method", ["sort", "grid", "fourier"])
def test_sliced_velocity_converges_to_the_dense_one(method, draws):
    """Two dimensions, equispaced directions: the trapezoidal rule over the half circle, so the error falls quickly."""
    target, x = jnp.asarray(draws.normal(size=(30, 2))), jnp.asarray(draws.normal(size=(20, 2)))
    k = K.NegativeDistance() if method != "fourier" else K.Gaussian(1.0)
    exact = gf.MMDEnergy(k, target).velocity(x)
    errors = []
    for num in (8, 128):
        plan = K.plan(k, ((50, 2), (20, 2)), 5.0, 1e-8, jax.random.key(0), method, num_slices=num)
        gap = gf.MMDEnergy(k, target, plan=plan).velocity(x) - exact
        errors.append(float(jnp.linalg.norm(gap) / jnp.linalg.norm(exact)))
    assert errors[1] < 0.03
    assert errors[1] < errors[0] / 8


@pytest.mark.parametrize("is_tabulated", [False, True])
def test_derivative_through_a_flow_on_a_grid(is_tabulated):
    """One particle towards the uniform law on [-1, 1]: ``v(x) = -x``; k steps multiply it and its derivative by (1 - h)^k."""
    target, k = jnp.linspace(-1, 1, 20_001)[:, None], K.NegativeDistance()
    energy = gf.MMDEnergy(k, target, plan=K.plan(k, ((20_002, 1), (1, 1)), 1.0, method="grid", num_nodes=1024))
    energy = energy.tabulated() if is_tabulated else energy

    def end(x, h):
        return iterate(gf.ParticleFlow(energy, h), x, 4)[0].position[0, 0]

    value, (in_x, in_h) = jax.jit(jax.value_and_grad(end, (0, 1)))(jnp.array([[0.6]]), 0.2)
    # The sources are off the law by 1/20,000; a node has 20 of them, and a hat of its width sees their density to (1/20)^2.
    np.testing.assert_allclose(value, 0.6 * 0.8**4, rtol=1e-3)
    np.testing.assert_allclose(in_x[0, 0], 0.8**4, rtol=1e-2)
    np.testing.assert_allclose(in_h, -4 * 0.6 * 0.8**3, rtol=1e-2)


def test_energies_against_loops(draws):
    target, x = draws.normal(size=(5, 2)), draws.normal(size=(4, 2))
    w = draws.dirichlet(np.ones(5))
    for k in (K.Gaussian(0.9), K.NegativeDistance()):
        pairs = lambda a, b, k=k: np.array([[float(k(p, q)) for q in b] for p in a])  # noqa: E731
        exact = pairs(x, x).mean() / 2 + w @ pairs(target, target) @ w / 2 - (pairs(x, target) @ w).mean()
        np.testing.assert_allclose(gf.MMDEnergy(k, target, w)(jnp.asarray(x)), exact, rtol=1e-11)


@pytest.mark.parametrize(("n", "m"), [(6, 6), (4, 6), (6, 4)])
def test_sliced_wasserstein_of_unequal_numbers(n, m, draws):
    """Every point repeated until both clouds have 12: sorted pairs. On a line, one step of length one lands on the target."""
    x, target = draws.normal(size=(n, 1)), draws.normal(size=(m, 1))
    energy = gf.SlicedWassersteinEnergy(target, np.ones((1, 1)))
    both = [np.sort(np.repeat(a[:, 0], 12 // len(a))) for a in (x, target)]
    np.testing.assert_allclose(energy(jnp.asarray(x)), np.mean((both[0] - both[1]) ** 2) / 2, rtol=1e-12)
    landed = iterate(gf.ParticleFlow(energy, 1.0), x, 1)[0].position
    expected = both[1].reshape(-1, 12 // n).mean(1)
    np.testing.assert_allclose(np.sort(np.asarray(landed)[:, 0]), expected, atol=1e-12)


def test_sliced_wasserstein_weighs_its_directions(draws):
    """Two directions with their own weights are the weighted sum of two energies with one each."""
    target, x = draws.normal(size=(6, 2)), jnp.asarray(draws.normal(size=(6, 2)))
    xi, share = np.eye(2), np.array([0.2, 0.8])
    both = gf.SlicedWassersteinEnergy(target, xi, share)
    each = [gf.SlicedWassersteinEnergy(target, one[None]) for one in xi]
    np.testing.assert_allclose(both(x), sum(w * e(x) for w, e in zip(share, each, strict=True)), rtol=1e-12)
    expected = sum(w * e.velocity(x) for w, e in zip(share, each, strict=True))
    np.testing.assert_allclose(both.velocity(x), expected, atol=1e-12)


def test_tabulated_energies_keep_weights_and_kernel(draws):
    """The attraction has the weights of the target; other parameters of the kernel than the tabulated ones are reported."""
    target, x, weights = draws.uniform(-1, 1, (6, 2)), jnp.asarray(draws.uniform(-1, 1, (5, 2))), np.arange(1, 7) / 21
    plan = K.plan(K.Gaussian(1.0), ((11, 2), (5, 2)), 2.0, method="grid", directions=K.equispaced(4))
    energy = gf.MMDEnergy(K.Gaussian(1.0), target, weights, plan=plan)
    velocity, outside = energy.tabulated().checked_velocity(x)
    assert not outside
    np.testing.assert_allclose(velocity, energy.velocity(x), atol=1e-10)
    other = eqx.tree_at(lambda e: e.kernel.bandwidth, energy.tabulated(), 2.0)
    velocity, outside = other.checked_velocity(x)
    assert outside
    assert np.all(np.isnan(velocity))
    assert energy.tabulated().checked_velocity(3 * x)[1]


def test_sliced_wasserstein_flow_of_a_translation(draws):
    """A shifted copy moves back as a whole: velocity ``-(1/d) shift`` in the mean over directions, so ``(1 - h/d)^k shift``."""
    target, shift = draws.normal(size=(15, 2)), np.array([0.05, -0.02])
    # Small enough a shift keeps the order of every projection, so the map on each line is the shift itself.
    energy = gf.SlicedWassersteinEnergy(target, K.equispaced(6))
    state, _, _ = iterate(gf.ParticleFlow(energy, 0.5), target + 1e-3 * shift, 10)
    np.testing.assert_allclose(state.position - target, np.broadcast_to(1e-3 * shift * 0.75**10, (15, 2)), atol=1e-15)


def law(mean=(0.5, -0.3), scale=(1.0, 0.6)):
    return priors.Gaussian(jnp.asarray(mean), jnp.asarray(scale) ** 2)


def test_svgd_direction_by_loops(draws):
    x, p, k = draws.normal(size=(6, 2)), law(), K.InverseMultiquadric(1.1)
    scores = np.asarray(jax.vmap(p.score)(x))
    slope = jax.grad(k)
    expected = [np.mean([k(a, b) * s + slope(a, b) for a, s in zip(x, scores, strict=True)], 0) for b in x]
    np.testing.assert_allclose(gf.SVGD(p, None, k, 0.1).velocity(jnp.asarray(x)), expected, atol=1e-12)


def test_svgd_loses_divergence_at_the_rate_of_stein(draws):
    """``mean_i s(x_i).phi(x_i) + div phi(x_i)`` is the squared Stein discrepancy: two modules, one identity."""
    x, p, k = jnp.asarray(draws.normal(size=(6, 2))), law(), K.Gaussian(1.3)
    scores = jax.vmap(p.score)(x)

    def phi(y):  # at a point that does not move the cloud
        weights = jax.vmap(lambda a: k(a, y))(x)
        return jnp.mean(weights[:, None] * scores + jax.vmap(lambda a: jax.grad(k)(a, y))(x), 0)

    divergence = jax.vmap(lambda y: jnp.trace(jax.jacfwd(phi)(y)))(x)
    rate = jnp.mean(jnp.sum(scores * jax.vmap(phi)(x), 1) + divergence)
    np.testing.assert_allclose(K.stein_discrepancy2(k, x, scores), rate, rtol=1e-10)


def test_svgd_reaches_a_gaussian(draws):
    """One particle climbs to the mode; 40 have its mean (to 1 %), and a variance that is too small by less than 10 %."""
    p, k = law(), K.Gaussian(1.0)
    alone = solve(gf.SVGD(p, None, k, 0.3), np.zeros((1, 2)), rtol=1e-9).position
    np.testing.assert_allclose(alone[0], [0.5, -0.3], atol=1e-6)
    cloud = iterate(gf.SVGD(p, None, k, 0.5), draws.normal(size=(40, 2)), 800)[0].position
    np.testing.assert_allclose(cloud.mean(0), [0.5, -0.3], atol=1e-2)
    spread = np.asarray(cloud.var(0)) / np.array([1.0, 0.36])
    assert np.all(spread < 1)
    assert np.all(spread > 0.9)


def test_langevin_flow_has_the_law_of_its_scheme():
    """On N(0, s^2), from m: mean ``a^k m``, variance ``2h (1 - a^(2k)) / (1 - a^2)`` with ``a = 1 - h / s^2``."""
    s, h, steps, n = 0.8, 0.1, 7, 4000
    p = priors.Gaussian(jnp.zeros(1), jnp.full(1, s**2))
    flow = gf.LangevinFlow(p, None, h)
    end = np.asarray(iterate(flow, np.full((n, 1), 2.0), steps, key=jax.random.key(1))[0].position)
    a = 1 - h / s**2
    mean, variance = a**steps * 2.0, 2 * h * (1 - a ** (2 * steps)) / (1 - a**2)
    assert abs(end.mean() - mean) < 4 * math.sqrt(variance / n)
    assert abs(end.var() - variance) < 4 * variance * math.sqrt(2 / n)


def test_batches_are_unbiased_and_whole_batches_exact(draws):
    target, x = draws.normal(size=(12, 2)), jnp.asarray(draws.normal(size=(5, 2)))
    energy = gf.MMDEnergy(K.Gaussian(1.0), target)
    whole = gf.StochasticParticleFlow(energy, 0.1, 0.3, 12)
    expected = iterate(gf.ParticleFlow(energy, 0.1, 0.3), x, 5)[0].position
    np.testing.assert_allclose(iterate(whole, x, 5, key=jax.random.key(0))[0].position, expected, atol=1e-12)
    plan = K.plan(K.Gaussian(1.0), ((17, 2), (5, 2)), 6.0, 1e-9, jax.random.key(0), "fourier", num_slices=3)
    sliced = gf.MMDEnergy(K.Gaussian(1.0), target, draws.dirichlet(np.ones(12)), plan=plan)
    for made, redraw in ((energy, None), (sliced, "rotation"), (sliced, "iid")):
        flow = gf.StochasticParticleFlow(made, 1.0, batch_size=4, redraw=redraw)
        keys = jax.random.split(jax.random.key(1), 2000)
        draws = np.asarray(jax.jit(jax.vmap(lambda k, f=flow: f.step(k, f.init(x))[0].momentum))(keys))
        exact = gf.MMDEnergy(made.kernel, target, made.weights).velocity(x)
        z = (draws.mean(0) - exact) / (draws.std(0) / math.sqrt(2000))
        assert np.sqrt(np.mean(z**2)) < 2.5  # ten numbers, each of unit variance


def test_herding_is_greedy(draws):
    candidates, target = draws.normal(size=(30, 2)), draws.normal(size=(50, 2))
    k = K.Gaussian(0.8)
    weights = draws.dirichlet(np.full(50, 0.1))
    chosen = np.asarray(gf.kernel_herding(k, candidates, target, 6, weights=weights))
    embedding = np.asarray(k.gram(candidates, target)) @ weights
    picked = []
    for t in range(6):
        own = sum(np.asarray(k.gram(candidates, candidates[[i]]))[:, 0] for i in picked) if picked else 0
        picked.append(int(np.argmax(embedding - own / (t + 1))))
    np.testing.assert_array_equal(chosen, picked)


def test_herding_beats_sampling(draws):
    """Of 400 points the 20 herded ones have a smaller discrepancy than any of 20 random sets of 20."""
    cloud, k = draws.normal(size=(400, 2)), K.Gaussian(1.0)
    herded = K.mmd2(k, cloud[np.asarray(gf.kernel_herding(k, cloud, cloud, 20))], cloud)
    random = [float(K.mmd2(k, cloud[draws.choice(400, 20, replace=False)], cloud)) for _ in range(20)]
    assert float(herded) < 0.3 * min(random)


@pytest.mark.parametrize("method", ["dense", "grid"])
def test_flow_finds_its_target(method, draws):
    """From a Gaussian to two clusters: the energy falls all along (short steps), to a tenth of its start; momentum is faster."""
    target = np.concatenate([draws.normal(size=(30, 2)) * 0.2 + 1, draws.normal(size=(30, 2)) * 0.2 - 1])
    x, k = 0.3 * draws.normal(size=(60, 2)), K.NegativeDistance()
    plan = K.plan(k, ((120, 2), (60, 2)), 4.0, key=jax.random.key(0), method=method, num_slices=32)
    energy = gf.MMDEnergy(k, target, plan=plan)
    of = Fn(energy_of, energy)
    _, values, _ = iterate(gf.ParticleFlow(energy, 0.02), x, 200, trace=Every(10, of=of))
    assert np.all(np.diff(values) < 1e-6)
    assert values[-1] < 0.1 * energy(jnp.asarray(x))
    fast = iterate(gf.ParticleFlow(energy, 0.02, 0.8), x, 50)[0].position
    slow = iterate(gf.ParticleFlow(energy, 0.02), x, 50)[0].position
    assert energy(fast) < energy(slow)


def energy_of(state, info, energy):
    return energy(state.position)


def test_leaving_the_radius_is_reported(draws):
    k = K.NegativeDistance()
    plan = K.plan(k, ((8, 2), (4, 2)), 2.0, key=jax.random.key(0), method="grid", num_slices=4)
    energy = gf.MMDEnergy(k, 0.5 * draws.normal(size=(4, 2)).clip(-1, 1), plan=plan)
    sums = [gf.EnergySum(terms) for terms in itertools.permutations((energy, gf.PotentialEnergy(law())))]
    smooth = K.plan(K.Gaussian(1.0), ((4, 2), (4, 2)), 2.0, method="grid", directions=K.equispaced(4))
    flows = [gf.ParticleFlow(made, 0.1) for made in sums]
    for flow in (*flows, gf.SVGD(law(), None, K.Gaussian(1.0), 0.1, smooth)):
        step = jax.jit(lambda x, flow=flow: flow.step(flow.init(x))[1].outside)
        assert not step(jnp.ones((4, 2)))
        assert step(jnp.full((4, 2), 5.0))
    assert iterate(gf.ParticleFlow(energy, 0.1), jnp.full((4, 2), 5.0), 3)[2] == Status.NON_FINITE


def test_speed_is_the_root_mean_square_of_the_velocity(draws):
    x = jnp.asarray(draws.normal(size=(6, 2)))
    for flow in (gf.SVGD(law(), None, K.Gaussian(1.0), 0.1), gf.ParticleFlow(gf.PotentialEnergy(law()), 0.1)):
        velocity = flow.velocity(x) if isinstance(flow, gf.SVGD) else flow.energy.velocity(x)
        info = flow.step(flow.init(x))[1]
        np.testing.assert_allclose(info.speed, np.sqrt(np.mean(np.sum(np.asarray(velocity) ** 2, 1))), rtol=1e-12)
        np.testing.assert_allclose(info.residual, 0.1 * np.linalg.norm(velocity), rtol=1e-12)


@pytest.mark.parametrize(
    ("match", "call"),
    [
        ("step_size", lambda: gf.ParticleFlow(gf.Energy(jnp.sum), 0.0)),
        ("momentum", lambda: gf.ParticleFlow(gf.Energy(jnp.sum), 0.1, 1.0)),
        ("weights", lambda: gf.MMDEnergy(K.Gaussian(1.0), np.ones((3, 2)), np.ones(2))),
        ("target", lambda: gf.MMDEnergy(K.Gaussian(1.0), np.ones(3))),
        ("target: expected real", lambda: gf.MMDEnergy(K.Gaussian(1.0), 1j * np.ones((3, 2)))),
        ("sum one", lambda: gf.MMDEnergy(K.Gaussian(1.0), np.ones((3, 2)), np.ones(3))),
        ("another kernel", lambda: gf.MMDEnergy(K.Laplace(1.0), np.ones((3, 2)), plan=some_plan())),
        ("particles", lambda: gf.MMDEnergy(K.Gaussian(1.0), np.ones((3, 2)))(np.ones((3, 1)))),
        ("particles", lambda: gf.SlicedWassersteinEnergy(np.ones((3, 2)), np.eye(2)).velocity(np.ones((3, 2), int))),
        ("sum one", lambda: gf.SlicedWassersteinEnergy(np.ones((3, 2)), np.eye(2), np.ones(2))),
        (
            "sum one",
            lambda: gf.kernel_herding(K.Gaussian(1.0), np.ones((3, 2)), np.ones((3, 2)), 2, weights=np.ones(3)),
        ),
        (
            "weights",
            lambda: gf.StochasticParticleFlow(
                gf.MMDEnergy(K.Gaussian(1.0), np.ones((3, 2)), np.array([-1.0, 1.0, 1.0])), 0.1, batch_size=2
            ),
        ),
        ("directions", lambda: gf.SlicedWassersteinEnergy(np.ones((3, 2)), np.ones((4, 3)))),
        (
            "batch_size",
            lambda: gf.StochasticParticleFlow(gf.MMDEnergy(K.Gaussian(1.0), np.ones((3, 2))), 0.1, batch_size=4),
        ),
        ("energy", lambda: gf.StochasticParticleFlow(gf.Energy(jnp.sum), 0.1)),
        (
            "redraw",
            lambda: gf.StochasticParticleFlow(
                gf.MMDEnergy(K.Gaussian(1.0), np.ones((3, 2))), 0.1, batch_size=2, redraw="iid"
            ),
        ),
        ("step_size", lambda: gf.SVGD(law(), None, K.Gaussian(1.0), -1.0)),
        ("score", lambda: gf.LangevinFlow(jnp.sum, None, 1.0)),
        ("num", lambda: gf.kernel_herding(K.Gaussian(1.0), np.ones((3, 2)), np.ones((3, 2)), 0)),
        ("two points", lambda: gf.median_bandwidth(jax.random.key(0), jnp.ones((1, 2)))),
    ],
)
def test_refusals_name_the_argument(match, call):
    with pytest.raises(ValueError, match=match):
        call()


def some_plan():
    return K.plan(K.Gaussian(1.0), ((6, 2), (3, 2)), 4.0, method="grid", directions=K.equispaced(3))


def test_median_bandwidth():
    """Three pairs, at distances 2, 5 and 5.4: the median is 5."""
    x = jnp.array([[0.0, 0.0], [2.0, 0.0], [0.0, 5.0]])
    found = gf.median_bandwidth(jax.random.key(0), x)
    np.testing.assert_allclose(found, 5.0, atol=1e-12)
