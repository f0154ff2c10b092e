"""Every script of the gallery has the form that the site and a notebook want, and a test of what it shows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def test_there_is_a_gallery() -> None:
    assert 10 <= len(SCRIPTS) <= 16


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_form(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    title, line, empty, *prose = (ast.get_docstring(ast.parse(text)) or "").splitlines()
    assert line == "=" * len(title)
    assert not empty
    assert len(" ".join(prose)) > 80
    cells = text.split("\n# %%\n")
    assert len(cells) >= 4
    assert all(cell.startswith("# ") for cell in cells[1:]), "a cell begins with prose"
    assert text.count("plt.show()") == 1
    assert text.endswith("plt.show()\n")
    assert "argparse" not in text
    assert len(text.splitlines()) <= 80


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_what_it_shows_is_tested(path: Path) -> None:
    assert (Path(__file__).parent / f"test_{path.stem}.py").is_file()
