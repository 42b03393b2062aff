"""Small problems that the tests of the solvers share."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from invjax import iterate, likelihoods, priors
from invjax import operators as ops

from ..registry import call

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


@eqx.filter_jit
def compiled(make, *arguments):
    """``make(*arguments)`` as one compiled program: eager, every small operation compiles on its own."""
    return make(*arguments)


@eqx.filter_jit
def gaussian(A, y, sigma=SIGMA):
    return likelihoods.InverseProblem(A, likelihoods.Gaussian(sigma)).likelihood(y)


@eqx.filter_jit
def solution(make, f, g, x, num_steps, key=None):
    """Last state of ``num_steps`` steps of ``make(f, g)``, and its status, in one program."""
    state, _, status = iterate(make(f, g), x, num_steps, key=key)
    return state, status


def measurement(A, sigma=SIGMA):
    r = np.random.default_rng(3)
    clean = np.asarray(call(A, "__call__", X0))
    noise = r.normal(size=SHAPE) + (1j * r.normal(size=SHAPE) if np.iscomplexobj(clean) else 0)
    return jnp.asarray(clean + sigma * noise)


def dense_ridge(A, y, lam, sigma=SIGMA, centre=0.0):
    """(A^H A / sigma^2 + lam)^-1 (A^H y / sigma^2 + lam centre) by dense algebra."""
    M = np.asarray(call(A, "dense"))
    G = M.conj().T @ M / sigma**2 + lam * np.eye(M.shape[1])
    return np.linalg.solve(G, M.conj().T @ np.ravel(y) / sigma**2 + lam * np.ravel(centre)).reshape(SHAPE)


@eqx.filter_jit
def objective(x, f, g):
    return f(x) + g(x)


TV_SHAPE = (16, 16, 1)


def tv_likelihood(x, noise):
    A = ops.Blur(KERNEL, TV_SHAPE)
    return gaussian(A, A(x) + noise, 0.05)


def tv_problem(boundary):
    r = np.random.default_rng(2)
    x = np.kron(r.uniform(size=(4, 4, 1)), np.ones((4, 4, 1)))
    f = compiled(tv_likelihood, x, 0.05 * r.normal(size=TV_SHAPE))
    return f, priors.TV(TV_SHAPE, 12.0, boundary=boundary, rtol=1e-12)


COUNTS = np.random.default_rng(8).poisson(np.random.default_rng(9).uniform(0, 6, (6, 6, 1))).astype(float)


@eqx.filter_jit
def poisson(background=0.0):
    A = ops.Blur(KERNEL, (6, 6, 1))
    return likelihoods.InverseProblem(A, likelihoods.Poisson(1.0, background)).likelihood(COUNTS)


def scipy_poisson(lam, background):
    """Non-negative minimiser of sum(u + b - y log(u + b)) + lam |x|^2 / 2 by L-BFGS-B, then a Newton step on its support."""
    M, y = np.asarray(call(poisson().operator, "dense")), COUNTS.ravel()

    def value(x):
        u = M @ x + background
        return np.sum(u - y * np.log(u)) + lam * x @ x / 2, M.T @ (1 - y / u) + lam * x

    box = [(0 if background else 1e-12, None)] * y.size
    options = {"maxiter": 20000, "maxfun": 100000, "ftol": 1e-16, "gtol": 1e-10}
    x = minimize(value, np.ones(y.size), jac=True, method="L-BFGS-B", bounds=box, options=options).x
    for _ in range(5):
        free = x > 1e-6
        u = M @ x + background
        H = (M.T * (y / u**2)) @ M + lam * np.eye(y.size)
        x[free] -= np.linalg.solve(H[np.ix_(free, free)], value(x)[1][free])
    assert np.all(value(x)[1][~free] > -1e-6)
    assert np.max(np.abs(value(x)[1][free])) < 1e-8
    return x.reshape(6, 6, 1)
