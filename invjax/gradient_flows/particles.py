"""Particle flows: forward Euler for the Wasserstein gradient flow of any energy, with momentum and with mini-batches."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..kernels import directions, rotate
from ..samplers.langevin import like
from ..types import norm, real, require
from .energies import MMDEnergy, checked_velocity


class ParticleState(NamedTuple):
    """Particles (n, d), and the discounted sum of their velocities."""

    position: Float[Array, "n d"]
    momentum: Float[Array, "n d"]


class ParticleInfo(NamedTuple):
    """Norm of the change of all particles, root mean square of the velocity before the step, and whether it is NaN because
    particles have left the radius that a sliced plan was made for.
    """

    residual: Float[Array, ""]
    speed: Float[Array, ""]
    outside: Bool[Array, ""]


class ParticleFlow(eqx.Module):
    """``m <- momentum m + velocity(x)``, ``x <- x + step_size m`` for an energy of particles (see ``energies``).

    Without momentum it is the forward Euler scheme of the gradient flow with time step ``step_size``; it decreases an energy
    whose velocity is L-Lipschitz for ``step_size < 2 / L``. The velocity of a kernel with a kink jumps where particles meet:
    then they settle up to distances of the order of the step. Heavy-ball momentum multiplies the time step by ``1 / (1 -
    momentum)``.

    ``step_size`` has the unit of time; positive, and ``0 <= momentum < 1``, or ``ValueError``.
    """

    energy: Any
    step_size: Array = eqx.field(converter=real)
    momentum: Array = eqx.field(converter=real, default=0.0)

    def __check_init__(self):
        _require(self.step_size, self.momentum)

    def init(self, x: Float[Array, "n d"], key: PRNGKeyArray | None = None) -> ParticleState:
        """At rest."""
        return ParticleState(x, jnp.zeros_like(x))

    def step(self, state: ParticleState) -> tuple[ParticleState, ParticleInfo]:
        """One step."""
        return _advance(self.energy, self.step_size, self.momentum, state)


class StochasticParticleFlow(eqx.Module):
    """``ParticleFlow`` of an ``MMDEnergy`` with a fresh sample of ``batch_size`` target points in every step.

    ``redraw`` renews the directions of a sliced plan in every step too: "rotation" turns them all at random, which keeps what is
    good about a set and costs ``O(d^3)``; "iid" draws independent ones. Then few slices will do, since the mean of the velocity
    over steps is that of the exact kernel. Raises ``ValueError`` as ``ParticleFlow``, and for a batch that is not between one and
    the number of target points, another energy, or directions to redraw where there are none.
    """

    energy: MMDEnergy
    step_size: Array = eqx.field(converter=real)
    momentum: Array = eqx.field(converter=real, default=0.0)
    batch_size: int = eqx.field(static=True, default=100)
    redraw: Literal["rotation", "iid"] | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        _require(self.step_size, self.momentum)
        if not isinstance(self.energy, MMDEnergy):
            raise ValueError(f"energy: expected an MMDEnergy, got {type(self.energy).__name__}")
        require(self.energy.weights, "weights", nonnegative=True)
        if not 1 <= self.batch_size <= self.energy.target.shape[0]:
            raise ValueError(f"batch_size: expected 1 to {self.energy.target.shape[0]}, got {self.batch_size}")
        if self.redraw not in (None, "rotation", "iid"):
            raise ValueError(f'redraw: expected None, "rotation" or "iid", got {self.redraw!r}')
        if self.redraw and (self.energy.plan is None or self.energy.plan.num_slices == 0):
            raise ValueError("redraw: expected an energy with a sliced plan, got a dense one")

    def init(self, x: Float[Array, "n d"], key: PRNGKeyArray | None = None) -> ParticleState:
        """At rest."""
        return ParticleState(x, jnp.zeros_like(x))

    def step(self, key: PRNGKeyArray, state: ParticleState) -> tuple[ParticleState, ParticleInfo]:
        """One step."""
        draw, turn = jax.random.split(key)
        energy = self.energy
        chosen = _draw(draw, energy.weights, energy.target.shape[0], self.batch_size)
        plan = energy.plan
        if plan is not None and self.redraw:
            xi = plan.directions
            xi = rotate(turn, xi) if self.redraw == "rotation" else directions(turn, "iid", *xi.shape).astype(xi.dtype)
            plan = eqx.tree_at(lambda p: p.directions, plan, xi)
        energy = MMDEnergy(energy.kernel, energy.target[chosen], plan=plan)
        return _advance(energy, self.step_size, self.momentum, state)


def _require(step_size: Any, momentum: Any) -> None:
    require(step_size, "step_size", positive=True)
    require(momentum, "momentum", nonnegative=True, below=1)


def _draw(key: PRNGKeyArray, weights: Array | None, num: int, batch_size: int) -> Array:
    """Indices of a batch: without replacement for equal weights, else independent draws by weight."""
    if weights is None:
        return jax.random.choice(key, num, (batch_size,), replace=False)
    return jax.random.categorical(key, jnp.log(weights), shape=(batch_size,))


def _advance(
    energy: Any, step_size: Array, momentum: Array, state: ParticleState
) -> tuple[ParticleState, ParticleInfo]:
    x = state.position
    velocity, outside = checked_velocity(energy, x)
    m = like(momentum, x) * state.momentum + velocity
    change = like(step_size, x) * m
    return ParticleState(x + change, m), ParticleInfo(norm(change), norm(velocity) / x.shape[0] ** 0.5, outside)
