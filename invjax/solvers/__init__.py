"""Solvers of ``min_x f(x) + g(x)``: methods for ``iterate`` and ``solve``, and the choice of the weight."""

from .expectation_maximisation import MLEM, richardson_lucy
from .fista import FISTA
from .gradient import GradientDescent
from .parameter_choice import discrepancy, sure
from .primal_dual import ChambollePock, CondatVu
from .proximal_gradient import ProximalGradient
from .sdmm import SDMM
from .split_bregman import SplitBregman
from .splitting import ADMM, HQS, DouglasRachford
from .tikhonov import ridge

__all__ = [
    "ADMM",
    "FISTA",
    "HQS",
    "MLEM",
    "SDMM",
    "ChambollePock",
    "CondatVu",
    "DouglasRachford",
    "GradientDescent",
    "ProximalGradient",
    "SplitBregman",
    "discrepancy",
    "richardson_lucy",
    "ridge",
    "sure",
]
