"""Semi-discrete transport: problems solved by hand, exact cells, convergence, optimality."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial

from invjax import check, iterate, ot
from invjax.drive import Status

SITES = np.array([0.1, 0.3, 0.35, 0.8])[:, None]
MASSES = np.array([0.4, 0.1, 0.2, 0.3])
HEIGHTS = np.array([0.0, -0.08, -0.105, -0.42])  # h_{j+1} - h_j = -(y_{j+1} - y_j) F_j


def uniform(key, num):
    return jax.random.uniform(key, (num, 1), jnp.float64)


def deviations(weights, masses, steps, batch):
    """Standard deviations of averaged potentials and of their shares, for the weights of the Laplacian H of the shares.

    Averaged ascent has asymptotically the covariance ``H^+ S H^+ / batch sum_k w_k^2`` (Polyak and Juditsky 1992) for shares of
    covariance ``S = diag(b) - b b^T``; weights ``w_k ~ k^2`` of sum one have ``sum_k w_k^2 = 9 / (5 steps)``.
    """
    inverse = np.linalg.pinv(np.diag(weights.sum(1)) - weights)
    noise = (np.diag(masses) - np.outer(masses, masses)) * 9 / (5 * steps * batch)
    return np.sqrt(np.diag(inverse @ noise @ inverse)), np.sqrt(np.diag(noise))


def neighbours_on_the_line():
    """``density / (2 |y_i - y_j|)`` for neighbours."""
    between = np.diag(1 / (2 * np.diff(SITES[:, 0])), 1)
    return between + between.T


@pytest.mark.parametrize(("steps", "batch"), [(250, 256), (4000, 256)])
def test_uniform_law_on_the_line(steps, batch):
    """Potentials and shares to five of their standard deviations; shares of fresh points to five of the binomial law."""
    method = ot.SemiDiscrete(uniform, SITES, MASSES, batch_size=batch, step_size=0.5)
    state, _, status = iterate(method, jnp.zeros(4), steps, key=jax.random.key(0))
    assert status == Status.CONVERGED
    found = method.map(state.position)
    of_potentials, of_shares = deviations(neighbours_on_the_line(), MASSES, steps, batch)
    assert np.all(np.abs(found.heights - HEIGHTS + HEIGHTS.mean()) < 5 * of_potentials / 2)
    y, g = SITES[:, 0], np.asarray(found.g)
    borders = (y[1:] + y[:-1]) / 2 + (g[:-1] - g[1:]) / (2 * np.diff(y))
    exact = np.diff(np.concatenate([[0], borders, [1]]))
    assert np.all(np.abs(exact - MASSES) < 5 * of_shares)
    x = uniform(jax.random.key(1), 50_000)
    assert np.all(np.abs(found.shares(x) - exact) < 5 * np.sqrt(exact * (1 - exact) / 50_000))
    np.testing.assert_array_equal(found(x)[:, 0], y[np.asarray(found.cells(x))])


def test_two_sites_of_a_symmetric_law_split_it():
    """A normal law is split by the plane between sites at distance two: the weight is its density there, over four."""

    def normal(key, num):
        return jax.random.normal(key, (num, 3), jnp.float64)

    sites = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    method = ot.SemiDiscrete(normal, sites, batch_size=512)
    state = iterate(method, jnp.asarray([0.4, -0.4]), 300, key=jax.random.key(0))[0]
    weight = (1 - np.eye(2)) / np.sqrt(2 * np.pi) / 4
    deviation = deviations(weight, np.full(2, 0.5), 300, 512)[0][0]
    assert abs(state.position[0] - state.position[1]) < 5 * 2 * deviation


def test_maps_are_monotone_and_move_with_the_source():
    """Whatever the potentials: ``<x - x', T(x) - T(x')> >= 0``; and ``g'_j = g_j + 2 <c, y_j>`` for a source shifted by c."""
    r = np.random.default_rng(0)
    sites, g = r.normal(size=(20, 4)), 0.3 * r.normal(size=20)
    T = ot.SiteMap(jnp.asarray(sites), jnp.asarray(g))
    x, z = r.normal(size=(2, 1000, 4))
    assert np.sum((x - z) * np.asarray(T(x) - T(z)), 1).min() >= 0
    c = r.normal(size=4)
    moved = ot.SiteMap(jnp.asarray(sites), jnp.asarray(g - 2 * sites @ c))
    np.testing.assert_array_equal(moved.cells(x + c), T.cells(x))
    np.testing.assert_allclose(T.heights, (g - np.sum(sites**2, 1)) / 2 - np.mean((g - np.sum(sites**2, 1)) / 2))


def test_entropic_shares():
    """With epsilon the shares are those of the soft assignment, and the fixed point is that of Sinkhorn on the sample."""
    x, y = np.random.default_rng(1).normal(size=(40, 2)), np.random.default_rng(2).normal(size=(6, 2))
    found = check(ot.sinkhorn(ot.between(x, y), 0.5, atol=1e-12))
    method = ot.SemiDiscrete(lambda key, num: jnp.asarray(x), y, epsilon=0.5, batch_size=40)
    np.testing.assert_allclose(method.shares(found.g, jnp.asarray(x)), 1 / 6, atol=1e-11)


def test_power_cells_of_no_weights_are_voronoi_cells():
    """Areas by SciPy: of the sites and their mirror images in the sides of the square, whose cells end at the sides."""
    r = np.random.default_rng(3)
    sites = r.uniform(size=(40, 2))
    mirrored = [sites]
    for axis in (0, 1):
        for side in (0.0, 1.0):
            image = sites.copy()
            image[:, axis] = 2 * side - image[:, axis]
            mirrored.append(image)
    diagram = scipy.spatial.Voronoi(np.concatenate(mirrored))
    square = jnp.asarray([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    cells = ot.power_cells(jnp.asarray(sites), jnp.zeros(40), square)
    for i in range(40):
        corners = diagram.vertices[diagram.regions[diagram.point_region[i]]]
        hull = scipy.spatial.ConvexHull(corners)
        np.testing.assert_allclose(cells.areas()[i], hull.volume, rtol=1e-9)
        np.testing.assert_allclose(jnp.sum(cells.edges()[i]), hull.area, rtol=1e-9)
    assert np.all(cells.complete)
    np.testing.assert_allclose(jnp.sum(cells.areas()), 1, rtol=1e-12)


def test_power_cells_by_counting():
    """Shares, centroids and costs of weighted cells in a triangle against the nearest site of 10^6 points of a grid."""
    r = np.random.default_rng(4)
    sites, g = jnp.asarray(r.uniform(size=(12, 2))), jnp.asarray(0.05 * r.normal(size=12))
    corners = jnp.asarray([[0.0, 0.0], [1.0, 0.2], [0.3, 1.0]])
    cells = ot.power_cells(sites, g, corners)
    ticks = (np.arange(1000) + 0.5) / 1000
    grid = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), -1).reshape(-1, 2)
    edges = np.roll(corners, -1, 0) - corners
    relative = grid[:, None] - np.asarray(corners)[None]
    grid = grid[np.all(edges[None, :, 0] * relative[..., 1] - edges[None, :, 1] * relative[..., 0] > 0, 1)]
    owner = np.asarray(ot.SiteMap(sites, g).cells(grid))
    for j in range(12):
        mine = grid[owner == j]
        area = len(mine) / 1e6
        # The grid is off by about its spacing times the length of the border.
        assert abs(cells.areas()[j] - area) <= 2e-3 * float(jnp.sum(cells.edges()[j]))
        if len(mine) > 1000:
            np.testing.assert_allclose(cells.centroids()[j], mine.mean(0), atol=2e-3)
            second = np.sum((mine - np.asarray(sites[j])) ** 2) / 1e6
            np.testing.assert_allclose(cells.second_moments(sites)[j], second, rtol=0.05, atol=1e-5)


@pytest.mark.parametrize("spread", [0.9, 4.0])
def test_polygon_transport(spread):
    """Masses to 1e-12, quadratically at the end; the cost is the dual value; sites out of the square have cells too."""
    r = np.random.default_rng(5)
    sites, b = 0.5 + spread * (r.uniform(size=(60, 2)) - 0.5), r.dirichlet(np.full(60, 5.0))
    found = check(ot.polygon_transport(sites, b, atol=1e-12))
    np.testing.assert_allclose(found.cells.areas(), b, atol=1e-12)
    assert found.num_steps < 25
    # Dual: int min_j (|x - y_j|^2 - g_j) dx + <b, g>, of which the first is the cost less the masses times g.
    dual = jnp.sum(found.cells.second_moments(jnp.asarray(sites))) - jnp.vdot(found.cells.areas(), found.map.g)
    np.testing.assert_allclose(found.cost, dual + jnp.vdot(b, found.map.g), rtol=1e-10)
    x = r.uniform(size=(20_000, 2))
    paid = np.sum((x - np.asarray(found.map(jnp.asarray(x)))) ** 2, 1)
    assert abs(paid.mean() - found.cost) < 5 * paid.std() / np.sqrt(20_000)


def test_polygon_transport_on_a_line_of_sites():
    """Sites on a horizontal line: cells are strips, whose potentials follow from the problem on the line."""
    sites = np.concatenate([SITES, np.full((4, 1), 0.5)], 1)
    found = check(ot.polygon_transport(sites, MASSES, atol=1e-13))
    h = (np.asarray(found.map.g) - SITES[:, 0] ** 2) / 2
    np.testing.assert_allclose(h - h[0], HEIGHTS - HEIGHTS[0], atol=1e-11)


def test_derivatives_of_the_cost():
    """Of ``W_2^2`` in sites and masses against central differences of solutions to 1e-13; a second derivative is refused."""
    r = np.random.default_rng(7)
    sites, b = jnp.asarray(r.uniform(size=(9, 2))), jnp.asarray(r.dirichlet(np.full(9, 5.0)))

    def cost(sites, b):
        return ot.polygon_transport(sites, b, atol=1e-13).cost

    moved, shifted = jnp.asarray(r.normal(size=(9, 2))), jnp.asarray(r.normal(size=9))
    shifted = shifted - shifted.mean()
    h = 1e-4
    expected = (
        cost(sites + h * moved, b + h * shifted * b.min()) - cost(sites - h * moved, b - h * shifted * b.min())
    ) / (2 * h)
    by_sites, by_masses = jax.grad(cost, (0, 1))(sites, b)
    found = jnp.vdot(by_sites, moved) + jnp.vdot(by_masses, shifted * b.min())
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # h^2 times the third derivative, with cells of size 1/3
    with pytest.raises(ValueError, match="got a second one"):
        jax.hessian(cost)(sites, b)


def test_sites_that_do_not_fit_or_a_star():
    angles = 2 * np.pi * np.arange(40) / 40
    disc = 0.5 + 0.4 * np.stack([np.cos(angles), np.sin(angles)], 1)
    found = check(ot.polygon_transport(np.array([[0.2, 0.5], [0.8, 0.5]]), domain=disc))
    np.testing.assert_allclose(found.cells.areas()[0], 0.5 * 0.5 * 40 * np.sin(2 * np.pi / 40) * 0.4**2, rtol=1e-9)
    star = np.stack([np.cos(4 * np.pi * np.arange(5) / 5), np.sin(4 * np.pi * np.arange(5) / 5)], 1)
    for call in (
        lambda: ot.polygon_transport(np.eye(2), domain=star),
        lambda: ot.power_cells(np.eye(2), np.zeros(2), star),
    ):
        with pytest.raises(ValueError, match="domain: expected corners of a convex polygon"):
            call()


def test_newton_agrees_with_the_stochastic_ascent():
    r = np.random.default_rng(6)
    sites = r.uniform(0.1, 0.9, size=(10, 2))
    exact = check(ot.polygon_transport(sites))
    source = lambda key, num: jax.random.uniform(key, (num, 2), jnp.float64)  # noqa: E731
    method = ot.SemiDiscrete(source, sites, batch_size=1024)
    state = iterate(method, jnp.zeros(10), 3000, key=jax.random.key(0))[0]
    weights = np.zeros((10, 11))  # common edges over twice the distance of their sites; the last is the border
    apart = np.append(np.linalg.norm(sites[:, None] - sites[None], axis=-1), np.full((10, 1), np.inf), 1)
    for i, (across, lengths) in enumerate(zip(exact.cells.neighbours, exact.cells.edges(), strict=True)):
        np.add.at(weights[i], np.asarray(across), np.asarray(lengths))
    weights = np.divide(weights, 2 * apart, out=np.zeros_like(weights), where=apart > 0)[:, :10]
    deviation = deviations(weights, np.full(10, 0.1), 3000, 1024)[0]
    g = state.position - state.position.mean()
    assert np.all(np.abs(g - (exact.map.g - exact.map.g.mean())) < 5 * deviation)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ot.polygon_transport(np.ones((3, 3))), "sites: expected points of shape"),
        (lambda: ot.polygon_transport(np.ones((3, 2))), "sites: expected distinct"),
        (lambda: ot.polygon_transport(np.eye(2), [1.0, 0.0]), "b: expected positive"),
        (lambda: ot.polygon_transport(np.eye(2), domain=np.eye(2)), "domain: expected corners"),
        (lambda: ot.polygon_transport(np.eye(2), domain=[[0.0, 0], [0, 1], [1, 0]]), "domain: expected corners of a"),
        (lambda: ot.SemiDiscrete(uniform, SITES, MASSES[:3]), "b: expected shape"),
        (lambda: ot.SemiDiscrete(uniform, SITES, epsilon=-1.0), "epsilon: expected non-negative"),
        (lambda: ot.SemiDiscrete(uniform, SITES, step_size=0.0), "step_size: expected positive"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
