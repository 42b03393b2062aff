"""Noise models, inverse problems and likelihoods."""

from .base import NoiseModel
from .gaussian import Gaussian
from .noise_level import noise_level
from .poisson import Poisson
from .poisson_gaussian import PoissonGaussian
from .problem import InverseProblem, Likelihood

__all__ = ["Gaussian", "InverseProblem", "Likelihood", "NoiseModel", "Poisson", "PoissonGaussian", "noise_level"]
