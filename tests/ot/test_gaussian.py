"""Transport of Gaussians: commuting covariances, dense algebra, geodesics and stationarity of barycentres."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from invjax import check, ot


def covariance(r, d=4):
    root = r.normal(size=(d, d))
    return root @ root.T + 0.1 * np.eye(d)


def test_square_root():
    """Against SciPy; its derivative solves the Sylvester equation, also for equal eigenvalues; singular matrices have one."""
    r = np.random.default_rng(0)
    A, D = covariance(r), covariance(r)
    root = ot.matrix_square_root(A)
    np.testing.assert_allclose(root, scipy.linalg.sqrtm(A), atol=1e-12)
    for matrix in (A, np.eye(4)):
        S, dS = jax.jvp(ot.matrix_square_root, (matrix,), (D,))
        np.testing.assert_allclose(S @ dS + dS @ S, D, atol=1e-11)
    half = np.diag([1.0, 4.0, 0.0, 0.0])
    np.testing.assert_allclose(ot.matrix_square_root(half), np.sqrt(half), atol=1e-12)


def test_bures():
    """Commuting covariances: ``sum (sqrt(l0) - sqrt(l1))^2``; Diracs; and the value by dense algebra."""
    r = np.random.default_rng(1)
    Q = np.linalg.qr(r.normal(size=(4, 4)))[0]
    l0, l1 = r.uniform(0.1, 2, size=(2, 4))
    m0, m1 = r.normal(size=(2, 4))
    expected = np.sum((m0 - m1) ** 2) + np.sum((np.sqrt(l0) - np.sqrt(l1)) ** 2)
    np.testing.assert_allclose(ot.bures2(m0, Q * l0 @ Q.T, m1, Q * l1 @ Q.T), expected, rtol=1e-12)
    zero = np.zeros((4, 4))
    np.testing.assert_allclose(ot.bures2(m0, zero, m1, zero), np.sum((m0 - m1) ** 2), rtol=1e-12)
    A, B = covariance(r), covariance(r)
    half = scipy.linalg.sqrtm(A)
    expected = np.trace(A + B - 2 * scipy.linalg.sqrtm(half @ B @ half))
    np.testing.assert_allclose(ot.bures2(m0, A, m0, B), expected, rtol=1e-10)
    np.testing.assert_allclose(ot.bures2(m0, A, m1, B), ot.bures2(m1, B, m0, A), rtol=1e-12)


def test_map_pushes_one_law_to_the_other_and_pays_the_distance():
    r = np.random.default_rng(2)
    m0, m1, A, B = r.normal(size=4), r.normal(size=4), covariance(r), covariance(r)
    T = ot.bures_map(m0, A, m1, B)
    np.testing.assert_allclose(T.matrix @ A @ T.matrix.T, B, atol=1e-10)
    np.testing.assert_allclose(T.matrix, T.matrix.T, atol=1e-11)  # the gradient of a convex function
    assert np.linalg.eigvalsh(T.matrix).min() > 0
    np.testing.assert_allclose(T(m0), m1, atol=1e-12)
    move = T.matrix - np.eye(4)
    paid = np.sum((m0 - m1) ** 2) + np.trace(move @ A @ move.T)
    np.testing.assert_allclose(paid, ot.bures2(m0, A, m1, B), rtol=1e-10)


def test_barycenter():
    """Of two laws it is on the geodesic; of many, the weighted mean of the maps from it is the identity."""
    r = np.random.default_rng(3)
    means, covariances = r.normal(size=(3, 4)), np.stack([covariance(r) for _ in range(3)])
    two = check(ot.gaussian_barycenter(means[:2], covariances[:2], np.array([0.3, 0.7])))
    T = ot.bures_map(means[0], covariances[0], means[1], covariances[1]).matrix
    step = 0.3 * np.eye(4) + 0.7 * T
    np.testing.assert_allclose(two.covariance, step @ covariances[0] @ step.T, atol=1e-9)
    weights = np.array([0.2, 0.5, 0.3])
    many = check(ot.gaussian_barycenter(means, covariances, weights))
    maps = [ot.bures_map(many.mean, many.covariance, m, s).matrix for m, s in zip(means, covariances, strict=True)]
    np.testing.assert_allclose(np.tensordot(weights, maps, 1), np.eye(4), atol=1e-8)
    np.testing.assert_allclose(many.mean, weights @ means, rtol=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ot.bures2(np.zeros(2), np.eye(3), np.zeros(2), np.eye(2)), "covariance0: expected shape"),
        (lambda: ot.bures_map(np.zeros((2, 1)), np.eye(2), np.zeros(2), np.eye(2)), "mean0: expected 1"),
        (lambda: ot.gaussian_barycenter(np.zeros((2, 2)), np.zeros((2, 2))), "covariances: expected shape"),
        (
            lambda: ot.gaussian_barycenter(np.zeros((2, 2)), np.zeros((2, 2, 2)), jnp.ones(2)),
            "weights: expected weights of sum one",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
