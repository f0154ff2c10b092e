"""Saved graphs as attacks: measured as evasion and as poisoning, on their own graph and no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from contractive_gnn import attacks
from contractive_gnn.attacks import AttackResult, Budget
from contractive_gnn.attacks.perturbation_file import PerturbedGraph, load_perturbations, save_perturbations
from contractive_gnn.bench.cli import app
from contractive_gnn.bench.protocol import Protocol
from contractive_gnn.bench.replay import Replay, ReplayError
from contractive_gnn.bench.results import read_results
from contractive_gnn.bench.runner import make_graph
from contractive_gnn.bench.spec import SpecError, parse_attack, parse_attacks
from contractive_gnn.datasets import contextual_sbm

QUICK = ("--dataset", "csbm", "--models", "gcn", "--seeds", "1", "--set", "training.epochs=3")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "noisy.npz"
    attacks.get("random", seed=1).run(contextual_sbm(), Budget(fraction=0.2)).save(path)
    return path


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


def test_it_is_both_threats_in_two_processes(saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    asked = f"clean,{saved},{saved}@poisoning"
    code, shown, err = run("bench", *QUICK, "--attacks", asked, "--jobs", "2", "--models", "gcn,mlp", "--out", out)
    assert code == 0, err
    assert "noisy.npz" in shown
    assert "20 %" in shown
    results = read_results(out / "results.jsonl")
    assert {(r.model, r.attack, r.threat) for r in results} == {
        (model, *which)
        for model in ("gcn", "mlp")
        for which in (("clean", "evasion"), ("noisy.npz", "evasion"), ("noisy.npz", "poisoning"))
    }
    flips = AttackResult.load(saved).n_flips
    for result in (r for r in results if r.attack == "noisy.npz"):
        assert (result.attack_source, result.flips) == ("replayed", flips)
        assert (result.budget, result.budget_unit) == (0.2, "fraction of edges")
        assert result.hyperparameters["attack"] == {"file": "noisy.npz", "sha256": Replay.read(str(saved)).digest}
    clean = contextual_sbm()
    mlp = {r.threat: r.accuracy for r in results if r.model == "mlp" and r.attack == "noisy.npz"}
    assert mlp["evasion"] == next(r.accuracy for r in results if r.model == "mlp" and r.attack == "clean")
    assert clean.num_nodes == 1000
    code, _, told = run("bench", *QUICK, "--attacks", asked, "--models", "gcn,mlp", "--out", out)
    assert (code, told) == (0, f"6 of 6 numbers are in {out} already.\n")


def test_a_targeted_graph_is_measured_on_its_targets(tmp_path: Path) -> None:
    path = tmp_path / "aimed.npz"
    assert run("attack", "--dataset", "csbm", "--attack", "rnd:2", "--targets", "5", "--out", path)[0] == 0
    code, _, err = run("bench", *QUICK, "--attacks", str(path), "--out", tmp_path / "run")
    assert code == 0, err
    (result,) = read_results(tmp_path / "run" / "results.jsonl")
    assert (result.evaluated_on, result.n_evaluated, result.budget_unit) == ("targets", 5, "edges per target")


def test_it_belongs_to_its_graph_and_split(saved: Path, tmp_path: Path) -> None:
    code, _, err = run("bench", *QUICK, "--split-seed", "1", "--attacks", str(saved), "--out", tmp_path)
    assert code == 2
    assert "its train_mask is not that of csbm; it was made on another split: give its --split" in err
    code, _, err = run("bench", *QUICK, "--dataset", "digits", "--attacks", str(saved), "--out", tmp_path)
    assert code == 2
    assert "attacks another graph than digits: its x is torch.float32 [1000, 32]" in err


def test_a_graph_whose_edges_are_not_those_it_tells_is_refused(saved: Path) -> None:
    replay, clean = Replay.read(str(saved)), contextual_sbm()
    assert replay.load(clean).n_flips > 0
    other = clean.clone()
    u, v = other.edge_index[:, 0]
    row, column = other.edge_index
    dropped = ((row == u) & (column == v)) | ((row == v) & (column == u))
    other.edge_index = other.edge_index[:, ~dropped]
    with pytest.raises(ReplayError, match=r"attacks another graph than csbm: .* and it says that it flipped"):
        replay.load(other)
    relabelled = clean.clone()
    relabelled.y = relabelled.y.roll(1)
    with pytest.raises(ReplayError, match="its y is not that of csbm; it was made with other labels"):
        replay.load(relabelled)


def test_a_file_that_changes_is_not_replayed(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.npz"
    path.write_bytes(saved.read_bytes())
    replay = Replay.read(str(path))
    attacks.get("random", seed=2).run(contextual_sbm(), Budget(fraction=0.2)).save(path)
    with pytest.raises(ReplayError, match=r"copy\.npz has changed since this run began"):
        replay.load(contextual_sbm())
    path.unlink()
    with pytest.raises(ReplayError, match="cannot be read"):
        replay.load(contextual_sbm())


def test_how_it_is_written(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = parse_attacks(f"{saved}, {saved}@poisoning", dataset="csbm")
    assert (first.threat, second.threat, first.name) == ("evasion", "poisoning", "noisy.npz")
    assert parse_attack(str(first), dataset="csbm") == first
    assert not first.needs_victim
    monkeypatch.setenv("SAVED", str(saved.parent))
    assert parse_attack("$SAVED/noisy.npz", dataset="csbm").replay is not None


def test_bad_files_are_answered_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no graph", "utf-8")
    np.savez(tmp_path / "arrays.npz", x=np.ones(3))
    (tmp_path / "certificate-1.npz").touch()
    for name, complaint in (
        (
            "nowhere.npz",
            r"there is no file .*nowhere\.npz; expected a graph that `contractive-gnn attack",
        ),
        ("text.npz", r"text\.npz is not a graph saved by AttackResult\.save"),
        ("arrays.npz", r"arrays\.npz is not a graph saved by AttackResult\.save"),
        ("certificate-1.npz", "that begins with 'certificate'; rename the file"),
        ("text.npz@later", "after @ expected evasion, poisoning or symbiotic, got 'later'"),
    ):
        with pytest.raises(SpecError, match=complaint) as caught:
            parse_attack(str(tmp_path / name), dataset="csbm")
        assert "\n" not in str(caught.value)


def test_features_that_were_flipped_are_compared_as_well(tmp_path: Path) -> None:
    clean = contextual_sbm(80, seed=0)
    clean.x = (clean.x > 0).float()
    path = tmp_path / "features.npz"
    attacks.get("flip-features", seed=0).run(clean, Budget(flips=9)).save(path)
    replay = Replay.read(str(path))
    assert (replay.kind, replay.scope) == ("features", "global")
    loaded = replay.load(clean)
    assert loaded.feature_flips.shape[1] == 9
    assert torch.equal(loaded.data.edge_index, clean.edge_index)
    other = clean.clone()
    other.x[0, 0] = 1 - other.x[0, 0]
    with pytest.raises(ReplayError, match="entries of the features differ"):
        replay.load(other)


@pytest.mark.parametrize("then", ["", "+gaussian-features:3flips"])
def test_new_nodes_are_replayed(tmp_path: Path, then: str) -> None:
    path, data = tmp_path / "grown.npz", contextual_sbm()
    (spec,) = parse_attacks(f"random-injection:3x4{then}", dataset="csbm")
    benchmark = Protocol(dataset="csbm", models=("gcn",), attacks=(spec,), seeds=(0,))
    made = make_graph(benchmark, spec, data)
    made.save(path)
    replayed = parse_attack(f"{path}@poisoning", dataset="csbm")
    assert (replayed.amount, replayed.unit, replayed.threat) == (3, "new nodes, 4 edges each", "poisoning")
    again = Replay.read(str(path)).load(data)
    assert again.data.num_nodes == data.num_nodes + 3
    assert torch.equal(again.data.x, made.data.x)
    with pytest.raises(ReplayError, match=r"attacks another graph|with other labels|on another split"):
        Replay.read(str(path)).load(contextual_sbm(seed=1))
    named = AttackResult.load(path)
    named.data.y[-1] = 0  # a new node that claims a class
    named.save(path)
    with pytest.raises(ReplayError, match="attacks another graph"):
        Replay.read(str(path)).load(data)


def random_flips(number: int, *, seed: int) -> torch.Tensor:
    return attacks.get("random", seed=seed).run(contextual_sbm(), Budget(flips=number)).edge_flips


def test_a_perturbation_of_a_file_is_measured_by_the_name_of_its_model(tmp_path: Path) -> None:
    path = tmp_path / "found.npz"
    flips = {("evasion", "gcn"): random_flips(7, seed=0), ("evasion", "gat"): random_flips(5, seed=1)}
    save_perturbations(path, PerturbedGraph.of(contextual_sbm(), flips, name="csbm"))
    out = tmp_path / "run"
    code, _, err = run("bench", *QUICK, "--attacks", f"{path}:gcn,{path}:gat", "--jobs", "1", "--out", out)
    assert code == 0, err
    found = {result.attack: result for result in read_results(out / "results.jsonl")}
    assert {name: result.flips for name, result in found.items()} == {"found.npz:gcn": 7, "found.npz:gat": 5}
    told = found["found.npz:gat"].hyperparameters["attack"]
    assert (told["victim"], told["made_by"]) == ("gat", "found.npz")
    made = parse_attack(f"{path}:gat", dataset="csbm").replay
    assert made is not None
    key = next(key for key in load_perturbations(path)["csbm"].flips if key.model == "gat")
    again = made.load(contextual_sbm())
    assert again.data.num_edges == load_perturbations(path)["csbm"].attacked(key).num_edges
    code, _, told_again = run("bench", *QUICK, "--attacks", f"{path}:gcn", "--out", out)
    assert (code, told_again) == (0, f"1 of 1 numbers are in {out} already.\n")


def test_which_perturbation_is_meant_must_be_clear(tmp_path: Path) -> None:
    path, alone = tmp_path / "found.npz", tmp_path / "alone.npz"
    graph = PerturbedGraph.of(contextual_sbm(), {("evasion", "gcn"): random_flips(7, seed=0)}, name="csbm")
    save_perturbations(alone, graph)
    few, many = random_flips(3, seed=1), random_flips(6, seed=1)
    several = {
        **graph.flips,
        **PerturbedGraph.of(contextual_sbm(), {("poisoning", "gcn"): few}, name="csbm").flips,
        **PerturbedGraph.of(contextual_sbm(), {("poisoning", "gat"): few}, name="csbm").flips,
        **PerturbedGraph.of(contextual_sbm(), {("poisoning", "gat"): many}, name="csbm").flips,
    }
    save_perturbations(path, PerturbedGraph("csbm", graph.data, graph.splits, several))
    assert parse_attack(str(alone), dataset="csbm").amount == 7
    assert parse_attack(f"{path}:gat:6@poisoning", dataset="csbm").amount == 6
    for asked, complaint in (
        (f"{path}@poisoning", "several perturbations; write FILE.npz:NAME@poisoning, NAME one of gat, gcn"),
        (f"{path}:gat", "no perturbation 'gat' for evasion; write FILE.npz:NAME@evasion, NAME one of gcn"),
        (f"{path}:gat@poisoning", "write FILE.npz:gat:FLIPS, FLIPS one of 3, 6"),
        (f"{path}:gat:4@poisoning", "write FILE.npz:gat:FLIPS, FLIPS one of 3, 6"),
        (f"{tmp_path / 'none.npz'}:gat", "there is no file"),
    ):
        with pytest.raises(SpecError, match=complaint):
            parse_attack(asked, dataset="csbm")


def test_perturbations_of_two_budgets_are_two_graphs(tmp_path: Path) -> None:
    path, data = tmp_path / "found.npz", contextual_sbm()
    few, many = (PerturbedGraph.of(data, {("evasion", "gcn"): random_flips(k, seed=0)}, name="csbm") for k in (3, 6))
    save_perturbations(path, PerturbedGraph("csbm", few.data, few.splits, {**few.flips, **many.flips}))
    code, _, err = run("bench", *QUICK, "--attacks", f"{path}:gcn:3,{path}:gcn:6", "--out", tmp_path / "run")
    assert code == 0, err
    found = read_results(tmp_path / "run" / "results.jsonl")
    assert [(result.budget, result.flips) for result in found] == [(3, 3), (6, 6)]


def test_a_perturbation_belongs_to_its_graph_and_split(tmp_path: Path) -> None:
    path = tmp_path / "found.npz"
    flips = {("evasion", "gcn"): random_flips(7, seed=0)}
    save_perturbations(path, PerturbedGraph.of(contextual_sbm(), flips, name="csbm", split=2))
    replay = Replay.read(str(path))
    assert replay.load(contextual_sbm()).provenance["split"] == 2
    with pytest.raises(ReplayError, match="its graph 'csbm' is not csbm; give the graph that it was made on"):
        replay.load(contextual_sbm(seed=1))
    with pytest.raises(ReplayError, match="none of its splits 2 is that of csbm; give its --split and --split-seed"):
        replay.load(contextual_sbm(split_seed=1))
