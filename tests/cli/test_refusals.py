"""What ``invjax`` refuses: exit code 2, one line on stderr, nothing on stdout and nothing written."""

import os

import numpy as np
import PIL.Image
import pytest
import tifffile

from invjax import __version__
from invjax.cli.app import command_line
from invjax.cli.options import OPERATORS, OptionError, parse_spec

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)

BAD = {
    "--nonsense": "No such option: --nonsense",
    "--num-samples": "requires an argument",
    "--num-samples many": "--num-samples",
    "--num-samples 0": "--num-samples: expected a whole number from 8",
    "--num-samples 1000000000": "--num-samples",
    "--num-chains 1": "--num-chains: expected a whole number from 2",
    "--seed -1": "--seed",
    "--seed 4294967296": "--seed",
    "--size 3": "--size: expected a whole number from 16",
    "--size 100000": "--size",
    "--operator blur:-1": "--operator: expected a number from 0.01",
    "--operator blur:0": "--operator",
    "--operator blur:nan": "got nan",
    "--operator blur:inf": "got inf",
    "--operator blur:1e9": "got 1e9",
    "--operator blur:": "expected a number after blur:",
    "--operator blur:wide": "got 'wide'",
    "--operator sharpen": "expected one of blur, motion-blur, uniform",
    "--operator uniform:2.5": "whole number",
    "--operator uniform:0": "from 1",
    "--operator downsample:1.5": "whole number",
    "--operator downsample:1e9": "--operator",
    "--operator downsample:32 --size 64": "leaves less than 16 pixels",
    "--operator inpaint:1": "--operator",
    "--operator denoise:2": "takes no number",
    "--operator mri:0.5": "from 1",
    "--operator tomography:2.5": "whole number",
    "--operator phase-retrieval:1": "from 2",
    "--measured ok.png --operator tomography": "can only be simulated",
    "--operator blur:10 --size 64": "kernel of 81 pixels, wider than the image of 64 x 64",
    "--operator uniform:65 --size 64": "kernel of 65 pixels",
    "--noise poisson": "expected one of gaussian",
    "--noise gaussian:0": "--noise",
    "--noise gaussian:nan": "--noise",
    "--prior wavelet": "expected one of denoiser, tv",
    "--prior tv:-1": "--prior",
    "--prior denoiser:0": "--prior",
    "--method nuts": "expected one of skrock, pnp-ula with --prior denoiser, got 'nuts'",
    "--method pnp-ula --prior tv": "expected one of skrock, myula with --prior tv",
    "--measured": "expected PHOTO",
    "--measured ok.png --operator inpaint": "cannot go with --measured",
    "--measured ok.png --operator downsample:500": "million values",
    "--measured large.png": "million values (2100 x 2000 pixels) takes 2 GB and long; give --size",
    "--measured black.png": "noise level 0.0e+00 is too low to be real",
    "one.png two.png": "unexpected extra argument",
    "missing.png": "missing.png: expected an image file, got no such file",
    "folder": "folder: expected an image file, got a folder",
    "/dev/null": "got a device",
    "n" * 300: "File name too long",
    "empty.png": "the file is empty",
    "text.png": "not a known image format",
    "cut.png": "truncated",
    "cut.jpg": "truncated",
    "cut.tif": "cannot be read as an image",
    "nan.tif": "4096 NaN values",
    "range.tif": "expected values in [0, 1], got minimum 200",
    "thin.png": "sides of at least 16 pixels, got 8 x 64",
    "--output no/such/parent": "does not exist",
    "--output ok.png": "ok.png is a file; expected a folder",
    "--output folder": "already holds restored.png; add --force",
    "--output folder --force": "restored.png is a folder; expected a file",
    "--output " + "n" * 300: "File name too long",
    "--output /proc/restored": "cannot write to /proc",
}


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder" / "restored.png").mkdir(parents=True)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    PIL.Image.fromarray(PIXELS).save("ok.png")
    PIL.Image.fromarray(PIXELS[:8]).save("thin.png")
    PIL.Image.fromarray(np.zeros((64, 64), np.uint8)).save("black.png")
    PIL.Image.fromarray(np.zeros((2100, 2000), np.uint8)).save("large.png")
    for kind in ("png", "jpg", "tif"):
        whole = tmp_path / f"cut.{kind}"
        PIL.Image.fromarray(PIXELS).save(whole)
        whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    tifffile.imwrite("nan.tif", np.full((64, 64), np.nan, np.float32))
    tifffile.imwrite("range.tif", np.full((64, 64), 200, np.float32))
    return sorted(os.listdir(tmp_path))


def test_every_refusal_is_one_line_and_exit_code_2(files, capfd):
    for arguments, message in BAD.items():
        assert command_line(["restore", *arguments.split()]) == 2, arguments
        out, err = capfd.readouterr()
        assert out == "", arguments
        assert err.startswith("invjax: "), arguments
        assert err.count("\n") == 1, err
        assert message in err, (arguments, err)
        assert sorted(os.listdir()) == files, arguments


def test_unknown_command(capfd):
    assert command_line(["restoration"]) == 2
    err = capfd.readouterr().err
    assert err.startswith("invjax: No such command 'restoration'")
    assert err.count("\n") == 1


def test_version_and_help(capfd):
    assert command_line(["--version"]) == 0
    assert capfd.readouterr().out == f"invjax {__version__}\n"
    for arguments in ([], ["--help"], ["restore", "--help"]):
        assert command_line(arguments) == 0
        assert "restore" in capfd.readouterr().out


def test_running_out_of_memory_is_one_line(files, capfd, monkeypatch):
    def exhausted(options):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    monkeypatch.setattr("invjax.cli.restore.run", exhausted)
    assert command_line(["restore"]) == 2
    assert capfd.readouterr().err == "invjax: out of memory; give a smaller --size\n"


def test_programming_errors_keep_their_traceback(monkeypatch):
    def broken(options):
        raise ValueError("a bug")

    monkeypatch.setattr("invjax.cli.restore.run", broken)
    with pytest.raises(ValueError, match="a bug"):
        command_line(["restore"])


@pytest.mark.parametrize("text", ["blur:1.6", "blur:0.1234567890123456", "uniform:9", "denoise"])
def test_specifications_survive_being_written_down(text):
    spec = parse_spec(text, OPERATORS, "--operator")
    assert str(spec) == text
    assert parse_spec(str(spec), OPERATORS, "--operator") == spec
    with pytest.raises(OptionError, match="expected one of"):
        parse_spec("x" + text, OPERATORS, "--operator")
