"""The page on conservative message passing: its code runs, and its script measures and writes what it says."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from contractive_gnn import datasets


@pytest.fixture
def script(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository / "docs" / "experiments"))
    sys.modules.pop("conservative_graphs", None)
    import conservative_graphs

    monkeypatch.setattr(
        conservative_graphs.datasets, "load", lambda name: datasets.contextual_sbm(60, classes=3, features=8, seed=0)
    )
    return conservative_graphs


def test_the_code_of_the_page_runs(repository: Path) -> None:
    page = (repository / "docs" / "conservative.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(block, names)
    assert names["moved"].shape == names["data"].x.shape  # type: ignore[attr-defined]


def test_each_part_writes_a_line_for_each_network_and_the_page(
    script: ModuleType, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "lines.jsonl"
    options = argparse.Namespace(out=out, seeds=1, epochs=1, steps=3, models=None, attacked=tmp_path / "bench")
    monkeypatch.setattr(script, "DEEP", 64)
    script.measure("depth", options)
    script.measure("invariants", options)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 2 * 4 + 3
    assert all(len(row["dirichlet"]) == 65 for row in rows if row["part"] == "depth" and row["model"] != "gcn")
    kept = {row["model"]: row for row in rows if row["part"] == "invariants"}
    assert all(row["violation"] < 1e-12 for row in kept.values())
    assert all(row["plain"] > 1e-6 for row in kept.values())
    script.measure("depth", options)  # goes on where it was: nothing is made again
    assert len(out.read_text(encoding="utf-8").splitlines()) == len(rows)

    folder = tmp_path / "docs" / "images"
    folder.mkdir(parents=True)
    page = (repository / "docs" / "conservative.md").read_text(encoding="utf-8")
    (tmp_path / "docs" / "conservative.md").write_text(page, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    script.table(options)
    written = (tmp_path / "docs" / "conservative.md").read_text(encoding="utf-8")
    assert "| wave | symplectic | 3 | 60 |" in written
    assert (folder / "conservative_depth.png").stat().st_size > 0
