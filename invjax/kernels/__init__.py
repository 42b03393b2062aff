"""Radial kernels and their sums: exact over all pairs, near-linear by slicing; discrepancies of measures."""

from .base import Multiple, Product, RadialKernel, Sum
from .clouds import radius_of
from .directions import directions, equispaced, gauss_directions, rotate, rotation, sphere_gap
from .discrepancy import energy_distance, mmd2, witness
from .field import SlicedField, tabulate_field
from .lines import FourierLine, GridLine, Line, SortedLine, line_sum
from .plan import Plan, plan
from .radial import (
    Gaussian,
    InverseMultiquadric,
    Laplace,
    Logarithm,
    Matern,
    NegativeDistance,
    Riesz,
    ThinPlate,
    slicing_constant,
)
from .stein import stein_discrepancy2
from .sums import SumCheck, checked_kernel_sum, checked_kernel_sum_gradient, kernel_sum, kernel_sum_gradient
from .two_sample import TwoSampleTest, two_sample_test

__all__ = [
    "FourierLine",
    "Gaussian",
    "GridLine",
    "InverseMultiquadric",
    "Laplace",
    "Line",
    "Logarithm",
    "Matern",
    "Multiple",
    "NegativeDistance",
    "Plan",
    "Product",
    "RadialKernel",
    "Riesz",
    "SlicedField",
    "SortedLine",
    "Sum",
    "SumCheck",
    "ThinPlate",
    "TwoSampleTest",
    "checked_kernel_sum",
    "checked_kernel_sum_gradient",
    "directions",
    "energy_distance",
    "equispaced",
    "gauss_directions",
    "kernel_sum",
    "kernel_sum_gradient",
    "line_sum",
    "mmd2",
    "plan",
    "radius_of",
    "rotate",
    "rotation",
    "slicing_constant",
    "sphere_gap",
    "stein_discrepancy2",
    "tabulate_field",
    "two_sample_test",
    "witness",
]
