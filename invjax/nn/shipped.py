"""The denoisers that come with the package."""

from __future__ import annotations

import pathlib

from .files import load
from .frozen import Frozen, frozen

SHIPPED = ("grey", "colour")
"""Names that ``shipped_denoiser`` knows."""


def shipped_denoiser(kind: str = "grey") -> Frozen:
    """A trained ``D(x, sigma)`` for photographs with values in [0, 1]: ``"grey"`` ``(H, W, 1)`` or ``"colour"`` ``(H, W, 3)``.

    A ``light_drunet`` of 2.35 million weights, trained for noise of standard deviation sigma from 0 to 0.4. For other ranges of
    values and numbers of channels see ``priors.Rescaled``, ``priors.PerChannel`` and ``priors.ComplexParts``. Photographs and
    licences: ``invjax/nn/weights/NOTICE.md``; quality by noise level: ``docs/benchmarks.md``. Raises ``ValueError`` for another
    name.
    """
    if kind not in SHIPPED:
        raise ValueError(f"kind: expected one of {', '.join(SHIPPED)}, got {kind!r}")
    return frozen(load(pathlib.Path(__file__).parent / "weights" / f"{kind}.safetensors"))
