"""Closed forms of the elementwise and wavelet priors, and their refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from invjax import operators as ops
from invjax import priors

X = np.array([-2.0, -0.3, 0.0, 0.3, 2.0])


def normal(shape, seed=2):
    return np.random.default_rng(seed).normal(size=shape)


def test_soft_threshold():
    np.testing.assert_allclose(priors.L1(0.5).prox(X, 1.0), [-1.5, 0, 0, 0, 1.5], atol=1e-15)
    np.testing.assert_allclose(priors.L1(0.5)(X), 2.3)
    z = np.array([3 + 4j, 0.3 + 0.4j, 0])
    np.testing.assert_allclose(priors.L1(2.0).prox(z, 0.5), [2.4 + 3.2j, 0, 0], atol=1e-15)  # magnitude 5 becomes 4
    np.testing.assert_allclose(priors.L1(2.0)(z), 11.0)
    np.testing.assert_array_equal(priors.L1(0.0).prox(z, 0.5), z)


def test_tikhonov_zero_box_nonnegative():
    centre = np.arange(5.0)
    g = priors.Tikhonov(3.0, centre)
    np.testing.assert_allclose(g(X), 1.5 * np.sum((X - centre) ** 2), rtol=1e-14)
    np.testing.assert_allclose(g.grad(X), 3 * (X - centre), rtol=1e-14)
    np.testing.assert_allclose(g.prox(X, 0.5), (X + 1.5 * centre) / 2.5, rtol=1e-14)
    np.testing.assert_allclose(priors.Tikhonov(2.0).grad(1j * X), 2j * X, rtol=1e-14)
    np.testing.assert_array_equal(priors.Zero().prox(X, 4.0), X)
    assert priors.Zero()(X) == 0
    box = priors.Box(-0.3, np.array([1.0, 1.0, 1.0, 0.1, np.inf]))
    np.testing.assert_array_equal(box.prox(X, 4.0), [-0.3, -0.3, 0, 0.1, 2])
    assert box(box.prox(X, 1.0)) == 0
    assert box(X) == jnp.inf
    np.testing.assert_array_equal(priors.NonNegative().prox(X, 4.0), np.maximum(X, 0))
    assert priors.NonNegative()(X) == jnp.inf
    assert priors.NonNegative()(X**2) == 0


def test_support():
    mask = np.array([True, True, False, True, False])
    np.testing.assert_array_equal(priors.Support(mask).prox(1j * X, 4.0), 1j * X * mask)
    np.testing.assert_array_equal(priors.Support(2.0 * mask, nonnegative=True).prox(X, 4.0), np.maximum(X, 0) * mask)
    assert priors.Support(mask)(X * mask) == 0
    assert priors.Support(mask)(jnp.ones(5)) == priors.Support(mask, nonnegative=True)(-1.0 * mask) == jnp.inf
    with pytest.raises(ValueError, match="x: expected a real array for a non-negative Support, got complex128"):
        priors.Support(mask, nonnegative=True).prox(1j * X, 1.0)
    with pytest.raises(ValueError, match=r"x: expected a shape to which the mask \(5,\) broadcasts, got \(4,\)"):
        priors.Support(mask).prox(X[:4], 1.0)


def test_translation_and_scaling_calculus():
    """prox of g(. - b) is b + prox_g(x - b); of a box scaled by c is c prox(x / c)."""
    b = normal(5)
    np.testing.assert_allclose(
        priors.Tikhonov(2.0, b).prox(X, 0.4), b + priors.Tikhonov(2.0).prox(X - b, 0.4), rtol=1e-13
    )
    np.testing.assert_allclose(priors.Box(-2.0, 4.0).prox(4 * X, 1.0), 2 * priors.Box(-1.0, 2.0).prox(2 * X, 1.0))


def test_elastic_net():
    """Against 600 001 points; and the prox of f + rho |x|^2 / 2 is prox_{t f}(x / (1 + step rho)), t = step / (1 + step rho)."""
    g, grid = priors.ElasticNet(0.7, 2.0), np.linspace(-3, 3, 600_001)
    penalty = 0.5 * 0.7 * (np.abs(grid) + grid**2)
    exact = [grid[(penalty + (grid - x) ** 2 / 2).argmin()] for x in X]
    np.testing.assert_allclose(g.prox(X, 0.5), exact, atol=1e-5)
    np.testing.assert_allclose(g(X), 0.7 * np.sum(np.abs(X) + X**2), rtol=1e-14)
    np.testing.assert_allclose(g.prox(X, 0.5), priors.L1(0.7).prox(X / 1.7, 0.5 / 1.7), rtol=1e-13)
    with pytest.raises(ValueError, match="ratio: expected non-negative"):
        priors.ElasticNet(1.0, -1.0)


def wavelet_matrix(g, shape):
    eye = np.eye(np.prod(shape)).reshape(-1, *shape)
    return np.stack([np.asarray(g.operator(e)).ravel() for e in eye], 1)


@pytest.mark.parametrize("details_only", [True, False])
def test_wavelet_prox_by_brute_force(details_only):
    shape = (4, 4, 1)
    g = priors.WaveletL1(shape, "haar", 1, 0.6, details_only=details_only)
    W, x = wavelet_matrix(g, shape), normal(16)
    mask = np.ones((4, 4), bool)
    mask[:2, :2] = not details_only
    used = W[mask.ravel()]
    np.testing.assert_allclose(g(x.reshape(shape)), 0.6 * np.abs(used @ x).sum(), rtol=1e-12)

    # min over |p| <= 1 of |x - c W'p|^2 / 2, the dual of the prox, as a box-constrained quadratic programme
    c = 0.6 * 0.5
    solution = minimize(
        lambda p: (0.5 * np.sum((x - c * used.T @ p) ** 2), -c * used @ (x - c * used.T @ p)),
        np.zeros(len(used)),
        jac=True,
        bounds=[(-1, 1)] * len(used),
        options={"ftol": 1e-15, "gtol": 1e-12},
    )
    np.testing.assert_allclose(g.prox(x.reshape(shape), 0.5).ravel(), x - c * used.T @ solution.x, atol=1e-9)


def test_wavelet_keeps_the_mean_and_shrinks_complex_magnitudes():
    shape = (8, 8, 1)
    x = normal(shape) + 1j * normal(shape, 3)
    g = priors.WaveletL1(shape, "db2", lam=1e6, complex=True)
    mean = np.asarray(g.prox(x, 1.0))  # the approximation survives, with it the mean (the filters sum to sqrt 2)
    np.testing.assert_allclose(mean.mean(), x.mean(), rtol=1e-12)
    h = priors.WaveletL1(shape, "db2", lam=0.7, details_only=False, complex=True)
    before, after = (np.asarray(ops.Wavelet(shape, "db2", complex=True)(a)) for a in (x, h.prox(x, 1.0)))
    np.testing.assert_allclose(np.abs(after), np.maximum(np.abs(before) - 0.7, 0), atol=1e-12)


def test_refusals():
    with pytest.raises(ValueError, match="upper - lower: expected non-negative"):
        priors.Box(1.0, 0.0)
    with pytest.raises(ValueError, match="x: expected a real array"):
        priors.Box(0.0, 1.0).prox(1j * X, 1.0)
    with pytest.raises(ValueError, match="x: expected a real array"):
        priors.NonNegative()(1j * X)
    with pytest.raises(ValueError, match="centre: expected a real array"):
        priors.Tikhonov(1.0, 1j).prox(X, 1.0)
    with pytest.raises(ValueError, match="centre: expected shape"):
        priors.Tikhonov(1.0, np.zeros(4))(X)
    with pytest.raises(ValueError, match="step_size: expected non-negative"):
        priors.L1().prox(X, -1.0)
    with pytest.raises(ValueError, match="step_size: expected positive"):
        priors.L1().conj_prox(X, 0.0)
    with pytest.raises(ValueError, match="step_size: expected positive"):
        priors.L1().moreau_grad(X, 0.0)
    with pytest.raises(ValueError, match="lam: expected shape"):
        priors.L1(np.ones(5)).prox(X, 1.0)
    with pytest.raises(ValueError, match="wavelet: expected an orthogonal"):
        priors.WaveletL1((8, 8, 1), "bior2.2")
    with pytest.raises(ValueError, match="x: expected shape"):
        priors.WaveletL1((8, 8, 1), "haar")(np.zeros((4, 8, 1)))


@pytest.mark.parametrize("x", [np.array([0.3, -2.0, 5.0]), np.array([0.3j, -2.0, 3 + 4j])], ids=["real", "complex"])
def test_soft_threshold_differentiates_in_the_weight(x):
    slope = jax.jacfwd(lambda lam: jnp.abs(priors.L1(lam).prox(x, 0.5)))(1.0)
    np.testing.assert_allclose(slope, [0, -0.5, -0.5], atol=1e-12)
    reverse = jax.grad(lambda lam: jnp.abs(priors.L1(lam).prox(x, 0.5)).sum())(1.0)
    np.testing.assert_allclose(reverse, -1.0, atol=1e-12)
