"""Options of ``invjax restore``: text specifications such as ``blur:1.6`` and their checks. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import math
import pathlib

OPERATORS = {"blur": 1.6, "uniform": 9.0, "downsample": 2.0, "inpaint": 0.5, "denoise": None}
NOISES = {"gaussian": 0.02}
PRIORS = {"tv": None}
METHODS = ("skrock", "myula")


class OptionError(ValueError):
    """An impossible option: reported as one line, exit code 2."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """A name and its number: ``blur:1.6``."""

    name: str
    value: float | None

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}:{self.value:g}"


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


def parse_spec(text: str, known: dict[str, float | None], option: str) -> Spec:
    """``NAME`` or ``NAME:NUMBER``; the number defaults to that in ``known`` and must be positive and finite."""
    name, colon, number = text.partition(":")
    if name not in known:
        raise OptionError(f"{option}: expected one of {', '.join(known)}, got {name!r}")
    if not colon:
        return Spec(name, known[name])
    if name == "denoise":
        raise OptionError(f"{option}: denoise takes no number, got {number!r}")
    try:
        value = float(number)
    except ValueError:
        raise OptionError(f"{option}: expected a number after {name}:, got {number!r}") from None
    if not (math.isfinite(value) and value > 0):
        raise OptionError(f"{option}: expected a positive number after {name}:, got {number}")
    return Spec(name, value)


def check_operator(spec: Spec, measured: bool) -> None:
    """Rules that tie the number of an operator to its meaning."""
    value = spec.value
    if spec.name in ("uniform", "downsample") and value != int(value or 0):
        raise OptionError(f"--operator: expected a whole number after {spec.name}:, got {value:g}")
    if spec.name == "inpaint" and not 0 < (value or 0) < 1:
        raise OptionError(f"--operator: expected a kept fraction between 0 and 1 after inpaint:, got {value:g}")
    if spec.name == "inpaint" and measured:
        raise OptionError("--operator: inpaint needs to know which pixels were kept, so it cannot go with --measured")
