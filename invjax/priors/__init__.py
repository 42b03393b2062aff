"""Priors: explicit regularisers with prox and gradient; analytic ones (Gaussian, mixture, empirical) with exact fields."""

from .analytic import AnalyticPrior
from .base import Prior
from .elementwise import L1, Box, NonNegative, Tikhonov, Zero
from .empirical import Empirical
from .gaussian import Gaussian
from .group import GroupL1
from .huber import Huber
from .mixture import GaussianMixture
from .nuclear import NuclearNorm
from .projections import L1Ball, L2Ball, LInfBall, Simplex
from .smoothed_tv import SmoothedTV
from .sparse import L0, MCP, SCAD, L1MinusL2, LogSum
from .support import Support
from .tv import TV
from .tv_prox import TVDual
from .wavelet import WaveletL1

__all__ = [
    "L0",
    "L1",
    "MCP",
    "SCAD",
    "TV",
    "AnalyticPrior",
    "Box",
    "Empirical",
    "Gaussian",
    "GaussianMixture",
    "GroupL1",
    "Huber",
    "L1Ball",
    "L1MinusL2",
    "L2Ball",
    "LInfBall",
    "LogSum",
    "NonNegative",
    "NuclearNorm",
    "Prior",
    "Simplex",
    "SmoothedTV",
    "Support",
    "TVDual",
    "Tikhonov",
    "WaveletL1",
    "Zero",
]
