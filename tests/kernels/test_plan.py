"""Plans: predicted errors, choices, refusals; checks at run time; several devices."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from invjax import kernels as K
from invjax.kernels import dense, sliced
from invjax.kernels.fit import grid_error
from invjax.kernels.lines import grid_line
from invjax.kernels.plan import slicing_error

KEY = jax.random.key(0)


def ball(seed, num, dim, radius):
    """Points uniform in direction and in distance from the origin, as the predicted error assumes for pairs."""
    r = np.random.default_rng(seed)
    e = r.normal(size=(num, dim))
    return radius * e / np.linalg.norm(e, axis=1, keepdims=True) * r.uniform(size=(num, 1))


@pytest.mark.parametrize("dim", [2, 5, 30])
@pytest.mark.parametrize("kernel", [K.Gaussian(1.0), K.NegativeDistance()])
def test_predicted_error_is_the_measured_one(kernel, dim):
    """Root mean square over pairs (origin, point): within a factor 1.5 (256 directions of prediction, 500 of measurement)."""
    shapes = ((1, dim), (500, dim))
    plan = K.plan(kernel, shapes, 2.0, key=KEY, method="grid", num_slices=20)
    x, y, w = np.zeros((1, dim)), ball(1, 500, dim, 2.0), np.ones(1)
    gap = K.kernel_sum(kernel, x, y, w, plan=plan) - kernel.gram(jnp.asarray(x), jnp.asarray(y))[0]
    largest = 1.0 if isinstance(kernel, K.Gaussian) else 4.0
    measured = float(jnp.sqrt(jnp.mean(gap**2))) / largest
    assert plan.error / 1.5 < measured < 1.5 * plan.error


def test_tolerance_chooses_the_number_of_slices():
    k, shapes = K.Gaussian(1.0), ((10**6, 5), (10**6, 5))
    plans = [K.plan(k, shapes, 2.0, tol, KEY) for tol in (3e-2, 3e-3)]
    assert [p.method for p in plans] == ["grid", "grid"]
    assert plans[0].num_slices < plans[1].num_slices
    for plan, tol in zip(plans, (3e-2, 3e-3), strict=True):
        assert plan.error <= tol
    with pytest.raises(ValueError, match="tol"):
        K.plan(K.Laplace(1.0), shapes, 2.0, 1e-9, KEY, "grid", directions="iid")
    assert K.plan(K.Laplace(1.0), shapes, 2.0, 1e-9, KEY, directions="iid").method == "dense"


def test_automatic_choices():
    """Small clouds, products and tight tolerances are dense; a line is sorted; sums far from small are sliced."""
    k = K.Gaussian(1.0)
    small, large = ((100, 8), (100, 8)), ((10**6, 8), (10**6, 8))
    assert K.plan(k, small, 1.0).method == "dense"  # and no key is needed
    assert K.plan(k * k, large, 1.0).method == "dense"
    assert K.plan(k, large, 1.0, 1e-2, KEY).method == "grid"
    assert K.plan(K.NegativeDistance(), ((10**6, 1), (10**6, 1)), 1.0).method == "sort"
    assert K.plan(k, ((10**6, 1), (10**6, 1)), 1.0, 1e-8).method == "fourier"
    dense = K.plan(k, small, 1.0)
    assert float(dense.error) == 0
    assert dense.num_slices == 0


def test_costs_put_the_crossover_where_it_is_measured():
    """160 slices in ten dimensions: all pairs up to a few thousand points, slices from 40,000 on."""
    k = K.Gaussian(4.3)
    methods = [K.plan(k, ((n, 10), (n, 10)), 6.0, 1.5e-3, KEY).method for n in (3000, 40_000)]
    assert methods == ["dense", "grid"]


def test_tolerance_holds_for_the_lines_too():
    """One dimension has no slicing error: kernels narrower than the nodes, and narrow ones whose maximum is at 0 alone."""
    shapes = ((10**6, 1), (10**6, 1))
    for k, tol in (
        (K.Laplace(0.1), 1e-6),
        (K.Laplace(0.01), 1e-4),
        (K.Gaussian(0.003), 1e-3),
        (K.Gaussian(1e-5), 1e-2),
    ):
        plan = K.plan(k, shapes, 1.0, tol)
        assert plan.error <= tol
    with pytest.raises(ValueError, match="tol"):
        K.plan(K.Laplace(0.01), shapes, 1.0, 1e-7, method="grid")
    # The counterpart of a thin plate is much larger than the kernel: a tolerance relative to it would be met too early.
    k, dim = K.ThinPlate(), 200
    plan, line = (
        K.plan(k, ((9, dim), (9, dim)), 1.0, 1e-2, KEY, method, directions="iid", num_slices=400)
        for method in ("fourier", "grid")
    )
    assert plan.error < 1.1 * line.error


def test_nodes_are_as_many_as_the_slices_deserve():
    """The error of the grid is a tenth of the slicing error, and that of half the nodes is not; measured on random pairs."""
    k, dim = K.Laplace(0.05), 3
    plan = K.plan(k, ((9, dim), (9, dim)), 2.0, key=KEY, method="grid", num_slices=640)
    slicing = slicing_error(k, plan.table, 2.0, np.asarray(plan.directions), np.asarray(plan.weights))
    errors = [
        grid_error(lambda t: np.asarray(k.sliced(jnp.asarray(t), dim, plan.table)), 2.0, n // 2)
        for n in (2 * plan.num_nodes, plan.num_nodes)
    ]
    assert 1024 < plan.num_nodes < 16384
    assert errors[0] <= 0.1 * slicing < errors[1]


def test_error_of_a_grid_is_the_measured_one():
    """Pairs uniform on the line: for a kink the few in one cell or in neighbouring ones make all of the error."""
    narrow = K.plan(
        K.Gaussian(0.003), ((9, 1), (9, 1)), 1.0, method="grid", num_nodes=1024
    )  # its maximum is 1, at 0 alone
    f = lambda t: np.exp(-((t / 0.003) ** 2) / 2)  # noqa: E731
    np.testing.assert_allclose(narrow.error, grid_error(f, 1.0, 1024), rtol=1e-6)
    u, v = np.random.default_rng(0).uniform(-1, 1, (2, 40_000))
    line = jax.jit(lambda r: grid_line(lambda t: -t, 64, r))(jnp.asarray(1.0))
    found = jax.jit(jax.vmap(lambda a, b: K.line_sum(line, a[None], b[None], jnp.ones(1))[0]))(u, v)
    measured = np.sqrt(np.mean((np.asarray(found) + np.abs(u - v)) ** 2))
    np.testing.assert_allclose(grid_error(lambda t: -t, 1.0, 64), measured, rtol=0.1)


def test_bandwidth_can_be_swept_and_differentiated():
    """One plan, made for the smallest bandwidth, serves larger ones: one program, exact derivatives in the bandwidth."""
    x, y, w = jnp.asarray(ball(0, 40, 3, 1.0)), jnp.asarray(ball(1, 30, 3, 1.0)), jnp.linspace(0, 1, 40)
    xi, share = K.gauss_directions(24, 3)
    plan = K.plan(K.Gaussian(0.8), (x.shape, y.shape), 1.0, 1e-8, method="fourier", directions=xi, weights=share)

    def total(bandwidth, plan):
        return jnp.sum(K.kernel_sum(K.Gaussian(bandwidth), x, y, w, plan=plan))

    bandwidths = jnp.array([0.8, 1.1, 2.0])
    values, slopes = jax.vmap(jax.value_and_grad(total), in_axes=(0, None))(bandwidths, plan)
    exact, expected = jax.vmap(jax.value_and_grad(lambda b: total(b, None)))(bandwidths)
    np.testing.assert_allclose(values, exact, rtol=1e-6)
    np.testing.assert_allclose(slopes, expected, rtol=1e-5)


def test_checked_sum_reports_error_and_radius():
    k = K.NegativeDistance()
    x, y, w = ball(0, 50, 4, 1.0), ball(1, 40, 4, 1.0), np.full(50, 0.02)
    plan = K.plan(k, (x.shape, y.shape), 1.0, key=KEY, method="sort", directions="iid", num_slices=400)
    s, check = K.checked_kernel_sum(k, x, y, w, plan=plan)
    np.testing.assert_allclose(s, K.kernel_sum(k, x, y, w, plan=plan), atol=1e-12)
    assert not check.outside
    # Independent directions: half the difference of two halves has the standard deviation of the error itself.
    exact = k.gram(jnp.asarray(x), jnp.asarray(y)).T @ w
    errors = []
    for seed in range(40):
        xi = K.directions(jax.random.key(seed), "iid", 400, 4)
        moved = eqx.tree_at(lambda p: p.directions, plan, xi)
        found, one = K.checked_kernel_sum(k, x, y, w, plan=moved)
        errors.append([jnp.mean((found - exact) ** 2), jnp.mean(one.error**2)])
    true, estimated = np.sqrt(np.mean(errors, 0))
    assert 0.6 < estimated / true < 1.6  # 40 draws, each nearly one degree of freedom: 11 % each
    assert not K.checked_kernel_sum(k, 3 * x, y, w, plan=plan)[1].outside  # sorting has no bounds
    assert K.checked_kernel_sum(k, x * np.nan, y, w, plan=plan)[1].outside
    single = K.plan(k, ((5, 1), (4, 1)), 1.0, method="sort")
    assert not np.any(K.checked_kernel_sum(k, x[:5, :1], y[:4, :1], w[:5], plan=single)[1].error)
    dense = K.checked_kernel_sum(k, x, y, w, plan=K.plan(k, (x.shape, y.shape), 1.0, method="dense"))
    np.testing.assert_allclose(dense[0], exact, atol=1e-12)


@pytest.mark.parametrize("method", ["dense", "grid", "fourier", "sort"])
def test_one_device_equals_eight(method):
    k = K.NegativeDistance() if method == "sort" else K.Gaussian(1.0)
    x, y, w = jnp.asarray(ball(0, 64, 3, 1.0)), jnp.asarray(ball(1, 48, 3, 1.0)), jnp.linspace(0, 1, 64)
    plan = K.plan(k, (x.shape, y.shape), 1.0, 1e-6, KEY, method, num_slices=8)
    mesh = jax.make_mesh((8,), ("particles",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, P("particles"))
    fn = jax.jit(
        lambda x, y, w, plan: (K.kernel_sum(k, x, y, w, plan=plan), K.kernel_sum_gradient(k, x, y, w, plan=plan))
    )
    alone = fn(x, y, w, plan)
    spread = jax.jit(fn, out_shardings=rows)(*jax.device_put((x, y, w), rows), plan)
    for a, b in zip(alone, spread, strict=True):
        assert len(b.sharding.device_set) == 8
        np.testing.assert_allclose(a, b, atol=1e-11)


@pytest.mark.parametrize("method", ["grid", "fourier"])
def test_outside_the_radius_is_nan(method):
    """One point by a percent: values and derivatives are NaN, the check says why; a rounding of the radius is inside."""
    k, x, y, w = K.Gaussian(1.0), np.zeros((2, 2)), np.array([[0.0, 0.0], [2.0, 0.0]]), np.ones(2)
    plan = K.plan(k, (x.shape, y.shape), 2.0, key=KEY, method=method, directions=K.equispaced(4))

    @jax.jit
    def views(y, plan):
        slope = jax.grad(lambda y: K.kernel_sum(k, x, y, w, plan=plan)[0])(y)
        summed, pulled = (fn(k, x, y, w, plan=plan) for fn in (K.checked_kernel_sum, K.checked_kernel_sum_gradient))
        return (summed[0], slope, pulled[0]), (summed[1].outside, pulled[1])

    for scale, inside in ((0.9, True), (1 + 1e-6, True), (1.01, False)):
        values, outside = views(scale * y, plan)
        assert {bool(np.all(np.isfinite(found))) for found in values} == {inside}
        assert {bool(out) for out in outside} == {not inside}
    assert np.isnan(K.mmd2(k, x, 1.01 * y, plan=plan))
    small = jax.jit(lambda b: K.kernel_sum(K.Gaussian(b), x, y, w, plan=plan))(0.9)
    assert np.all(np.isnan(small))


def test_a_plan_knows_what_it_serves():
    """Another kind of kernel and a smaller bandwidth are refused; a traced bandwidth that is too small is reported."""
    x, y, w = ball(0, 9, 3, 1.0), ball(1, 7, 3, 1.0), np.ones(9)
    plan = K.plan(K.Gaussian(1.0), (x.shape, y.shape), 1.0, key=KEY, method="grid", num_slices=4)
    K.kernel_sum(K.Gaussian(1.5), x, y, w, plan=plan)
    for other in (K.Laplace(1.0), K.Gaussian(1.0) + K.Gaussian(2.0), K.NegativeDistance()):
        with pytest.raises(ValueError, match="another kernel"):
            K.kernel_sum(other, x, y, w, plan=plan)
    for smaller in (0.9, 0.99):
        with pytest.raises(ValueError, match="larger bandwidth"):
            K.kernel_sum(K.Gaussian(smaller), x, y, w, plan=plan)
    both = K.plan(K.Gaussian(1.0) + K.Gaussian(2.0), (x.shape, y.shape), 1.0, key=KEY, method="grid", num_slices=4)
    with pytest.raises(ValueError, match="larger bandwidth"):
        K.kernel_sum(K.Gaussian(1.0) + K.Gaussian(1.5), x, y, w, plan=both)
    check = jax.jit(lambda b: K.checked_kernel_sum(K.Gaussian(b), x, y, w, plan=plan)[1].outside)
    assert [bool(check(b)) for b in (0.9, 1.0, 2.0)] == [True, False, False]


def test_empty_single_and_bad_points():
    k = K.Gaussian(1.0)
    plan = K.plan(k, ((3, 2), (3, 2)), 1.0, key=KEY, method="grid", num_slices=4)
    for given in (None, plan):
        empty = K.kernel_sum(k, np.zeros((0, 2)), np.zeros((3, 2)), np.zeros(0), plan=given)
        np.testing.assert_array_equal(empty, np.zeros(3))
        assert K.kernel_sum(k, np.zeros((3, 2)), np.zeros((0, 2)), np.ones(3), plan=given).shape == (0,)
        one = K.kernel_sum(k, np.zeros((1, 2)), np.zeros((1, 2)), np.ones(1), plan=given)
        np.testing.assert_allclose(one, 1, atol=1e-5)  # h^2 / 2 on a grid of 1024 nodes
        spoiled = K.kernel_sum(k, np.zeros((2, 2)), np.array([[0, np.nan], [0, 0]]), np.ones(2), plan=given)
        assert np.isnan(spoiled[0])
        assert given is not None or spoiled[1] == 2


@pytest.mark.parametrize(
    ("match", "call"),
    [
        ("shapes", lambda: K.plan(K.Gaussian(1.0), ((3, 2), (3, 3)), 1.0)),
        ("method", lambda: K.plan(K.Gaussian(1.0), ((3, 2), (3, 2)), 1.0, method="fast")),
        ("sort", lambda: K.plan(K.Gaussian(1.0), ((3, 2), (3, 2)), 1.0, method="sort")),
        ("radius", lambda: K.plan(K.Gaussian(1.0), ((3, 2), (3, 2)), -1.0)),
        ("centre", lambda: K.plan(K.Gaussian(1.0), ((3, 2), (3, 2)), 1.0, centre=np.zeros(3))),
        ("key", lambda: K.plan(K.Gaussian(1.0), ((3, 2), (3, 2)), 1.0, method="grid")),
        ("counterpart", lambda: K.plan(K.Gaussian(1.0) * K.Gaussian(2.0), ((3, 2), (3, 2)), 1.0, 1e-2, KEY, "grid")),
        (
            "unit vectors",
            lambda: K.plan(K.Gaussian(1.0), ((3, 2), (3, 2)), 1.0, method="grid", directions=np.ones((4, 2))),
        ),
        ("resolved", lambda: K.plan(K.Gaussian(1e-5), ((3, 5), (3, 5)), 1.0, 1e-2, KEY, "grid")),
        ("num_nodes", lambda: K.plan(K.Gaussian(1.0), ((3, 2), (3, 2)), 1.0, method="grid", num_nodes=2)),
        ("num_slices", lambda: K.plan(K.Gaussian(1.0), ((3, 2), (3, 2)), 1.0, key=KEY, method="grid", num_slices=2.5)),
        ("num_slices", lambda: given_directions(num_slices=3)),
        ("weights", lambda: K.plan(K.Gaussian(1.0), ((3, 2), (3, 2)), 1.0, key=KEY, method="grid", weights=np.ones(4))),
        ("weights", lambda: given_directions(weights=np.full(4, np.nan))),
        ("unit vectors", lambda: given_directions(directions=np.full((4, 2), np.nan))),
        ("centre", lambda: K.plan(K.Gaussian(1.0), ((3, 2), (3, 2)), 1.0, centre=np.full(2, np.nan))),
        ("radius", lambda: K.plan(K.Gaussian(1.0), ((3, 2), (3, 2)), np.inf)),
        ("tol", lambda: K.plan(K.Gaussian(1.0), ((3, 2), (3, 2)), 1.0, np.nan)),
        ("shapes", lambda: K.plan(K.Gaussian(1.0), ((3, 2.5), (3, 2.5)), 1.0)),
        ("shapes", lambda: K.plan(K.Gaussian(1.0), ((-3, 2), (3, 2)), 1.0)),
        ("float32 or float64", lambda: K.kernel_sum(K.Gaussian(1.0), *(np.ones((3, 2), np.float16),) * 2, np.ones(3))),
        ("x: expected real", lambda: K.Gaussian(1.0)(np.ones(2, int), np.ones(2, int))),
        ("y: expected points", lambda: K.Gaussian(1.0).gram(np.ones((3, 2)), np.ones((3, 1)))),
        (
            "kernel: expected parameters",
            lambda: K.kernel_sum(K.Gaussian(np.ones(3)), *(np.ones((3, 2)),) * 2, np.ones(3)),
        ),
        ("bandwidth", lambda: K.Gaussian(0.0)),
        ("bandwidth", lambda: K.Matern(1.5, -1.0)),
        ("bandwidth", lambda: K.Laplace(np.nan)),
        ("nu", lambda: K.Matern(1.0)),
        ("r: expected", lambda: K.Riesz(2.0)),
        ("x: expected points", lambda: K.kernel_sum(K.Gaussian(1.0), np.ones(3), np.ones((3, 2)), np.ones(3))),
        ("y: expected points", lambda: K.kernel_sum(K.Gaussian(1.0), np.ones((3, 2)), np.ones((3, 1)), np.ones(3))),
        ("w: expected shape", lambda: K.kernel_sum(K.Gaussian(1.0), np.ones((3, 2)), np.ones((3, 2)), np.ones(2))),
        ("real", lambda: K.kernel_sum(K.Gaussian(1.0), np.ones((3, 2)), np.ones((3, 2)), 1j * np.ones(3))),
    ],
)
def test_refusals_name_the_argument(match, call):
    with pytest.raises(ValueError, match=match):
        call()


def given_directions(directions=None, **options):
    xi = K.equispaced(4) if directions is None else directions
    return K.plan(K.Gaussian(1.0), ((3, 2), (3, 2)), 1.0, method="grid", directions=xi, **options)


@pytest.mark.parametrize("method", ["auto", "grid"])
def test_traced_kernels_cannot_be_planned(method):
    for make in (K.Gaussian, K.Riesz):
        with pytest.raises(ValueError, match="traced"):
            jax.jit(lambda b: K.plan(make(b), ((9, 2), (9, 2)), 1.0, 1e-2, KEY, method).error)(1.0)  # noqa: B023


@pytest.mark.parametrize("dim", [2, 5])
def test_sums_of_many_tiles(dim, monkeypatch):
    """Tiles of four points, streams of two lines: sums and gradients as with one tile and one stream."""
    for name, value in (("_TILE", 4), ("_COLUMNS", 4), ("_AREA", 16), ("_FEWEST_ROWS", 2)):
        monkeypatch.setattr(dense, name, value)
    monkeypatch.setattr(sliced, "_MANY", 4)
    x, y, w = ball(0, 11, dim, 1.0), ball(1, 9, dim, 1.0), np.linspace(-1, 2, 11)
    k = K.Gaussian(1.0)
    exact = np.asarray(k.gram(jnp.asarray(x), jnp.asarray(y))).T @ w
    np.testing.assert_allclose(jax.jit(dense.dense_sum)(k, x, y, w), exact, atol=1e-12)
    if dim == 2:
        return
    share = np.arange(1, 17) / 136
    plan = K.plan(
        k, (x.shape, y.shape), 1.0, method="grid", directions=K.directions(KEY, "iid", 16, dim), weights=share
    )
    t = jnp.abs(plan.directions @ (y[:, None] - x[None]).reshape(-1, dim).T)
    f = lambda t: k.sliced(t, dim, plan.table)  # noqa: E731
    by_pairs = (share @ f(t)).reshape(9, 11) @ w
    np.testing.assert_allclose(jax.jit(K.kernel_sum)(k, x, y, w, plan=plan), by_pairs, atol=1e-4)
    signs = jnp.sign(plan.directions @ (y[:, None] - x[None]).reshape(-1, dim).T)
    slopes = signs * jax.vmap(jax.vmap(jax.grad(f)))(t)
    field = ((share[:, None] * slopes).T @ plan.directions).reshape(9, 11, dim)
    found = jax.jit(K.kernel_sum_gradient)(k, x, y, w, plan=plan)
    np.testing.assert_allclose(found, jnp.einsum("mnd,n->md", field, w), atol=1e-4)


def test_dense_sums_far_from_the_origin(float32):
    """Five dimensions, 1e3 away in float32: the points lose 3e-5 of their spread, and the sum not much more."""
    x, y, w = ball(0, 50, 5, 1.0), ball(1, 40, 5, 1.0), np.full(50, 0.02, np.float32)
    near, far = (
        K.kernel_sum(K.Gaussian(1.0), np.float32(x + shift), np.float32(y + shift), w) for shift in (0.0, 1000.0)
    )
    np.testing.assert_allclose(far, near, atol=1e-4)


def test_radius_holds_the_points_it_was_taken_from():
    x, y, centre = ball(0, 30, 3, 2.0), ball(1, 20, 3, 1.0), np.array([1.0, 0.0, -2.0])
    expected = max(np.linalg.norm(a - centre, axis=1).max() for a in (x, y))
    radius = K.radius_of(x, y, centre=centre)
    np.testing.assert_allclose(radius, expected, rtol=1e-14)
    k = K.Gaussian(1.0)
    plan = K.plan(k, (x.shape, y.shape), radius, key=KEY, method="grid", num_slices=64, centre=centre)
    assert not K.checked_kernel_sum(k, x, y, np.ones(30), plan=plan)[1].outside
    with pytest.raises(ValueError, match="clouds"):
        K.radius_of()


def test_algebra_of_kernels():
    k, other = K.Gaussian(1.0), K.Laplace(2.0)
    x, y = jnp.zeros(2), jnp.ones(2)
    pairs = (
        (-k, -k(x, y)),
        (k - other, k(x, y) - other(x, y)),
        (k / 4, k(x, y) / 4),
        (sum([k, other]), k(x, y) + other(x, y)),
    )
    for made, value in pairs:
        np.testing.assert_allclose(made(x, y), value, rtol=1e-14)
    for wrong in (lambda: k * "a", lambda: k + 1, lambda: k / other):
        with pytest.raises(TypeError):
            wrong()
