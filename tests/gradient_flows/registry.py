"""Every flow of particles: one line each. Constructors take a NumPy generator."""

import jax
import jax.numpy as jnp

from invjax import gradient_flows as gf
from invjax import kernels as K
from invjax import priors
from invjax.types import Fn

N, M, DIM = 8, 6, 2


def ripples(x, a):
    return jnp.sum(jnp.cos(x - a[None]) ** 2) / 3


def target(r):
    return r.normal(size=(M, DIM))


def h(r):
    return r.uniform(0.05, 0.1)


def plan(kernel, method, seed=0):
    return K.plan(kernel, ((N + M, DIM), (N, DIM)), 6.0, 1e-6, jax.random.key(seed), method, num_slices=5)


def gaussian(r):
    return K.Gaussian(r.uniform(1, 1.5))


def law(r):
    return priors.Gaussian(r.normal(size=DIM), r.uniform(0.5, 1.5, DIM))


ENERGIES = {
    "function": lambda r: gf.Energy(Fn(ripples, r.normal(size=DIM))),
    "mmd": lambda r: gf.MMDEnergy(gaussian(r), target(r)),
    "mmd_weighted": lambda r: gf.MMDEnergy(gaussian(r), target(r), r.dirichlet([1.0] * M)),
    "mmd_fourier": lambda r: gf.MMDEnergy(gaussian(r), target(r), plan=plan(K.Gaussian(1.0), "fourier")),
    "mmd_grid": lambda r: gf.MMDEnergy(gaussian(r), target(r), plan=plan(K.Gaussian(1.0), "grid")),
    "distance": lambda r: gf.MMDEnergy(K.NegativeDistance(), target(r)),
    "distance_sort": lambda r: gf.MMDEnergy(K.NegativeDistance(), target(r), plan=plan(K.NegativeDistance(), "sort")),
    "distance_grid": lambda r: gf.MMDEnergy(K.NegativeDistance(), target(r), plan=plan(K.NegativeDistance(), "grid")),
    "distance_grid_tabulated": lambda r: ENERGIES["distance_grid"](r).tabulated(),
    "sliced_wasserstein": lambda r: gf.SlicedWassersteinEnergy(target(r), K.equispaced(5)),
    "potential": lambda r: gf.PotentialEnergy(law(r)),
    "sum": lambda r: gf.EnergySum((gf.PotentialEnergy(law(r)), gf.MMDEnergy(gaussian(r), target(r)))),
}
FLOWS = {
    name: lambda r, make=make: gf.ParticleFlow(make(r), h(r), r.uniform(0.1, 0.3)) for name, make in ENERGIES.items()
}
FLOWS |= {
    "svgd": lambda r: gf.SVGD(law(r), None, gaussian(r), h(r)),
    "svgd_sliced": lambda r: gf.SVGD(law(r), law(r), gaussian(r), h(r), plan(K.Gaussian(1.0), "fourier")),
}
RANDOM = {
    "batches": lambda r: gf.StochasticParticleFlow(gf.MMDEnergy(gaussian(r), target(r)), h(r), 0.2, 3),
    "batches_rotated": lambda r: gf.StochasticParticleFlow(
        gf.MMDEnergy(gaussian(r), target(r), r.dirichlet([1.0] * M), plan=plan(K.Gaussian(1.0), "fourier")),
        h(r),
        batch_size=3,
        redraw="rotation",
    ),
    "batches_iid": lambda r: gf.StochasticParticleFlow(
        gf.MMDEnergy(gaussian(r), target(r), plan=plan(K.Gaussian(1.0), "fourier")), h(r), batch_size=3, redraw="iid"
    ),
    "langevin": lambda r: gf.LangevinFlow(law(r), None, h(r)),
}
