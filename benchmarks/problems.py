"""The inputs of the benchmarks: the camera image, blurred by a Gaussian and noisy."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from invjax import InverseProblem
from invjax.data import photograph
from invjax.likelihoods import Gaussian, Likelihood
from invjax.operators import Blur
from invjax.operators.kernels import gaussian_kernel

SIGMA = 0.02
WEIGHT = 0.003
"""Weight of TV beside ``|A x - y|^2 / 2``; beside ``|A x - y|^2 / (2 sigma^2)`` it is ``WEIGHT / SIGMA**2``."""


def deblurring(size: int, seed: int = 0) -> tuple[Likelihood, dict[str, Any]]:
    """The likelihood, and the same problem as NumPy arrays for the peers: clean, y, kernel, start (``A^H y``), sigma."""
    clean = photograph("camera", size)
    kernel = gaussian_kernel(1.6, 13)
    problem = InverseProblem(Blur(kernel, clean.shape), Gaussian(SIGMA))
    noise = np.random.default_rng(seed).standard_normal(clean.shape).astype(np.float32)
    y = problem.operator(clean) + SIGMA * jnp.asarray(noise)
    arrays = {"clean": clean[..., 0], "y": y[..., 0], "kernel": kernel, "start": problem.operator.H(y)[..., 0]}
    return problem.likelihood(y), {k: np.asarray(v) for k, v in arrays.items()} | {"sigma": SIGMA, "weight": WEIGHT}
