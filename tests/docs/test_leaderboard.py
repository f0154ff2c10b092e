"""The leaderboard says what the results files say."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def script(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(repository / "docs" / "experiments"))
    yield importlib.import_module("leaderboard")
    for name in ("leaderboard", "pages", "appending"):
        sys.modules.pop(name, None)


def test_the_page_is_up_to_date(
    script: ModuleType, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(shutil.copy(repository / "docs" / "leaderboard.md", tmp_path))
    monkeypatch.setattr(sys, "argv", ["leaderboard.py", "--page", str(page)])
    script.main()
    there = (repository / "docs" / "leaderboard.md").read_text(encoding="utf-8")
    assert page.read_text(encoding="utf-8") == there, "run python docs/experiments/leaderboard.py"
    assert max(map(len, there.splitlines())) <= 120


def test_the_worst_column_decides_the_order(script: ModuleType) -> None:
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in script.leaderboard("cora").splitlines()[2:]]
    assert len(rows) > 15
    for _, worst, *numbers, _ in rows:
        assert float(worst.removeprefix("≤ ")) == min(float(number) for number in numbers if number != "–")
        assert worst.startswith("≤") == ("–" in numbers)
    order = [(worst.startswith("≤"), -float(worst.removeprefix("≤ "))) for _, worst, *_ in rows]
    assert order == sorted(order)


def test_a_cell_is_the_mean_of_its_lines(script: ModuleType, repository: Path) -> None:
    lines = (repository / "docs/results/robust_cora/results.jsonl").read_text(encoding="utf-8").splitlines()
    values = [
        row["accuracy"]
        for row in map(json.loads, lines)
        if (row["model"], row["attack"], row["budget"]) == ("robust", "metattack", 0.25)
    ]
    assert sorted(script.cells("cora")["robust", "Metattack"]) == sorted(values)
    assert len(values) == 10


def test_a_model_that_no_attack_could_change_is_not_called_attacked(script: ModuleType) -> None:
    """White-box PGD flips nothing where there is no gradient; trained anew on the same graph says nothing."""
    found = script.cells("cora")
    assert ("robust-distilled", "trained anew") not in found
    assert len(found["robust", "trained anew"]) == 3
