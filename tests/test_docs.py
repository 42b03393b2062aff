"""The Python blocks of README.md and docs/ run in order, one namespace per file, and their promises hold."""

import functools
import importlib
import inspect
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    """Source of every block, with the number of its first line."""
    text = page.read_text()
    return [(m.group(1), text[: m.start(1)].count("\n")) for m in FENCE.finditer(text)]


@functools.cache
def executed(page):
    """The namespace after all blocks of the page."""
    namespace = {"__name__": "docs"}
    for source, line in blocks(page):
        exec(compile("\n" * line + source, str(page), "exec"), namespace)
    return namespace


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: p.name)
def test_blocks_run(page, float32, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in executed(page).items():
        if name.startswith("test_"):
            value()


EXAMPLES = {
    "operators": ("tests.registry", "OPERATORS"),
    "priors": ("tests.priors.registry", "PRIORS"),
    "likelihoods": ("tests.likelihoods.registry", "LIKELIHOODS"),
    "solvers": ("tests.solvers.registry", "CASES"),
    "samplers": ("tests.samplers.registry", "SAMPLERS"),
}


@pytest.mark.slow
@pytest.mark.parametrize("area", EXAMPLES)
def test_examples_of_the_contributing_page_keep_the_contracts(area, key, monkeypatch):
    """As if their lines stood in the registries: every contract that runs over the whole registry."""
    module, registry = EXAMPLES[area]
    contracts = importlib.import_module(f"tests.{area}.test_contracts")
    registered = importlib.import_module(module)
    (name,) = lines = executed(ROOT / "docs" / "contributing.md")[registry]
    monkeypatch.setitem(getattr(registered, registry), name, lines[name])
    if area == "solvers":
        monkeypatch.setitem(registered.SOLVERS, name, lambda r: registered.assemble(name, **registered.draw(r, name)))
    if area == "priors":
        monkeypatch.setattr(contracts, "PROXIMABLE", [*contracts.PROXIMABLE, name])
    ran = 0
    for test in vars(contracts).values():
        marks = {m.args[0]: m.args[1] for m in getattr(test, "pytestmark", []) if m.name == "parametrize"}
        parameters = inspect.signature(test).parameters if callable(test) else ()
        if isinstance(marks.get("name"), dict) and set(parameters) <= {
            "name",
            "key",
        }:  # the registry itself, not a part
            test(**{p: {"name": name, "key": key}[p] for p in parameters})
            ran += 1
    assert ran >= 4


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_named_files_exist(page):
    """Paths in backticks that begin like files of this repository, but for the invented ones that a block creates."""
    invented = {"luminance", "asymmetric_l1", "biased", "relaxed", "leimkuhler_matthews"}
    for path in re.findall(r"`((?:invjax|tests|benchmarks|notebooks|docs)/[\w/.]+)`", page.read_text()):
        if pathlib.Path(path).stem not in invented | {"NAME"}:
            assert (ROOT / path).exists(), path
