"""Samplers on small targets: one line each, run through all contracts."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from invjax import priors, samplers
from invjax.types import inner, real


class Normal(eqx.Module):
    """U(x) = sum precision |x - mean|^2 / 2: on complex x, variance 1 / precision for each of real and imaginary part."""

    mean: Array = eqx.field(converter=real)
    precision: Array = eqx.field(converter=real)

    def _weighted(self, x):
        gap = x - jnp.asarray(self.mean, x.dtype)
        return gap, jnp.asarray(self.precision, x.dtype) * gap

    def __call__(self, x):
        return inner(*self._weighted(x)) / 2

    def score(self, x):
        return -self._weighted(x)[1]


class L1(eqx.Module):
    """lam |x|_1, whose warm form counts its calls in aux."""

    lam: Array = eqx.field(converter=real)

    def __call__(self, x):
        return jnp.asarray(self.lam, x.dtype) * jnp.sum(jnp.abs(x))

    def prox(self, x, step_size):
        return jnp.sign(x) * jnp.maximum(jnp.abs(x) - jnp.asarray(self.lam * step_size, x.dtype), 0)

    def prox_init(self, x):
        return jnp.zeros((), jnp.int32)

    def prox_step(self, x, step_size, aux, num_inner):
        return self.prox(x, step_size), aux + num_inner


class NonNegative(eqx.Module):
    """Indicator of x >= 0."""

    def __call__(self, x):
        return jnp.where(jnp.all(x >= 0), 0.0, jnp.inf).astype(x.dtype)

    def prox(self, x, step_size):
        return jnp.maximum(x, 0)

    def prox_init(self, x):
        return ()

    def prox_step(self, x, step_size, aux, num_inner):
        return self.prox(x, step_size), aux


def likelihood(r, kind=float):
    mean = r.normal(size=3) + (1j * r.normal(size=3) if kind is complex else 0)
    return Normal(mean, r.uniform(0.5, 2, 3))


def ridge(r):
    return Normal(0.0, r.uniform(0.5, 1))


def red(r):
    return priors.RED(priors.GaussianMixture(None, r.normal(size=(2, 3)), 0.1).denoiser, 0.5, r.uniform(0.5, 1))


def h(r, most=0.2):
    return r.uniform(most / 2, most)


SAMPLERS = {
    "ula": lambda r: samplers.ULA(likelihood(r), ridge(r), h(r)),
    "ula_projected": lambda r: samplers.ULA(likelihood(r), ridge(r), h(r), NonNegative()),
    "ula_complex": lambda r: samplers.ULA(likelihood(r, complex), ridge(r), h(r)),
    "myula": lambda r: samplers.MYULA(likelihood(r), L1(h(r, 2)), h(r), h(r, 1), NonNegative()),
    "pnp_ula": lambda r: samplers.PnPULA(
        likelihood(r), red(r), 1.0, h(r), likelihood_lipschitz=2.0, allow_unstable=True
    ),
    "pnp_ula_projected": lambda r: samplers.PnPULA(
        likelihood(r), red(r), 1.0, h(r), likelihood_lipschitz=2.0, projected=True, allow_unstable=True
    ),
    "pnp_skrock": lambda r: samplers.SKROCK(
        likelihood(r), samplers.tailed(red(r), priors.Box(-1.0, 2.0), h(r)), h(r), 4
    ),
    "mala": lambda r: samplers.MALA(likelihood(r), ridge(r), h(r, 0.6)),
    "mala_complex": lambda r: samplers.MALA(likelihood(r, complex), ridge(r), h(r, 0.4)),
    "skrock": lambda r: samplers.SKROCK(likelihood(r), samplers.Moreau(L1(h(r, 2)), h(r), 3), h(r), 4, h(r)),
    "underdamped": lambda r: samplers.Underdamped(likelihood(r), samplers.Moreau(L1(h(r, 2)), h(r)), h(r)),
    "underdamped_complex": lambda r: samplers.Underdamped(likelihood(r, complex), ridge(r), h(r, 0.8)),
    "adaptation": lambda r: samplers.StepSizeAdaptation(
        samplers.Underdamped(likelihood(r, complex), ridge(r), h(r, 0.8)), h(r, 0.9)
    ),
}


def start(name, seed=0, dtype=None):
    """A starting position of the right kind for a registered sampler."""
    r = np.random.default_rng(seed)
    x = r.normal(size=3)
    if "complex" in name or name == "adaptation":
        x = x + 1j * r.normal(size=3)
    return jnp.asarray(x, dtype)
