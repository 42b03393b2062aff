"""Total generalised variation against linear and quadratic programmes, dense duality gaps, limits and invariances."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog, lsq_linear

from invjax import priors
from invjax.priors import tgv_prox

TIGHT = {"rtol": 1e-11, "max_inner": 30000}


def normal(shape, seed=3):
    return np.random.default_rng(seed).normal(size=shape)


@eqx.filter_jit
def value(g, x):
    return g(x)


@eqx.filter_jit
def prox(g, x, step):
    return g.prox(x, step)


def affine(shape):
    grids = np.meshgrid(*(np.arange(n) for n in shape[:-1]), indexing="ij")
    image = 2 + sum(slope * grid for slope, grid in zip((0.3, -0.7, 0.2), grids, strict=False))
    return jnp.asarray(np.stack([image, *[-image] * (shape[-1] - 1)], -1))


def dense(shape):
    """Differences D and symmetrised differences E of one channel by loops over the pairs of pixels that exist.

    Rows of D are edges (axis, pixel); rows of E are (i, j, pixel), with ``sqrt 2`` for ``i < j``. Returns both, with the pixel
    of every row.
    """
    pixels, dims = list(np.ndindex(shape)), len(shape)

    def moved(pixel, axis):
        return tuple(n + (a == axis) for a, n in enumerate(pixel))

    edges = [(a, p) for a in range(dims) for p in pixels if moved(p, a) in pixels]
    D = np.zeros((len(edges), len(pixels)))
    for row, (a, p) in enumerate(edges):
        D[row, pixels.index(moved(p, a))], D[row, pixels.index(p)] = 1, -1
    rows, where = [], []
    for i in range(dims):
        for j in range(i, dims):
            for p in pixels:
                row, parts = np.zeros(len(edges)), [(i, j)] if i == j else [(i, j), (j, i)]
                ends = [((a, moved(p, b)), (a, p)) for a, b in parts]
                if all(e in edges for pair in ends for e in pair):
                    for far, near in ends:
                        row[edges.index(far)] += 1 / np.sqrt(len(parts))
                        row[edges.index(near)] -= 1 / np.sqrt(len(parts))
                    rows.append(row)
                    where.append(p)
    return D, np.array(rows), [p for _, p in edges], where


def group_norms(v, where):
    """Euclidean norms over the rows of one pixel."""
    sums = {}
    for entry, p in zip(v, where, strict=True):
        sums[p] = sums.get(p, 0) + entry**2
    return np.sqrt(list(sums.values()))


def test_symmetrised_differences_equal_loops():
    shape = (4, 3)
    _, E, edges, where = dense(shape)
    w = np.zeros((2, 1, *shape))
    field = normal(len(edges))
    for (a, p), v in zip(
        [(a, p) for a in range(2) for p in np.ndindex(shape) if p[a] + 1 < shape[a]], field, strict=True
    ):
        w[(a, 0, *p)] = v
    got = tgv_prox.symmetrised(tuple(jnp.asarray(w)), "neumann")
    sizes = np.sqrt(sum(np.asarray(v)[0] ** 2 for v in got))
    exact = np.zeros(shape)
    for p, n in zip(dict.fromkeys(where), group_norms(E @ field, where), strict=True):
        exact[p] = n
    np.testing.assert_allclose(sizes, exact, atol=1e-14)


@pytest.mark.parametrize("boundary", ["neumann", "circular"])
def test_adjoint_of_the_symmetrised_differences(boundary):
    shape = (2, 3, 1, 4)  # channels first, with an axis of length one
    w = tuple(jnp.asarray(normal((3, *shape))))
    shapes = jax.eval_shape(lambda w: tgv_prox.symmetrised(w, boundary), w)
    q = tuple(jnp.asarray(v) for v in normal((len(shapes), *shape), 4))
    (exact,) = jax.linear_transpose(lambda w: tgv_prox.symmetrised(w, boundary), w)(q)
    np.testing.assert_allclose(jnp.stack(tgv_prox.symmetrised_adjoint(q, boundary)), jnp.stack(exact), atol=1e-14)


@pytest.mark.parametrize("shape", [(6, 8, 1), (5, 4, 2), (3, 4, 4, 1), (9, 1)])
def test_affine_images_cost_nothing(shape):
    """Up to rounding, of differences of values up to 10: 1e-15 each."""
    g, flat = priors.TGV(shape, **TIGHT), affine(shape)
    assert value(g, flat) < 1e-14 * flat.size
    x = jnp.asarray(normal(shape))
    np.testing.assert_allclose(value(g, x + flat), value(g, x), rtol=1e-9)
    if shape == (6, 8, 1):
        np.testing.assert_allclose(prox(g, x + flat, 0.3), prox(g, x, 0.3) + flat, atol=1e-5)


def test_value_of_a_signal_is_that_of_a_linear_programme():
    """min over w of sum |d - w| + ratio sum |w_(i+1) - w_i|, and its two limits."""
    x = normal(12).cumsum()
    d, bend = np.diff(x), np.diff(np.eye(11), axis=0)

    def programme(ratio):
        one, two = np.eye(11), np.eye(10)
        rows = [[one, -one, 0 * bend.T], [-one, -one, 0 * bend.T], [bend, 0 * bend, -two], [-bend, 0 * bend, -two]]
        cost = np.concatenate([np.zeros(11), np.ones(11), ratio * np.ones(10)])
        return linprog(cost, np.block(rows), np.concatenate([d, -d, np.zeros(20)]), bounds=(None, None)).fun

    ratios = jnp.array([0.1, 0.5, 1.0, 2.0, 6.0])
    got = jax.jit(jax.vmap(lambda r: priors.TGV((12, 1), 1.0, r, rtol=1e-9, max_inner=50000)(x[:, None])))(ratios)
    np.testing.assert_allclose(got, [programme(float(r)) for r in ratios], rtol=1e-7)
    np.testing.assert_allclose(got[1], 0.5 * np.abs(np.diff(x, n=2)).sum(), rtol=1e-8)  # |E^H q| <= 2 |q|: w = D x
    np.testing.assert_allclose(got[4], np.abs(d - np.median(d)).sum(), rtol=1e-7)  # |q| <= 5.5 needed: w is constant


def test_prox_of_a_signal_with_a_small_ratio_is_that_of_second_differences():
    x, c = normal(14), 0.6
    second = np.diff(np.eye(14), n=2, axis=0) * 0.4
    exact = x - c * second.T @ lsq_linear(c * second.T, x, (-1, 1), method="bvls", tol=1e-14).x
    got = prox(priors.TGV((14, 1), c, 0.4, **TIGHT), x[:, None], 1.0)
    np.testing.assert_allclose(got[:, 0], exact, atol=1e-5)  # |z - exact| <= sqrt(2 gap), gap <= 1e-11 times about 10


def test_certificate_of_an_image_in_dense_algebra():
    """P(z, w) - D(q) with matrices by loops: zero only at the solution, whatever found z, w and q."""
    shape, c, ratio = (5, 6), 0.4, 1.5
    D, E, edges, where = dense(shape)
    x = (affine((*shape, 1))[..., 0] / 3 + 0.5 * normal(shape)).ravel()
    g = priors.TGV((*shape, 1), c, ratio)
    aux = g.prox_init(x.reshape(*shape, 1))
    run = eqx.filter_jit(lambda g, aux: g.prox_step(x.reshape(*shape, 1), 1.0, aux, 3000))
    z, aux = run(g, aux)
    keep = [(a, p) for a in range(2) for p in np.ndindex(shape) if p[a] + 1 < shape[a]]
    w = np.array([aux.w[a][(0, *p)] for a, p in keep])
    kinds = [(i, j) for i in range(2) for j in range(i, 2)]
    slots = {(0, 0): 0, (1, 1): 1, (0, 1): 2}  # diagonal first
    rows = [(i, j, p) for i, j in kinds for p in np.ndindex(shape) if _exists(i, j, p, shape)]
    q = np.array([aux.q[slots[i, j]][(0, *p)] for i, j, p in rows])
    p = E.T @ q
    s = 1 / max(1, group_norms(p, edges).max(), group_norms(q, where).max() / ratio)
    z = np.ravel(z)
    primal = (
        c * (group_norms(D @ z - w, edges).sum() + ratio * group_norms(E @ w, where).sum()) + ((z - x) ** 2).sum() / 2
    )
    dual = (x @ x - ((x - c * s * D.T @ p) ** 2).sum()) / 2
    assert -1e-12 <= primal - dual <= 1e-8 * primal
    np.testing.assert_allclose(g.duality_gap(x.reshape(*shape, 1), aux, 1.0), primal - dual, atol=1e-12)
    cold = prox(priors.TGV((*shape, 1), c, ratio, **TIGHT), x.reshape(*shape, 1), 1.0)
    np.testing.assert_allclose(np.ravel(cold), z, atol=2 * np.sqrt(2e-8 * primal))


def _exists(i, j, p, shape):
    """Whether the difference (i, j) at pixel p has all its edges."""
    steps = {i: 1, j: 1} if i != j else {i: 2}
    return all(p[a] + n < shape[a] for a, n in steps.items())


def test_gap_bounds_the_error_from_the_first_iterations_on():
    """The dual point is feasible, though E^H q is not: else the gap would be no bound."""
    shape = (6, 8, 1)
    x, g = jnp.asarray(normal(shape)), priors.TGV(shape, 0.3, 0.5)
    exact = prox(priors.TGV(shape, 0.3, 0.5, **TIGHT), x, 1.0)
    run = eqx.filter_jit(lambda g, aux: g.prox_step(x, 1.0, aux, 20))
    aux, infeasible = g.prox_init(x), 0
    for _ in range(6):
        z, aux = run(g, aux)
        assert jnp.sum((z - exact) ** 2) / 2 <= g.duality_gap(x, aux, 1.0)
        problem = tgv_prox.TGVProblem(x[None, ..., 0], jnp.asarray(0.3), jnp.asarray(0.5), g.grouping, "neumann", True)
        p, q = problem.certificate(aux)
        largest = [max(jnp.max(n) for n in g.grouping.norms(v)) for v in (p, q)]
        assert largest[0] <= 1 + 1e-12
        assert largest[1] <= 0.5 + 1e-12
        raw = tgv_prox.symmetrised_adjoint(aux.q, "neumann")
        infeasible += bool(max(jnp.max(n) for n in g.grouping.norms(raw)) > 1 + 1e-6)
    assert infeasible > 0


def test_bounds_and_homogeneity():
    x = jnp.asarray(normal((6, 8, 2)))
    tv, bend = value(priors.TV(x.shape), x), value(priors.TGV(x.shape, 1.0, 1e-3, **TIGHT), x) / 1e-3
    for ratio in (0.3, 3.0):
        got = value(priors.TGV(x.shape, 1.0, ratio, **TIGHT), x)
        assert got <= tv * (1 + 1e-9)
        assert got <= ratio * bend * (1 + 1e-9)
    np.testing.assert_allclose(
        value(priors.TGV(x.shape, **TIGHT), 3 * x), 3 * value(priors.TGV(x.shape, **TIGHT), x), rtol=1e-9
    )


def test_channels_complex_numbers_and_turns():
    shape = (6, 5, 2)
    x = jnp.asarray(normal(shape))
    apart = priors.TGV(shape, 0.3, channels="separate", **TIGHT)
    one = priors.TGV((6, 5, 1), 0.3, **TIGHT)
    np.testing.assert_allclose(value(apart, x), value(one, x[..., :1]) + value(one, x[..., 1:]), rtol=1e-9)
    z = prox(apart, x, 1.0)
    np.testing.assert_allclose(z[..., 1:], prox(one, x[..., 1:], 1.0), atol=1e-5)
    turned = prox(priors.TGV((5, 6, 2), 0.3, channels="separate", **TIGHT), x.swapaxes(0, 1), 1.0)
    np.testing.assert_allclose(turned.swapaxes(0, 1), z, atol=1e-5)
    # The two parts of a complex number are measured together, as two channels are: a phase commutes with the prox.
    both, phase = x[..., :1] + 1j * x[..., 1:], np.exp(0.7j)
    g = priors.TGV((6, 5, 1), 0.3, complex=True, **TIGHT)
    together = prox(priors.TGV(shape, 0.3, **TIGHT), x, 1.0)
    np.testing.assert_allclose(
        prox(g, phase * both, 1.0) / phase, together[..., :1] + 1j * together[..., 1:], atol=1e-5
    )


def test_derivatives_of_the_prox_and_of_the_value():
    """Of a noisy ramp, where w is neither 0 nor D x; central differences of a prox to 1e-13."""
    shape, h = (4, 5, 1), 1e-5
    x, v = affine(shape) / 3 + 0.3 * normal(shape), jnp.asarray(normal(shape, 5))

    def run(x, step, ratio):
        return priors.TGV(shape, 0.2, ratio, rtol=1e-13, max_inner=30000).prox(x, step)

    def loss(x, step, ratio):
        return jnp.vdot(v, run(x, step, ratio))

    point = (x, jnp.asarray(1.0), jnp.asarray(0.6))
    slopes = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*point)
    again = jax.jit(loss)
    for i, d in enumerate((v, 1.0, 1.0)):
        ends = [[p + s * h * d if i == k else p for k, p in enumerate(point)] for s in (1, -1)]
        wanted = (again(*ends[0]) - again(*ends[1])) / (2 * h)
        assert abs(wanted) > 0.01
        np.testing.assert_allclose(jnp.vdot(slopes[i], d), wanted, rtol=1e-4)

    def size(x, ratio):
        return priors.TGV(shape, 0.2, ratio, **TIGHT)(x)

    by_x, by_ratio = jax.jit(jax.grad(size, argnums=(0, 1)))(x, 0.6)
    size = jax.jit(size)
    np.testing.assert_allclose(jnp.vdot(by_x, v), (size(x + h * v, 0.6) - size(x - h * v, 0.6)) / (2 * h), rtol=1e-4)
    np.testing.assert_allclose(by_ratio, (size(x, 0.6 + h) - size(x, 0.6 - h)) / (2 * h), rtol=1e-4)


def test_unrolled_steps_are_reverse_differentiable():
    x, g = jnp.asarray(normal((4, 5, 1))), priors.TGV((4, 5, 1), 0.2)
    loss = jax.jit(lambda s: jnp.sum(g.prox_step(x, s, g.prox_init(x), 6)[0] ** 3))
    slope = jax.jit(jax.grad(loss))(0.5)
    np.testing.assert_allclose(slope, (loss(0.5 + 1e-5) - loss(0.5 - 1e-5)) / 2e-5, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_weight_of_zero_ends_after_the_first_iterations(dtype):
    """The objective is zero there, so a relative gap alone would never be small."""
    x = jnp.asarray(normal((1, 8, 6)), dtype)
    g = priors.TGV((8, 6, 1))
    problem = tgv_prox.TGVProblem(x, jnp.zeros((), dtype), jnp.asarray(2, dtype), g.grouping, "neumann", True)
    few, many = (problem.search(jnp.asarray(1e-4, dtype), n) for n in (10, 200))
    jax.tree.map(np.testing.assert_array_equal, few, many)
    np.testing.assert_allclose(few.z, x, atol=40 * jnp.finfo(dtype).eps)


def test_refusals():
    g, x = priors.TGV((4, 4, 1)), np.zeros((4, 4, 1))
    with pytest.raises(ValueError, match="ratio: expected positive"):
        priors.TGV((4, 4, 1), ratio=0.0)
    with pytest.raises(ValueError, match="channels: expected 'joint'"):
        priors.TGV((4, 4, 1), channels="all")
    with pytest.raises(ValueError, match="max_inner: expected a positive"):
        priors.TGV((4, 4, 1), max_inner=0)
    with pytest.raises(ValueError, match="num_inner: expected a positive"):
        g.prox_step(x, 1.0, g.prox_init(x), 0)
    with pytest.raises(ValueError, match="x: expected shape"):
        g(np.zeros((4, 3, 1)))
