"""The output folder: whole or not at all, and never over what was there."""

import json
import os
import stat

import numpy as np
import pytest

from invjax.cli import output
from invjax.cli.options import OptionError

RNG = np.random.default_rng(0)
NAMES = ("measurement", "restored", "posterior_mean", "posterior_std")
IMAGES = {name: RNG.uniform(size=(16, 24, 1)).astype(np.float32) for name in NAMES} | {"truth": None}
REPORT = {"psnr": None, "ess_median": float("nan"), "weights": [1.0, float("inf")]}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "out"


def test_a_new_folder_with_the_permissions_of_any_other(folder, tmp_path):
    (tmp_path / "other").mkdir()
    assert output.write(folder, False, IMAGES, REPORT) == folder
    assert sorted(os.listdir(folder)) == sorted(output.FILES)
    assert sorted(os.listdir(tmp_path)) == ["other", "out"]
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_arrays_and_report_come_back(folder):
    output.write(folder, False, IMAGES, REPORT)
    with np.load(folder / "result.npz") as arrays:
        assert sorted(arrays) == sorted(NAMES)
        for name in NAMES:
            np.testing.assert_array_equal(arrays[name], IMAGES[name])
    report = json.loads((folder / "report.json").read_text(), parse_constant=pytest.fail)
    assert report == {"psnr": None, "ess_median": None, "weights": [1.0, None]}


def test_nothing_is_overwritten_without_force(folder):
    folder.mkdir()
    (folder / "panel.png").write_text("mine")
    (folder / "notes.txt").write_text("mine too")
    for attempt in (output.check_folder, lambda *a: output.write(*a, IMAGES, REPORT)):
        with pytest.raises(OptionError, match=r"already holds panel\.png; add --force"):
            attempt(folder, False)
        assert (folder / "panel.png").read_text() == "mine"
        assert sorted(os.listdir(folder)) == ["notes.txt", "panel.png"]
    output.write(folder, True, IMAGES, REPORT)
    assert (folder / "panel.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "notes.txt").read_text() == "mine too"
    assert sorted(os.listdir(folder)) == sorted([*output.FILES, "notes.txt"])


def test_a_run_that_finished_first_is_not_overwritten(folder, monkeypatch):
    def slow(*arguments):
        folder.mkdir()
        (folder / "report.json").write_text("of the other run")

    monkeypatch.setattr(output, "_write_files", slow)
    with pytest.raises(OptionError, match="already holds"):
        output.write(folder, False, IMAGES, REPORT)
    assert (folder / "report.json").read_text() == "of the other run"
    assert os.listdir(folder) == ["report.json"]


def test_default_folders_are_numbered(tmp_path):
    (tmp_path / "restored-0").symlink_to("nowhere")
    (tmp_path / "restored-1").touch()
    assert [str(output.write(None, False, IMAGES, REPORT)) for _ in range(2)] == ["restored-2", "restored-3"]


def test_the_current_folder(folder):
    folder.mkdir()
    os.chdir(folder)
    output.write(output.pathlib.Path("."), False, IMAGES, REPORT)
    assert sorted(os.listdir(folder)) == sorted(output.FILES)
    assert os.listdir(folder.parent) == ["out"]


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("step", ["save_image", "save_figure", "json_text"])
def test_an_interruption_leaves_nothing(folder, monkeypatch, step, error, exists):
    if exists:
        folder.mkdir()

    def stopped(*arguments, **options):
        raise error

    monkeypatch.setattr(output, step, stopped)
    with pytest.raises((KeyboardInterrupt, OSError)):
        output.write(folder, False, IMAGES, REPORT)
    assert os.listdir(folder.parent) == (["out"] if exists else [])
    assert not exists or os.listdir(folder) == []
    assert not output.finishing.locked()
