"""Priors: explicit regularisers with prox and gradient; analytic ones (Gaussian, mixture, empirical) with exact fields."""

from .adapters import ComplexParts, MeanPreserving, PerChannel, Rescaled, Transformed
from .analysis import Analysis, huber_tv
from .analytic import AnalyticPrior
from .base import Prior
from .denoising import RED, GradientStep, PlugAndPlay
from .elementwise import L1, Box, ElasticNet, NonNegative, Tikhonov, Zero
from .empirical import Empirical
from .gaussian import Gaussian
from .group import GroupL1
from .huber import Huber
from .lipschitz import residual_lipschitz
from .locality import Locality, receptive_field
from .mixture import GaussianMixture
from .nuclear import NuclearNorm
from .projections import L1Ball, L2Ball, LInfBall, Simplex
from .relative_difference import RelativeDifference
from .separable import Separable
from .smoothed_tv import SmoothedTV
from .sparse import L0, MCP, SCAD, L1MinusL2, LogSum
from .sum import Sum
from .support import Support
from .tgv import TGV
from .tgv_prox import TGVState
from .tv import TV
from .tv1d import TV1D
from .tv_prox import TVDual
from .wavelet import WaveletL1, wavelet_dictionary
from .wiener import StationaryGaussian, fit_gaussian, fit_stationary

__all__ = [
    "L0",
    "L1",
    "MCP",
    "RED",
    "SCAD",
    "TGV",
    "TV",
    "TV1D",
    "Analysis",
    "AnalyticPrior",
    "Box",
    "ComplexParts",
    "ElasticNet",
    "Empirical",
    "Gaussian",
    "GaussianMixture",
    "GradientStep",
    "GroupL1",
    "Huber",
    "L1Ball",
    "L1MinusL2",
    "L2Ball",
    "LInfBall",
    "Locality",
    "LogSum",
    "MeanPreserving",
    "NonNegative",
    "NuclearNorm",
    "PerChannel",
    "PlugAndPlay",
    "Prior",
    "RelativeDifference",
    "Rescaled",
    "Separable",
    "Simplex",
    "SmoothedTV",
    "StationaryGaussian",
    "Sum",
    "Support",
    "TGVState",
    "TVDual",
    "Tikhonov",
    "Transformed",
    "WaveletL1",
    "Zero",
    "fit_gaussian",
    "fit_stationary",
    "huber_tv",
    "receptive_field",
    "residual_lipschitz",
    "wavelet_dictionary",
]
