"""The output folder of ``invjax restore``: written whole or not at all, never over an earlier run without ``--force``."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..data import save_image
from ..data.files import write_bytes
from ..plots import panel, save_figure, uncertainty
from .interrupt import finishing
from .options import OptionError

FILES = (
    "measurement.png",
    "restored.png",
    "posterior_mean.png",
    "uncertainty.png",
    "panel.png",
    "result.npz",
    "report.json",
)


def check_folder(wanted: pathlib.Path | None, force: bool) -> None:
    """Raise ``OptionError`` or ``OSError`` when the results could not be written, before anything is computed."""
    folder = _target(wanted, force)
    with _temporary_folder(folder):
        pass


def write(wanted: pathlib.Path | None, force: bool, images: dict[str, Any], report: dict[str, Any]) -> pathlib.Path:
    """Write all files to a temporary folder, then move them in; an interruption leaves nothing behind. Returns the folder."""
    with _temporary_folder(_target(wanted, force)) as temporary:
        _write_files(temporary, images, report)
        folder = _target(wanted, force)  # once more: another run may have written there in the meantime
        if folder.exists():
            for name in FILES:
                os.replace(temporary / name, folder / name)
        else:
            temporary.rename(folder)
    return folder


def json_text(report: dict[str, Any]) -> str:
    """The report as JSON, where NaN and infinity, which JSON does not know, are null."""
    return json.dumps(_finite(report), indent=2, allow_nan=False) + "\n"


def _target(wanted: pathlib.Path | None, force: bool) -> pathlib.Path:
    """The folder to write: existing or to be created."""
    if wanted is None:
        n = 0
        while os.path.lexists(f"restored-{n}"):
            n += 1
        return pathlib.Path(f"restored-{n}")
    if os.path.lexists(wanted) and not wanted.is_dir():
        raise OptionError(f"--output: {wanted} is a file; expected a folder")
    if not (parent := wanted.absolute().parent).is_dir():
        raise OptionError(f"--output: the folder {parent} does not exist")
    taken = [name for name in FILES if os.path.lexists(wanted / name)]
    if taken and not force:
        raise OptionError(f"--output: {wanted} already holds {', '.join(taken)}; add --force to overwrite")
    if folders := [name for name in taken if (wanted / name).is_dir()]:
        raise OptionError(f"--output: {wanted / folders[0]} is a folder; expected a file")
    return wanted


@contextlib.contextmanager
def _temporary_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Inside ``folder`` where that exists (it may be a file system of its own), else beside it; removed at the end."""
    temporary = (folder if folder.is_dir() else folder.absolute().parent) / f".invjax-{uuid.uuid4().hex}"
    with finishing:
        try:
            try:
                temporary.mkdir()
            except OSError as error:
                raise OptionError(f"--output: cannot write to {temporary.parent}: {error.strerror}") from None
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _write_files(folder: pathlib.Path, images: dict[str, Any], report: dict[str, Any]) -> None:
    arrays: dict[str, Any] = {name: np.asarray(a) for name, a in images.items() if a is not None}
    picture = arrays.pop("picture", arrays["measurement"])
    for name, image in {"measurement": picture, **{n: arrays[n] for n in ("restored", "posterior_mean")}}.items():
        save_image(folder / f"{name}.png", image)
    save_figure(folder / "uncertainty.png", _uncertainty(arrays))
    save_figure(folder / "panel.png", _panel({**arrays, "measurement": picture}, report))
    np.savez_compressed(folder / "result.npz", **arrays)
    write_bytes(folder / "report.json", json_text(report).encode())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _uncertainty(arrays: dict[str, np.ndarray]) -> Any:
    return uncertainty(arrays["posterior_mean"], arrays["posterior_std"], truth=arrays.get("truth"), units="intensity")


def _panel(arrays: dict[str, np.ndarray], report: dict[str, Any]) -> Any:
    names = {
        "truth": "truth",
        "measurement": "measurement",
        "baseline": str(report.get("baseline")),
        "restored": "restored (MAP)",
        "posterior_mean": "posterior mean",
    }
    shown = {title: arrays[name] for name, title in names.items() if name in arrays}
    lines = {
        names[name]: f"{value:.2f} dB"
        for name, value in (report["psnr"] or {}).items()
        if value is not None and names[name] in shown
    }
    # Standard deviations are small: stretched so that the largest 1 % is white. The errors are on their scale.
    std = _over_channels(arrays["posterior_std"])
    top = max(float(np.quantile(std, 0.99)), 1e-12)
    maps = {"standard deviation": std}
    if "truth" in arrays:
        maps["error of the mean"] = _over_channels(arrays["posterior_mean"] - arrays["truth"])
    shown |= {title: values / top for title, values in maps.items()}
    lines |= dict.fromkeys(maps, f"white from {top:.3f}")
    return panel(shown, metrics=lines, columns=3 if len(shown) in (3, 5, 6) else 4)


def _over_channels(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(values**2, axis=-1, keepdims=True))
