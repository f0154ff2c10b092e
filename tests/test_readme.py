"""What the README, the docs and the docstrings show runs as it stands there."""

import doctest
import importlib
import re
from functools import partial
from pathlib import Path

import pytest

from contractive_gnn import datasets, training
from contractive_gnn.nn import linf_diffusion
from contractive_gnn.registry import temporary

FILES = ("extend.md", "own.md")


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_the_python_blocks_of_the_readme_run(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = blocks(repository / "README.md")
    assert len(shown) == 3
    scope: dict[str, object] = {}
    for block in shown:
        exec(compile(block, "README.md", "exec"), scope)
    printed = capsys.readouterr().out
    assert "True " in printed  # the coupled bound is certified
    assert "10 edges flipped" in printed


def test_the_python_blocks_of_the_docs_run(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the pages in FILES are files, which test_extend.py and test_own.py run."""
    monkeypatch.setattr(training, "fit", partial(training.fit, epochs=3))
    pages = [page for page in (repository / "docs").glob("*.md") if page.name not in FILES and blocks(page)]
    assert {"certificates.md", "robust.md"} <= {page.name for page in pages}
    for page in pages:
        data = datasets.contextual_sbm(60, features=6, average_degree=4, seed=0)
        scope = {"data": data, "model": linf_diffusion(6, 2, hidden_channels=8).eval()}  # what the reader has
        for block in blocks(page):
            exec(compile(block, page.name, "exec"), scope)


def test_the_examples_of_the_docstrings_run(repository: Path) -> None:
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


def test_every_file_the_docs_link_to_exists(repository: Path) -> None:
    for page in [repository / "README.md", *(repository / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
