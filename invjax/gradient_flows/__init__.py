"""Wasserstein gradient flows: of kernel discrepancies, of the divergence to a density, of any energy of particles.

A flow is a method (``init``, ``step``) for the drivers: ``iterate(ParticleFlow(energy, step_size), particles, num_steps)``.
"""

from .energies import Energy, EnergySum, MMDEnergy, PotentialEnergy, SlicedWassersteinEnergy
from .herding import kernel_herding
from .kl import SVGD, LangevinFlow, median_bandwidth
from .line_targets import ContinuousTarget, DiracTarget, DiscreteTarget, LineTarget, NormalMixtureTarget, UniformTarget
from .particles import ParticleFlow, ParticleInfo, ParticleState, StochasticParticleFlow
from .quantile import (
    ExplicitQuantileFlow,
    ImplicitQuantileFlow,
    LineDensity,
    QuantileInfo,
    exact_quantile_flow,
    quantile_energy,
    quantile_levels,
    quantile_to_density,
)

__all__ = [
    "SVGD",
    "ContinuousTarget",
    "DiracTarget",
    "DiscreteTarget",
    "Energy",
    "EnergySum",
    "ExplicitQuantileFlow",
    "ImplicitQuantileFlow",
    "LangevinFlow",
    "LineDensity",
    "LineTarget",
    "MMDEnergy",
    "NormalMixtureTarget",
    "ParticleFlow",
    "ParticleInfo",
    "ParticleState",
    "PotentialEnergy",
    "QuantileInfo",
    "SlicedWassersteinEnergy",
    "StochasticParticleFlow",
    "UniformTarget",
    "exact_quantile_flow",
    "kernel_herding",
    "median_bandwidth",
    "quantile_energy",
    "quantile_levels",
    "quantile_to_density",
]
