"""Small iterative methods with known solutions, on which the drivers are tested."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from invjax.types import norm, real


class State(NamedTuple):
    position: Any
    count: Array


class Info(NamedTuple):
    residual: Array


class Scale(eqx.Module):
    """x <- rate x."""

    rate: Array = eqx.field(converter=real)

    def init(self, x, key=None):
        return State(x, jnp.zeros((), jnp.int32))

    def step(self, state):
        x = jax.tree.map(lambda a: self.rate * a, state.position)
        return State(x, state.count + 1), Info(norm(jax.tree.map(jnp.subtract, x, state.position)))


class Landweber(eqx.Module):
    """x <- x - step (M^H (M x - b) + shift x): the solution is that of (M^H M + shift) x = M^H b."""

    matrix: Array = eqx.field(converter=real)
    b: Array = eqx.field(converter=real)
    shift: Array = eqx.field(converter=real)
    step_size: Array = eqx.field(converter=real)

    def init(self, x, key=None):
        return State(x, jnp.zeros((), jnp.int32))

    def fixed_point(self, x):
        return x - self.step_size * (self.matrix.conj().T @ (self.matrix @ x - self.b) + self.shift * x)

    def step(self, state):
        x = self.fixed_point(state.position)
        return State(x, state.count + 1), Info(norm(x - state.position))


class Unknown(Landweber):
    """The same without a derivative."""

    def __getattribute__(self, name):
        if name == "fixed_point":
            raise AttributeError(name)
        return super().__getattribute__(name)

    def step(self, state):
        x = Landweber.fixed_point(self, state.position)
        return State(x, state.count + 1), Info(norm(x - state.position))


class Walk(eqx.Module):
    """x <- rate x + noise: an autoregressive chain of variance 1 / (1 - rate^2)."""

    rate: Array = eqx.field(converter=real)
    calls: Any = eqx.field(static=True, default=None)

    def init(self, x, key=None):
        return State(x + 0.1 * jax.random.normal(key, x.shape, x.dtype), jnp.zeros((), jnp.int32))

    def step(self, key, state):
        if self.calls is not None:
            self.calls.append(1)
        x = self.rate * state.position + jax.random.normal(key, state.position.shape, state.position.dtype)
        return State(x, state.count + 1), Info(norm(x))


X = jnp.array([1.0, -2.0, 0.5])


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def landweber(complex=False, seed=0, cls=Landweber):
    r = np.random.default_rng(seed)
    M, b = r.normal(size=(4, 3)), r.normal(size=4)
    if complex:
        M, b = M + 1j * r.normal(size=(4, 3)), b + 1j * r.normal(size=4)
    return cls(M / 4, b, 0.1, 0.8)


def ridge(m):
    M = m.matrix
    return jnp.linalg.solve(M.conj().T @ M + m.shift * jnp.eye(3), M.conj().T @ m.b)
