"""Total variation against exact solvers: taut string, bounded least squares, the duality gap in NumPy; and its derivatives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import lsq_linear, minimize
from skimage import data, transform

from invjax import operators as ops
from invjax import priors
from invjax.priors import variation


def normal(shape, seed=3):
    return np.random.default_rng(seed).normal(size=shape)


def difference_matrix(shape, boundary="neumann"):
    eye = np.eye(np.prod(shape)).reshape(-1, *shape)
    D = ops.FiniteDifferences(shape, boundary)
    return np.stack([np.asarray(D(e)).ravel() for e in eye], 1)


def box_dual(x, c, D):
    """x - c D'p with p from a box-constrained least-squares solver: the exact prox of c |D x|_1."""
    return x - c * D.T @ lsq_linear(c * D.T, x, (-1, 1), method="bvls", tol=1e-14).x


def numpy_gap(x, z, p, c):
    """Primal objective and gap of isotropic TV, written apart from the package, in float64."""
    x, z, p = (np.asarray(a, np.float64)[..., 0] for a in (x, z, p))
    rows, columns = np.zeros_like(z), np.zeros_like(z)
    rows[:-1], columns[:, :-1] = z[1:] - z[:-1], z[:, 1:] - z[:, :-1]
    primal = c * np.hypot(rows, columns).sum() + ((z - x) ** 2).sum() / 2
    back = np.zeros_like(z)
    back[1:] += p[0, :-1]
    back[:-1] -= p[0, :-1]
    back[:, 1:] += p[1, :, :-1]
    back[:, :-1] -= p[1, :, :-1]
    return primal, primal - ((x**2).sum() - ((x - c * back) ** 2).sum()) / 2


def test_two_pixels():
    g = priors.TV((1, 2, 1), 0.1, rtol=1e-12)
    np.testing.assert_allclose(g.prox(np.array([0.0, 1.0]).reshape(1, 2, 1), 1.0).ravel(), [0.1, 0.9], atol=1e-7)
    assert g(np.array([0.0, 1.0]).reshape(1, 2, 1)) == 0.1


@pytest.mark.parametrize("kind", ["isotropic", "anisotropic"])
def test_one_column_equals_the_exact_solution(kind):
    x = normal(24).cumsum()
    exact = box_dual(x, 0.8, difference_matrix((24, 1, 1))[:24])
    z = priors.TV((24, 1, 1), 0.8, kind, rtol=1e-13, max_inner=50000).prox(x.reshape(24, 1, 1), 1.0)
    np.testing.assert_allclose(z.ravel(), exact, atol=1e-6)  # |z - exact| <= sqrt(2 gap), gap <= 1e-13 times about 10


@pytest.mark.parametrize("boundary", ["neumann", "circular"])
def test_anisotropic_image_equals_the_exact_solution(boundary):
    shape = (6, 6, 1)
    x = normal(shape)
    exact = box_dual(x.ravel(), 0.3, difference_matrix(shape, boundary))
    g = priors.TV(shape, 0.3, "anisotropic", boundary=boundary, rtol=1e-13, max_inner=50000)
    np.testing.assert_allclose(g.prox(x, 1.0).ravel(), exact, atol=1e-6)
    np.testing.assert_allclose(g(x), 0.3 * np.abs(difference_matrix(shape, boundary) @ x.ravel()).sum(), rtol=1e-12)


@pytest.mark.parametrize("channels", ["joint", "separate"])
def test_colour_isotropic_equals_dense_algebra(channels):
    shape = (4, 4, 2)
    x, D, c = normal(shape), difference_matrix(shape), 0.25

    def norms(u):
        return np.sqrt((u.reshape(2, *shape) ** 2).sum((0, 3) if channels == "joint" else 0, keepdims=True))

    def projected(u):
        return (u.reshape(2, *shape) / np.maximum(norms(u), 1)).ravel()

    g = priors.TV(shape, c, channels=channels, rtol=1e-12, max_inner=50000)
    np.testing.assert_allclose(g(x), c * norms(D @ x.ravel()).sum(), rtol=1e-12)

    p = q = np.zeros(len(D))
    for k in range(20000):  # plain accelerated iterations on dense matrices, without restarts or stopping
        new = projected(q + D @ (x.ravel() - c * D.T @ q) / (8 * c))
        p, q = new, new + k / (k + 3) * (new - p)
    np.testing.assert_allclose(g.prox(x, 1.0).ravel(), x.ravel() - c * D.T @ p, atol=1e-5)


def complex_oracle(x, c, D):
    """Minimise c sum_k sqrt(|D z|_k^2 + eps^2) + |z - x|^2 / 2 over real and imaginary parts: too large by c eps len(D)."""
    n, eps = len(x), 1e-5

    def objective(v):
        z = v[:n] + 1j * v[n:]
        d = D @ z
        size = np.sqrt(np.abs(d) ** 2 + eps**2)
        g = c * D.T @ (d / size) + z - x
        return c * size.sum() + np.sum(np.abs(z - x) ** 2) / 2, np.concatenate([g.real, g.imag])

    v = np.concatenate([x.real, x.imag])
    best = minimize(objective, v, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-9})
    return best.fun


def test_complex_is_at_least_as_good_as_a_generic_solver():
    shape = (6, 6, 1)
    x = normal(shape) + 1j * normal(shape, 4)
    g = priors.TV(shape, 0.4, "anisotropic", complex=True, rtol=1e-10, max_inner=50000)
    z = g.prox(x, 1.0)
    value = g(z) + np.sum(np.abs(z - x) ** 2) / 2
    other = complex_oracle(x.ravel(), 0.4, difference_matrix(shape))
    assert value <= other + 1e-8
    np.testing.assert_allclose(value, other, rtol=1e-4)
    # A global phase commutes with the prox, and a real image stays real.
    phase = np.exp(0.7j)
    np.testing.assert_allclose(g.prox(phase * x, 1.0), phase * z, atol=1e-5)
    assert np.all(np.asarray(g.prox(x.real, 1.0)).imag == 0)


def photo(n):
    image = transform.resize(data.camera() / 255, (n, n), anti_aliasing=True)[..., None]
    return image + 0.1 * normal(image.shape)


@pytest.mark.parametrize(
    ("image", "dtype", "rtol", "c"),
    [
        (photo(64), np.float64, 1e-6, 0.1),
        (np.abs(normal((64, 64, 1))), np.float64, 1e-6, 0.1),
        (photo(256), np.float32, 1e-5, 0.1),
        (np.abs(normal((256, 256, 1))), np.float32, 1e-5, 0.1),
    ],
)
def test_relative_duality_gap(image, dtype, rtol, c):
    x = jnp.asarray(image, dtype)
    g = priors.TV(x.shape, c, rtol=rtol)
    z, aux = g.prox_and_dual(x, 1.0)
    p = g.dual(aux)
    assert np.linalg.norm(p, axis=0).max() <= 1 + 4 * np.finfo(dtype).eps  # else the gap is no bound
    primal, gap = numpy_gap(x, z, p, c)
    assert -1e-10 * primal <= gap <= rtol * primal * (1 + 1e-3)
    np.testing.assert_allclose(g.duality_gap(x, z, p, 1.0), gap, rtol=1e-2)
    other = x + 0.1 * jnp.cos(50 * x)  # the gap of any pair: z that does not belong to p
    np.testing.assert_allclose(g.duality_gap(x, other, p, 1.0), numpy_gap(x, other, p, c)[1], rtol=1e-4)


def test_gap_bounds_the_error():
    x = jnp.asarray(photo(64))
    exact = priors.TV(x.shape, 0.1, rtol=1e-8).prox(x, 1.0)
    g = priors.TV(x.shape, 0.1)
    aux = g.prox_init(x)
    for _ in range(4):
        z, aux = g.prox_step(x, 1.0, aux, 7)
        assert jnp.sum((z - exact) ** 2) / 2 <= g.duality_gap(x, z, g.dual(aux), 1.0)


def test_accelerated_rate():
    """FGP: the dual gap, so |z - exact|^2 / 2, is at most 4 |D|^2 c^2 |p0 - p*|^2 / (2 k^2), |p*|^2 <= number of pixels."""
    x = jnp.asarray(photo(64))
    g = priors.TV(x.shape, 0.1)
    exact = priors.TV(x.shape, 0.1, rtol=1e-9).prox(x, 1.0)
    errors = [jnp.sum((g.prox_step(x, 1.0, g.prox_init(x), k)[0] - exact) ** 2) for k in (10, 40, 160)]
    assert errors[1] <= errors[0] / 12  # 1/k^2 would be 16, 1/k only 4
    assert errors[2] <= errors[1] / 12


def test_warm_start_survives_changes_of_weight_and_image():
    x = jnp.asarray(photo(64))
    g = priors.TV(x.shape, 0.1, rtol=1e-7)
    z, aux = g.prox_and_dual(x, 1.0)
    stay, _ = g.prox_step(x, 1.0, aux, 3)
    _, gap = numpy_gap(x, z, g.dual(aux), 0.1)
    assert jnp.sum((stay - z) ** 2) <= 8 * gap
    near = x + 1e-3
    warm = g.prox_step(near, 1.1, aux, 20)[0]
    cold = g.prox_step(near, 1.1, g.prox_init(x), 20)[0]
    exact = g.prox(near, 1.1)
    assert jnp.linalg.norm(warm - exact) <= 0.2 * jnp.linalg.norm(cold - exact)


def test_limits_and_calculus():
    x = jnp.asarray(normal((6, 8, 2)))
    g = priors.TV(x.shape, channels="separate", rtol=1e-10, max_inner=50000)
    np.testing.assert_allclose(g.prox(x, 1e3), jnp.broadcast_to(x.mean((0, 1)), x.shape), atol=1e-4)
    np.testing.assert_array_equal(g.prox(x, 0.0), x)
    flat = jnp.full(x.shape, 0.3)
    np.testing.assert_array_equal(g.prox(flat, 1.0), flat)
    assert g(flat) == 0
    np.testing.assert_allclose(g.prox(x + 5, 0.3), g.prox(x, 0.3) + 5, atol=1e-4)  # translation
    np.testing.assert_allclose(g.prox(3 * x, 0.9), 3 * g.prox(x, 0.3), atol=1e-4)  # 1-homogeneous
    np.testing.assert_allclose(g.prox(x[::-1], 0.3).mean(), x.mean(), atol=1e-12)  # the mean is kept
    with jax.debug_nans(True):
        assert jnp.all(jnp.isfinite(g.prox_step(x, 0.0, g.prox_init(x), 3)[0]))


@pytest.mark.parametrize("boundary", ["neumann", "circular"])
def test_field_maps_equal_the_operator(boundary):
    shape = (3, 1, 4, 2)
    D = ops.FiniteDifferences(shape, boundary)
    x, p = normal(shape), normal((3, *shape))

    @jax.jit
    def both(x, p):
        field = variation.differences(variation.channels_first(x), boundary)
        back = variation.adjoint(tuple(variation.channels_first(a) for a in p), boundary)
        ours = jnp.stack([variation.channels_last(v) for v in field]), variation.channels_last(back)
        return ours, (D(x), D.H(p))

    ours, theirs = both(x, p)
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-15)
    assert D.norm() ** 2 <= variation.squared_norm(D)


@eqx.filter_jit
def slope(fn, primals, tangents):
    return jax.jvp(fn, primals, tangents)[1]


@pytest.mark.parametrize("complex", [False, True])
def test_derivatives_of_the_prox(complex):
    shape = (5, 6, 2)
    g = priors.TV(shape, 0.2, complex=complex, rtol=1e-13)
    x, v, w = jax.random.normal(jax.random.key(1), (3, *shape), jnp.complex128 if complex else jnp.float64)
    h = 1e-4
    wanted_x = (g.prox(x + h * v, 1.0) - g.prox(x - h * v, 1.0)) / (2 * h)
    wanted_s = (g.prox(x, 1.0 + h) - g.prox(x, 1.0 - h)) / (2 * h)
    one, zero = jnp.asarray(1.0), jnp.asarray(0.0)
    np.testing.assert_allclose(slope(g.prox, (x, one), (v, zero)), wanted_x, atol=1e-5)
    np.testing.assert_allclose(slope(g.prox, (x, one), (0 * v, one)), wanted_s, atol=1e-5)
    loss = eqx.filter_jit(jax.grad(lambda x, s: jnp.real(jnp.vdot(w, g.prox(x, s))), argnums=(0, 1)))
    by_x, by_s = loss(x, one)
    np.testing.assert_allclose(jnp.sum(by_x * v).real, jnp.vdot(w, wanted_x).real, atol=1e-4)
    np.testing.assert_allclose(by_s, jnp.vdot(w, wanted_s).real, atol=1e-4)


def test_derivatives_at_zero_weight_and_of_second_order():
    x = jnp.asarray(normal((5, 6, 2)))
    g = priors.TV(x.shape, 0.2, rtol=1e-13)
    one, zero = jnp.asarray(1.0), jnp.asarray(0.0)
    onset = slope(g.prox, (x, zero), (0 * x, one))
    np.testing.assert_allclose(onset, (g.prox(x, 1e-6) - x) / 1e-6, atol=1e-4)
    np.testing.assert_allclose(slope(g.prox, (x, zero), (x, zero)), x)
    energy = lambda s: jnp.sum(g.prox(x, s) ** 2)  # noqa: E731
    lanes = jax.jit(jax.vmap(jax.grad(energy)))(jnp.array([0.3, 0.1]))
    np.testing.assert_allclose(lanes[1], (energy(0.1 + 1e-4) - energy(0.1 - 1e-4)) / 2e-4, rtol=1e-5)
    with pytest.raises(ValueError, match="first derivatives only"):
        jax.hessian(energy)(0.3)


def test_unrolled_steps_are_reverse_differentiable(key):
    x = jnp.asarray(normal((5, 6, 2)))
    g = priors.TV(x.shape, 0.2)
    loss = jax.jit(jax.vmap(jax.value_and_grad(lambda s: jnp.sum(g.prox_step(x, s, g.prox_init(x), 6)[0] ** 3))))
    values, slopes = loss(np.array([0.5, 0.5 + 1e-5, 0.5 - 1e-5]))
    np.testing.assert_allclose(slopes[0], (values[1] - values[2]) / 2e-5, rtol=1e-6)


def test_smoothed_tv():
    shape = (6, 6, 1)
    x = normal(shape)
    d = difference_matrix(shape) @ x.ravel()
    sizes = d.reshape(2, -1)
    g = priors.SmoothedTV(shape, 0.5, 0.1)
    np.testing.assert_allclose(g(x), 0.5 * np.sqrt((sizes**2).sum(0) + 0.01).sum(), rtol=1e-12)
    np.testing.assert_allclose(g.lipschitz, 0.5 * np.linalg.norm(difference_matrix(shape), 2) ** 2 / 0.1, rtol=1e-6)
    curvature = jax.jit(jax.hessian(g))(jnp.zeros(shape)).reshape(36, 36)  # at a constant image the bound is attained
    np.testing.assert_allclose(np.linalg.eigvalsh(curvature).max(), g.lipschitz, rtol=1e-6)
    with pytest.raises(ValueError, match="no closed form; use grad"):
        g.prox(x, 1.0)
    with pytest.raises(ValueError, match="no closed form; use grad"):
        g.prox_step(x, 1.0, g.prox_init(x), 3)
    with pytest.raises(ValueError, match="eps: expected positive"):
        priors.SmoothedTV(shape, 1.0, 0.0)


def test_refusals():
    with pytest.raises(ValueError, match="kind: expected 'isotropic'"):
        priors.TV((4, 4, 1), kind="l2")
    with pytest.raises(ValueError, match="channels: expected 'joint'"):
        priors.TV((4, 4, 1), channels="all")
    with pytest.raises(ValueError, match="boundary: expected"):
        priors.TV((4, 4, 1), boundary="zero")
    with pytest.raises(ValueError, match="max_inner: expected a positive"):
        priors.TV((4, 4, 1), max_inner=0)
    with pytest.raises(ValueError, match="rtol: expected non-negative"):
        priors.TV((4, 4, 1), rtol=-1.0)
    g, x = priors.TV((4, 4, 1)), np.zeros((4, 4, 1))
    with pytest.raises(ValueError, match="num_inner: expected a positive"):
        g.prox_step(x, 1.0, g.prox_init(x), 0)
    with pytest.raises(ValueError, match="x: expected a real array"):
        g.prox(1j * x, 1.0)
    with pytest.raises(ValueError, match="p: expected shape"):
        g.duality_gap(x, x, x, 1.0)
