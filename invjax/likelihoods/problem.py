"""An inverse problem: an operator and a noise model; and the likelihood of a measurement as a function of the image."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..eager import one_program
from ..operators import LinearOperator, Operator
from ..operators.operator import vjp
from ..operators.structure import at_precision_of, conform, precision_of
from ..types import real, require
from .base import NoiseModel
from .gaussian import Gaussian


class InverseProblem(eqx.Module):
    """``y = noise(A x)``: ``measure`` simulates it, ``likelihood(y)`` is what solvers and samplers use."""

    operator: Any
    noise: NoiseModel

    def measure(self, key: PRNGKeyArray, x: PyTree) -> PyTree:
        """Draw a measurement of the image ``x``."""
        return self.noise.sample(key, self.operator(x))

    def likelihood(self, y: Any) -> "Likelihood":
        """``f(x) = -log p(y | A x)`` for the measurement ``y``."""
        return Likelihood(self.operator, self.noise, y)


class Likelihood(eqx.Module):
    """``f(x) = noise.potential(A x, y)``: potential, gradient, score, normalised log density, prox.

    The MAP objective is ``f(x) + g(x)``: a weight quoted for ``|A x - y|^2 / 2`` is divided by ``sigma^2`` here. ``operator`` is
    an ``Operator``, linear or not, or any callable Module. With Gaussian noise and a known spectrum of
    ``A^H A`` the gradient uses ``A^H A x - A^H y`` with ``A^H y`` computed here, once: half the Fourier transforms.
    Make another ``Likelihood`` for another ``y``.

    Raises ``ValueError`` when ``y`` does not have the shape of ``A x``.
    """

    operator: Any
    noise: Any
    y: PyTree
    back_projection: PyTree

    def __init__(self, operator: Callable, noise: NoiseModel, y: Any):
        self.operator, self.noise = operator, noise
        self.y = jax.tree.map(_floating, y)
        self.back_projection = None
        if isinstance(operator, Operator):
            self.y = conform(self.y, operator.out_structure, "y")
        white = isinstance(noise, Gaussian) and jnp.ndim(noise.sigma) == 0
        if isinstance(operator, LinearOperator) and white and operator.gram_spectrum is not None:
            self.back_projection = operator.H(self.y)

    @one_program
    def __call__(self, x: PyTree) -> Array:
        """Potential: ``-log p(y | x)`` without the terms that do not depend on ``x``."""
        u = self.operator(x)
        return self.noise.potential(u, self._like(u))

    @one_program
    def log_prob(self, x: PyTree) -> Array:
        """Normalised ``log p(y | x)``."""
        u = self.operator(x)
        return self.noise.log_prob(u, self._like(u))

    @one_program
    def grad(self, x: PyTree) -> PyTree:
        """Gradient of the potential."""
        if self.back_projection is not None:
            x = conform(x, self.operator.in_structure, "x")
            back = self.back_projection.astype(x.dtype)
            weight = 1 / jnp.asarray(self.noise.sigma, x.real.dtype) ** 2
            return weight.astype(x.dtype) * (self.operator.gram_spectrum.apply(x) - back)
        if isinstance(self.operator, Operator):
            u, adjoint = self.operator.vjp(conform(x, self.operator.in_structure, "x"))
        else:
            u, adjoint = vjp(self.operator, x)
        return adjoint(self.noise.grad(u, self._like(u)))

    def score(self, x: PyTree) -> PyTree:
        """``grad_x log p(y | x)``."""
        return jax.tree.map(jnp.negative, self.grad(x))

    @property
    def lipschitz(self) -> Array:
        """Lipschitz constant of ``grad``: ``noise.lipschitz |A|^2``, at the precision of ``y``. Linear operators only."""
        self._require_linear("lipschitz")
        precision = precision_of(self.y)
        return jnp.asarray(self.noise.lipschitz(self.y), precision) * jnp.asarray(self.operator.norm(), precision) ** 2

    def prox(self, x: PyTree, step_size: Any) -> PyTree:
        """``argmin_z step_size f(z) + |z - x|^2 / 2``.

        Gaussian noise, also with a covariance or in a stack: one linear solve, closed form when the operator's spectrum is
        known. Other noise: closed form when ``A A^H = c I`` (identity, unitary transforms, decimation). Otherwise raises
        ``ValueError``.
        """
        self._require_linear("prox")
        step_size = real(step_size)
        require(step_size, "step_size", nonnegative=True, shape=())
        return self._prox(x, step_size)

    @one_program
    def _prox(self, x: PyTree, step_size: Array) -> PyTree:
        y = jax.tree.map(lambda a: at_precision_of(x, a), self.y)
        if isinstance(self.noise, Gaussian) and jnp.ndim(self.noise.sigma) == 0:
            weight = at_precision_of(x, step_size) / at_precision_of(x, self.noise.sigma) ** 2
            return self.operator.prox(x, y, weight)
        if (whiten := self.noise.whitener(y)) is not None:
            return (whiten @ self.operator).prox(x, whiten(y), step_size)
        cogram = self.operator.cogram_spectrum
        if cogram is None or cogram.values.size != 1:
            raise ValueError(
                f"likelihood: its prox is not available for {type(self.noise).__name__} noise with this operator (A A^H is not "
                "a multiple of the identity); use ChambollePock(..., dualise=True), which splits u = A x"
            )
        u = self.operator(x)
        c = jnp.asarray(cogram.values.reshape(()), u.real.dtype)
        moved = self.noise.prox(u, self._like(u), c * at_precision_of(u, step_size))
        return x + self.operator.H((moved - u) / c)

    def _like(self, u: PyTree) -> PyTree:
        """The measurement at the precision of ``u``, which comes from the image."""
        return jax.tree.map(lambda a, b: a.astype(b.dtype), self.y, u)

    def _require_linear(self, what: str) -> None:
        if not isinstance(self.operator, LinearOperator):
            raise ValueError(f"likelihood: {what} needs a LinearOperator, got {type(self.operator).__name__}")


def _floating(y: Any) -> Any:
    """Counts may come as integers."""
    y = real(y)
    return y.astype(jnp.result_type(float)) if jnp.issubdtype(jnp.result_type(y), jnp.integer) else y
