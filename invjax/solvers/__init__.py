"""Solvers of ``min_x f(x) + g(x)``: methods for ``iterate`` and ``solve``, and the choice of the weight."""

from .algebraic import SART, SIRT, Kaczmarz, RandomisedKaczmarz
from .anderson import Anderson
from .blind import BlindRichardsonLucy
from .blocks import subsets
from .bregman import BregmanPotential, Burg, NegativeEntropy, Quadratic
from .continuation import Continuation, ContinuationState, Randomised
from .davis_yin import DavisYin
from .dpir import DPIR, dpir_sigmas
from .expectation_maximisation import MAPEM, MLEM, richardson_lucy
from .fista import FISTA
from .gradient import GradientDescent
from .gradient_step import GradientStepPnP
from .krylov import LSQR, MINRES, BiCGStab, ConjugateGradient
from .linearised_admm import LinearisedADMM
from .mirror_descent import MirrorDescent, ProximalMirrorDescent
from .ordered_subsets import BSREM, OSEM
from .palm import PALM
from .parallel import PPXA, Dykstra
from .parameter_choice import discrepancy, sure
from .phase_retrieval import AveragedReflections, ErrorReduction, HybridInputOutput, gerchberg_saxton
from .pnp_sgd import PnPSGD
from .primal_dual import ChambollePock, CondatVu
from .proximal_gradient import ProximalGradient
from .ptychography import RPIE, PtychographyHQS
from .sdmm import SDMM
from .split_bregman import SplitBregman
from .splitting import ADMM, HQS, DouglasRachford
from .stochastic_primal_dual import SPDHG
from .tikhonov import ridge
from .wirtinger import WirtingerFlow, spectral_start

__all__ = [
    "ADMM",
    "BSREM",
    "DPIR",
    "FISTA",
    "HQS",
    "LSQR",
    "MAPEM",
    "MINRES",
    "MLEM",
    "OSEM",
    "PALM",
    "PPXA",
    "RPIE",
    "SART",
    "SDMM",
    "SIRT",
    "SPDHG",
    "Anderson",
    "AveragedReflections",
    "BiCGStab",
    "BlindRichardsonLucy",
    "BregmanPotential",
    "Burg",
    "ChambollePock",
    "CondatVu",
    "ConjugateGradient",
    "Continuation",
    "ContinuationState",
    "DavisYin",
    "DouglasRachford",
    "Dykstra",
    "ErrorReduction",
    "GradientDescent",
    "GradientStepPnP",
    "HybridInputOutput",
    "Kaczmarz",
    "LinearisedADMM",
    "MirrorDescent",
    "NegativeEntropy",
    "PnPSGD",
    "ProximalGradient",
    "ProximalMirrorDescent",
    "PtychographyHQS",
    "Quadratic",
    "Randomised",
    "RandomisedKaczmarz",
    "SplitBregman",
    "WirtingerFlow",
    "discrepancy",
    "dpir_sigmas",
    "gerchberg_saxton",
    "richardson_lucy",
    "ridge",
    "spectral_start",
    "subsets",
    "sure",
]
