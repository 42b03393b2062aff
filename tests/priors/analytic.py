"""Small analytic priors, likelihoods that condition them, and compiled views of both, for the tests of analytic priors."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from invjax.priors import Empirical, Gaussian, GaussianMixture
from invjax.types import real

R = np.random.default_rng(1)
IMAGE = (2, 2, 1)


def spd(n, rng=R):
    a = rng.normal(size=(n, n))
    return a @ a.T / n + 0.2 * np.eye(n)


class Rows(eqx.Module):
    """A matrix that acts on raveled events."""

    matrix: jax.Array

    def __call__(self, x):
        return self.matrix.astype(x.dtype) @ x.reshape(-1)


class Noise(eqx.Module):
    sigma: jax.Array = eqx.field(converter=real)


class LinearLikelihood(eqx.Module):
    """What the priors need of a likelihood."""

    operator: Rows
    noise: Noise
    y: jax.Array


def linear_likelihood(matrix, sigma, y):
    return LinearLikelihood(Rows(jnp.asarray(matrix)), Noise(sigma), jnp.asarray(y))


@eqx.filter_jit
def condition(prior, likelihood):
    return prior.posterior(likelihood)


MEANS, FULL = R.normal(size=(3, 2)), np.stack([spd(2) for _ in range(3)])
WEIGHTS = np.array([0.5, 0.2, 0.3])
POINTS = R.normal(size=(7, 2))
MEAN_4, FULL_4 = R.normal(size=IMAGE), spd(4)

PRIORS = {
    "gaussian_scalar": lambda: Gaussian(MEANS[0], 0.7),
    "gaussian_diagonal": lambda: Gaussian(MEANS[0], np.array([0.3, 2.0])),
    "gaussian_full": lambda: Gaussian(MEANS[0], FULL[0]),
    "mixture_scalar": lambda: GaussianMixture(WEIGHTS, MEANS, 0.4),
    "mixture_diagonal": lambda: GaussianMixture(WEIGHTS, MEANS, 0.2 + MEANS**2),
    "mixture_shared": lambda: GaussianMixture(WEIGHTS, MEANS, FULL[1]),
    "mixture_full": lambda: GaussianMixture(WEIGHTS, MEANS, FULL),
    "empirical": lambda: Empirical(POINTS, np.arange(1.0, 8.0)),
    "empirical_blocked": lambda: Empirical(POINTS, np.arange(1.0, 8.0), block_size=3),
}
COVARIANCES = {
    "mixture_scalar": [0.4 * np.eye(2)] * 3,
    "mixture_diagonal": [np.diag(0.2 + m**2) for m in MEANS],
    "mixture_shared": [FULL[1]] * 3,
    "mixture_full": FULL,
}
X = np.array([0.4, -0.9])


def everything(prior, x, sigma):
    return _everything(prior, jnp.asarray(x), jnp.asarray(sigma))


@eqx.filter_jit
def _everything(prior, x, sigma):
    return prior.denoiser(x, sigma), prior.score(x, sigma), prior.potential(x, sigma), prior.log_prob(x, sigma)


@eqx.filter_jit
def potential_gradient(x, prior, sigma):
    return jax.grad(lambda u: prior.potential(u, sigma))(x)


@eqx.filter_jit
def many_log_probs(prior, x):
    return jax.vmap(prior.log_prob)(x)


@eqx.filter_jit
def responsibilities(prior, x, sigma):
    return prior.responsibilities(x, sigma)


@eqx.filter_jit
def many_samples(prior, keys):
    return jax.vmap(prior.sample)(keys)


def grid(low, high, num):
    """Nodes [num^2, 2] and weight of the 2D trapezoid rule: exponentially accurate for Gaussians inside the box."""
    axis = np.linspace(low, high, num)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2), (axis[1] - axis[0]) ** 2
