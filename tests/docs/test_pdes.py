"""The page on equations runs as it stands, and its script trains, goes on, splits errors and writes tables."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch


@pytest.fixture
def script(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    folder = repository / "docs" / "experiments"
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location("pdes_script", folder / "pdes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pdes_script", module)  # its dataclasses look for their module
    spec.loader.exec_module(module)
    return module


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_code_of_the_page_runs(repository: Path) -> None:
    page = (repository / "docs" / "pdes.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert float(names["same"].abs().max()) < 1e-12
    assert isinstance(names["model"].field.layer.bias, torch.nn.Parameter)


def test_a_training_is_measured_once_and_written_into_the_page(
    script: ModuleType, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "REPORTED", (1, 2))
    monkeypatch.setattr(script, "HORIZONS", (2,))
    small = ["--size", "20", "--count", "20", "--test", "2", "--starts", "2"]
    where = ["--results", str(tmp_path / "results"), "--scratch", str(tmp_path / "scratch")]
    for _ in range(2):
        script.main(["train", "advection-norm-noise", *small, *where])
    (line,) = lines(tmp_path / "results" / "train.jsonl")
    assert (line["parameters"], line["noise"], line["keeps_norm"]) == (102, script.NOISE, True)
    assert line["norm_drift"] < 1e-12
    assert len(line["mean"]) == len(line["worst"]) == 2
    assert line["start_losses"][line["start"]] == min(line["start_losses"])
    assert {"commit", "versions"} <= set(line)
    shutil.rmtree(tmp_path / "scratch")  # a line and its weights are enough for the rest
    script.main(["split", *small, *where])
    (row,) = lines(tmp_path / "results" / "split.jsonl")
    parts = row["40"]
    assert parts["differences"] <= parts["space"] + parts["time"] + 1e-9 or parts["time"] > 1
    assert parts["network"] > 0
    page = tmp_path / "pdes.md"
    shutil.copy(repository / "docs" / "pdes.md", page)
    script.main(["table", *where, "--page", str(page)])
    text = page.read_text(encoding="utf-8")
    assert f"| advection-norm-noise | {line['mean'][0]:.1e} ({line['worst'][0]:.1e}) |" in text
    assert f"| advection-norm-noise | 102 | {line['norm_drift']:.1e} |" in text
    pytest.importorskip("matplotlib")
    script.main(["picture", "--size", "20", *where, "--picture", str(tmp_path / "pdes.png")])
    assert (tmp_path / "pdes.png").stat().st_size > 10_000


def test_the_fit_of_an_order_and_its_errors(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [0.1, 0.05, 0.025]
    row = script.fitted("heat", "space", 4, lengths, [3 * h**4 for h in lengths])
    assert row["fitted"] == pytest.approx(4.0)
    monkeypatch.setattr(script, "GRIDS", (16, 24))
    monkeypatch.setattr(script, "FINE", 48)
    solution = script.spectral("heat", script.long_waves("heat", 48))
    errors = [script.space_error("heat", n, 2, solution) for n in (16, 24)]
    assert script.fitted("heat", "space", 2, [1 / 16, 1 / 24], errors)["fitted"] == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("name", ["heat", "advection", "fisher", "burgers", "gray-scott"])
def test_the_exact_network_is_compared_after_many_steps(script: ModuleType, name: str) -> None:
    equation = script.EQUATIONS[name]((12, 12), {"spacing": 1 / 12, "order": 2})
    row = script.compared(name, equation, "periodic", 2)
    assert row["right_hand_side"] < 1e-13
    assert row["after_40_steps"] < 1e-12


@pytest.mark.filterwarnings("ignore:20 × 20 points do not resolve")
def test_training_solutions_begin_in_turn(script: ModuleType) -> None:
    network = script.NETWORKS["fisher"]
    data = script.load_pde("fisher", count=5, steps=network.steps, size=20)
    pieces = script.pieces(network, data)
    assert pieces.steps == max(script.HORIZONS)
    for i, begin in enumerate([0, 10, 20, 30, 0]):
        assert torch.equal(pieces.states[i], data.states[i, begin : begin + 6])
    heat = script.load_pde("heat", count=2, steps=5, size=20)
    assert torch.equal(script.pieces(script.NETWORKS["heat"], heat).states, heat.states)
