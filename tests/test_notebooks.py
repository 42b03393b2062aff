"""The notebooks: source and copy hold the same cells, the copy has its pictures, and the source runs (``-m notebook``)."""

import json
import pathlib
import subprocess
import sys

import jupytext
import pytest

from .environment import notebook_environment

FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
SOURCES = sorted(FOLDER.glob("*.py"))
each = pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)


def cells(notebook):
    return [(c["cell_type"], "".join(c["source"])) for c in notebook["cells"]]


def test_every_notebook_has_a_source():
    assert SOURCES
    assert {p.stem for p in FOLDER.glob("*.ipynb")} == {p.stem for p in SOURCES}


@each
def test_executed_copy_is_that_of_the_source(source):
    path = source.with_suffix(".ipynb")
    executed = json.loads(path.read_text())
    assert cells(executed) == cells(jupytext.read(source))
    code = [c for c in executed["cells"] if c["cell_type"] == "code"]
    assert [c["execution_count"] for c in code] == list(range(1, len(code) + 1))  # run once, in order
    outputs = [o for c in code for o in c["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert sum("image/png" in o.get("data", {}) for o in outputs) >= 2
    assert path.stat().st_size < 1_000_000


@each
def test_imports_are_public(source):
    assert "._" not in source.read_text()
    assert "assert " in source.read_text().rsplit("# %%", 1)[1]  # ends with its checks


@pytest.mark.notebook
@each
def test_source_runs(source, tmp_path):
    """In a process of its own: float32, one device, warnings as they come. The executed copy was compiled as a user does."""
    done = subprocess.run(
        [sys.executable, source], cwd=tmp_path, env=notebook_environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
