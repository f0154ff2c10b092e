"""Graphs from files in the benchmark: several processes, splits, unknown labels, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from contractive_gnn.bench.cli import app
from contractive_gnn.bench.own_graph import OwnGraph
from contractive_gnn.bench.results import Result, read_results
from contractive_gnn.datasets import DatasetError, contextual_sbm

QUICK = ("--models", "gcn", "--seeds", "1", "--set", "training.epochs=3")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a graph in it: ``mine.npz``, with two splits of its own and some labels that nobody knows."""
    monkeypatch.chdir(tmp_path)
    graph = contextual_sbm(200, seed=4)
    labels = graph.y.numpy().copy()
    labels[:5] = -1
    masks = {f"{key}s": np.stack([graph[key].numpy(), np.roll(graph[key].numpy(), 3)], axis=1)
             for key in ("train_mask", "val_mask", "test_mask")}  # fmt: skip
    np.savez("mine.npz", edges=graph.edge_index.numpy(), x=graph.x.numpy(), y=labels, **masks)
    return tmp_path


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


def results(folder: str) -> list[Result]:
    return read_results(Path(folder) / "results.jsonl")


def test_a_file_is_measured_in_two_processes_and_its_digest_told(here: Path) -> None:
    attacks = "clean,random:0.1,pgd:3flips,metattack-live:3flips,whitebox-pgd:3flips,nettack:1"
    code, out, err = run(
        "bench", "--data", "mine.npz", *QUICK, "--models", "gcn,mlp", "--attacks", attacks, "--targets", "4",
        "--jobs", "2", "--set", "whitebox-pgd.attack.epochs=2", "--set", "pgd.attack.epochs=2", "--out", "run",
    )  # fmt: skip
    assert code == 0, err
    assert err.startswith("mine.npz: 5 nodes have no label, and are neither trained on nor evaluated")
    assert "mine.npz (split own)" in out
    found = results("run")
    assert len(found) == 12
    assert {(r.dataset, r.split, r.split_seed) for r in found} == {("mine.npz", "own", 0)}
    (identity,) = {json.dumps(r.hyperparameters["data"], sort_keys=True) for r in found}
    assert json.loads(identity)["name"] == "mine.npz"
    assert json.loads(identity)["sha256"] == OwnGraph.file(Path("mine.npz")).digest
    whole = dict(np.load("mine.npz"))
    asked = int((whole["test_masks"][:, 0] & (whole["y"] >= 0)).sum())
    assert {r.n_evaluated for r in found if r.evaluated_on == "test"} == {asked}

    command = json.loads(Path("run/commands.jsonl").read_text("utf-8"))["command"].split()[1:]
    code, _, err = run(*command)
    assert code == 0
    assert err.endswith("12 of 12 numbers are in run already.\n")
    np.savez("mine.npz", **{**whole, "x": whole["x"] + 1})
    clean = ("bench", "--data", "mine.npz", *QUICK, "--models", "gcn,mlp", "--attacks", "clean", "--out", "run")
    assert run(*clean)[0] == 0
    assert len(results("run")) == 14  # of the changed graph both were measured anew


def test_every_split_is_another(here: Path) -> None:
    for arguments in (("--split", "1"), ("--split", "random", "--split-seed", "7"), ()):
        assert run("bench", "--data", "mine.npz", *QUICK, "--attacks", "clean", *arguments, "--out", "run")[0] == 0
    assert [(r.split, r.split_seed) for r in results("run")] == [("own", 1), ("random", 7), ("own", 0)]
    code, out, _ = run("report", "run")
    assert code == 0
    for title in ("mine.npz (2 own splits)", "mine.npz (split random, seed 7)"):
        assert title in out
    for title in ("mine.npz (split own)", "mine.npz (split own, number 1)"):
        assert f"<summary>{title}</summary>" in Path("run/table.md").read_text("utf-8")


def test_the_splits_of_a_file_are_measured_in_one_run(here: Path) -> None:
    arguments = ("bench", "--data", "mine.npz", *QUICK, "--attacks", "clean", "--jobs", "1", "--out", "run")
    assert run(*arguments, "--splits", "2")[0] == 0
    assert [(r.split, r.split_seed) for r in results("run")] == [("own", 0), ("own", 1)]
    code, _, err = run(*arguments, "--splits", "3")
    assert code == 2
    assert "split 2 given, and mine.npz has 2; expected 0 to 1" in err
    code, _, err = run(*arguments, "--splits", "2", "--split", "1")
    assert code == 2
    assert "--splits 2 and --split 1: several splits, or one" in err


def test_a_file_has_an_inductive_split_too(here: Path) -> None:
    np.savez("larger.npz", **{**dict(np.load("mine.npz")), "y": np.repeat([0, 1, 2, -1], [70, 60, 50, 20])})
    arguments = ("--split", "inductive", "--attacks", "clean,random:3flips@evasion", "--out", "run")
    code, _, err = run("bench", "--data", "larger.npz", *QUICK, *arguments)
    assert code == 0, err
    assert [(r.split, r.n_evaluated) for r in results("run")] == [("inductive", 7 + 6 + 5)] * 2
    np.savez("small.npz", **{**dict(np.load("mine.npz")), "y": np.repeat([0, 1, 2, -1], [100, 50, 30, 20])})
    code, _, err = run("bench", "--data", "small.npz", *QUICK, *arguments)
    assert code == 2
    assert "small.npz: class 2 has 30 nodes; an inductive split wants 20 for the training" in err


def test_edges_and_labels_from_two_files(here: Path) -> None:
    whole = dict(np.load("mine.npz"))
    Path("g.edgelist").write_text("".join(f"{u} {v}\n" for u, v in whole["edges"].T), "utf-8")
    np.save("y.npy", whole["y"])
    np.save("x.npy", whole["x"])
    code, _, err = run(
        "attack", "--data", "g.edgelist", "--labels", "y.npy", "--features", "x.npy", "--attack", "random:5flips",
        "--out", "a.npz",
    )  # fmt: skip
    assert code == 0, err
    code, _, err = run("bench", "--data", "g.edgelist", *QUICK, "--attacks", "clean")
    assert code == 2
    assert "g.edgelist has no labels, one class a node" in err
    changed = OwnGraph.file(Path("g.edgelist"), labels=Path("y.npy"))
    np.save("y.npy", np.roll(whole["y"], 1))
    with pytest.raises(DatasetError, match=r"g\.edgelist has changed since this run began"):
        changed.load(split=None, split_seed=0)


def test_a_search_takes_a_file_and_a_model_of_ones_own(here: Path) -> None:
    pytest.importorskip("optuna")
    Path("mine.py").write_text(
        "from contractive_gnn.nn import build\n\n"
        "def net(in_channels, out_channels, hidden=4):\n"
        "    return build('gcn', in_channels, out_channels, hidden_channels=hidden)\n",
        "utf-8",
    )
    Path("space.json").write_text('{"model": {"hidden": [2, 3]}, "training": {"epochs": 2}}', "utf-8")
    search = ("tune", "--data", "mine.npz", "--model", "mine.py:net", "--space", "space.json", "--seeds", "1")
    code, out, err = run(*search, "--trials", "2", "--jobs", "2", "--out", "run")
    assert code == 0, err
    assert "On the test nodes: contractive-gnn bench --data mine.npz --models mine.py:net" in out
    preset = json.loads(Path("run/preset.json").read_text("utf-8"))
    assert preset["mine.npz"]["model"]["hidden"] in (2, 3)
    Path("mine.py").write_text(Path("mine.py").read_text("utf-8") + "# changed\n", "utf-8")
    code, _, err = run(*search, "--trials", "3", "--out", "run")
    assert code == 2
    assert "holds another search, with other plugins" in err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--data", "nowhere.npz"), "nowhere.npz does not exist; expected a file that ends in .npz"),
        (("--data", "mine.npz", "--dataset", "cora"), "--dataset cora and --data mine.npz are two graphs; give one"),
        (
            ("--data", "mine.npz", "--split", "prognn"),
            "no split is called 'prognn'. There are: inductive, own, public, random",
        ),
        (("--data", "mine.npz", "--split", "2"), "split 2 given, and mine.npz has 2; expected 0 to 1"),
        (("--data", "mine.npz", "--split", "1", "--split-seed", "2"), "--split 1 and --split-seed 2 are two splits"),
        (("--data", "mine.npz", "--labels", "y.npy"), "y.npy does not exist"),
        (("--dataset", "csbm", "--split", "3"), "no split is called '3'. There are: inductive, prognn, random"),
        (("--dataset", "csbm", "--features", "x.npy"), "--features x.npy: it belongs to a graph of your own"),
        (("--data", "$NOT_SET/mine.npz"), "the variable $NOT_SET is not set"),
    ],
)
def test_mistakes_are_answered_in_one_line(arguments: tuple[str, ...], complaint: str) -> None:
    code, out, err = run("bench", *QUICK, "--attacks", "clean", *arguments)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert complaint in line


def test_a_graph_of_this_process_is_known_by_its_content() -> None:
    graph: Any = contextual_sbm(60, seed=0)
    own = OwnGraph.of(graph)
    assert own.name == "csbm"
    assert OwnGraph.of(graph.clone()).digest == own.digest
    for key in ("x", "y", "edge_index", "test_mask"):
        other = graph.clone()
        if key == "edge_index":
            u, v = other.edge_index[:, 0]
            row, column = other.edge_index
            other.edge_index = other.edge_index[:, ~(((row == u) & (column == v)) | ((row == v) & (column == u)))]
        else:
            other[key] = torch.roll(other[key], 1, dims=0)
        assert OwnGraph.of(other).digest != own.digest
