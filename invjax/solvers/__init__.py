"""Solvers of ``min_x f(x) + g(x)``: methods for ``iterate`` and ``solve``, and the choice of the weight."""

from .expectation_maximisation import MLEM, richardson_lucy
from .fista import FISTA
from .gradient import GradientDescent
from .parameter_choice import discrepancy, sure
from .phase_retrieval import AveragedReflections, ErrorReduction, HybridInputOutput, gerchberg_saxton
from .primal_dual import ChambollePock, CondatVu
from .proximal_gradient import ProximalGradient
from .sdmm import SDMM
from .split_bregman import SplitBregman
from .splitting import ADMM, HQS, DouglasRachford
from .tikhonov import ridge
from .wirtinger import WirtingerFlow, spectral_start

__all__ = [
    "ADMM",
    "FISTA",
    "HQS",
    "MLEM",
    "SDMM",
    "AveragedReflections",
    "ChambollePock",
    "CondatVu",
    "DouglasRachford",
    "ErrorReduction",
    "GradientDescent",
    "HybridInputOutput",
    "ProximalGradient",
    "SplitBregman",
    "WirtingerFlow",
    "discrepancy",
    "gerchberg_saxton",
    "richardson_lucy",
    "ridge",
    "spectral_start",
    "sure",
]
