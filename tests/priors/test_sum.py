"""Sums of priors and priors of a transform against closed forms, quadratic programmes, and the solvers that split them."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from invjax import InverseProblem, check, likelihoods, priors, solve, solvers
from invjax import operators as ops
from invjax.priors.sum import split

from ..registry import call

SHAPE = (6, 5, 1)
TIGHT = {"rtol": 1e-11, "max_inner": 30000}


def normal(shape=SHAPE, seed=3):
    return np.random.default_rng(seed).normal(size=shape)


@eqx.filter_jit
def prox(g, x, step):
    return g.prox(x, step)


@eqx.filter_jit
def value(g, x):
    return g(x)


def anisotropic(lam):
    return priors.TV(SHAPE, lam, "anisotropic", "separate", **TIGHT)


def box_dual(x, K):
    """x - K'p with p in [-1, 1] from a box-constrained least-squares solver: the prox of |K x|_1."""
    solution = minimize(
        lambda p: (0.5 * np.sum((x - K.T @ p) ** 2), -K @ (x - K.T @ p)),
        np.zeros(len(K)),
        jac=True,
        bounds=[(-1, 1)] * len(K),
        options={"ftol": 1e-16, "gtol": 1e-12, "maxiter": 20000, "maxfun": 50000},
    )
    return x - K.T @ solution.x


def test_potential_and_gradient_add():
    x, g = normal(), 2 * (priors.Tikhonov(0.3) + 0.5 * priors.Huber(0.4, 0.1) + priors.Zero())
    assert len(g.parts) == 3
    assert g.smooth
    parts = [priors.Tikhonov(0.6), priors.Huber(0.4, 0.1)]
    sums = eqx.filter_jit(lambda priors: [(p(x), p.grad(x)) for p in priors])((g, *parts))
    for i in range(2):  # potential, gradient
        np.testing.assert_allclose(sums[0][i], sums[1][i] + sums[2][i], rtol=1e-13)
    np.testing.assert_allclose((priors.Tikhonov(0.3) + priors.Huber(0.4, 0.1)).lipschitz, 0.3 + 4.0, rtol=1e-13)
    with pytest.raises(ValueError, match="grad: TV is not smooth"):
        (priors.Tikhonov() + priors.TV(SHAPE)).grad(x)


def test_l1_and_a_square_are_the_elastic_net():
    x, step = normal(), 0.7
    got = prox(priors.Sum((priors.L1(0.4), priors.Tikhonov(0.6)), **TIGHT), x, step)
    np.testing.assert_allclose(
        got, prox(priors.ElasticNet(0.4, 1.5), x, step), atol=1e-6
    )  # squared error <= 1e-11 times 10


def test_variation_of_non_negative_images():
    """For anisotropic variation the prox of the sum is the positive part of that of the variation (Yu 2013)."""
    x, g = normal(), priors.Sum((anisotropic(0.3), priors.NonNegative()), **TIGHT)
    exact = jnp.maximum(prox(anisotropic(0.3), x, 1.0), 0)
    np.testing.assert_allclose(prox(g, x, 1.0), exact, atol=1e-5)
    assert g(exact) == anisotropic(0.3)(exact)
    assert g(x) == jnp.inf
    assert (0.0 * g)(x) == jnp.inf
    np.testing.assert_allclose(prox(0.0 * g, x, 1.0), jnp.maximum(x, 0), atol=1e-5)


def test_constraints_in_single_precision():
    """Where rounding leaves the constraint by an ulp, the potential is infinite: it must not stop the iterations."""
    shape = (24, 24, 1)
    x = (normal(shape) + 0.5).astype(np.float32)
    z = prox(priors.TV(shape, 0.3, "anisotropic") + priors.Box(0.1, 0.7), x, 1.0)
    assert z.dtype == jnp.float32
    exact = jnp.clip(prox(priors.TV(shape, 0.3, "anisotropic", **TIGHT), x.astype(float), 1.0), 0.1, 0.7)
    objective = 0.3 * jnp.sum(jnp.abs(ops.FiniteDifferences(shape)(exact))) + jnp.sum((exact - x) ** 2) / 2
    # The bound of the square is |p - p*| |w - K z|, and that is rtol objective |p - p*| / |p|.
    assert jnp.sum((z - exact) ** 2) <= 1e-5 * objective


def test_rows_and_columns_are_an_image():
    """Exact one-dimensional proxes along both axes together make the anisotropic prox."""
    g = priors.Sum((priors.TV1D(0.3, 0), priors.TV1D(0.3, 1)), **TIGHT)
    np.testing.assert_allclose(prox(g, normal(), 1.0), prox(anisotropic(0.3), normal(), 1.0), atol=1e-5)


@pytest.mark.parametrize("details_only", [True, False])
def test_dictionary_of_wavelets_equals_a_quadratic_programme(details_only):
    shape, names = (4, 4, 1), ("haar", "db2")
    x, g = normal(shape), priors.wavelet_dictionary(shape, names, 1, 0.4, details_only=details_only, **TIGHT)
    rows = [ops.Wavelet(shape, w, 1) for w in names]
    K = np.concatenate([call(w, "dense")[np.ravel(w.is_detail) if details_only else slice(None)] for w in rows])
    np.testing.assert_allclose(value(g, x), 0.4 * np.abs(K @ np.ravel(x)).sum(), rtol=1e-13)
    np.testing.assert_allclose(np.ravel(prox(g, x, 0.5)), box_dual(np.ravel(x), 0.2 * K), atol=1e-5)
    single = priors.wavelet_dictionary(shape, ("haar",), 1, 0.4, details_only=details_only, **TIGHT)
    exact = prox(priors.WaveletL1(shape, "haar", 1, 0.4, details_only=details_only), x, 0.5)
    np.testing.assert_allclose(prox(single, x, 0.5), exact, atol=1e-10)


def test_analysis_equals_total_variation():
    x, D = normal(), ops.FiniteDifferences(SHAPE)
    np.testing.assert_allclose(
        prox(priors.Analysis(priors.L1(), D, 0.3, **TIGHT), x, 1.0), prox(anisotropic(0.3), x, 1.0), atol=1e-5
    )
    K = np.random.default_rng(0).normal(size=(7, 5))
    g = priors.Analysis(priors.L1(0.5), ops.Matrix(K), 0.4, **TIGHT)
    np.testing.assert_allclose(prox(g, normal((5,)), 1.0), box_dual(np.asarray(normal((5,))), 0.2 * K), atol=1e-5)
    np.testing.assert_allclose(g(normal((5,))), 0.2 * np.abs(K @ normal((5,))).sum(), rtol=1e-13)


def test_huber_variation():
    x, delta = normal((6, 5, 2)), 0.1
    g = priors.huber_tv(x.shape, 0.3, delta, **TIGHT)
    D = ops.FiniteDifferences(x.shape)
    d = np.sqrt((np.asarray(D(x)) ** 2).sum((0, -1)))
    np.testing.assert_allclose(
        value(g, x), 0.3 * np.where(d <= delta, d**2 / (2 * delta), d - delta / 2).sum(), rtol=1e-12
    )
    z = prox(g, x, 0.7)
    np.testing.assert_allclose(0.7 * call(g, "grad", z) + z - x, 0, atol=1e-6)
    np.testing.assert_allclose(g.lipschitz, 0.3 / delta * D.norm() ** 2, rtol=1e-12)
    sharp = priors.huber_tv(
        SHAPE, 0.3, 1e-6, "anisotropic", "separate", **TIGHT
    )  # differs from TV by 1e-6 / 2 per difference
    np.testing.assert_allclose(prox(sharp, normal(), 1.0), prox(anisotropic(0.3), normal(), 1.0), atol=1e-2)


@pytest.mark.parametrize("complex", [False, True])
def test_derivatives_of_the_prox(complex):
    """In x, the step and the weight of a part; central differences of a prox to 1e-13."""
    x, v = (normal((4, 5, 2), s) + (1j * normal((4, 5, 2), s + 5) if complex else 0) for s in (1, 2))
    h = 1e-5

    def loss(x, step, lam):
        tv = priors.TV(x.shape, lam, complex=complex)
        return jnp.real(jnp.vdot(v, priors.Sum((tv, priors.L1(0.2)), rtol=1e-13, max_inner=30000).prox(x, step)))

    point, directions = (x, 0.8, 0.3), (normal((4, 5, 2), 9), 1.0, 1.0)
    slopes = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*point)
    ends = ((i, s * h * d) for i, d in enumerate(directions) for s in (1, -1))
    rows = [[p + d if i == k else p for k, p in enumerate(point)] for i, d in ends]
    values = np.asarray(jax.jit(jax.vmap(loss))(*(np.stack(column) for column in zip(*rows, strict=True))))
    wanted = (values[::2] - values[1::2]) / (2 * h)
    for slope, d, exact in zip(slopes, directions, wanted, strict=True):
        np.testing.assert_allclose(np.sum(slope * d).real, exact, rtol=1e-4)


def test_unrolled_steps_are_reverse_differentiable():
    x, g = normal(), priors.TV(SHAPE, 0.2) + priors.L1(0.1)
    loss = jax.jit(jax.vmap(jax.value_and_grad(lambda s: jnp.sum(g.prox_step(x, s, g.prox_init(x), 6)[0] ** 3))))
    values, slopes = loss(np.array([0.5, 0.5 + 1e-5, 0.5 - 1e-5]))
    np.testing.assert_allclose(slopes[0], (values[1] - values[2]) / 2e-5, rtol=1e-6)


BLURRED = (6, 4, 1)


@functools.cache
def likelihood():
    A = ops.Blur(np.random.default_rng(0).uniform(size=(3, 3)) / 4, BLURRED)
    y = A(jnp.abs(normal(BLURRED))) + 0.1 * normal(BLURRED, 4)
    return InverseProblem(A, likelihoods.Gaussian(0.3)).likelihood(y)


@functools.cache
def three_terms():
    return priors.Sum(
        (priors.TV(BLURRED, 0.5), priors.NonNegative(), priors.WaveletL1(BLURRED, "haar", 1, 0.4)), 0.9, **TIGHT
    )


@pytest.fixture(scope="module")
def minimiser():
    """By proximal gradient steps with the prox of the sum in 100 inner iterations, which go on from those before."""
    method = solvers.ProximalGradient(likelihood(), three_terms(), num_inner=100)
    return check(solve(method, jnp.zeros(BLURRED), rtol=1e-12, max_steps=5000)).position


SPLIT = {
    "sdmm": lambda f, g: solvers.SDMM(f, g, 0.1),
    "chambolle_pock": lambda f, g: solvers.ChambollePock(f, g, 0.1),
    "chambolle_pock_dualised": lambda f, g: solvers.ChambollePock(f, g, 0.1, dualise=True),
    "condat_vu": lambda f, g: solvers.CondatVu(f, g),
    "split_bregman": lambda f, g: solvers.SplitBregman(f, g, 1.0),
    "admm": lambda f, g: solvers.ADMM(f, g, 0.1, num_inner=100),
}


@pytest.mark.parametrize("name", SPLIT)
def test_solvers_take_a_sum_apart(name, minimiser):
    method = SPLIT[name](likelihood(), three_terms())
    x = check(solve(method, jnp.zeros(BLURRED), rtol=1e-10, max_steps=50000)).position
    np.testing.assert_allclose(x, minimiser, atol=1e-6)


def test_the_splitting_of_variation_and_constraints_stays_closed_form():
    _, K = split(priors.TV(SHAPE) + priors.NonNegative(), normal())
    assert K.gram_spectrum is not None


def test_variation_with_an_l1_data_term():
    """TV with an l1 data term is a composition: Laplace noise, and a solver that splits. Against a linear programme."""
    x = np.round(normal((15,)) * 2) / 2 + 0.01 * np.arange(15)
    f = likelihoods_of(x)
    method = solvers.ChambollePock(f, priors.TV((15, 1), 0.7), 0.3)
    z = check(solve(method, jnp.zeros((15, 1)), rtol=1e-10, max_steps=50000)).position
    D = np.diff(np.eye(15), axis=0)
    one, two, none = np.eye(15), np.eye(14), np.zeros((15, 14))
    rows = np.block([[one, -one, none], [-one, -one, none], [D, 0 * D, -two], [-D, 0 * D, -two]])
    bound = np.concatenate([x, -x, np.zeros(28)])
    best = linprog(np.concatenate([np.zeros(15), np.ones(15), 0.7 * np.ones(14)]), rows, bound, bounds=(None, None)).fun
    np.testing.assert_allclose(np.abs(z[:, 0] - x).sum() + 0.7 * np.abs(np.diff(z[:, 0])).sum(), best, rtol=1e-8)


def likelihoods_of(x):
    return InverseProblem(ops.Identity((15, 1)), likelihoods.Laplace(1.0)).likelihood(jnp.asarray(x)[:, None])


def test_refusals():
    with pytest.raises(ValueError, match="parts: expected a tuple of at least one prior"):
        priors.Sum(())
    with pytest.raises(ValueError, match="parts: expected a tuple of at least one prior"):
        priors.Separable((jnp.ones(3),))
    with pytest.raises(ValueError, match="max_inner: expected a positive"):
        priors.Sum((priors.L1(),), max_inner=0)
    with pytest.raises(ValueError, match="rtol: expected non-negative"):
        priors.Analysis(priors.L1(), ops.Identity(SHAPE), rtol=-1.0)
    g = priors.L1() + priors.NonNegative()
    with pytest.raises(ValueError, match="num_inner: expected a positive"):
        g.prox_step(normal(), 1.0, g.prox_init(normal()), 0)
    with pytest.raises(TypeError):
        g + 1.0
