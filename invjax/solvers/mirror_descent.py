"""Mirror descent and proximal mirror descent (Bregman proximal gradient, NoLips)."""

from typing import Any

from jaxtyping import Array, PyTree

from ..operators.structure import scale
from ..types import real, require
from .base import FixedPointMethod
from .bregman import BregmanPotential


class Mirror(FixedPointMethod):
    """Base of both: ``step_size`` is ``1 / L`` by default, with the ``L`` of the likelihood relative to the potential."""

    likelihood: Any
    prior: Any
    potential: BregmanPotential
    step_size: Array

    def __init__(self, likelihood: Any, prior: Any, potential: BregmanPotential, step_size: Any = None):
        self.likelihood, self.prior, self.potential = likelihood, prior, potential
        self.step_size = real(1 / potential.relative_lipschitz(likelihood) if step_size is None else step_size)
        require(self.step_size, "step_size", positive=True)


class MirrorDescent(Mirror):
    """``grad phi(x+) = grad phi(x) - step_size (grad f(x) + grad g(x))`` with a Bregman potential ``phi`` and a
    smooth prior.

    The objective decreases, with a gap ``<= D_phi(x*, x0) / (step_size k)``, for ``step_size <= 1 / L``, where
    ``L phi - f - g`` is convex. The default is ``1 / L`` of ``f`` alone (``potential.relative_lipschitz``); give a
    smaller one when the prior is not flat. With ``Quadratic()`` it is gradient descent. Source: Nemirovski and Yudin
    (1983); Beck and Teboulle (2003); Lu, Freund and Nesterov (2018).
    """

    def fixed_point(self, x: PyTree) -> PyTree:
        """The mirror step."""
        gradient = self.likelihood.grad(x) + self.prior.grad(x)
        return self.potential.inverse_grad(self.potential.grad(x) - scale(self.step_size, gradient))


class ProximalMirrorDescent(Mirror):
    """``x+ = argmin_u step_size (g(u) + <grad f(x), u>) + D_phi(u, x)``, for priors whose prox is closed form in that
    geometry.

    Gap ``<= D_phi(x*, x0) / (step_size k)`` and monotone for ``step_size <= 1 / L`` with ``L phi - f`` convex (the
    default, where ``potential.relative_lipschitz`` knows one): no Lipschitz gradient is needed, so Poisson data
    without background work with ``Burg()``. With ``Quadratic()`` it is proximal gradient. Source: Bauschke, Bolte and
    Teboulle (2017); Lu, Freund and Nesterov (2018).
    """

    def fixed_point(self, x: PyTree) -> PyTree:
        """The Bregman prox-gradient map."""
        moved = self.potential.grad(x) - scale(self.step_size, self.likelihood.grad(x))
        return self.potential.prox(self.prior, moved, self.step_size)
