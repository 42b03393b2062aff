"""The inverse problem that the options describe: image, operator, noise, measurement."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..data import load_image, photograph
from ..likelihoods import Gaussian, InverseProblem, Likelihood, noise_level
from ..operators import Blur, Identity, LinearOperator, Mask, downsampling, gaussian_kernel, uniform_kernel
from .options import OptionError, RestoreOptions

_DEFAULT_SIZE = 256
_SMALLEST = 16


class Problem(NamedTuple):
    """What is restored: the truth (None when measured), the measurement, its likelihood, a start, the visible window."""

    truth: Array | None
    measurement: Array
    likelihood: Likelihood
    start: Array
    window: tuple[slice, slice]
    sigma_estimated: bool


def build(options: RestoreOptions, key: Array) -> Problem:
    """Read or degrade the image. Raises ``OptionError`` for what cannot be restored."""
    image = _read(options)
    if min(image.shape[:2]) < _SMALLEST:
        raise OptionError(
            f"image: expected sides of at least {_SMALLEST} pixels, got {image.shape[0]} x {image.shape[1]}"
        )
    return _measured(options, image) if options.measured else _degraded(options, image, key)


def _read(options: RestoreOptions) -> Array:
    if options.photo is None:
        return photograph("camera", options.size or _DEFAULT_SIZE)
    try:
        image = load_image(options.photo)
    except ValueError as error:
        raise OptionError(str(error)) from None
    size = options.size if options.size is not None else (None if options.measured else _DEFAULT_SIZE)
    return image if size is None else _fit(image, size)


def _fit(image: Array, size: int) -> Array:
    """Shrink so that the longest side is ``size``; a smaller image stays as it is."""
    from skimage.transform import resize

    factor = size / max(image.shape[:2])
    if factor >= 1:
        return image
    shape = [max(1, round(n * factor)) for n in image.shape[:2]]
    return jnp.asarray(resize(np.asarray(image), shape, anti_aliasing=True), jnp.float32)


def _kernel(options: RestoreOptions, shape: tuple[int, ...]) -> Array:
    value = options.operator.value
    if options.operator.name == "uniform":
        kernel = uniform_kernel(int(value))
    else:
        kernel = gaussian_kernel(value)
    if max(kernel.shape) > min(shape[:2]):
        raise OptionError(
            f"--operator: {options.operator} has a kernel of {kernel.shape[0]} pixels, wider than the image {shape[:2]}"
        )
    return kernel


def _degraded(options: RestoreOptions, truth: Array, key: Array) -> Problem:
    """Simulate the measurement of a clean image; blurs are circular."""
    spec, (mask_key, noise_key) = options.operator, jax.random.split(key)
    if spec.name == "downsample":
        factor = int(spec.value)
        truth = truth[: truth.shape[0] // factor * factor, : truth.shape[1] // factor * factor]
        if min(truth.shape[:2]) < _SMALLEST * factor:
            raise OptionError(
                f"--operator: {spec} leaves less than {_SMALLEST} pixels of {truth.shape[0]} x {truth.shape[1]}"
            )
    shape = truth.shape
    operator: LinearOperator
    if spec.name in ("blur", "uniform"):
        operator = Blur(_kernel(options, shape), shape)
    elif spec.name == "downsample":
        operator = downsampling(shape, int(spec.value))
    elif spec.name == "inpaint":
        operator = Mask(jax.random.bernoulli(mask_key, spec.value, (*shape[:2], 1)), shape)
    else:
        operator = Identity(shape)
    problem = InverseProblem(operator, Gaussian(options.noise.value))
    y = problem.measure(noise_key, truth)
    start = operator.H(y) if spec.name in ("downsample", "inpaint") else y
    return Problem(truth, y, problem.likelihood(y), start, (slice(None), slice(None)), False)


def _measured(options: RestoreOptions, y: Array) -> Problem:
    """A given measurement. A blur is modelled on a larger image, whose unknown border is restored too and cut off."""
    spec, shape = options.operator, y.shape
    window = (slice(None), slice(None))
    if spec.name in ("blur", "uniform"):
        kernel = _kernel(options, shape)
        (h, w) = kernel.shape
        large = (shape[0] + h - 1, shape[1] + w - 1, shape[2])
        operator: LinearOperator = Blur(kernel, large, "valid")
        reach = [((k - 1) // 2, k // 2) for k in (h, w)]
        window = tuple(slice(before, before + n) for (before, _), n in zip(reach, shape[:2], strict=True))
        start = jnp.pad(y, [*reach, (0, 0)], mode="edge")
    elif spec.name == "downsample":
        factor = int(spec.value)
        operator = downsampling((shape[0] * factor, shape[1] * factor, shape[2]), factor)
        start = jnp.repeat(jnp.repeat(y, factor, 0), factor, 1)
    else:
        operator, start = Identity(shape), y
    sigma = float(noise_level(y)) if options.noise is None else options.noise.value
    if not sigma > 1e-4:
        raise OptionError(f"--noise: the estimated noise level {sigma:.1e} is too low to be real; give gaussian:SIGMA")
    f = InverseProblem(operator, Gaussian(sigma)).likelihood(y)
    return Problem(None, y, f, start, window, options.noise is None)
