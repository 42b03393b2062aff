"""Priors: analytic ones (Gaussian, mixture, empirical) with exact fields and posteriors."""

from .analytic import AnalyticPrior
from .empirical import Empirical
from .gaussian import Gaussian
from .mixture import GaussianMixture

__all__ = ["AnalyticPrior", "Empirical", "Gaussian", "GaussianMixture"]
