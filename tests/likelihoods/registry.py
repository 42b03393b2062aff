"""Every noise model, with clean values and measurements in its domain, for the contracts and the mathematics."""

import jax.numpy as jnp

from invjax import likelihoods

SHAPE = (4, 3, 2)

LIKELIHOODS = {
    "gaussian": lambda r: likelihoods.Gaussian(r.uniform(0.3, 0.6)),
    "gaussian_per_pixel": lambda r: likelihoods.Gaussian(r.uniform(0.3, 0.6, SHAPE)),
    "gaussian_per_channel": lambda r: likelihoods.Gaussian(r.uniform(0.3, 0.6, 2)),
    "gaussian_complex": lambda r: likelihoods.Gaussian(r.uniform(0.3, 0.6)),
    "poisson": lambda r: likelihoods.Poisson(r.uniform(0.1, 0.3)),
    "poisson_background": lambda r: likelihoods.Poisson(r.uniform(0.1, 0.3), r.uniform(0.2, 0.4)),
    "poisson_per_channel": lambda r: likelihoods.Poisson(r.uniform(0.1, 0.3, 2), r.uniform(0.2, 0.4, SHAPE)),
    "poisson_gaussian": lambda r: likelihoods.PoissonGaussian(r.uniform(0.1, 0.2), r.uniform(0.2, 0.3)),
    "poisson_gaussian_per_pixel": lambda r: likelihoods.PoissonGaussian(0.1, r.uniform(0.2, 0.3, SHAPE)),
    "poisson_gaussian_exact": lambda r: likelihoods.PoissonGaussian(0.2, 0.3, num_terms=50),
}


def clean(r, name, shape=SHAPE):
    """A clean measurement in the domain of the model."""
    u = r.uniform(0.5, 1.5, shape)
    return jnp.asarray(u + 1j * r.uniform(0.5, 1.5, shape) if "complex" in name else u)
