"""Noise models, fidelities, inverse problems and likelihoods."""

from .amplitude import Amplitude
from .base import Fidelity, NoiseModel
from .constraints import Ball, Noiseless
from .correlated import CorrelatedGaussian
from .gauss_newton import GaussNewton
from .gaussian import Gaussian
from .itoh import Itoh
from .laplace import Laplace
from .log_poisson import LogPoisson
from .noise_level import noise_level
from .poisson import Poisson
from .poisson_gaussian import PoissonGaussian
from .problem import InverseProblem, Likelihood
from .rician import Rician
from .robust import Huber, StudentT
from .salt_pepper import SaltPepper
from .speckle import FisherTippett, Gamma
from .stacked import Stacked
from .uniform import Quantised, Uniform
from .uniform_gaussian import UniformGaussian
from .zero import Zero

__all__ = [
    "Amplitude",
    "Ball",
    "CorrelatedGaussian",
    "Fidelity",
    "FisherTippett",
    "Gamma",
    "GaussNewton",
    "Gaussian",
    "Huber",
    "InverseProblem",
    "Itoh",
    "Laplace",
    "Likelihood",
    "LogPoisson",
    "NoiseModel",
    "Noiseless",
    "Poisson",
    "PoissonGaussian",
    "Quantised",
    "Rician",
    "SaltPepper",
    "Stacked",
    "StudentT",
    "Uniform",
    "UniformGaussian",
    "Zero",
    "noise_level",
]
