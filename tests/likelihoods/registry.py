"""Every noise model, with clean values and measurements in its domain, for the contracts and the mathematics."""

import jax
import jax.numpy as jnp
import numpy as np

from invjax import likelihoods
from invjax import operators as ops

SHAPE = (4, 3, 2)


def covariance(r):
    """A symmetric positive definite matrix on raveled measurements, eigenvalues from 0.1 to about 0.5."""
    a = r.normal(size=(24, 24))
    return 0.1 * np.eye(24) + 0.1 * a @ a.T / 24


def circulant(r, complex=False):
    """Stationary noise: an operator that is diagonal in the Fourier basis."""
    blur = ops.Blur(r.uniform(0.1, 0.3, (2, 2)), SHAPE, complex=complex)
    return blur.gram + r.uniform(0.1, 0.2) * ops.Identity(SHAPE, complex=complex)


LIKELIHOODS = {
    "gaussian": lambda r: likelihoods.Gaussian(r.uniform(0.3, 0.6)),
    "gaussian_per_pixel": lambda r: likelihoods.Gaussian(r.uniform(0.3, 0.6, SHAPE)),
    "gaussian_per_channel": lambda r: likelihoods.Gaussian(r.uniform(0.3, 0.6, 2)),
    "gaussian_complex": lambda r: likelihoods.Gaussian(r.uniform(0.3, 0.6)),
    "correlated": lambda r: likelihoods.CorrelatedGaussian(covariance(r)),
    "correlated_complex": lambda r: likelihoods.CorrelatedGaussian(covariance(r)),
    "circulant": lambda r: likelihoods.CorrelatedGaussian(circulant(r)),
    "circulant_complex": lambda r: likelihoods.CorrelatedGaussian(circulant(r, complex=True)),
    "zero": lambda r: likelihoods.Zero(),
    "stacked": lambda r: likelihoods.Stacked(
        (likelihoods.Gaussian(r.uniform(0.3, 0.6)), likelihoods.Poisson(r.uniform(0.1, 0.3), r.uniform(0.2, 0.4)))
    ),
    "poisson": lambda r: likelihoods.Poisson(r.uniform(0.1, 0.3)),
    "poisson_background": lambda r: likelihoods.Poisson(r.uniform(0.1, 0.3), r.uniform(0.2, 0.4)),
    "poisson_per_channel": lambda r: likelihoods.Poisson(r.uniform(0.1, 0.3, 2), r.uniform(0.2, 0.4, SHAPE)),
    "poisson_gaussian": lambda r: likelihoods.PoissonGaussian(r.uniform(0.1, 0.2), r.uniform(0.2, 0.3)),
    "poisson_gaussian_per_pixel": lambda r: likelihoods.PoissonGaussian(0.1, r.uniform(0.2, 0.3, SHAPE)),
    "poisson_gaussian_exact": lambda r: likelihoods.PoissonGaussian(0.2, 0.3, num_terms=50),
    "laplace": lambda r: likelihoods.Laplace(r.uniform(0.3, 0.6, 2)),
    "laplace_complex": lambda r: likelihoods.Laplace(r.uniform(0.3, 0.6)),
    "uniform": lambda r: likelihoods.Uniform(r.uniform(0.3, 0.6)),
    "quantised": lambda r: likelihoods.Quantised(r.uniform(0.1, 0.2)),
    "gamma": lambda r: likelihoods.Gamma(r.uniform(3, 6)),
    "fisher_tippett": lambda r: likelihoods.FisherTippett(r.uniform(3, 6)),
    "log_poisson": lambda r: likelihoods.LogPoisson(r.uniform(20, 40), r.uniform(0.5, 1)),
    "rician": lambda r: likelihoods.Rician(r.uniform(0.3, 0.6)),
    "salt_pepper": lambda r: likelihoods.SaltPepper(r.uniform(0.1, 0.2), r.uniform(0.1, 0.2)),
    "uniform_gaussian": lambda r: likelihoods.UniformGaussian(r.uniform(0.1, 0.2), r.uniform(0.5, 0.6)),
    "student_t": lambda r: likelihoods.StudentT(r.uniform(3, 6), r.uniform(0.3, 0.6)),
    "noiseless": lambda r: likelihoods.Noiseless(),
    "huber": lambda r: likelihoods.Huber(r.uniform(0.05, 0.1), r.uniform(0.3, 0.6)),
    "huber_complex": lambda r: likelihoods.Huber(r.uniform(0.05, 0.1), r.uniform(0.3, 0.6)),
    "ball": lambda r: likelihoods.Ball(r.uniform(2, 3)),
    "amplitude": lambda r: likelihoods.Amplitude(r.uniform(0.3, 0.6), r.uniform(0.01, 0.02)),
    "itoh": lambda r: likelihoods.Itoh(r.uniform(0.3, 0.6)),
}
NONCONVEX = ("gamma", "rician", "student_t", "uniform_gaussian")
INDICATORS = ("uniform", "quantised", "salt_pepper", "noiseless", "ball")
"""Their potential is constant where it is finite, so its derivative is not that of a smooth function."""
SMOOTH = [name for name in LIKELIHOODS if name not in (*INDICATORS, "laplace", "laplace_complex")]


def clean(r, name, shape=SHAPE):
    """A clean measurement in the domain of the model."""
    if name == "stacked":
        return tuple(clean(r, "", part) for part in (shape, shape[:1]))
    u = r.uniform(0.5, 1.5, shape)
    return jnp.asarray(u + 1j * r.uniform(0.5, 1.5, shape) if "complex" in name else u)


def measured(key, noise, u):
    """A measurement: drawn from the law, or for a fidelity without one, near ``u`` and in its domain."""
    return noise.sample(key, u) if isinstance(noise, likelihoods.NoiseModel) else 1.1 * u + 0.02 * jnp.cos(9 * u)


def structure(name):
    """The structure of the measurements of a model."""
    return jax.eval_shape(lambda: clean(np.random.default_rng(0), name))
