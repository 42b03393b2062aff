"""The forward models of ``--operator``: what measures a clean image, and how its measurement is shown and first inverted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..drive import iterate
from ..generators import CodedMasks, MotionBlur, PolynomialLines
from ..likelihoods import Gaussian, Likelihood
from ..operators import (
    Blur,
    Identity,
    Mask,
    Operator,
    PhaseRetrieval,
    as_complex,
    coded_diffraction,
    downsampling,
    filtered_back_projection,
    gaussian_kernel,
    local_mean,
    parallel_beam,
    single_coil_mri,
    uniform_kernel,
)
from ..solvers import WirtingerFlow, spectral_start
from ..types import real
from .options import OptionError, Spec

_FLOW_STEPS = 200


class Forward(NamedTuple):
    """An operator; a first image from the measurement, with its name; a picture of the measurement.

    ``name`` is None where the measurement is an image like the one restored; ``picture`` where it is shown as it is.
    """

    operator: Operator
    start: Callable[[Array], Array]
    name: str | None = None
    picture: Callable[[Array], Array] | None = None


def forward_model(spec: Spec, shape: tuple[int, ...], key: Array) -> Forward:
    """The operator of ``--operator`` on images of ``shape``; ``key`` draws what is random in it. Blurs are circular."""
    if spec.name in ("blur", "uniform", "motion-blur"):
        return Forward(Blur(blur_kernel(spec, shape, key), shape), _same)
    builders = {
        "downsample": _downsampled,
        "inpaint": _inpainted,
        "denoise": _noisy,
        "mri": _magnetic,
        "tomography": _tomographic,
        "phase-retrieval": _intensities,
    }
    return builders[spec.name](spec, shape, key)


def blur_kernel(spec: Spec, shape: tuple[int, ...], key: Array) -> Array:
    """The kernel of a blur; refused before it is built when it is wider than the image. ``key`` draws a path of motion."""
    width = int(spec.number) if spec.name == "uniform" else 2 * math.ceil(4 * spec.number) + 1
    if width > min(shape[:2]):
        raise OptionError(
            f"--operator: {spec} has a kernel of {width} pixels, wider than the image of {shape[0]} x {shape[1]}"
        )
    if spec.name == "motion-blur":
        return MotionBlur((width, width), real(spec.number))(key)
    return uniform_kernel(width) if spec.name == "uniform" else gaussian_kernel(spec.number)


def _same(y: Array) -> Array:
    return y


def _noisy(spec: Spec, shape: tuple[int, ...], key: Array) -> Forward:
    return Forward(Identity(shape), _same)


def _downsampled(spec: Spec, shape: tuple[int, ...], key: Array) -> Forward:
    A = downsampling(shape, int(spec.number))
    return Forward(A, A.pinv, "pseudo-inverse")


def _inpainted(spec: Spec, shape: tuple[int, ...], key: Array) -> Forward:
    mask = jax.random.bernoulli(key, spec.number, (*shape[:2], 1))

    def start(y: Array) -> Array:
        """The holes filled by the mean around them: a network takes black ones for what was photographed."""
        return jnp.where(mask, y, local_mean(y, 1 / math.sqrt(spec.number), mask))

    return Forward(Mask(mask, shape), start)


def _magnetic(spec: Spec, shape: tuple[int, ...], key: Array) -> Forward:
    """One coil; lines of k-space drawn with a density that falls with their frequency."""
    mask = PolynomialLines(shape, real(spec.number))(key)
    A: Any = single_coil_mri(mask, shape) @ as_complex(shape)

    def picture(y: Array) -> Array:
        logarithm = jnp.log1p(100 * jnp.abs(mask * y))
        return logarithm / logarithm.max()

    return Forward(A, A.H, "zero-filled", picture)


def _tomographic(spec: Spec, shape: tuple[int, ...], key: Array) -> Forward:
    """Parallel beams from equispaced angles over half a turn; the longer side of the image has length one."""
    angles = jnp.linspace(0, jnp.pi, int(spec.number), endpoint=False)
    A = parallel_beam(angles, shape, math.ceil(math.hypot(*shape[:2])), pixel_size=1 / max(shape[:2]))

    def start(y: Array) -> Array:
        return filtered_back_projection(A, y, "hann")

    return Forward(A, start, "filtered back-projection", lambda y: y / jnp.max(jnp.abs(y)))


def _intensities(spec: Spec, shape: tuple[int, ...], key: Array) -> Forward:
    """Intensities of coded diffraction patterns of a real image; the sign, which they do not show, makes the mean positive."""
    mask_key, start_key = jax.random.split(key)
    B = coded_diffraction(CodedMasks(shape, int(spec.number), "phase")(mask_key), shape) @ as_complex(shape)
    A = PhaseRetrieval(B)

    def start(y: Array) -> Array:
        f = Likelihood(A, Gaussian(real(1.0)), y)
        x = iterate(WirtingerFlow(f), spectral_start(start_key, f), _FLOW_STEPS)[0].position
        return x * jnp.sign(x.mean())

    def picture(y: Array) -> Array:
        """The first two patterns side by side, with their zero frequency in the centre."""
        logarithm = jnp.log1p(jnp.fft.fftshift(jnp.abs(y[:2]), axes=(1, 2)))
        return jnp.concatenate(list(logarithm / logarithm.max()), axis=1)

    return Forward(A, start, "Wirtinger flow", picture)
