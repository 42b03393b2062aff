"""Photographs from the scikit-image wheel: real images that need no download."""

from __future__ import annotations

import importlib.util
import pathlib

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .files import load_image
from .phantoms import require_count

# Only files of the wheel itself: the other data sets of scikit-image are fetched from the network.
PHOTOGRAPHS = {
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "camera": "camera.png",
    "cell": "cell.png",
    "chelsea": "chelsea.png",
    "clock": "clock_motion.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "hubble_deep_field": "hubble_deep_field.jpg",
    "immunohistochemistry": "ihc.png",
    "microaneurysms": "microaneurysms.png",
    "moon": "moon.png",
    "motorcycle": "motorcycle_left.png",
    "page": "page.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
    "text": "text.png",
}
"""Names that ``photograph`` knows, and their files in ``skimage/data``."""

_LUMINANCE = np.array([0.2125, 0.7154, 0.0721], np.float32)


def photograph(name: str = "camera", size: int | None = None, *, grey: bool | None = None) -> Float[Array, "H W C"]:
    """A photograph as float32 ``(H, W, C)`` in [0, 1].

    ``size`` gives ``(size, size, C)``: the largest centred square, resized after a Gaussian anti-aliasing filter
    (``skimage.transform.resize``, linear interpolation, so values stay within [0, 1]). ``grey=True`` takes the luminance
    0.2125 R + 0.7154 G + 0.0721 B, ``grey=False`` always gives three channels, and None leaves the image as it is.

    Licences, as scikit-image states them. CC0: brick, camera (Lav Varshney), cell, chelsea (Stefan van der Walt), coffee
    (Rachel Michetti), grass, gravel, microaneurysms (Andreas Maier), retina. Public domain: astronaut and
    hubble_deep_field (NASA), clock (Stefan van der Walt), rocket (SpaceX), text. No known restrictions: coins (Brooklyn
    Museum), immunohistochemistry (CMMI). Not stated: moon, page, motorcycle (left view of a Middlebury 2014 stereo pair).

    Raises ``ValueError`` for an unknown name or a size that is not a positive integer, and ``FileNotFoundError`` where
    scikit-image, or the file in it, is missing.
    """
    if name not in PHOTOGRAPHS:
        raise ValueError(f"name: expected one of {', '.join(PHOTOGRAPHS)}; got {name!r}")
    if size is not None:
        require_count(size, "size")
    image = np.asarray(load_image(_folder() / PHOTOGRAPHS[name]))
    if grey and image.shape[-1] == 3:
        image = image @ _LUMINANCE[:, None]
    if grey is False and image.shape[-1] == 1:
        image = np.repeat(image, 3, axis=-1)
    return jnp.asarray(image if size is None else _square(image, size))


def _folder() -> pathlib.Path:
    """Data folder of the installed scikit-image, found without importing it."""
    found = importlib.util.find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("photograph: the images are part of the package scikit-image, which is not installed")
    folder = pathlib.Path(found.submodule_search_locations[0]) / "data"
    missing = [file for file in PHOTOGRAPHS.values() if not (folder / file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"photograph: {', '.join(missing)} not found in the installed package scikit-image ({folder}); reinstall it"
        )
    return folder


def _square(image: np.ndarray, size: int) -> np.ndarray:
    from skimage.transform import resize  # here, so that phantoms and files do without SciPy

    edge = min(image.shape[:2])
    top, left = ((n - edge) // 2 for n in image.shape[:2])
    crop = image[top : top + edge, left : left + edge]
    return resize(crop, (size, size), order=1, mode="reflect", anti_aliasing=size < edge).astype(np.float32)
