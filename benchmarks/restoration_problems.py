"""The inverse problems of ``restoration.py``: operators, noise levels, photographs, measurements.

Noise of the blurs: 0.02, the middle of the 2.55/255 and 7.65/255 of the tables of Zhang et al. 2022 (IEEE TPAMI 44(10)).
Super-resolution and inpainting have 0.01, so that detail and not noise is what is missing. MRI: real images, a quarter of the
lines of k-space, 0.02 in each part of an orthonormal transform. Tomography: 60 angles, image of side one (so that line integrals
are about 0.5), noise 0.005.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from invjax import InverseProblem, generators, operators
from invjax.data import photograph
from invjax.likelihoods import Gaussian

PHOTOGRAPHS = ("camera", "chelsea", "coffee", "astronaut")
"""Pictures that the shipped denoiser has not seen."""
NUM_ANGLES, ACCELERATION, SEEN = 60, 4, 0.3
MOTION_SEED, MASK_SEED, NOISE_SEED = 3, 4, 5


class Case(NamedTuple):
    """A problem, its images ``(N, H, W, 1)`` and their measurements ``(N, ...)``."""

    problem: InverseProblem
    clean: Array
    measured: Array


def size_of(name: str, size: int) -> int:
    """Side of the images of a problem: half of ``size`` for tomography, whose prox needs many projections."""
    return size // 2 if name == "tomography, 60 angles" else size


def problem_of(name: str, shape: tuple[int, int, int]) -> InverseProblem:
    """One of ``PROBLEMS`` for images of ``shape``."""
    operator, sigma = PROBLEMS[name](shape)
    return InverseProblem(operator, Gaussian(sigma))


def case(name: str, size: int, photographs: tuple[str, ...]) -> Case:
    """The problem ``name`` on ``photographs`` of ``size``, each with its own noise."""
    clean = jnp.stack([photograph(p, size, grey=True) for p in photographs])
    problem = problem_of(name, clean.shape[1:])
    keys = jax.random.split(jax.random.key(NOISE_SEED), len(photographs))
    return Case(problem, clean, jax.vmap(problem.measure)(keys, clean))


def _gaussian_blur(shape: tuple) -> tuple:
    return operators.Blur(operators.gaussian_kernel(1.6), shape), 0.02


def _uniform_blur(shape: tuple) -> tuple:
    return operators.Blur(operators.uniform_kernel(9), shape), 0.02


def _motion_blur(shape: tuple) -> tuple:
    kernel = generators.MotionBlur((17, 17))(jax.random.key(MOTION_SEED))
    return operators.Blur(kernel, shape), 0.02


def _super_resolution(factor: int):
    return lambda shape: (operators.downsampling(shape, factor, "bicubic"), 0.01)


def _inpainting(shape: tuple) -> tuple:
    seen = generators.BernoulliMask(shape, SEEN)(jax.random.key(MASK_SEED))
    return operators.Mask(seen, shape), 0.01


def _mri(shape: tuple) -> tuple:
    mask = generators.PolynomialLines(shape, ACCELERATION)(jax.random.key(MASK_SEED))
    return operators.single_coil_mri(mask, shape) @ operators.as_complex(shape), 0.02


def _tomography(shape: tuple) -> tuple:
    height, width, _ = shape
    angles = jnp.arange(NUM_ANGLES) * (jnp.pi / NUM_ANGLES)
    num_detectors = int((height**2 + width**2) ** 0.5) + 1
    return operators.parallel_beam(angles, shape, num_detectors, pixel_size=1 / width), 0.005


PROBLEMS = {
    "Gaussian blur 1.6": _gaussian_blur,
    "uniform blur 9": _uniform_blur,
    "motion blur": _motion_blur,
    "super-resolution x2": _super_resolution(2),
    "super-resolution x4": _super_resolution(4),
    "inpainting, 70 % missing": _inpainting,
    "MRI x4": _mri,
    "tomography, 60 angles": _tomography,
}
"""``shape -> (operator, sigma)``."""
