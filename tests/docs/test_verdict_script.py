"""The verdict's tables say what the results files say."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from contractive_gnn.bench.results import RESULTS, Result, ResultsFile


def result(**told: Any) -> Result:
    """A line with plain values beside those that are told."""
    return Result(
        **{
            **{"dataset": "cora", "split": "prognn", "split_seed": 0, "budget_unit": "fraction of edges", "seed": 0},
            **{"hyperparameters": {}, "clean_accuracy": 80.0, "evaluated_on": "test", "n_evaluated": 100, "flips": 5},
            **{"attack_source": "live", "unreliable": [], "train_s": 1.5, "attack_s": 2.0, "commit": None},
            **{"uncommitted_changes": False, "versions": {}, "threat": "evasion"},
            **told,
        }
    )


@pytest.fixture
def script(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(repository / "docs" / "experiments"))
    yield importlib.import_module("verdict")
    for name in ("verdict", "pages"):
        sys.modules.pop(name, None)


def test_the_page_is_up_to_date(script: ModuleType, repository: Path, tmp_path: Path) -> None:
    page = Path(shutil.copy(repository / "docs" / "verdict.md", tmp_path))
    script.main(["--page", str(page)])
    there = (repository / "docs" / "verdict.md").read_text(encoding="utf-8")
    assert page.read_text(encoding="utf-8") == there, "run python docs/experiments/verdict.py"


def test_the_worst_column_decides_and_a_missing_one_is_said(
    script: ModuleType, repository: Path, tmp_path: Path
) -> None:
    def part(accuracy: float) -> dict[str, float]:
        return {"n": 100, "accuracy": accuracy, "clean_accuracy": 80.0}

    parts = {"random": part(79.0), "from-gcn": part(74.0), "from-gat": part(72.0), "per node": part(60.0)}
    lines = []
    for seed in (0, 1):
        for model, left in (("gcn", 50.0), ("robust", 66.0)):
            lines += [
                result(model=model, seed=seed, attack="clean", budget=0, accuracy=80.0 + seed),
                result(model=model, seed=seed, attack="auto", budget=0.2, accuracy=left),
                result(model=model, seed=seed, attack="auto", budget=0.05, accuracy=70.0, breakdown=parts),
            ]
    with ResultsFile(tmp_path / "verdict_cora" / RESULTS) as file:
        for line in lines:
            file.append(line)
    page = Path(shutil.copy(repository / "docs" / "verdict.md", tmp_path))
    script.main(["--page", str(page), "--results", str(tmp_path)])
    text = page.read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| gcn ", "| robust "))]
    assert [row[0] for row in rows] == ["| robust", "| gcn"] * 2
    worst, evasion, _, per_node, transferred, local = rows[1][1:7]
    assert (worst, evasion, per_node, transferred, local) == ("≤ 50.0", "50.0±0.0", "60.0±0.0", "72.0±0.0", "–")
    assert rows[1][-1] == "80.5±0.7 |"
    assert rows[3][-2:] == ["0.0", "2 |"]
    assert max(map(len, text.splitlines())) <= 120
