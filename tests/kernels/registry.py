"""Every kernel and every way to sum it: one line each."""

import functools

import jax
import numpy as np

from invjax import kernels as K

DIM, RADIUS = 3, 3.0

KERNELS = {
    "gaussian": lambda r: K.Gaussian(r.uniform(1, 2)),
    "laplace": lambda r: K.Laplace(r.uniform(1, 2)),
    "matern_3_2": lambda r: K.Matern(1.5, r.uniform(1, 2)),
    "matern_7_2": lambda r: K.Matern(3.5, r.uniform(1, 2)),
    "inverse_multiquadric": lambda r: K.InverseMultiquadric(r.uniform(1, 2)),
    "riesz": lambda r: K.Riesz(r.uniform(0.8, 1.6)),
    "negative_distance": lambda r: K.NegativeDistance(),
    "thin_plate": lambda r: K.ThinPlate(),
    "logarithm": lambda r: K.Logarithm(),
    "sum": lambda r: K.Gaussian(r.uniform(1, 2)) + r.uniform(0.1, 0.5) * K.NegativeDistance(),
    "product": lambda r: K.Gaussian(r.uniform(1, 2)) * K.Laplace(r.uniform(1, 2)) * 2.0,
}
POSITIVE = ("gaussian", "laplace", "matern_3_2", "matern_7_2", "inverse_multiquadric", "product")
SLICED = [name for name in KERNELS if name != "product"]

# name -> (kernel, method, options of the plan)
SUMS = (
    {f"{name}/dense": (name, "dense", {}) for name in KERNELS}
    | {f"{name}/grid": (name, "grid", {"num_nodes": 4096}) for name in SLICED}
    | {
        "gaussian/fourier": ("gaussian", "fourier", {"tol": 1e-10}),
        "inverse_multiquadric/fourier": ("inverse_multiquadric", "fourier", {"tol": 1e-5}),
        "matern_7_2/fourier": ("matern_7_2", "fourier", {"tol": 1e-6}),
        "sum/fourier": ("sum", "fourier", {"tol": 1e-3}),
        "negative_distance/sort": ("negative_distance", "sort", {}),
        "gaussian/fourier_centred": ("gaussian", "fourier", {"tol": 1e-10, "centre": np.array([0.1, -0.2, 0.3])}),
    }
)


def kernel(name, seed=0):
    return KERNELS[name](np.random.default_rng(seed))


@functools.cache
def planned(name, seed=0):
    """Kernel and plan of one entry of ``SUMS``, with six directions."""
    which, method, options = SUMS[name]
    made = kernel(which, seed)
    options = {"directions": "orthogonal", "num_slices": 6} | options
    if method == "dense":
        options = {}
    return made, K.plan(
        made, ((7, DIM), (5, DIM)), RADIUS, options.pop("tol", 1e-2), jax.random.key(seed), method, **options
    )


def cloud(seed, num=7, dim=DIM):
    """Points whose projections stay in the radius."""
    r = np.random.default_rng(seed)
    return r.uniform(-1.4, 1.4, size=(num, dim))
