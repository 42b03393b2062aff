"""scikit-image: ``radon`` (rotation and sums) and ``iradon`` without a filter, which is not its adjoint."""

from __future__ import annotations

import numpy as np
from common import Variant, arguments, mismatch, relative_error, serve

args, problem = arguments()

import skimage  # noqa: E402
from skimage.transform import iradon, radon  # noqa: E402

degrees = np.rad2deg(problem["angles"])
size = problem["clean"].shape[0]


def project(x: np.ndarray) -> np.ndarray:
    return radon(x, degrees, circle=False, preserve_range=True)


def back_project(y: np.ndarray) -> np.ndarray:
    image = iradon(y, degrees, output_size=size, filter_name=None, circle=False, preserve_range=True)
    return image * (2 * len(degrees) / np.pi)


def cropped(y: np.ndarray) -> np.ndarray:
    """The ``size`` detectors around its middle one, angles first."""
    first = y.shape[0] // 2 - size // 2
    return y[first : first + size].T


def widened(v: np.ndarray) -> np.ndarray:
    """The transpose of ``cropped``, for the number of detectors that ``radon`` gives."""
    full = int(np.ceil(np.sqrt(2) * size))
    first = full // 2 - size // 2
    return np.pad(v.T, ((first, full - size - first), (0, 0)))


if __name__ == "__main__":
    wide = widened(problem["v"][0])
    off = mismatch(lambda u: cropped(project(u)), lambda v: back_project(widened(v)), problem["u"], problem["v"])
    served = {
        "forward, radon": Variant(
            lambda: project(problem["clean"]),
            lambda y: {"quality": relative_error(cropped(y), problem["exact_about_pixel"])},
        ),
        "adjoint, iradon without filter": Variant(lambda: back_project(wide), lambda x: {"quality": off}),
    }
    serve(served, {"skimage": skimage.__version__})
