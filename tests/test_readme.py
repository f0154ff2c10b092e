"""What the README, the docs and the docstrings show runs as it stands there."""

import doctest
import importlib
import re
from functools import partial
from pathlib import Path

import pytest

from contractive_gnn import datasets, training
from contractive_gnn.bench.presets import preset_names
from contractive_gnn.nn import linf_diffusion, model_names
from contractive_gnn.registry import temporary

FILES = ("extend.md", "own.md")


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_the_python_blocks_of_the_readme_run(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = blocks(repository / "README.md")
    assert len(shown) == 1
    scope: dict[str, object] = {}
    for block in shown:
        exec(compile(block, "README.md", "exec"), scope)
    printed = capsys.readouterr().out
    assert "True " in printed  # the coupled bound is certified
    assert "10 edges flipped" in printed


def test_the_contents_are_the_code(repository: Path) -> None:
    text = (repository / "docs" / "contents.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?ms)^- \*\*(.*?)\*\*:(.*?)(?=^- |^$)", text)
    named = [name for modules, _ in rows for name in re.findall(r"`([\w.]+)`", modules)]
    modules = {name: importlib.import_module(name) for name in named}
    for left, right in rows:
        own = [modules[name] for name in re.findall(r"`([\w.]+)`", left)]
        for name in re.findall(r"`([A-Za-z]\w+)`", right):
            assert any(hasattr(module, name) for module in own), f"{left}: {name}"
    rooms = {f"contractive_gnn.{file.parent.name}" for file in (repository / "contractive_gnn").glob("*/__init__.py")}
    assert rooms - set(named) == {"contractive_gnn.compiled", "contractive_gnn.deeprobust"}


def test_the_readme_has_todays_names(repository: Path) -> None:
    """A model on a command line of the README or of docs/ is registered: not by a former name."""
    for page in [repository / "README.md", *(repository / "docs").glob("*.md")]:
        for line in re.findall(r"--models? ([\w,.:-]+)", page.read_text(encoding="utf-8")):
            for name in line.split(","):
                own = ".py:" in name or f'register("{name}")' in page.read_text(encoding="utf-8")
                assert own or name in {*model_names(), *preset_names()}, f"{page.name}: {name}"


def test_the_python_blocks_of_the_docs_run(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the pages in FILES are files, which test_extend.py and test_own.py run."""
    monkeypatch.chdir(tmp_path)  # a block may write a file, and go on with one that is there
    monkeypatch.setattr(training, "fit", partial(training.fit, epochs=3))
    pages = [page for page in (repository / "docs").rglob("*.md") if page.name not in FILES and blocks(page)]
    assert {"certificates.md", "robust.md", "start.md"} <= {page.name for page in pages}
    for page in pages:
        data = datasets.contextual_sbm(60, features=6, average_degree=4, seed=0)
        scope = {"data": data, "model": linf_diffusion(6, 2, hidden_channels=8).eval()}  # what the reader has
        for block in blocks(page):
            exec(compile(block, page.name, "exec"), scope)


def test_the_examples_of_the_docstrings_run(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # an example may write a file
    found = 0
    for folder, package in (("contractive_gnn", ""), ("attacks", "contractive_gnn."), ("datasets", "contractive_gnn.")):
        for file in (repository / folder).rglob("*.py"):
            if ">>>" in file.read_text(encoding="utf-8"):
                name = package + ".".join(file.relative_to(repository).with_suffix("").parts)
                module = importlib.import_module(name.removesuffix(".__init__"))
                with temporary():  # an example may register
                    outcome = doctest.testmod(module)
                assert outcome.failed == 0, name
                found += outcome.attempted
    assert found >= 2


def test_the_rooms_of_contributing_are_here(repository: Path) -> None:
    table = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Where things are")[2]
    rooms = re.findall(r"`([\w.]+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))
    assert {"compiled", "dynamics", "bench.cli"} <= set(rooms)
    for room in rooms:
        importlib.import_module(f"contractive_gnn.{room}")


def test_every_file_the_docs_name_exists(repository: Path) -> None:
    """A path in backticks is the end of one here, but for what the reader makes and what is said to be history."""
    files = {f"/{file.relative_to(repository).as_posix()}" for file in repository.rglob("*.*")}
    for page in [repository / "README.md", *(repository / "docs").glob("*.md")]:
        text = " ".join(page.read_text(encoding="utf-8").split())
        text = re.sub(r".{0,150}in the git history|the git history has.{0,100}", "", text)
        for path in re.findall(r"`((?:\w+/)+[\w.-]+\.(?:py|json|jsonl|md|csv))`", text):
            assert any(file.endswith(f"/{path}") for file in files), f"{page.name} names {path}"


def test_settings_in_the_docs_have_todays_names(repository: Path) -> None:
    for page in [repository / "README.md", *(repository / "docs").glob("*.md")]:
        old = re.findall(r'"(hidden|num_steps|sigma|share)":', page.read_text(encoding="utf-8"))
        assert old == [], f"{page.name} has {old}"


def test_every_file_the_docs_link_to_exists(repository: Path) -> None:
    for page in [repository / "README.md", *(repository / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
