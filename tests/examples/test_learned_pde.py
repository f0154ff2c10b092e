"""The example of a learned equation runs, learns, and draws what it learned."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("PIL")


def test_an_equation_is_learned(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    monkeypatch.setattr(sys, "argv", ["learned_pde.py", "--quick", "--out", str(tmp_path)])
    runpy.run_path(str(repository / "examples" / "learned_pde.py"))
    lines = capsys.readouterr().out.splitlines()
    assert float(lines[0].rpartition(" ")[2]) < 1e-12
    errors = [float(line.rpartition(" ")[2]) for line in lines[1:5]]
    assert errors[-1] < 0.1
    norm = re.search(r"norm within (\S+)$", lines[-1])
    assert norm is not None
    assert float(norm.group(1)) < 1e-12
    with Image.open(tmp_path / "advection.gif") as animation:
        assert animation.n_frames == 41
    assert (tmp_path / "advection.gif").stat().st_size < 3e6
    assert (tmp_path / "advection.png").stat().st_size > 1000


def test_the_example_is_short(repository: Path) -> None:
    assert len((repository / "examples" / "learned_pde.py").read_text().splitlines()) < 85
