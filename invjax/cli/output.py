"""The output folder of ``invjax restore``: written whole or not at all, never over an earlier run without ``--force``."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import tempfile
from typing import Any

import numpy as np

from ..data import save_image
from ..data.files import write_bytes
from ..plots import panel, save_figure, uncertainty
from .options import OptionError, RestoreOptions

FILES = (
    "measurement.png",
    "restored.png",
    "posterior_mean.png",
    "uncertainty.png",
    "panel.png",
    "result.npz",
    "report.json",
)


def choose_folder(options: RestoreOptions) -> pathlib.Path:
    """The folder to write. Raises ``OptionError`` when it holds an earlier run, or is no folder, before anything is computed."""
    if options.output is None:
        n = 0
        while (folder := pathlib.Path(f"restored-{n}")).exists():
            n += 1
        return folder
    folder = options.output
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"--output: {folder} is a file; expected a folder")
    taken = [name for name in FILES if (folder / name).exists()]
    if taken and not options.force:
        raise OptionError(f"--output: {folder} already holds {', '.join(taken)}; add --force to overwrite")
    if not folder.absolute().parent.is_dir():
        raise OptionError(f"--output: the folder {folder.absolute().parent} does not exist")
    return folder


def write(folder: pathlib.Path, images: dict[str, Any], report: dict[str, Any]) -> None:
    """Write all files to a temporary folder beside ``folder``, then move them in; an interruption leaves nothing behind."""
    parent = folder.absolute().parent
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=parent))
    try:
        arrays = {name: np.asarray(a) for name, a in images.items() if a is not None}
        for name in ("measurement", "restored", "posterior_mean"):
            save_image(temporary / f"{name}.png", arrays[name])
        save_figure(temporary / "uncertainty.png", _uncertainty(arrays))
        save_figure(temporary / "panel.png", _panel(arrays, report))
        np.savez_compressed(temporary / "result.npz", **arrays)
        write_bytes(temporary / "report.json", (json.dumps(report, indent=2) + "\n").encode())
        if not folder.exists():
            temporary.rename(folder)
            return
        for name in FILES:
            os.replace(temporary / name, folder / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _uncertainty(arrays: dict[str, np.ndarray]) -> Any:
    return uncertainty(arrays["posterior_mean"], arrays["posterior_std"], truth=arrays.get("truth"), units="intensity")


def _panel(arrays: dict[str, np.ndarray], report: dict[str, Any]) -> Any:
    names = {
        "truth": "truth",
        "measurement": "measurement",
        "restored": "restored (MAP)",
        "posterior_mean": "posterior mean",
    }
    shown = {title: arrays[name] for name, title in names.items() if name in arrays}
    lines = {
        names[name]: f"{value:.2f} dB"
        for name, value in (report["psnr"] or {}).items()
        if value is not None and names[name] in shown
    }
    # Standard deviations are small: stretched so that the largest 1 % is white.
    std = np.sqrt(np.mean(arrays["posterior_std"] ** 2, axis=-1, keepdims=True))
    top = max(float(np.quantile(std, 0.99)), 1e-12)
    shown["uncertainty"] = std / top
    lines["uncertainty"] = f"white: std {top:.3f}"
    return panel(shown, metrics=lines, columns=3)
