"""The package as it is installed: declared imports, light start, wheel, Ctrl-C."""

import ast
import importlib.metadata
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import sysconfig
import time
import tomllib
import zipfile

import pytest

from ..environment import user_environment

ROOT = pathlib.Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SCRIPT = "import sys; from invjax.cli import main; sys.argv[0] = 'invjax'; main()"
FILES = {
    *("measurement.png", "restored.png", "posterior_mean.png", "uncertainty.png", "panel.png"),
    *("result.npz", "report.json"),
}


def python(code, *arguments, **options):
    """Run code in a fresh interpreter, with the settings of a user rather than of these tests."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=user_environment(), timeout=300, **options)


def test_every_import_is_declared():
    imported = set()
    for path in (ROOT / "invjax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add((node.module or "").split(".")[0])
    third_party = imported - set(sys.stdlib_module_names) - {"invjax"}
    owners = importlib.metadata.packages_distributions()
    declared = {re.split(r"[<>=!~\[; ]", d)[0].lower() for d in PROJECT["dependencies"]}
    declared.add("jaxlib")  # a dependency of jax, which pins it
    declared.add("nufftax")  # the extra "nufft", imported where it is used
    undeclared = {m for m in third_party if not {d.lower() for d in owners.get(m, [])} & declared}
    assert {"jax", "numpy", "typer", "PIL", "skimage"} <= third_party
    assert not undeclared


def test_help_is_answered_without_jax():
    seconds: list[float] = []
    while min(seconds, default=1.0) >= 0.5 and len(seconds) < 10:  # the machine may be busy with something else
        began = time.perf_counter()
        done = python(SCRIPT, "--help")
        seconds.append(time.perf_counter() - began)
        assert done.returncode == 0, done.stderr
        assert "restore" in done.stdout
    assert min(seconds) < 0.5
    code = "import sys; from invjax.cli.app import command_line as c; c(['restore', '--help']); print(*sys.modules)"
    loaded = set(python(code).stdout.splitlines()[-1].split())
    assert "invjax.cli.options" in loaded
    assert not loaded & {"jax", "jaxlib", "numpy", "matplotlib", "scipy"}


def test_import_is_light():
    code = "import invjax, sys; assert 'jax' not in sys.modules; invjax.InverseProblem; print(*sys.modules)"
    loaded = set(python("import invjax, sys; print(*sys.modules)").stdout.split())
    heavy = {"ott", "flax", "diffrax", "optax", "blackjax", "matplotlib", "skimage", "scipy", "lineax", "equinox"}
    assert "invjax" in loaded
    assert not loaded & heavy
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & {"ott", "flax", "diffrax", "blackjax", "matplotlib", "skimage"}


@pytest.mark.parametrize("seconds", [1.0, 1.5, 2.0, 5.0])
def test_ctrl_c_ends_at_once(tmp_path, seconds):
    """In the first seconds modules are being imported, after five XLA compiles or the chains run."""
    command = [sys.executable, "-c", SCRIPT, "restore", "--size", "64", "--num-samples", "100000", "--output", "out"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=5)
    assert process.returncode == 130
    assert out == ""
    assert err.endswith("invjax: interrupted\n")
    assert "Traceback" not in err
    assert os.listdir(tmp_path) == []


def test_ctrl_c_waits_until_the_files_are_written(tmp_path):
    code = """if True:
        import os, pathlib, signal, sys, time
        import numpy as np
        from invjax.cli.interrupt import exit_on_interrupt
        from invjax.cli import output
        exit_on_interrupt()
        save_image = output.save_image
        def slow(*arguments):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            save_image(*arguments)
        output.save_image = slow
        names = ("measurement", "restored", "posterior_mean", "posterior_std")
        output.write(pathlib.Path("out"), False, {n: np.full((16, 16, 1), 0.5) for n in names}, {"psnr": None})
        time.sleep(10)
    """
    done = python(code, cwd=tmp_path)
    assert done.returncode == 130, done.stderr
    assert done.stderr == "invjax: interrupted\n"
    assert os.listdir(tmp_path) == ["out"]
    assert set(os.listdir(tmp_path / "out")) == FILES


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--quiet", "--wheel-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.iterdir()
    return path


@pytest.mark.slow
def test_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = (n for n in names if n.endswith("entry_points.txt"))
        assert "invjax = invjax.cli:main" in archive.read(entry_points).decode()
    folder = ROOT / "invjax"
    expected = {str(p.relative_to(ROOT)) for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    info = f"invjax-{PROJECT['version']}.dist-info/"
    assert {n for n in names if not n.startswith(info)} == expected
    assert {"invjax/py.typed", "invjax/cli/app.py"} <= expected
    assert info + "licenses/LICENSE" in names


@pytest.mark.slow
def test_installed_wheel_restores_a_photograph(wheel, tmp_path):
    """With its denoiser, in a new environment that has the wheel and, by a path file, the dependencies of this one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    site = sysconfig.get_path("purelib", "venv", {"base": str(tmp_path / "env")})
    target = ["--no-deps", "--no-index", "--quiet", "--prefix", str(tmp_path / "env"), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "install", "--ignore-installed", *target], check=True)
    pathlib.Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    work = tmp_path / "work"
    work.mkdir()
    arguments = ["restore", "--size", "32", "--num-samples", "8", "--prior", "denoiser:0.2", "--output", "out"]
    command = [str(tmp_path / "env/bin/invjax"), *arguments]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    assert "PSNR" in done.stdout
    assert set(os.listdir(work / "out")) == FILES
    report = json.loads((work / "out" / "report.json").read_text())
    assert report["psnr"]["restored"] > report["psnr"]["measurement"] + 2
    where = [str(tmp_path / "env/bin/python"), "-c", "import invjax; print(invjax.__file__)"]
    assert str(tmp_path) in subprocess.run(where, cwd=work, capture_output=True, text=True).stdout
