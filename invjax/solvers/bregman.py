"""Bregman potentials: convex functions whose geometry mirror descent uses in place of the Euclidean one."""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..likelihoods import Poisson
from ..priors import L1, Box, NonNegative, Simplex, Tikhonov, Zero
from ..types import inner


class BregmanPotential(eqx.Module):
    """A strictly convex ``phi``: value, gradient and its inverse, and the proxes that are closed form in its geometry."""

    @abc.abstractmethod
    def __call__(self, x: Array) -> Array:
        """``phi(x)``."""

    @abc.abstractmethod
    def grad(self, x: Array) -> Array:
        """``grad phi(x)``: from the image to the mirror space."""

    @abc.abstractmethod
    def inverse_grad(self, v: Array) -> Array:
        """``argmin_x phi(x) - <v, x>``: back from the mirror space."""

    @abc.abstractmethod
    def prox(self, prior: Any, v: Array, step_size: Array) -> Array:
        """``argmin_x step_size prior(x) + phi(x) - <v, x>``. Raises ``ValueError`` for a prior without closed form."""

    @abc.abstractmethod
    def relative_lipschitz(self, likelihood: Any) -> Array:
        """``L`` for which ``L phi - f`` is convex. Raises ``ValueError`` where none is known."""

    def divergence(self, u: Array, x: Array) -> Array:
        """``phi(u) - phi(x) - <grad phi(x), u - x>``."""
        return self(u) - self(x) - inner(self.grad(x), u - x)


class Quadratic(BregmanPotential):
    """``phi(x) = |x|^2 / 2``: mirror descent is then gradient descent, and every prior with a prox has its own."""

    def __call__(self, x):
        return inner(x, x) / 2

    def grad(self, x):
        return x

    def inverse_grad(self, v):
        return v

    def prox(self, prior, v, step_size):
        return prior.prox(v, step_size)

    def relative_lipschitz(self, likelihood):
        return likelihood.lipschitz


class NegativeEntropy(BregmanPotential):
    """``phi(x) = sum x log x - x`` on ``x > 0``: updates are multiplicative, ``x exp(-step grad f)``.

    Closed-form proxes: Zero, NonNegative, Box, L1 (``|x| = x`` here), Simplex (normalisation).
    """

    def __call__(self, x):
        return jnp.sum(jax.scipy.special.xlogy(x, x) - x)

    def grad(self, x):
        return jnp.log(x)

    def inverse_grad(self, v):
        return jnp.exp(v)

    def prox(self, prior, v, step_size):
        if isinstance(prior, Simplex):
            return jnp.asarray(prior.radius, v.dtype) * jax.nn.softmax(v.ravel()).reshape(v.shape)
        return _separable_prox(self, prior, v, step_size)

    def relative_lipschitz(self, likelihood):
        raise ValueError("step_size: expected a value, since none is known for NegativeEntropy, got None")


class Burg(BregmanPotential):
    """``phi(x) = -sum log x`` on ``x > 0``: the geometry of Poisson data (NoLips), where the gradient is not
    Lipschitz.

    The Poisson potential is smooth relative to it with ``L = sum y / gain``. Closed-form proxes: Zero, NonNegative,
    Box, L1, Tikhonov. Source: Bauschke, Bolte and Teboulle (2017).
    """

    def __call__(self, x):
        return -jnp.sum(jnp.log(x))

    def grad(self, x):
        return -1 / x

    def inverse_grad(self, v):
        # No image has a mirror point >= 0: NaN ends the run with the advice to take a shorter step.
        return jnp.where(v < 0, -1 / jnp.where(v < 0, v, 1), jnp.nan)

    def prox(self, prior, v, step_size):
        if isinstance(prior, Tikhonov):  # the positive root of t x^2 - (v + t centre) x - 1 = 0
            t = jnp.asarray(prior.lam * step_size, v.dtype)
            w = v + t * jnp.asarray(prior.centre, v.dtype)
            root = jnp.sqrt(w**2 + 4 * t)
            return jnp.where(w > 0, (w + root) / (2 * jnp.where(t > 0, t, 1)), 2 / jnp.where(w > 0, 1, root - w))
        return _separable_prox(self, prior, v, step_size)

    def relative_lipschitz(self, likelihood):
        if not isinstance(likelihood.noise, Poisson):
            raise ValueError(
                f"step_size: expected a value for noise that is not Poisson, got None and {type(likelihood.noise).__name__}"
            )
        return jnp.sum(likelihood.y / likelihood.noise.gain)


def _separable_prox(potential: BregmanPotential, prior: Any, v: Array, step_size: Array) -> Array:
    """The proxes on ``x > 0`` that any separable potential has: L1 is linear there, and a box clips the minimiser."""
    if isinstance(prior, (Zero, NonNegative)):
        return potential.inverse_grad(v)
    if isinstance(prior, Box):
        return prior.prox(potential.inverse_grad(v), step_size)
    if isinstance(prior, L1):
        return potential.inverse_grad(v - jnp.asarray(prior.lam * step_size, v.dtype))
    raise ValueError(
        f"prior: expected one with a closed-form prox in the geometry of {type(potential).__name__}, got {type(prior).__name__}; "
        "MirrorDescent takes the gradient of any smooth prior"
    )
