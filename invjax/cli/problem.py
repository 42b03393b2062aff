"""The inverse problem that the options describe: image, operator, noise, measurement."""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..data import load_image, photograph
from ..likelihoods import Gaussian, InverseProblem, Likelihood, noise_level
from ..operators import Blur, Identity, LinearOperator, downsampling
from .forward import blur_kernel, forward_model
from .options import NOISES, OptionError, RestoreOptions, default_size

_SMALLEST = 16
_FEW, _MANY = 4_000_000, 100_000_000  # values restored: at most without --size, and at most
_BYTES = 400  # memory per value: some thirty float32 images in each of two chains, and the solver


class Problem(NamedTuple):
    """What is restored: the truth (None when measured), the measurement, its likelihood, a start, the visible window.

    ``picture`` shows a measurement that is no image; ``baseline`` names the start where it is not one like the truth.
    """

    truth: Array | None
    measurement: Array
    likelihood: Likelihood
    start: Array
    window: tuple[slice, ...]
    sigma_estimated: bool
    picture: Array | None = None
    baseline: str | None = None


def build(options: RestoreOptions, key: Array) -> Problem:
    """Read or degrade the image. Raises ``OptionError`` for what cannot be restored."""
    image = _read(options)
    if min(image.shape[:2]) < _SMALLEST:
        raise OptionError(
            f"image: expected sides of at least {_SMALLEST} pixels, got {image.shape[0]} x {image.shape[1]}"
        )
    _check_amount(options, image.shape)
    return _measured(options, image, key) if options.measured else _degraded(options, image, key)


def _read(options: RestoreOptions) -> Array:
    if options.photo is None:
        return _fit(photograph("camera"), options.size or default_size(options.operator))
    with warnings.catch_warnings(), _silent("tifffile"):
        warnings.simplefilter("ignore")  # of Pillow, about harmless oddities of the file
        try:
            image = load_image(options.photo)
        except ValueError as error:
            raise OptionError(str(error).partition("; normalise=")[0]) from None
    size = options.size or (None if options.measured else default_size(options.operator))
    return image if size is None else _fit(image, size)


@contextlib.contextmanager
def _silent(name: str) -> Iterator[None]:
    """Without what this logger says of a damaged file beside the exception."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _fit(image: Array, size: int) -> Array:
    """Shrink so that the longest side is ``size``; a smaller image stays as it is."""
    from skimage.transform import resize

    pixels = np.asarray(image)
    shape = [max(1, round(n * size / max(pixels.shape[:2]))) for n in pixels.shape[:2]]
    if max(pixels.shape[:2]) <= size:
        return image
    # Means of whole blocks down to four times the size: the anti-aliasing filter is slow on a photograph of 24 megapixels.
    block = max(1, min(n // (4 * m) for n, m in zip(pixels.shape[:2], shape, strict=True)))
    rows, columns = (n // block for n in pixels.shape[:2])
    blocks = pixels[: rows * block, : columns * block].reshape(rows, block, columns, block, -1)
    pixels = blocks.mean((1, 3)) if block > 1 else pixels
    return jnp.asarray(resize(pixels, shape, anti_aliasing=True), jnp.float32)


def _check_amount(options: RestoreOptions, shape: tuple[int, ...]) -> None:
    """Refuse an image that would take all memory, or hours that nobody asked for."""
    factor = int(options.operator.number) if options.measured and options.operator.name == "downsample" else 1
    values = math.prod(shape) * factor**2
    if values > (_FEW if options.size is None else _MANY):
        raise OptionError(
            f"image: restoring {values / 1e6:.0f} million values ({shape[0]} x {shape[1]} pixels) takes "
            f"{values * _BYTES / 1e9:.0f} GB and long; give {'--size' if options.size is None else 'a smaller --size'}"
        )


def _degraded(options: RestoreOptions, truth: Array, key: Array) -> Problem:
    """Simulate the measurement of a clean image."""
    spec, (model_key, noise_key) = options.operator, jax.random.split(key)
    if spec.name == "downsample":
        factor = int(spec.number)
        truth = truth[: truth.shape[0] // factor * factor, : truth.shape[1] // factor * factor]
        if min(truth.shape[:2]) < _SMALLEST * factor:
            raise OptionError(
                f"--operator: {spec} leaves less than {_SMALLEST} pixels of {truth.shape[0]} x {truth.shape[1]}"
            )
    model = forward_model(spec, truth.shape, model_key)
    problem = InverseProblem(model.operator, _gaussian(options))
    y = problem.measure(noise_key, truth)
    picture = None if model.picture is None else model.picture(y)
    whole = (slice(None), slice(None))
    return Problem(truth, y, problem.likelihood(y), model.start(y), whole, False, picture, model.name)


def _measured(options: RestoreOptions, y: Array, key: Array) -> Problem:
    """A given measurement. A blur is modelled on a larger image, whose unknown border is restored too and cut off."""
    spec, shape = options.operator, y.shape
    window: tuple[slice, ...] = (slice(None), slice(None))
    if spec.name in ("blur", "uniform"):
        kernel = blur_kernel(spec, shape, key)
        (h, w) = kernel.shape
        large = (shape[0] + h - 1, shape[1] + w - 1, shape[2])
        operator: LinearOperator = Blur(kernel, large, "valid")
        reach = [((k - 1) // 2, k // 2) for k in (h, w)]
        window = tuple(slice(before, before + n) for (before, _), n in zip(reach, shape[:2], strict=True))
        start = jnp.pad(y, [*reach, (0, 0)], mode="edge")
    elif spec.name == "downsample":
        factor = int(spec.number)
        operator = downsampling((shape[0] * factor, shape[1] * factor, shape[2]), factor)
        start = jnp.repeat(jnp.repeat(y, factor, 0), factor, 1)
    else:
        operator, start = Identity(shape), y
    noise = _gaussian(options) if options.noise is not None else _estimated(y)
    f = InverseProblem(operator, noise).likelihood(y)
    return Problem(None, y, f, start, window, options.noise is None)


def _gaussian(options: RestoreOptions) -> Gaussian:
    sigma: Any = options.noise.number if options.noise is not None else None
    return Gaussian(sigma)


def _estimated(y: Array) -> Gaussian:
    sigma: Any = float(noise_level(y))  # a Python float, so that it promotes nothing
    if not sigma >= NOISES["gaussian"].least:
        raise OptionError(f"--noise: the estimated noise level {sigma:.1e} is too low to be real; give gaussian:SIGMA")
    return Gaussian(sigma)
