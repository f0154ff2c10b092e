from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from contractive_gnn.bench.cli import app
from contractive_gnn.bench.results import Result, read_results
from contractive_gnn.bench.transfer import matrices

Make = Callable[..., Result]
QUICK = ("--dataset", "csbm", "--set", "training.epochs=3", "--set", "whitebox-pgd.attack.epochs=2")


def replayed(make_result: Make, victim: str, **changes: Any) -> Result:
    made = {"file": f"{victim}.npz", "sha256": victim, "made_by": "prbcd", "victim": victim}
    return make_result(
        attack=f"{victim}.npz", attack_source="replayed", threat="evasion", hyperparameters={"attack": made}, **changes
    )


def test_rows_are_victims_and_entries_means_over_seeds(make_result: Make) -> None:
    results = [
        replayed(make_result, "gcn", model="csgnn", seed=0, accuracy=60.0),
        replayed(make_result, "gcn", model="csgnn", seed=1, accuracy=70.0),
        replayed(make_result, "csgnn", model="gcn", accuracy=80.0),
    ]
    (matrix,) = matrices(results)
    assert (matrix.victims, matrix.models) == (("csgnn", "gcn"), ("csgnn", "gcn"))
    assert dict(matrix.accuracy) == {("gcn", "csgnn"): 65.0, ("csgnn", "gcn"): 80.0}
    assert matrix.title == "prbcd, 25 % of edges, evasion"


def test_a_models_own_attack_stands_on_the_diagonal(make_result: Make) -> None:
    own = {"attack": "prbcd", "attack_source": "live", "threat": "evasion"}
    results = [
        replayed(make_result, "gcn", model="csgnn", accuracy=60.0),
        make_result(model="gcn", accuracy=40.0, **own),
        make_result(model="gcn", accuracy=30.0, **{**own, "threat": "poisoning"}),  # another threat
        make_result(model="gcn", accuracy=20.0, budget=0.05, **own),  # another budget
        make_result(model="gat", accuracy=10.0, **own),  # no graph was made against it
    ]
    (matrix,) = matrices(results)
    assert dict(matrix.accuracy) == {("gcn", "csgnn"): 60.0, ("gcn", "gcn"): 40.0}


def test_budgets_and_threats_have_matrices_of_their_own(make_result: Make) -> None:
    results = [replayed(make_result, "gcn", budget=budget, model="csgnn") for budget in (0.05, 0.1)]
    assert [matrix.title for matrix in matrices(results)] == [
        "prbcd, 5 % of edges, evasion",
        "prbcd, 10 % of edges, evasion",
    ]
    assert matrices([make_result()]) == ()


def test_a_graph_made_against_a_model_says_so_all_the_way(tmp_path: Path) -> None:
    """From ``attack`` through the saved file and ``bench`` to the matrix."""

    def run(*arguments: str | Path) -> None:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.stderr

    graph, out = tmp_path / "against-gcn.npz", tmp_path / "run"
    run("attack", *QUICK, "--model", "gcn", "--attack", "whitebox-pgd:5flips", "--out", graph)
    common = ("--models", "gcn,mlp", "--seeds", "1", "--jobs", "1", "--out", out)
    run("bench", "--dataset", "csbm", "--set", "training.epochs=3", *common, "--attacks", f"clean,{graph}")
    (matrix,) = matrices(read_results(out / "results.jsonl"))
    assert (matrix.attack, matrix.victims, matrix.models) == ("whitebox-pgd", ("gcn",), ("gcn", "mlp"))
    assert "Transfer: whitebox-pgd, 5 edges, evasion" in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("model", [[], ["--model", "gcn"]])
def test_an_attack_that_looks_at_no_model_has_no_victim(tmp_path: Path, model: list[str]) -> None:
    from contractive_gnn.bench.replay import Replay

    graph = tmp_path / "noise.npz"
    options = ["--dataset", "csbm", *model, "--attack", "random:0.05", "--out", str(graph)]
    if model:
        options += ["--set", "training.epochs=2"]
    assert CliRunner().invoke(app, ["attack", *options]).exit_code == 0
    assert set(Replay.read(str(graph)).identity) == {"file", "sha256"}
