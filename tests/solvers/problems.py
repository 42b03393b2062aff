"""Small problems that the tests of the solvers share."""

import jax.numpy as jnp
import numpy as np

from invjax import likelihoods, priors
from invjax import operators as ops

SHAPE = (8, 8, 1)
SIGMA = 0.3
LAM = 2.0
R = np.random.default_rng(11)
KERNEL = np.array([[0.02, 0.1, 0.0], [0.1, 0.5, 0.1], [0.03, 0.05, 0.1]])
X0 = jnp.asarray(R.uniform(0.2, 1, SHAPE))
OPERATORS = {
    "blur": ops.Blur(KERNEL, SHAPE),
    "blur_reflect": ops.Blur(KERNEL, SHAPE, "reflect"),
    "mask": ops.Mask(R.uniform(size=SHAPE) > 0.4),
    "mri": ops.single_coil_mri(R.uniform(size=SHAPE) > 0.4, SHAPE),
}


def gaussian(A, y, sigma=SIGMA):
    return likelihoods.InverseProblem(A, likelihoods.Gaussian(sigma)).likelihood(y)


def measurement(A, sigma=SIGMA):
    r = np.random.default_rng(3)
    clean = A(X0)
    noise = r.normal(size=SHAPE) + (1j * r.normal(size=SHAPE) if jnp.iscomplexobj(clean) else 0)
    return clean + sigma * noise


def dense_ridge(A, y, lam, sigma=SIGMA, centre=0.0):
    """(A^H A / sigma^2 + lam)^-1 (A^H y / sigma^2 + lam centre) by dense algebra."""
    M = np.asarray(A.dense())
    G = M.conj().T @ M / sigma**2 + lam * np.eye(M.shape[1])
    return np.linalg.solve(G, M.conj().T @ np.ravel(y) / sigma**2 + lam * np.ravel(centre)).reshape(SHAPE)


def objective(x, f, g):
    return f(x) + g(x)


TV_SHAPE = (16, 16, 1)


def tv_problem(boundary):
    r = np.random.default_rng(2)
    x = np.kron(r.uniform(size=(4, 4, 1)), np.ones((4, 4, 1)))
    A = ops.Blur(KERNEL, TV_SHAPE)
    f = gaussian(A, A(jnp.asarray(x)) + 0.05 * r.normal(size=TV_SHAPE), 0.05)
    return f, priors.TV(TV_SHAPE, 12.0, boundary=boundary, rtol=1e-12)
