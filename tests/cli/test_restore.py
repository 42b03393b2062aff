"""Whole runs of ``invjax restore``, in this process and small: every operator, kinds of files, seeds, what is reported."""

import json
import pathlib
import shlex

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import skimage.data
import tifffile

from invjax import data
from invjax.cli import problem
from invjax.cli.app import command_line
from invjax.cli.options import OPERATORS, RestoreOptions, Spec, parse_spec
from invjax.cli.output import FILES
from invjax.metrics import coverage, psnr, ssim

SMALL = ["--size", "48", "--num-samples", "8"]
TV = [*SMALL, "--prior", "tv"]
FIXED = [*SMALL, "--prior", "tv:6"]  # without the sweeps, which take most of the compilation
SMALLER = ["--size", "32", "--num-samples", "8"]  # the network's code is slow here, where nothing is optimised


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch, float32):
    monkeypatch.chdir(tmp_path)


def restored(*arguments, output="out"):
    assert command_line(["restore", *arguments, "--output", output]) == 0
    folder = pathlib.Path(output)
    with np.load(folder / "result.npz") as arrays:
        return dict(arrays), json.loads((folder / "report.json").read_text(), parse_constant=pytest.fail)


def options(photo, operator="blur:1.6", *, measured=False, size=None):
    spec = parse_spec(operator, OPERATORS, "--operator")
    free = (Spec("gaussian", 0.02), Spec("tv", None), "skrock", 8, 2, 0, size, None, False, True, False)
    return RestoreOptions(photo, measured, spec, *free)


@pytest.mark.slow
def test_total_variation(capfd):
    arrays, report = restored(*TV)
    out, err = capfd.readouterr()
    assert sorted(p.name for p in pathlib.Path("out").iterdir()) == sorted(FILES)
    for words in ("measurement", "posterior mean", "PSNR", "SSIM", "best weight knowing the truth", "written to out/"):
        assert words in out
    assert "posterior chains" in err
    _check_report(arrays, report)

    # The command in the report is all that is needed to run it again: the same seed gives the same file.
    # --json prints the report and nothing else.
    assert command_line([*shlex.split(report["command"])[1:], "--json", "--output", "again"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert out == pathlib.Path("again/report.json").read_text()
    assert pathlib.Path("again/result.npz").read_bytes() == pathlib.Path("out/result.npz").read_bytes()

    # Another seed gives another measurement; --quiet prints nothing.
    other, _ = restored(*TV, "--seed", "1", "--quiet", output="other")
    assert capfd.readouterr() == ("", "")
    assert np.abs(other["measurement"] - arrays["measurement"]).max() > 0.01
    np.testing.assert_array_equal(other["truth"], arrays["truth"])


@pytest.mark.slow
def test_shipped_denoiser(capfd):
    """The default. Its result and its posterior mean are better than those of total variation; a seed gives the same file."""
    arrays, report = restored(*SMALLER)
    out, _ = capfd.readouterr()
    _check_report(arrays, report, 32)
    assert "weight of the posterior" not in out
    assert report["posterior_weight"] is report["posterior_weight_choice"] is None
    assert report["options"]["prior"] == "denoiser"
    fixed = f"denoiser:{report['weight']!r}"
    again, same = restored(*SMALLER, "--prior", fixed, output="again")
    assert same["weight"] == report["weight"]
    assert same["weight_choice"] is None
    np.testing.assert_array_equal(again["restored"], arrays["restored"])
    np.testing.assert_array_equal(again["posterior_mean"], arrays["posterior_mean"])
    _, tv = restored(*SMALLER, "--prior", "tv:6", output="tv")
    for name in ("restored", "posterior_mean"):
        assert report["psnr"][name] > tv["psnr"][name]


@pytest.mark.slow
def test_shipped_denoiser_with_a_nonlinear_operator_and_pnp_ula():
    arrays, report = restored(
        *SMALLER, "--operator", "phase-retrieval:3", "--prior", "denoiser:0.2", "--method", "pnp-ula"
    )
    assert all(np.isfinite(a).all() for a in arrays.values())
    assert report["psnr"]["restored"] > report["psnr"]["baseline"] + 0.5
    assert report["psnr"]["posterior_mean"] > report["psnr"]["baseline"] + 0.5
    assert arrays["posterior_std"].min() > 0


def _check_report(arrays, report, size=48):
    assert arrays["truth"].shape == (size, size, 1)
    assert all(a.dtype == np.float32 for a in arrays.values())
    for name in ("measurement", "restored", "posterior_mean"):
        np.testing.assert_allclose(report["psnr"][name], psnr(arrays[name], arrays["truth"]), rtol=1e-5)
        np.testing.assert_allclose(report["ssim"][name], ssim(arrays[name], arrays["truth"]), rtol=1e-5)
        levels = np.asarray(PIL.Image.open(f"out/{name}.png"))
        np.testing.assert_allclose(levels / 255, np.clip(arrays[name][..., 0], 0, 1), atol=0.501 / 255)
    assert report["psnr"]["restored"] > report["psnr"]["measurement"] + 2
    fraction, error = coverage(arrays["truth"], arrays["lower"], arrays["upper"])
    np.testing.assert_allclose(
        [report["coverage90"], report["coverage90_standard_error"]], [fraction, error], rtol=1e-5
    )
    choice = report["weight_choice"]
    assert report["weight"] == choice["weights"][int(np.argmin(choice["sure"]))]
    assert choice["oracle_psnr"] == max(choice["psnr"])
    assert choice["chosen_psnr"] == choice["psnr"][choice["weights"].index(report["weight"])]
    assert report["rhat_p95"] > 0.9
    assert 0 < report["ess_median"] <= 2 * 16  # antithetic draws can count more than once
    assert report["mcse_over_sd"] > 0
    assert 0 < report["compile_seconds"] < report["seconds"]
    assert not report["converged"]
    assert any("raise --num-samples" in reason for reason in report["not_converged_because"])
    assert report["options"]["seed"] == 0
    assert report["versions"]["jax"]


@pytest.mark.slow
@pytest.mark.parametrize("operator", ["motion-blur:2", "uniform:15", "downsample:2", "inpaint:0.5", "denoise"])
def test_other_operators(operator):
    arrays, report = restored("--operator", operator, *FIXED)
    assert report["weight"] == report["posterior_weight"] == 6
    assert report["weight_choice"] is None
    assert all(np.isfinite(a).all() for a in arrays.values())
    assert arrays["posterior_std"].min() > 0
    error = {n: np.sqrt(np.mean((arrays[n] - arrays["truth"]) ** 2)) for n in ("restored", "posterior_mean")}
    if operator == "downsample:2":
        assert arrays["measurement"].shape == (24, 24, 1)
        assert report["psnr"]["measurement"] is None
        assert report["baseline"] == "pseudo-inverse"
        first = arrays["baseline"]
    else:
        assert report["baseline"] is None
        assert "baseline" not in arrays
        first = arrays["measurement"]
    plain = np.sqrt(np.mean((first - arrays["truth"]) ** 2))
    # The fixed weight suits none of them well, so only denoising, where the noise is small, may lose a little.
    assert error["restored"] < (1.5 if operator == "denoise" else 1.0) * plain


INDIRECT = {
    "mri:2": ("zero-filled", (48, 48, 1), np.complex64),
    "tomography:30": ("filtered back-projection", (30, 68, 1), np.float32),
    "phase-retrieval:3": ("Wirtinger flow", (3, 48, 48, 1), np.float32),
}


@pytest.mark.slow
@pytest.mark.parametrize("operator", INDIRECT)
def test_operators_whose_measurement_is_no_image(operator, capfd):
    arrays, report = restored("--operator", operator, *FIXED)
    name, shape, dtype = INDIRECT[operator]
    assert name in capfd.readouterr().out
    assert report["baseline"] == name
    assert arrays["measurement"].shape == shape
    assert arrays["measurement"].dtype == dtype
    assert all(np.isfinite(a).all() for a in arrays.values())
    assert report["psnr"]["measurement"] is None
    assert report["psnr"]["restored"] > report["psnr"]["baseline"] + 0.5
    picture = np.asarray(PIL.Image.open("out/measurement.png"))
    assert picture.min() == 0
    assert picture.max() > 200  # shown on the whole scale


def measured_photograph():
    """What is behind ``photo.jpg``, which is noisy: the sharp image and the blurred one."""
    sharp = skimage.data.coffee()[::14, ::14] / 255
    blurred = scipy.ndimage.gaussian_filter(sharp, (1.6, 1.6, 0))
    photo = blurred + 0.03 * np.random.default_rng(0).normal(size=sharp.shape)
    PIL.Image.fromarray(np.uint8(255 * np.clip(photo, 0, 1))).save("photo.jpg", quality=98, subsampling=0)
    return {"blur:1.6": sharp, "denoise": blurred}


@pytest.mark.slow
@pytest.mark.parametrize(("operator", "prior"), [("blur:1.6", "denoiser:0.2"), ("denoise", "tv")])
def test_a_measured_colour_photograph(operator, prior, capfd):
    """With a given weight, and with one that is chosen without a truth to compare with."""
    truth = measured_photograph()[operator]
    arrays, report = restored(
        *("photo.jpg", "--measured", "--operator", operator, "--prior", prior, "--num-samples", "8")
    )
    out = capfd.readouterr().out
    assert "noise level estimated" in out
    assert "PSNR" not in out
    assert arrays["restored"].shape == arrays["posterior_std"].shape == (29, 43, 3)
    np.testing.assert_array_equal(arrays["measurement"], data.load_image("photo.jpg"))
    assert "truth" not in arrays
    for name in ("psnr", "ssim", "coverage90", "coverage90_standard_error"):
        assert report[name] is None
    if prior == "tv":
        assert set(report["weight_choice"]) == {"weights", "sure", "discrepancy"}
    assert report["sigma_estimated"]
    assert len(report["photo_sha256"]) == 64
    assert report["command"].startswith(f"invjax restore {pathlib.Path('photo.jpg').absolute()} --measured")
    assert 0.02 < report["sigma"] < 0.04  # clipping takes noise away, the texture of so small an image adds some
    errors = {n: np.mean((arrays[n] - truth) ** 2) for n in ("measurement", "restored")}
    assert errors["restored"] < (0.7 if prior == "tv" else 0.8) * errors["measurement"]  # 6 is not the best weight


@pytest.mark.parametrize("operator", ["uniform:4", "uniform:5", "blur:1"])
def test_measured_blur_is_aligned_with_the_image(operator, key):
    """A bright point of the visible window is seen where the simulated blur puts it, for even kernels too."""
    point = np.zeros((32, 32), np.uint8)
    point[16, 20] = 255
    PIL.Image.fromarray(point).save("point.png")
    simulated = problem.build(options(pathlib.Path("point.png"), operator), key)
    given = problem.build(options(pathlib.Path("point.png"), operator, measured=True), key)
    large = np.zeros(given.start.shape, np.float32)
    large[given.window] = simulated.truth
    np.testing.assert_allclose(
        given.likelihood.operator(large), simulated.likelihood.operator(simulated.truth), atol=1e-6
    )


def test_files_of_every_kind_are_shrunk_alike(key):
    photo = skimage.data.astronaut()
    grey = photo[..., 1].astype(np.uint16) * 257
    PIL.Image.fromarray(photo).save("photo.png")
    PIL.Image.fromarray(photo).save("photo.jpg", quality=98)
    PIL.Image.fromarray(np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])).save("alpha.png")
    PIL.Image.fromarray(grey).save("grey16.png")
    tifffile.imwrite("grey16.tif", grey)
    images = {
        n: np.asarray(problem.build(options(pathlib.Path(n), size=64), key).truth)
        for n in ("photo.png", "photo.jpg", "alpha.png", "grey16.png", "grey16.tif")
    }
    assert images["photo.png"].shape == (64, 64, 3)
    np.testing.assert_array_equal(images["alpha.png"], images["photo.png"])
    np.testing.assert_array_equal(images["grey16.tif"], images["grey16.png"])
    np.testing.assert_allclose(images["photo.jpg"], images["photo.png"], atol=0.06)
    np.testing.assert_allclose(images["grey16.png"], images["photo.png"][..., 1:2], atol=1e-6)


def test_a_large_photograph_is_shrunk_like_a_small_one(key):
    """Means of blocks come before the filter; both keep the aspect ratio and the grey levels, not what is finer."""
    rows, columns = np.mgrid[:1500, :2400] / 2400
    wave = 0.5 + 0.4 * np.sin(12 * rows) * np.cos(9 * columns)
    fine = 0.05 * (-1) ** (np.arange(1500)[:, None] + np.arange(2400))  # pixels in turn brighter and darker
    PIL.Image.fromarray(np.round(255 * (wave + fine)).astype(np.uint8)).save("large.png")
    truth = np.asarray(problem.build(options(pathlib.Path("large.png")), key).truth)
    assert truth.shape == (160, 256, 1)
    rows, columns = (np.mgrid[:160, :256] + 0.5) / 256
    expected = 0.5 + 0.4 * np.sin(12 * rows) * np.cos(9 * columns)
    # Grey levels are 1/255 apart; the filters lose second-order terms of 12 / 256 per pixel, and the edges one pixel.
    np.testing.assert_allclose(truth[2:-2, 2:-2, 0], expected[2:-2, 2:-2], atol=0.01)


def test_small_images_keep_their_size_and_measured_ones_too(key):
    PIL.Image.fromarray(skimage.data.camera()[:300, :280]).save("photo.png")
    path = pathlib.Path("photo.png")
    assert problem.build(options(path, size=512), key).truth.shape == (300, 280, 1)
    assert problem.build(options(None, size=8192), key).truth.shape == (512, 512, 1)
    measured = problem.build(options(path, "denoise", measured=True), key)
    np.testing.assert_array_equal(measured.measurement, data.load_image(path))
    assert problem.build(options(path, "denoise", measured=True, size=100), key).measurement.shape == (100, 93, 1)
