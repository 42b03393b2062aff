"""Slicing: one-dimensional counterparts against quadrature, the variance of one slice, sums on a line, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaln

from invjax import kernels as K
from invjax.kernels.fit import _least_squares
from invjax.kernels.lines import fourier_line, grid_line

from .registry import SLICED, kernel

REACH = 4.0


def lifted(f, s, dim):
    """``F(s) = 2 G(d/2) / (sqrt(pi) G((d-1)/2)) int_0^1 f(s t) (1 - t^2)^((d-3)/2) dt`` with t = sin a, by quadrature."""
    factor = 2 * np.exp(gammaln(dim / 2) - gammaln((dim - 1) / 2)) / np.sqrt(np.pi)
    t, half = np.polynomial.legendre.leggauss(60)
    # Panels that shrink towards a = 0, where f may have a power or a logarithm.
    edges = np.concatenate([[0], np.pi / 2 * 2.0 ** -np.arange(40.0)[::-1]])
    width = np.diff(edges)[:, None] / 2
    a = edges[:-1, None] + width * (t + 1)
    return factor * np.sum(width * half * f(s * np.sin(a)) * np.cos(a) ** (dim - 2))


@pytest.mark.parametrize("dim", [2, 3, 10, 50, 784])
@pytest.mark.parametrize("name", SLICED)
def test_counterparts_return_the_kernel(name, dim):
    k = kernel(name)
    table = k.tabulate(dim, REACH)
    f = jax.jit(lambda t: k.sliced(t, dim, table))
    for s in (0.1, 1.0, 2.0, REACH):
        exact = k.of_square(jnp.asarray(s**2))
        # The integrand grows with the dimension for thin plates, whose two terms cancel.
        tolerance = 1e-10 * max(1, dim / 10 if name == "thin_plate" else 1)
        np.testing.assert_allclose(lifted(lambda t: np.asarray(f(t)), s, dim), exact, atol=tolerance, rtol=1e-10)


def test_counterpart_of_matern_one_half_is_that_of_laplace():
    t = jnp.linspace(0, 3, 7)
    for dim in (2, 5):
        values = [k.sliced(t, dim, k.tabulate(dim, 3.0)) for k in (K.Laplace(0.8), K.Matern(0.5, 0.8))]
        np.testing.assert_allclose(*values, atol=1e-13)


# V = E f(<xi, z>)^2 - F(|z|)^2 in closed form (negative distance) and by 30-digit quadrature (Gaussian, |z| = 1, 2, 3).
VARIANCES = {2: 0.233701, 3: 1 / 3, 5: 0.422222, 10: 0.494311, 50: 0.555168, 100: 0.562962}
GAUSSIAN = {3: (0.1003, 0.2804, 0.2209), 10: (0.1659, 0.4032, 0.3589), 50: (0.1928, 0.4629, 0.4602)}


@pytest.mark.parametrize("dim", VARIANCES)
def test_variance_of_one_slice(dim):
    """From 1e5 directions: the standard error of a variance is ``sqrt((kurtosis - 1) / n)``, below 0.7 % here; four of them."""
    xi = np.asarray(K.directions(jax.random.key(1), "iid", 100_000, dim))[:, 0]
    k = K.NegativeDistance()
    values = np.asarray(k.sliced(jnp.abs(xi), dim, ()))
    np.testing.assert_allclose(values.var(), VARIANCES[dim], rtol=0.03)
    assert abs(values.mean() + 1) < 4 * np.sqrt(VARIANCES[dim] / 1e5)
    if dim in GAUSSIAN:
        gaussian = K.Gaussian(1.0)
        table = gaussian.tabulate(dim, 3.0)
        for s, variance in zip((1, 2, 3), GAUSSIAN[dim], strict=True):
            found = np.asarray(gaussian.sliced(s * jnp.abs(xi), dim, table)).var()
            np.testing.assert_allclose(found, variance, rtol=0.03)


@pytest.mark.parametrize("name", ["gaussian", "matern_3_2", "matern_7_2", "laplace"])
def test_slices_beat_as_many_random_frequencies(name):
    """A random frequency is a direction times a random length, and a slice is the mean over the length: its variance is smaller.

    That of ``cos <omega, z>`` is ``(1 + F(2 |z|)) / 2 - F(|z|)^2``. For Gaussians in high dimension the length is known and
    nothing is gained: P independent slices do not reach the error of 2 P frequencies.
    """
    k, dim = kernel(name), 30
    table = k.tabulate(dim, REACH)
    f = jax.jit(lambda t: k.sliced(t, dim, table))
    ratios = []
    for s in (0.5, 1.0, 2.0):
        value, double = (float(k.of_square(jnp.asarray(t**2))) for t in (s, 2 * s))
        slices = lifted(lambda t: np.asarray(f(t)) ** 2, s, dim) - value**2
        ratios.append(slices / ((1 + double) / 2 - value**2))
    assert min(ratios) > 0
    assert max(ratios) < 1
    if name == "gaussian":
        assert min(ratios) > 0.5  # twice as many frequencies have half the variance


def test_riesz_constants():
    """``c_d`` of the negative distance, and Riesz with r = 1 is it; float32 keeps the ratio of two large gamma functions."""
    known = {
        1: 1,
        2: np.pi / 2,
        3: 2,
        4: 3 * np.pi / 4,
        5: 8 / 3,
        10: 3.8656315855,
        50: 8.8180714402,
        100: 12.501848174,
    }
    for dim, constant in known.items():
        np.testing.assert_allclose(K.slicing_constant(dim), constant, rtol=1e-10)
    for dim in (2, 784):
        one = K.Riesz(1.0).sliced(jnp.float32(1.0), dim, ())
        np.testing.assert_allclose(one, -K.slicing_constant(dim), rtol=2e-6)


def test_sorted_sum_is_exact():
    """Against the dense sum in float64: unsorted, tied and repeated points, targets that are sources, one source."""
    r = np.random.default_rng(0)
    u = np.concatenate([r.normal(size=40), [0.5, 0.5, 0.5, 0.0, 0.0]])
    v = np.concatenate([r.normal(size=20), u[:15], [0.5, 0.0, 9.0, -9.0]])
    w = r.normal(size=u.size)
    line = K.SortedLine(jnp.asarray(-1.3))
    exact = -1.3 * np.abs(v[:, None] - u) @ w
    slope = -1.3 * np.sign(v[:, None] - u) @ w
    np.testing.assert_allclose(K.line_sum(line, u, v, w), exact, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(K.line_sum(line.derivative(), u, v, w), slope, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(K.line_sum(line.derivative().derivative(), u, v, w), 0)
    np.testing.assert_allclose(K.line_sum(line, u[:1], v, w[:1]), -1.3 * np.abs(v - u[0]) * w[0], atol=1e-14)


@pytest.mark.parametrize("method", ["sort", "grid", "fourier", "dense"])
def test_one_dimension_needs_one_slice(method):
    """No key, no randomness: the sorting plan is exact, the others are at their own accuracy."""
    k = K.NegativeDistance() if method == "sort" else K.Gaussian(0.5)
    plan = K.plan(k, ((50, 1), (40, 1)), 1.0, 1e-8, method=method)
    r = np.random.default_rng(0)
    x, y, w = r.uniform(-1, 1, (50, 1)), r.uniform(-1, 1, (40, 1)), r.normal(size=50)
    tolerance = {"sort": 1e-12, "dense": 1e-12, "fourier": 1e-6, "grid": 1e-5}[method]
    exact = k.gram(jnp.asarray(x), jnp.asarray(y)).T @ w
    np.testing.assert_allclose(K.kernel_sum(k, x, y, w, plan=plan), exact, atol=tolerance)


def errors_of_fit(k, dim, nums):
    """Root mean square error over [0, 2] of the least-squares series with so many frequencies, for radius 1."""
    table = k.tabulate(dim, 2.0)
    t = jnp.linspace(0, 2, 4001)
    exact = k.sliced(t, dim, table)
    out = []
    for num in nums:
        fit = _least_squares(num, 1e-12)
        cosines = fit.cosines(k.sliced(fit.nodes(jnp.asarray(1.0)), dim, table))
        series = jnp.cos(fit.omega(jnp.asarray(1.0)) * jnp.arange(num)[None] * t[:, None]) @ cosines
        out.append(float(jnp.sqrt(jnp.mean((series - exact) ** 2))))
    return np.array(out)


def test_fourier_error_is_spectral_for_gaussians():
    errors = errors_of_fit(K.Gaussian(0.4), 3, [4, 8, 16])
    slopes = np.diff(np.log(errors)) / np.log(2)
    assert errors[-1] < 1e-11
    assert slopes[1] < slopes[0] - 4  # faster than any power: the slope steepens


@pytest.mark.parametrize("nu", [0.5, 1.5])
def test_fourier_error_of_matern_is_algebraic(nu):
    """f behaves like ``|t|^(2 nu)`` at 0: the best series of K terms is off by ``K^(-2 nu - 1/2)`` in the mean square."""
    errors = errors_of_fit(K.Matern(nu, 1.0), 3, [32, 64, 128])
    slopes = np.diff(np.log(errors)) / np.log(2)
    np.testing.assert_allclose(slopes, -2 * nu - 0.5, atol=0.15)


def test_grid_error_is_second_order():
    k, dim = K.Gaussian(0.6), 3
    table = k.tabulate(dim, 4.0)
    r = np.random.default_rng(0)
    u, v = r.uniform(-1.5, 1.5, 64), r.uniform(-1.5, 1.5, 256)
    exact = np.asarray(k.sliced(jnp.abs(v - u[:, None]), dim, table))
    errors = []
    for nodes in (129, 257, 513):
        line = jax.jit(lambda k, r, n=nodes: grid_line(lambda t: k.sliced(t, dim, table), n, r))(k, jnp.asarray(2.0))
        alone = jax.jit(jax.vmap(K.line_sum, in_axes=(None, None, None, 0)))  # every pair by itself
        found = alone(line, u, v, jnp.eye(64))
        errors.append(np.sqrt(np.mean((found - exact) ** 2)))
    np.testing.assert_allclose(np.diff(np.log2(errors)), -2, atol=0.1)


def test_lines_have_higher_derivatives():
    """Second derivatives of a line sum by nested forward mode, against f'' over pairs."""
    k = K.Gaussian(0.7)
    table = k.tabulate(2, 4.0)
    r = np.random.default_rng(0)
    u, v, w = (jnp.asarray(r.uniform(-1, 1, n)) for n in (6, 5, 6))

    def profile(t):
        return k.sliced(t, 2, table)

    second = jax.jit(jax.vmap(jax.grad(jax.grad(profile))))(jnp.abs(v[:, None] - u).ravel()).reshape(5, 6) @ w
    cosines = jnp.asarray([0.3, -0.2, 0.5])
    line = jax.jit(lambda r: grid_line(profile, 4097, r))(jnp.asarray(2.0))
    lines = {"grid": line, "fourier": fourier_line(cosines, jnp.asarray(0.9), 1)}
    t = 0.9 * (v[:, None] - u)
    series = sum(-c * (0.9 * (k + 1)) ** 2 * jnp.cos((k + 1) * t) for k, c in enumerate(cosines)) @ w
    exact = {"grid": second, "fourier": series}
    for name, line in lines.items():

        def slope(v, line=line):
            return jax.jvp(lambda v: K.line_sum(line, u, v, w), (v,), (jnp.ones_like(v),))[1]

        found = jax.jit(lambda v, f=slope: jax.jvp(f, (v,), (jnp.ones_like(v),))[1])(v)
        np.testing.assert_allclose(found, exact[name], atol=1e-4 if name == "grid" else 1e-11)
    with pytest.raises(ValueError, match="two derivatives"):
        lines["grid"].derivative().derivative().derivative()


@pytest.mark.parametrize(
    ("kernel", "exact"),
    [
        (K.NegativeDistance(), -1.0),
        (K.Laplace(0.5), -(np.exp(-1.3 / 0.5) + np.exp(-0.7 / 0.5))),
        (K.Riesz(1.5), -0.75 * (1.3**0.5 + 0.7**0.5)),
    ],
)
def test_kinks_have_their_second_derivative_on_a_grid(kernel, exact):
    """Sources uniform on [-1, 1], seen from 0.3: f'' has a mass or a singularity at 0, which the cell of 0 holds."""
    u = jnp.linspace(-1, 1, 20_001)[:, None]
    plan = K.plan(kernel, (u.shape, (1, 1)), 1.0, method="grid", num_nodes=1024)
    total = jax.jit(lambda y: K.kernel_sum(kernel, u, y[None], jnp.full(20_001, 1 / 20_001), plan=plan)[0])
    np.testing.assert_allclose(jax.hessian(total)(jnp.array([0.3]))[0, 0], exact, rtol=1e-2)


def test_logarithm_between_neighbouring_nodes():
    """At a node, of a point there: the mean of ``log |t|`` under a hat of width h, ``log h - 3/2``."""
    plan = K.plan(K.Logarithm(), ((1, 1), (1, 1)), 1.0, method="grid", num_nodes=1025)
    found = K.kernel_sum(K.Logarithm(), jnp.zeros((1, 1)), jnp.zeros((1, 1)), jnp.ones(1), plan=plan)
    np.testing.assert_allclose(found, np.log(2 / 1024) - 1.5, atol=1e-9)


@pytest.mark.parametrize("method", ["grid", "dense", "sort"])
def test_no_matrix_of_pairs_is_built(method):
    """Temporary memory of the compiled sum and its gradient: far below N x M numbers, and linear in N."""
    k, dim = K.NegativeDistance(), 4
    sizes = {}
    for num in (20_000, 40_000):
        plan = K.plan(
            k, ((num, dim), (num, dim)), 1.0, key=jax.random.key(0), method=method, directions="iid", num_slices=8
        )
        points = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((num, dim), (num, dim), (num,))]

        def fn(x, y, w, plan=plan):
            return K.kernel_sum(k, x, y, w, plan=plan), K.kernel_sum_gradient(k, x, y, w, plan=plan)

        compiled = jax.jit(fn).lower(*points).compile()
        sizes[num] = compiled.memory_analysis().temp_size_in_bytes
    assert sizes[40_000] < 0.02 * 4 * 40_000**2
    assert sizes[40_000] < 2.2 * sizes[20_000] + 2**20
