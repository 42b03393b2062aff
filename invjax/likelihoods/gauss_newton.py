"""Likelihoods of nonlinear models in splittings: their linearisation in place of themselves."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from ..operators import Operator, linearise
from .problem import Likelihood


class GaussNewton(eqx.Module):
    """A likelihood whose prox is one Gauss-Newton step: that of ``f`` with ``A(z)`` replaced by ``A(x) + A'(x) (z - x)``.

    ``prox(x, s) = argmin_z s f_x(z) + |z - x|^2 / 2``, where ``f_x`` is the likelihood of the model linearised at ``x``: a linear
    solve for Gaussian noise. Its fixed points are those of the exact prox, and for a linear operator it is the exact prox; far
    from a fixed point nothing is guaranteed. So ``HQS``, ``ADMM`` and ``DPIR``, which need a prox, take nonlinear operators.

    Raises ``ValueError`` when ``likelihood`` is not a ``Likelihood`` of an ``Operator``, and as ``Likelihood.prox``.

    Source: Nocedal and Wright (2006), Numerical Optimization, section 10.3 (Levenberg-Marquardt, with damping ``1 / s``).
    """

    likelihood: Likelihood

    def __check_init__(self):
        if not isinstance(self.likelihood, Likelihood):
            raise ValueError(f"likelihood: expected a Likelihood, got {type(self.likelihood).__name__}")
        if not isinstance(operator := self.likelihood.operator, Operator):
            raise ValueError(
                f"likelihood: expected an operator to linearise (operators.Operator), got {type(operator).__name__}"
            )

    def __call__(self, x: PyTree) -> Any:
        """The potential of the likelihood itself."""
        return self.likelihood(x)

    def grad(self, x: PyTree) -> PyTree:
        """The gradient of the likelihood itself."""
        return self.likelihood.grad(x)

    def score(self, x: PyTree) -> PyTree:
        """``-grad(x)``."""
        return self.likelihood.score(x)

    def prox(self, x: PyTree, step_size: Any) -> PyTree:
        """The prox of the linearised likelihood."""
        f = self.likelihood
        J = linearise(f.operator, x)
        shifted = jax.tree.map(lambda y, a, b: y - a + b, f.y, f.operator(x), J(x))
        return Likelihood(J, f.noise, shifted).prox(x, step_size)
