"""Image files: read whatever the user has as float32 ``(H, W, C)`` in [0, 1], write PNG."""

from __future__ import annotations

import io
import os
import pathlib
import uuid
from typing import Any

import jax.numpy as jnp
import numpy as np
import PIL.Image
import tifffile
from jaxtyping import Array, Float

_ORIENTATION, _BITS, _COMPRESSION, _PHOTOMETRIC = 274, 258, 259, 262  # EXIF and TIFF tags
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2  # values of the photometric tag


def load_image(path: str | os.PathLike, *, normalise: bool = False) -> Float[Array, "H W C"]:
    """The image in a file (PNG, JPEG, TIFF, or another format of Pillow) as float32 ``(H, W, C)``, C = 1 or 3.

    Integers are scaled linearly, 0 to 0 and the largest value of their bit depth to 1; there is no gamma correction.
    Floating and signed values must lie in [0, 1] after that; ``normalise=True`` maps the smallest and largest value of the
    image to 0 and 1 instead, whatever the type (a constant image becomes 0). Palettes, CMYK and YCbCr become RGB.
    Transparent pixels are composited over white. The EXIF orientation is applied. Of an animation or a file of several
    pages the first is read. Pillow keeps the upper 8 bits of a colour PNG of 16 bits; grey PNG and TIFF keep all.

    Raises ``FileNotFoundError`` where there is no such file, and ``ValueError`` for a folder, a file that is empty,
    truncated or not an image, NaN, or values outside [0, 1].
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.is_dir():
        raise ValueError(f"{path}: expected an image file, got a folder")
    try:
        image = _read(path)
    except Exception as error:  # Pillow and tifffile raise a dozen types for damaged files
        raise ValueError(f"{path}: cannot be read as an image ({_one_line(error)})") from error
    return jnp.asarray(_in_range(image, path, normalise), jnp.float32)


def save_image(path: str | os.PathLike, x: Any) -> None:
    """Write ``x``, real ``(H, W)``, ``(H, W, 1)`` or ``(H, W, 3)``, as an 8-bit PNG; values are clipped to [0, 1].

    The file appears whole or not at all. Raises ``ValueError`` for another shape, complex values, NaN, or a path that does
    not end in ``.png``.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"path: expected a name that ends in .png, got {str(path)!r}")
    image = np.asarray(x)
    image = image[..., None] if image.ndim == 2 else image
    if image.ndim != 3 or image.shape[-1] not in (1, 3) or image.size == 0:
        raise ValueError(f"x: expected shape (H, W), (H, W, 1) or (H, W, 3), got {np.shape(x)}")
    if np.iscomplexobj(image) or np.isnan(image).any():
        raise ValueError("x: expected real values without NaN; save the magnitude of a complex image")
    levels = np.round(255 * np.clip(image.astype(np.float64), 0, 1)).astype(np.uint8)
    write_bytes(path, _png(levels))


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write a file that appears whole or not at all: to a temporary name in the same folder, then renamed."""
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _png(levels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(buffer, "PNG")
    return buffer.getvalue()


def _read(path: pathlib.Path) -> np.ndarray:
    """Floating ``(H, W, C)``, integers scaled to [0, 1]."""
    if path.stat().st_size == 0:
        raise ValueError("the file is empty")
    try:
        with PIL.Image.open(path) as file:
            if file.format == "TIFF" and not _pillow_reads_well(file):
                return _read_tiff(path)
            return _from_pillow(file)
    except PIL.UnidentifiedImageError:
        with path.open("rb") as start:
            if start.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                raise ValueError("not a known image format") from None
        return _read_tiff(path)


def _pillow_reads_well(file: PIL.Image.Image) -> bool:
    """Whether Pillow reads this TIFF as it is.

    It cuts colour to 8 bits, knows no unsigned 32-bit integers, and scrambles uncompressed images stored on their side.
    """
    tags = file.tag_v2  # type: ignore[attr-defined]
    exact = max(np.atleast_1d(tags.get(_BITS, (1,)))) <= 8 or file.mode in ("F", "I;16", "I;16B")
    return exact and not (tags.get(_COMPRESSION, 1) == 1 and tags.get(_ORIENTATION, 1) >= 5)


def _from_pillow(file: PIL.Image.Image) -> np.ndarray:
    file.load()  # Pillow reads trailing EXIF data, and turns a TIFF, only here
    image = _pillow_pixels(file)
    tags = getattr(file, "tag_v2", {})
    if file.mode.startswith("I;16") and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        image = 1 - image  # Pillow does this for 8 bits only
    return _orient(image, file.getexif().get(_ORIENTATION, 1))


def _pillow_pixels(file: PIL.Image.Image) -> np.ndarray:
    if file.mode == "F":
        return np.asarray(file, np.float64)[..., None]
    if file.mode.startswith("I"):  # 16-bit PNG, PGM and TIFF; "I" holds 16-bit values in 32 bits
        return np.asarray(file, np.float64)[..., None] / (2**16 - 1)
    grey = file.mode in ("1", "L", "LA", "La")
    if file.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in file.info:
        image = np.asarray(file.convert("RGBA"), np.float64) / 255
        image = _over_white(image[..., :3], image[..., 3:])
        return image[..., :1] if grey else image
    image = np.asarray(file.convert("L" if grey else "RGB"), np.float64) / 255
    return image[..., None] if grey else image


def _over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.where(alpha == 1, colour, colour * alpha + (1 - alpha))


def _read_tiff(path: pathlib.Path) -> np.ndarray:
    """First page of a TIFF that Pillow does not read well."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        image = page.asarray()
        orientation = page.tags[_ORIENTATION].value if _ORIENTATION in page.tags else 1
    if page.axes == "SYX":
        image = np.moveaxis(image, 0, -1)
    elif page.axes not in ("YX", "YXS"):
        raise ValueError(f"expected one image of axes YX or YXS, got {page.axes} of shape {page.shape}")
    image = image[..., None] if image.ndim == 2 else image
    if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        raise ValueError(
            f"expected a grey or RGB image, got photometric {int(page.photometric)} of {page.bitspersample} bits"
        )
    image = _scaled(image, page.bitspersample)
    if page.photometric == _WHITE_IS_ZERO:
        image = 1 - image
    return _orient(_drop_extra(image, page), orientation)


def _scaled(image: np.ndarray, bits: int) -> np.ndarray:
    if image.dtype.kind in "fb":
        return image.astype(np.float64)
    if image.dtype.kind not in "iu":
        raise ValueError(f"expected real values, got {image.dtype}")
    return image.astype(np.float64) / (2 ** (bits - (image.dtype.kind == "i")) - 1)


def _drop_extra(image: np.ndarray, page: Any) -> np.ndarray:
    """One or three channels: alpha (associated 1, unassociated 2) goes over white, an unspecified channel is dropped."""
    num = 3 if page.photometric == _RGB else 1
    kinds = [int(kind) for kind in page.extrasamples]
    if image.shape[-1] != num + len(kinds) or image.shape[-1] > num + 1:
        raise ValueError(f"expected 1 or 3 channels and at most one of transparency, got {image.shape[-1]}")
    colour, alpha = image[..., :num], image[..., num:]
    if kinds == [1]:
        return colour + (1 - alpha)
    return _over_white(colour, alpha) if kinds == [2] else colour


def _orient(image: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the EXIF orientation: 2 and 4 mirrored, 3 upside down, 5 to 8 on their side."""
    image = image.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else image
    image = image[:, ::-1] if orientation in (2, 3, 6, 7) else image
    return image[::-1] if orientation in (3, 4, 7, 8) else image


def _in_range(image: np.ndarray, path: pathlib.Path, normalise: bool) -> np.ndarray:
    if np.isnan(image).any():
        raise ValueError(f"{path}: expected numbers, got {int(np.isnan(image).sum())} NaN values")
    low, high = image.min(), image.max()
    if normalise and np.isfinite([low, high]).all():
        return (image - low) / (high - low if high > low else 1)
    if low < 0 or high > 1:
        raise ValueError(
            f"{path}: expected values in [0, 1], got minimum {low:.6g} and maximum {high:.6g}; "
            "normalise=True maps a finite range to [0, 1]"
        )
    return image


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
