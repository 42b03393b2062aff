"""Targets and flows on the line: one line each, and how the tests run them."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from invjax import iterate
from invjax.gradient_flows import (
    ContinuousTarget,
    DiscreteTarget,
    ExplicitQuantileFlow,
    ImplicitQuantileFlow,
    NormalMixtureTarget,
    UniformTarget,
)
from invjax.reducers import Every
from invjax.types import Fn

N, SMALL = 1001, 11
S = (np.arange(N) + 0.5) / N
EPS = np.finfo(np.float64).eps


def logistic(x, centre, width):
    return jax.nn.sigmoid((x - centre) / width)


TARGETS = {
    "discrete": lambda r: DiscreteTarget(r.normal(size=5), r.uniform(0.1, 1, 5)),
    "uniform": lambda r: UniformTarget(r.uniform(-1.5, -0.5), r.uniform(0.5, 1.5)),
    "mixture": lambda r: NormalMixtureTarget(r.normal(size=2), r.uniform(0.4, 1, 2), r.uniform(0.2, 1, 2)),
    "continuous": lambda r: ContinuousTarget(Fn(logistic, r.normal(), r.uniform(0.3, 0.8)), -60, 60),
}
METHODS = {f"implicit_{t}": lambda r, t=t: ImplicitQuantileFlow(TARGETS[t](r), r.uniform(0.1, 0.5)) for t in TARGETS}
METHODS |= {f"explicit_{t}": lambda r, t=t: ExplicitQuantileFlow(TARGETS[t](r), r.uniform(0.05, 0.1)) for t in TARGETS}


def rms(x):
    return np.sqrt(np.mean(np.asarray(x) ** 2, axis=-1))


def start(seed=0, n=SMALL):
    return np.sort(2 * np.random.default_rng([seed, 7]).normal(size=n))


@functools.partial(jax.jit, static_argnums=2)
def path(method, g, num_steps):
    """All positions, with the start first, and the infos."""
    trace = Every(of=lambda state, info: (state.position, info))
    positions, info = iterate(method, g, num_steps, trace=trace)[1]
    return jnp.concatenate([jnp.asarray(g)[None], positions]), info


def paths(build_one, values, g, num_steps):
    """``path`` for many hyper-parameters in one program."""
    return jax.vmap(lambda v: path(build_one(v), g, num_steps))(jnp.asarray(values))
