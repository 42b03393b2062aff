"""Options of ``invjax restore``: text specifications such as ``blur:1.6`` and their checks. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import NamedTuple


class Number(NamedTuple):
    """What may follow the colon: the value where nothing does (None: no number), and the smallest and largest one."""

    default: float | None
    least: float = 0.0
    most: float = math.inf


OPERATORS = {
    "blur": Number(1.6, 0.01, 1000),
    "motion-blur": Number(3, 0.1, 1000),
    "uniform": Number(9, 1, 1000),
    "downsample": Number(2, 1, 1000),
    "inpaint": Number(0.5, 0.001, 0.999),
    "denoise": Number(None),
    "mri": Number(3, 1, 20),
    "tomography": Number(60, 2, 10_000),
    "phase-retrieval": Number(4, 2, 100),
}
SIMULATED = ("motion-blur", "inpaint", "mri", "tomography", "phase-retrieval")
"""Operators whose measurement is no image, or depends on random numbers: not for ``--measured``."""
NOISES = {"gaussian": Number(0.02, 1e-4, 10)}
PRIORS = {"denoiser": Number(None, 1e-3, 1e3), "tv": Number(None, 1e-3, 1e5)}
METHODS = {"denoiser": ("skrock", "pnp-ula"), "tv": ("skrock", "myula")}
"""Samplers of each prior."""
NUM_SAMPLES = {"denoiser": 50, "tv": 150}
_WHOLE = ("uniform", "downsample", "tomography", "phase-retrieval")
_BARE = ("denoise",)


class OptionError(ValueError):
    """An impossible option: reported as one line, exit code 2."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """A name and its number: ``blur:1.6``. The text form loses no digit, so that it can be given again."""

    name: str
    value: float | None

    @property
    def number(self) -> float:
        """The value, where there is one."""
        if self.value is None:
            raise OptionError(f"expected a number after {self.name}:, got none")
        return self.value

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}:{repr(self.value).removesuffix('.0')}"


@dataclasses.dataclass(frozen=True)
class RestoreOptions:
    """Everything ``invjax restore`` was told, checked as far as it can be without the image."""

    photo: pathlib.Path | None
    measured: bool
    operator: Spec
    noise: Spec | None
    prior: Spec
    method: str
    num_samples: int
    num_chains: int
    seed: int
    size: int | None
    output: pathlib.Path | None
    force: bool
    quiet: bool
    json: bool


def parse_spec(text: str, known: Mapping[str, Number], option: str) -> Spec:
    """``NAME`` or ``NAME:NUMBER``; the number has the default and the bounds in ``known``."""
    name, colon, number = text.partition(":")
    if name not in known:
        raise OptionError(f"{option}: expected one of {', '.join(known)}, got {name!r}")
    default, least, most = known[name]
    if not colon:
        return Spec(name, default)
    if name in _BARE:
        raise OptionError(f"{option}: {name} takes no number, got {number!r}")
    try:
        value = float(number)
    except ValueError:
        raise OptionError(f"{option}: expected a number after {name}:, got {number!r}") from None
    if not least <= value <= most:  # refuses NaN too
        raise OptionError(f"{option}: expected a number from {least:g} to {most:g} after {name}:, got {number}")
    return Spec(name, value)


def default_size(operator: Spec) -> int:
    """Longest side in pixels to which a clean photograph is shrunk."""
    return 128 if operator.name in ("tomography", "phase-retrieval") else 256  # they take long


def default_noise(operator: Spec) -> Spec:
    """Noise that is added where the user names none."""
    return Spec("gaussian", 0.005 if operator.name == "tomography" else NOISES["gaussian"].default)


def check_operator(spec: Spec, measured: bool) -> None:
    """Rules that tie an operator to its number and to ``--measured``."""
    if spec.name in _WHOLE and spec.value is not None and spec.value != int(spec.value):
        raise OptionError(f"--operator: expected a whole number after {spec.name}:, got {spec.value:g}")
    if spec.name in SIMULATED and measured:
        raise OptionError(f"--operator: {spec.name} can only be simulated, so it cannot go with --measured")


def check_range(option: str, value: int | None, least: int, most: int) -> None:
    """Refuse a count outside its bounds."""
    if value is not None and not least <= value <= most:
        raise OptionError(f"{option}: expected a whole number from {least} to {most}, got {value}")
