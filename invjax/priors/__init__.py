"""Priors: explicit regularisers with prox and gradient; analytic ones (Gaussian, mixture, empirical) with exact fields."""

from .analytic import AnalyticPrior
from .base import Prior
from .elementwise import L1, Box, NonNegative, Tikhonov, Zero
from .empirical import Empirical
from .gaussian import Gaussian
from .group import GroupL1
from .mixture import GaussianMixture
from .smoothed_tv import SmoothedTV
from .tv import TV
from .tv_prox import TVDual
from .wavelet import WaveletL1

__all__ = [
    "L1",
    "TV",
    "AnalyticPrior",
    "Box",
    "Empirical",
    "Gaussian",
    "GaussianMixture",
    "GroupL1",
    "NonNegative",
    "Prior",
    "SmoothedTV",
    "TVDual",
    "Tikhonov",
    "WaveletL1",
    "Zero",
]
