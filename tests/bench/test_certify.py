from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from contractive_gnn.bench import certify as module
from contractive_gnn.bench.cli import app
from contractive_gnn.bench.results import read_results
from contractive_gnn.certify import bounds

QUICK = ("--dataset", "csbm", "--set", "training.epochs=6", "--set", "model.num_steps=4")


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["certify", *map(str, arguments)], env={"COLUMNS": "200"})
    return done.exit_code, done.stdout, done.stderr


def test_it_writes_results_radii_and_a_picture_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (*QUICK, "--flips", "2", "--fraction", "0.25", "--out", tmp_path)
    code, out, err = invoke(*arguments)
    assert (code, err) == (0, "")
    assert "2 edges per node" in out
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(line["budget"], line["budget_unit"]) for line in lines] == [
        (1, "edges per node"),
        (2, "edges per node"),
        (0.25, "fraction of each degree"),
    ]
    for line in lines:
        assert line["model"] == "certified"
        assert 0 < line["certified_accuracy"] <= line["clean_accuracy"] <= 100
        assert line["certified_accuracy"] == line["accuracy"]
        assert line["attacked_predictions"] == 0
    assert lines[1]["accuracy"] <= lines[0]["accuracy"]
    radii = (tmp_path / "radii.csv").read_text().splitlines()
    assert radii[0] == "seed,node,label,prediction,radius,largest_tried"
    assert len(radii) == 1001
    assert (tmp_path / "certified.png").stat().st_size > 0

    monkeypatch.setattr(module, "fit_certified", None)  # nothing is trained again
    assert invoke(*arguments)[0] == 0
    assert len(read_results(tmp_path / "results.jsonl")) == 3


def test_attacks_do_not_break_it_but_break_a_wrong_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (*QUICK, "--attack", "--attack-predictions", "60000")
    assert invoke(*arguments, "--out", tmp_path / "right")[0] == 0
    (line,) = (tmp_path / "right" / "results.jsonl").read_text().splitlines()
    result = json.loads(line)
    assert result["broken"] == 0
    assert result["attacked_predictions"] >= 60_000
    assert result["certified_accuracy"] <= result["unchanged_accuracy"] <= result["clean_accuracy"]

    correct = bounds._largest_added
    monkeypatch.setattr(bounds, "_largest_added", lambda *given: 0.3 * correct(*given))
    code, _, err = invoke(*arguments, "--out", tmp_path / "wrong")
    assert code == 1
    assert "the certificate is wrong" in err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--dataset", "coral"), "no dataset is called 'coral'"),
        (("--kind", "swaps"), "--kind: expected one of both, additions, deletions, got 'swaps'"),
        (("--flips", "0"), "at least one flip"),
        (("--model", "gcn"), "no preset called 'gcn'"),
        (("--split", "fixed"), "--split: expected prognn or random"),
    ],
)
def test_mistakes_are_answered_in_one_line(tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    code, _, err = invoke(*arguments, "--out", tmp_path)
    assert code == 2
    assert complaint in err
