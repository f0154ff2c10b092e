"""The suite of large graphs on small ones: what it runs, keeps and pairs, not how long it takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from contractive_gnn.bench import scale as module
from contractive_gnn.bench import scale_runs
from contractive_gnn.bench.cli import app
from contractive_gnn.bench.scale import planned, scale, sized

Asked = list[dict[str, Any]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Every run that was asked for; each takes a second a node."""
    found: Asked = []

    def in_process(run: Any) -> dict[str, Any]:
        found.append(run)
        double = 1 if run["side"] in scale_runs.OURS else 2
        seconds = 1.0 * double * run["nodes"]
        memory = 100.0 + run["nodes"]
        return {"seconds": seconds, "processor_seconds": seconds, "megabytes": memory, "note": "so", "edges": 7}

    monkeypatch.setattr(module, "_in_process", in_process)
    return found


def test_sizes_have_names_or_nodes() -> None:
    assert sized("arxiv") == (169_343, 13.7)
    assert sized("5000") == (5000, 13.7)
    for wrong in ("huge", "999", "-5", "1e6"):
        with pytest.raises(ValueError, match="size must be arxiv, million or a number of nodes from 1000"):
            sized(wrong)


def test_ours_stand_beside_each_of_the_peers(tmp_path: Path, asked: Asked) -> None:
    figures = list(scale(folder=tmp_path, sizes=["1000"], threads=1, epochs=3))
    assert len(asked) == len(planned("1000", tasks=list(scale_runs.TASKS), threads=1, epochs=3)) == 16
    steps = [figure for figure in figures if figure.name.startswith("one training step")]
    assert len(steps) == 12
    assert {figure.peer for figure in steps} == {
        "PyG's GCN, two layers, edge_index",
        "PyG's GCN, two layers, CSR",
        "PyG's APPNP, CSR, ten steps",
    }
    assert all(figure.ratio == 2.0 and figure.threads == 1 for figure in steps)
    attacks = {figure.name.split(",")[0]: figure.peer for figure in figures if "% of the edges" in figure.name}
    assert attacks == {
        "prbcd on robust": None,
        "prbcd on gcn": "PyG's PRBCDAttack on its GCN",
        "whitebox-pgd on gcn": "PyG's PRBCDAttack on its GCN",
    }
    assert [figure.peer for figure in figures if "certificate" in figure.name] == [None]


def test_what_is_there_is_not_run_again(tmp_path: Path, asked: Asked) -> None:
    first = list(scale(folder=tmp_path, sizes=["1000"], tasks=["step"], threads=1))
    with (tmp_path / "scale.jsonl").open("a") as file:
        file.write('{"task": "st')  # a run that was killed while it wrote
    again = list(scale(folder=tmp_path, sizes=["1000"], tasks=["step", "certificate"], threads=1))
    assert again[: len(first)] == first
    assert [run["task"] for run in asked] == ["step"] * 7 + ["certificate"]
    list(scale(folder=tmp_path, sizes=["1000"], tasks=["step"], threads=2))
    assert len(asked) == 15


def test_the_growth_has_an_exponent_for_either_graph(tmp_path: Path, asked: Asked) -> None:
    said: list[str] = []
    figures = list(scale(folder=tmp_path, sizes=["growth"], growth=(1000, 4000), threads=1, say=said.append))
    assert len(figures) == 6
    assert [figure.name for figure in figures if "growth" in figure.name] == [
        "growth from 1,000 to 4,000 nodes, dc-sbm",
        "growth from 1,000 to 4,000 nodes, uniform",
    ]
    assert figures[2].note.startswith("processor time grows with exponent 1.00, peak memory by 1024.0 kB a node")
    assert said[0] == "1 of 8: one training step of robust, 1,000 nodes"
    assert "min left" in said[1]


def test_a_run_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="one training step of robust, 1,000 nodes: the process ended with 1"):
        list(scale(folder=tmp_path, sizes=["1000"], tasks=["step"], threads=1))


def test_a_peer_that_fails_leaves_a_figure_of_ours_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: Asked
) -> None:
    stubbed = module._in_process

    def in_process(run: Any) -> dict[str, Any]:
        if run["side"] != "gcn":
            return stubbed(run)
        failed = {"seconds": None, "processor_seconds": None, "megabytes": None}
        return {**failed, "note": "it needs more memory than there is"}

    monkeypatch.setattr(module, "_in_process", in_process)
    figures = list(scale(folder=tmp_path, sizes=["1000"], tasks=["step"], threads=1))
    alone = [figure for figure in figures if figure.peer is None]
    assert len(alone) == 4
    assert all("edge_index: it needs more memory than there is" in figure.note for figure in alone)


@pytest.mark.parametrize("side", ["robust", "appnp", "gcn", "gcn-csr"])
def test_a_step_runs(side: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("numba")
    run = {"task": "step", "side": side, "graph": "uniform", "nodes": 1000, "degree": 6.0, "threads": 1, "epochs": 0}
    scale_runs.main(json.dumps(run))
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["seconds"] > 0
    assert 2900 <= line["edges"] <= 3000  # a pair that was drawn twice is one edge


@pytest.mark.parametrize("graph", ["dc-sbm", "uniform"])
def test_the_peers_have_the_same_graph(graph: str) -> None:
    run = scale_runs.Run(task="step", side="appnp", graph=graph, nodes=1000, degree=6.0, threads=1, epochs=0)
    data = scale_runs.large_graph(run)
    _, adjacency = scale_runs.peer("appnp", data)
    dense = torch.zeros(1000, 1000)
    dense[data.edge_index[0], data.edge_index[1]] = 1.0
    assert torch.equal(adjacency.to_dense(), dense)


def test_a_fit_and_a_certificate_run() -> None:
    run = scale_runs.Run(task="fit", side="gcn", graph="dc-sbm", nodes=1000, degree=6.0, threads=1, epochs=2)
    data = scale_runs.large_graph(run)
    assert "2 epochs" in scale_runs.train(run, data)["note"]
    run["side"] = "robust"
    assert "4 epochs in 2 modes" in scale_runs.train(run, data)["note"]
    assert "certified" in scale_runs.certificate(run, data)["note"]


@pytest.mark.parametrize("side", ["prbcd on gcn", "pyg-prbcd on gcn"])
def test_an_attack_runs(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale_runs, "ATTACK_EPOCHS", 3)
    run = scale_runs.Run(task="attack", side=side, graph="dc-sbm", nodes=1000, degree=6.0, threads=1, epochs=0)
    note = scale_runs.attack(run, scale_runs.large_graph(run))["note"]
    assert note.startswith("30 flips")


def test_the_command_knows_sizes_and_tasks(tmp_path: Path, asked: Asked) -> None:
    arguments = ["speed", "--out", str(tmp_path), "--suite", "scale", "--size"]
    done = CliRunner().invoke(app, [*arguments, "1000", "--task", "certificate"])
    assert done.exit_code == 0, done.output
    assert len(asked) == 1
    assert json.loads((tmp_path / "speed.jsonl").read_text().splitlines()[0])["suite"] == "scale"
    assert CliRunner().invoke(app, [*arguments, "huge"]).exit_code == 2
    assert CliRunner().invoke(app, [*arguments, "1000", "--task", "walk"]).exit_code == 2
