from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import Data

from contractive_gnn import attacks, training
from contractive_gnn.attacks import AttackResult, Budget
from contractive_gnn.bench import runner
from contractive_gnn.bench.explain_once import explain_once
from contractive_gnn.bench.protocol import Override, Protocol, ProtocolError
from contractive_gnn.bench.results import RESULTS, Result, ResultsFile, read_results
from contractive_gnn.bench.runner import Failure, GraphMade, Message, attack_once, execute, make_graph, plan
from contractive_gnn.bench.spec import AttackSpec, parse_attacks
from contractive_gnn.bench.targets import TargetError, TargetRule, choose_targets
from contractive_gnn.datasets import add_random_edges, without_test_nodes
from contractive_gnn.nn import build


def protocol(specs: str, **changes: Any) -> Protocol:
    """Quick: the embedded block model and ten epochs."""
    values: dict[str, Any] = {
        "dataset": "csbm",
        "models": ("gcn", "mlp"),
        "attacks": parse_attacks(specs, dataset="csbm"),
        "seeds": (0, 1),
        "overrides": (Override.parse("training.epochs=10"),),
    }
    return Protocol(**{**values, **changes})


def run(benchmark: Protocol, out: Path, *, processes: int = 1) -> list[Message]:
    with ResultsFile(out / RESULTS) as results:
        return list(execute(plan(benchmark, out=out, finished=results.finished), results, processes=processes))


def results_of(messages: Sequence[Message]) -> list[Result]:
    return [message for message in messages if isinstance(message, Result)]


def test_a_benchmark_measures_every_cell_once(tmp_path: Path) -> None:
    benchmark = protocol("clean,random:0.5,random:0.5@evasion,dice:0.2@evasion")
    messages = run(benchmark, tmp_path)
    results = read_results(tmp_path / RESULTS)
    assert results == results_of(messages)
    assert len(results) == len({result.key for result in results}) == 2 * 2 * 4
    assert sum(isinstance(message, GraphMade) for message in messages) == 3
    assert not (tmp_path / "errors.log").exists()

    first = results[0]
    assert (first.dataset, first.split, first.model, first.attack, first.threat) == (
        "csbm",
        "random",
        "gcn",
        "clean",
        "evasion",
    )
    assert first.accuracy == first.clean_accuracy > 60
    assert first.flips == 0
    assert first.hyperparameters["training"]["epochs"] == 10
    assert first.train_s > 0
    m = benchmark.load().edge_index.shape[1] // 2
    for result in results:
        clean = next(r for r in results if (r.model, r.seed, r.attack) == (result.model, result.seed, "clean"))
        assert result.clean_accuracy == clean.accuracy
        assert result.n_evaluated == 800
        assert result.flips == {"clean": 0, "random": round(0.5 * m), "dice": int(0.2 * m)}[result.attack]
    # it does not look at edges: no evasion attack on them can change it
    assert all(r.accuracy == r.clean_accuracy for r in results if r.model == "mlp")
    assert any(r.accuracy < r.clean_accuracy for r in results if r.model == "gcn")


def test_a_teacher_is_fitted_first_and_recorded(tmp_path: Path) -> None:
    teacher = {"name": "gcn", "model": {"hidden_channels": 8}, "training": {"epochs": 60}}
    preset = {"model": {}, "training": {"epochs": 60, "teacher": teacher}}
    benchmark = protocol("clean", models=("mlp",), seeds=(0,), overrides=(), presets={"mlp": preset})
    (result,) = results_of(run(benchmark, tmp_path))
    assert result.hyperparameters["training"]["teacher"] == teacher
    data = benchmark.load()
    tutor = build("gcn", data.num_features, 4, hidden_channels=8)
    training.fit(tutor, data, seed=0, epochs=60)
    student = build("mlp", data.num_features, 4)
    training.fit(student, data, seed=0, epochs=60, teacher=tutor)
    assert result.accuracy == training.evaluate(student, data, data.test_mask)


@pytest.mark.parametrize(
    ("teacher", "complaint"),
    [
        ("gcn", "expected for its teacher"),
        ({"name": "gnc", "model": {}, "training": {}}, "no model is called 'gnc'"),
        (
            {"name": "gcn", "model": {}, "training": {"epoch": 3}},
            "no training hyperparameter is called 'epoch'",
        ),
        ({"name": "gcn", "model": {}, "training": 3}, "expected for its teacher"),
    ],
)
def test_a_teacher_that_cannot_be_fitted_is_told_at_once(tmp_path: Path, teacher: Any, complaint: str) -> None:
    presets = {"mlp": {"model": {}, "training": {"teacher": teacher}}}
    with pytest.raises(ProtocolError, match=complaint):
        run(protocol("clean", models=("mlp",), presets=presets), tmp_path)


def test_a_number_is_what_training_by_hand_gives(tmp_path: Path) -> None:
    benchmark = protocol("random:0.5,random:0.5@evasion", models=("gcn",), seeds=(1,))
    poisoned, evaded = results_of(run(benchmark, tmp_path))
    clean = benchmark.load()
    noisy = AttackResult.load(next((tmp_path / "graphs").glob("*random*"))).data
    model = build("gcn", 32, 4, **benchmark.model_hyperparameters("gcn")["model"])
    training.fit(model, clean, seed=1, **benchmark.model_hyperparameters("gcn")["training"])
    assert evaded.clean_accuracy == training.evaluate(model, clean, clean.test_mask)
    assert evaded.accuracy == training.evaluate(model, noisy, clean.test_mask)
    training.fit(model, noisy, seed=1, **benchmark.model_hyperparameters("gcn")["training"])
    assert poisoned.accuracy == training.evaluate(model, noisy, clean.test_mask)


def test_under_an_inductive_split_a_model_is_fitted_without_the_test_nodes(tmp_path: Path) -> None:
    specs = "clean,whitebox-pgd:0.1,random:0.3@evasion,degree-deletion:0.1,local-pgd:1"
    quick = [Override.parse(f"{name}.attack.epochs=2") for name in ("whitebox-pgd", "local-pgd")]
    benchmark = protocol(
        specs, models=("gcn",), seeds=(0,), split="inductive", split_seed=2, targets=TargetRule(3),
        overrides=(Override.parse("training.epochs=10"), *quick),
    )  # fmt: skip
    results = results_of(run(benchmark, tmp_path))
    whole = benchmark.load()
    model = build("gcn", 32, 4, **benchmark.model_hyperparameters("gcn")["model"])
    training.fit(model, without_test_nodes(whole), seed=0, epochs=10)
    clean = training.evaluate(model, whole, whole.test_mask)
    assert {r.clean_accuracy for r in results if r.evaluated_on == "test"} == {clean}
    assert {r.n_evaluated for r in results if r.evaluated_on == "test"} == {100}
    degrees = torch.bincount(whole.edge_index[0], minlength=1000)[whole.test_mask]
    half = int(degrees.sum()) / 2
    _, pgd, random, deletion, local = results
    assert pgd.flips == int(0.1 * half)
    assert random.flips == int(0.3 * half)
    assert pgd.budget_unit == random.budget_unit == "fraction of edges at test nodes"
    assert deletion.budget_unit == "fraction of nodes"
    assert local.flips == 3
    noisy = AttackResult.load(next((tmp_path / "graphs").glob("*random*"))).data
    assert random.accuracy == training.evaluate(model, noisy, whole.test_mask)


@pytest.mark.parametrize("spec", ["dice:0.1", "whitebox-pgd:0.1@poisoning", "meta-pgd:0.1+whitebox-pgd:0.1@symbiotic"])
def test_under_an_inductive_split_nothing_is_poisoned(tmp_path: Path, spec: str) -> None:
    with pytest.raises(ProtocolError, match=r"nobody poisons that; write [\w:.+-]+@evasion"):
        plan(protocol(spec, split="inductive"), out=tmp_path, finished={})


def test_a_second_run_does_nothing_and_a_larger_one_does_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(protocol("clean,random:0.5"), tmp_path)
    before = (tmp_path / RESULTS).read_bytes()
    graph = next((tmp_path / "graphs").iterdir())
    made = graph.stat().st_mtime_ns
    assert run(protocol("clean,random:0.5"), tmp_path) == []

    trained: list[int] = []
    fit = training.fit
    monkeypatch.setattr(training, "fit", lambda model, data, **kw: trained.append(kw["seed"]) or fit(model, data, **kw))  # type: ignore[func-returns-value]
    larger = run(protocol("clean,random:0.5,random:0.2", seeds=(0, 1, 2), models=("gcn",)), tmp_path)
    # seeds 0 and 1 lack random:0.2 only, whose clean accuracy is known: nothing clean is trained again
    assert Counter(trained) == {0: 1, 1: 1, 2: 3}
    assert len(results_of(larger)) == 5
    assert (tmp_path / RESULTS).read_bytes().startswith(before)
    assert graph.stat().st_mtime_ns == made


def test_other_hyperparameters_are_other_cells(tmp_path: Path) -> None:
    run(protocol("clean", models=("gcn",), seeds=(0,)), tmp_path)
    more = protocol("clean", models=("gcn",), seeds=(0,), overrides=(Override.parse("training.epochs=11"),))
    assert len(results_of(run(more, tmp_path))) == 1
    assert len(read_results(tmp_path / RESULTS)) == 2


def test_a_targeted_attack_is_measured_on_its_targets(tmp_path: Path) -> None:
    (result,) = results_of(run(protocol("rnd:3", models=("gcn",), seeds=(0,), targets=TargetRule(5)), tmp_path))
    assert (result.evaluated_on, result.n_evaluated, result.budget, result.attack_source) == ("targets", 5, 3, "live")
    assert 0 < result.flips <= 15
    graph = AttackResult.load(next((tmp_path / "graphs").iterdir()))
    assert graph.data.targets.numel() == 5
    data = protocol("clean").load()
    assert bool(data.test_mask[graph.data.targets].all())


def test_random_edges_are_those_of_the_attack_and_of_the_data_sets(tmp_path: Path) -> None:
    benchmark = protocol("random:0.5", attack_seed=4)
    (spec,), clean = benchmark.attacks, benchmark.load()
    made = make_graph(benchmark, spec, clean)
    assert torch.equal(made.data.edge_index, add_random_edges(clean, fraction=0.5, seed=4).edge_index)
    assert torch.equal(made.edge_flips, attacks.get("random", seed=4).run(clean, Budget(fraction=0.5)).edge_flips)
    assert benchmark.attack_hyperparameters(spec) == {"seed": 4}
    removing = protocol("random:0.5", overrides=(Override.parse("random.attack.edit=remove"),))
    fewer = make_graph(removing, spec, clean).data
    assert fewer.num_edges == clean.num_edges - 2 * round(0.25 * clean.num_edges)
    assert removing.attack_hyperparameters(spec)["params"] == {"edit": "remove"}


def test_edges_and_features_are_attacked_at_once(tmp_path: Path) -> None:
    specs = "clean,random:0.5,random:0.5+gaussian-features:0.1,random:0.5+whitebox-pgd:9flips@evasion"
    epochs = Override.parse("whitebox-pgd.attack.epochs=3")
    benchmark = protocol(specs, overrides=(Override.parse("training.epochs=10"), epochs))
    messages = run(benchmark, tmp_path)
    results = results_of(messages)
    assert len(results) == 2 * 2 * 4
    # what depends on the model is made with it
    paths = sorted(
        (message.path for message in messages if isinstance(message, GraphMade)), key=lambda path: len(path.name)
    )
    edges, both = map(AttackResult.load, paths)
    clean = benchmark.load()
    assert torch.equal(both.data.edge_index, edges.data.edge_index)
    assert torch.equal(both.edge_flips, edges.edge_flips)
    assert edges.feature_flips.shape[1] == 0
    assert both.feature_flips.shape[1] == int(0.1 * torch.count_nonzero(clean.x))
    assert both.n_flips == both.edge_flips.shape[1] + both.feature_flips.shape[1]
    assert [step["attack"] for step in both.provenance["steps"]] == ["random", "gaussian-features"]

    m = clean.edge_index.shape[1] // 2
    for result in results:
        own = result.hyperparameters["attack"]
        if result.attack == "random+gaussian-features:0.1":
            assert (result.budget, result.budget_unit, result.threat) == (0.5, "fraction of edges", "poisoning")
            assert result.flips == both.n_flips
            assert [(s["attack"], s["budget"], s["params"]) for s in own["then"]] == [
                ("gaussian-features", 0.1, {"scale": 1.0})
            ]
        elif result.attack == "random+whitebox-pgd:9flips":
            further = abs(result.flips - round(0.5 * m))
            assert 0 < further <= 9 if result.model == "gcn" else further == 0  # the mlp reads no edge
            assert own["then"][0]["params"]["epochs"] == 3
        else:
            assert "then" not in own
    # a fraction counts what the clean graph has, not what the step before has left
    twice = make_graph(benchmark, parse_attacks("random:1.0+dice:0.5", dataset="csbm")[0], clean)
    assert twice.provenance["steps"][1]["allowed_flips"] == int(0.5 * m)
    alone = make_graph(benchmark, parse_attacks("random:0.3", dataset="csbm")[0], clean)
    after = make_graph(benchmark, parse_attacks("gaussian-features:3flips+random:0.3", dataset="csbm")[0], clean)
    assert torch.equal(after.edge_flips, alone.edge_flips)


def test_new_nodes_are_measured_at_the_old_ones(tmp_path: Path) -> None:
    specs = (
        "clean,random-injection:3x4,random-injection:3x4@poisoning,tdgia:3x4,random-injection:3x4+whitebox-pgd:9flips"
    )
    quick = [f"{key}=2" for key in ("tdgia.attack.feature_epochs", "whitebox-pgd.attack.epochs")]
    overrides = tuple(map(Override.parse, ("training.epochs=10", *quick)))
    benchmark = protocol(specs, models=("gcn",), seeds=(0,), overrides=overrides)
    results = {(result.attack, result.threat): result for result in results_of(run(benchmark, tmp_path))}
    assert len(results) == 5
    clean = benchmark.load()
    for result in results.values():
        assert (result.evaluated_on, result.n_evaluated) == ("test", int(clean.test_mask.sum()))
        assert result.clean_accuracy == results["clean", "evasion"].accuracy
    alone = results["random-injection", "evasion"]
    assert (alone.budget, alone.budget_unit, alone.flips) == (3, "new nodes, 4 edges each", 12)
    assert alone.flips < results["random-injection+whitebox-pgd:9flips", "evasion"].flips <= 12 + 9
    graph = AttackResult.load(next((tmp_path / "graphs").glob("*random-injection-3x4*")))
    assert graph.data.num_nodes == clean.num_nodes + 3
    poisoned = build("gcn", clean.num_features, int(clean.y.max()) + 1)
    training.fit(poisoned, graph.data, epochs=10, seed=0)
    assert graph.data.test_mask.sum() == clean.test_mask.sum()


def test_new_nodes_beside_targets_leave_the_clean_accuracy_as_it_is() -> None:
    benchmark = protocol("nettack:1+random-injection:2x3", models=("gcn",), targets=TargetRule(2))
    _, effect = attack_once(benchmark, seed=0)
    assert effect is not None
    assert effect.evaluated_on == "targets"


def test_deleted_nodes_have_no_edge(tmp_path: Path) -> None:
    benchmark = protocol("degree-deletion:5nodes,degree-deletion:0.1", models=("gcn",), seeds=(0,))
    few, many = results_of(run(benchmark, tmp_path))
    assert (few.budget, few.budget_unit, many.budget_unit) == (5, "nodes", "fraction of nodes")
    assert 0 < few.flips < many.flips
    chained = protocol("random:0.1+degree-deletion:0.1", models=("gcn",))
    made = make_graph(chained, chained.attacks[0], chained.load())
    assert made.provenance["steps"][1]["allowed_flips"] == int(0.1 * chained.load().num_nodes)


def test_an_ensemble_has_the_accuracy_under_each_of_its_attacks(tmp_path: Path) -> None:
    quick = tuple(map(Override.parse, ("auto.attack.population=4", "auto.attack.generations=2")))
    frozen, retrained = results_of(
        run(protocol("auto:0.1,auto:0.1@poisoning", models=("gcn",), seeds=(0,), overrides=quick), tmp_path)
    )
    left = {name: part["accuracy"] for name, part in frozen.breakdown.items()}
    assert {"random", "from-gcn", "eva", "pgd-tanh", "per node"} <= set(left)
    assert left.pop("per node") <= min(left.values()) == pytest.approx(frozen.accuracy)
    assert {part["clean_accuracy"] for part in frozen.breakdown.values()} == {frozen.clean_accuracy}
    assert not retrained.breakdown  # what the attacks left of the frozen model says nothing of this one


def test_each_bin_of_the_targets_has_its_accuracies(tmp_path: Path) -> None:
    benchmark = protocol("nettack:1@evasion,nettack:1", models=("gcn",), seeds=(0,), targets=TargetRule(8, "degree"))
    results = results_of(run(benchmark, tmp_path))
    bins = choose_targets(benchmark.load(), benchmark.targets, seed=0).bins
    assert read_results(tmp_path / RESULTS) == results
    for result in results:
        assert result.hyperparameters["attack"]["targets"] == "degree:8"
        assert {name: found["n"] for name, found in result.breakdown.items()} == dict.fromkeys(bins, 2)
        for key in ("accuracy", "clean_accuracy"):  # bins of equal size
            mean = sum(found[key] for found in result.breakdown.values()) / 4
            assert mean == pytest.approx(getattr(result, key))
    with pytest.raises(ProtocolError, match="targets degree:8: no attack that is made here aims at single nodes"):
        plan(protocol("random:0.1", targets=TargetRule(8, "degree")), out=tmp_path, finished={})


def test_targets_stay_targets_when_another_attack_follows() -> None:
    benchmark = protocol("nettack:1+gaussian-features:5flips", targets=TargetRule(2))
    made = make_graph(benchmark, benchmark.attacks[0], benchmark.load())
    assert made.data.targets.numel() == 2
    assert [step["attack"] for step in made.provenance["steps"]] == ["nettack", "gaussian-features"]
    assert made.feature_flips.shape[1] == 5


def test_what_each_of_several_attacks_says_of_itself_is_kept() -> None:
    doubtful = {"params": {"diagnosis": {"unreliable": ["a masked gradient"]}}}
    assert runner._warnings({"steps": [{"attack": "random"}, doubtful]}) == ["a masked gradient"]
    assert runner._warnings(doubtful) == ["a masked gradient"]


def test_an_adaptive_attack_aims_at_each_model_of_its_own(tmp_path: Path) -> None:
    quick = ("training.epochs=10", *(f"whitebox-pgd.attack.{key}=2" for key in ("epochs", "fine_epochs", "swaps")))
    benchmark = protocol(
        "clean,whitebox-pgd:0.05,whitebox-pgd:0.05@poisoning,random:0.05@evasion",
        seeds=(0,),
        overrides=tuple(map(Override.parse, quick)),
    )
    messages = run(benchmark, tmp_path)
    assert not [message for message in messages if isinstance(message, Failure)]
    accuracy = {(r.model, r.attack, r.threat): r.accuracy for r in results_of(messages)}
    assert len(accuracy) == 8
    assert accuracy["gcn", "whitebox-pgd", "evasion"] < accuracy["gcn", "random", "evasion"]
    assert accuracy["mlp", "whitebox-pgd", "evasion"] == accuracy["mlp", "clean", "evasion"]
    assert [path.name.split("-")[1] for path in (tmp_path / "graphs").iterdir()] == ["random"]
    adaptive = next(r for r in results_of(messages) if r.attack == "whitebox-pgd")
    assert adaptive.attack_source == "live"
    assert adaptive.hyperparameters["attack"]["params"]["swaps"] == 2
    assert "diagnosis" not in adaptive.hyperparameters["attack"]["params"]


def test_one_graph_against_a_model_serves_both_threats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def noted(asked: Protocol, spec: AttackSpec, *graphs: Data, **options: Any) -> AttackResult:
        made.append(f"{spec} {options.get('victim') is not None}")
        return make_graph(asked, spec, *graphs, **options)

    monkeypatch.setattr(runner, "make_graph", noted)
    quick = ("training.epochs=10", *(f"whitebox-pgd.attack.{key}=2" for key in ("epochs", "fine_epochs", "swaps")))
    benchmark = protocol(
        "whitebox-pgd:0.05@poisoning,whitebox-pgd:0.05,whitebox-pgd:0.1@poisoning",
        models=("gcn",),
        overrides=tuple(map(Override.parse, quick)),
    )
    results = results_of(run(benchmark, tmp_path))
    assert made == ["whitebox-pgd:0.05@poisoning True", "whitebox-pgd:0.1@poisoning True"] * 2
    assert len(results) == 6
    assert results[0].attack_s == results[1].attack_s > 0
    assert results[0].flips == results[1].flips
    # what was made for another threat is what this one would have made
    alone = protocol("whitebox-pgd:0.05", models=("gcn",), seeds=(0,), overrides=benchmark.overrides)
    assert results_of(run(alone, tmp_path / "alone"))[0].accuracy == results[1].accuracy


def test_a_device_is_looked_for_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match=r"--device gpu: .*; torch finds here: cpu"):
        plan(protocol("clean", device="gpu"), out=tmp_path, finished={})
    absent = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ProtocolError, match=rf"--device {absent}: .*; torch finds here: cpu"):
        plan(protocol("clean", device=absent), out=tmp_path, finished={})
    for models, overrides in [
        (("rgcn",), ()),
        (("ensemble",), (Override.parse('ensemble.model.members=[{"name": "gcn"}, {"name": "rgcn"}]'),)),
    ]:
        asked = protocol("clean", device="meta", models=models, overrides=overrides)
        with pytest.raises(ProtocolError, match=r"--device meta: model .* is trained by DeepRobust's own loop"):
            runner.check_model(models[0], asked.model_hyperparameters(models[0]), asked.load(), device="meta")
    with pytest.raises(ProtocolError, match=r"--device meta: .* torch finds here: cpu"):
        plan(protocol("clean", device="meta"), out=tmp_path, finished={})


def test_a_result_names_its_device_and_old_lines_are_of_the_cpu(tmp_path: Path) -> None:
    (result, *_) = results_of(run(protocol("clean"), tmp_path))
    assert result.device == "cpu"
    line = json.loads(result.to_line())
    del line["device"]
    assert Result.from_line(json.dumps(line)) == result
    assert Result.from_line(json.dumps({**line, "device": "cuda (a card)"})).device == "cuda (a card)"


def test_a_cell_that_fails_is_logged_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = training.fit

    def unlucky(model: torch.nn.Module, data: Data, *, seed: int, **options: Any) -> Any:
        if type(model).__name__ == "MLPClassifier" and seed == 1:
            raise FloatingPointError("the training loss is nan")
        return fit(model, data, seed=seed, **options)

    monkeypatch.setattr(training, "fit", unlucky)
    messages = run(protocol("clean,random:0.5"), tmp_path)
    failures = [message for message in messages if isinstance(message, Failure)]
    assert [failure.what for failure in failures] == ["mlp, seed 1, clean", "mlp, seed 1, random:0.5@poisoning"]
    assert all(failure.reason == "FloatingPointError: the training loss is nan" for failure in failures)
    assert len(results_of(messages)) == 6
    log = (tmp_path / "errors.log").read_text()
    assert "== mlp, seed 1, clean\nTraceback" in log
    assert "in unlucky" in log

    monkeypatch.setattr(training, "fit", fit)
    assert len(results_of(run(protocol("clean,random:0.5"), tmp_path))) == 2


def test_a_graph_that_cannot_be_made_costs_its_own_cells_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: attacks.Attack, *arguments: Any, **options: Any) -> Any:
        raise attacks.AttackError("no such luck")

    monkeypatch.setattr(attacks.ATTACKS["dice"], "_perturb", broken)
    messages = run(protocol("clean,dice:0.2,random:0.5", models=("gcn",), seeds=(0, 1)), tmp_path)
    failures = [message for message in messages if isinstance(message, Failure)]
    assert [(failure.what, failure.cells) for failure in failures] == [
        ("attack dice:0.2@poisoning", 0),
        ("gcn, seed 0, dice:0.2@poisoning", 1),
        ("gcn, seed 1, dice:0.2@poisoning", 1),
    ]
    assert len(results_of(messages)) == 4


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"models": ("gnn", "gcn")}, "no model is called 'gnn'. Did you mean 'csgnn'.*csgnn.*gcn"),
        ({"models": ()}, "no model given"),
        ({"overrides": (Override.parse("training.epoch=3"),)}, "no training hyperparameter is called 'epoch'"),
        ({"overrides": (Override.parse("gcn.model.widht=3"),)}, "no model hyperparameter is called 'widht'"),
        ({"overrides": (Override.parse("gat.model.x=3"),)}, "'gat' is not in this benchmark; it has clean, gcn, mlp"),
        ({"attacks": parse_attacks("rnd:3", dataset="csbm"), "targets": TargetRule(0)}, "expected 1 to 800 targets"),
        ({"attacks": parse_attacks("metattack:0.05", dataset="cora")}, "split 'prognn', and this is 'random'"),
    ],
)
def test_what_cannot_work_is_found_before_anything_runs(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises((ProtocolError, TargetError), match=complaint):
        plan(protocol("clean", **changes), out=tmp_path, finished={})


def test_published_graphs_are_measured_as_published(tmp_path: Path, real_data: None) -> None:
    benchmark = Protocol(
        dataset="cora",
        models=("gcn",),
        attacks=parse_attacks("metattack:0.25,nettack:5", dataset="cora"),
        seeds=(0,),
        overrides=(Override.parse("training.epochs=2"),),
    )
    metattack, nettack = results_of(run(benchmark, tmp_path))
    assert (metattack.split, metattack.attack_source, metattack.flips, metattack.n_evaluated) == (
        "prognn",
        "published",
        1267,
        1988,
    )
    assert (nettack.evaluated_on, nettack.n_evaluated, nettack.flips, nettack.attack_s) == ("targets", 83, 415, 0.0)


def test_attack_once_measures_the_effect_where_there_is_a_model() -> None:
    assert attack_once(protocol("random:0.5", models=()), seed=0)[1] is None
    _, effect = attack_once(protocol("random:0.5", models=("gcn",)), seed=0)
    assert effect is not None
    assert effect.evaluated_on == "test"
    assert effect.accuracy < effect.clean_accuracy
    for specs, models, complaint in (
        ("clean", (), "expected one attack"),
        ("random:0.5,random:0.2", (), "expected one attack"),
        ("random:0.5", ("gcn", "mlp"), "expected one model"),
    ):
        with pytest.raises(ProtocolError, match=complaint):
            attack_once(protocol(specs, models=models), seed=0)


@pytest.mark.parametrize("models", [(), ("gcn",)])
def test_attack_once_takes_one_thread_as_a_benchmark_does(
    models: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    train, make = runner.train, runner.make_graph
    monkeypatch.setattr(runner, "train", lambda *a, **k: (seen.append(torch.get_num_threads()), train(*a, **k))[1])
    monkeypatch.setattr(runner, "make_graph", lambda *a, **k: (seen.append(torch.get_num_threads()), make(*a, **k))[1])
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        attack_once(protocol("random:0.5", models=models), seed=0)
        assert torch.get_num_threads() == 2  # those of the caller
    finally:
        torch.set_num_threads(threads)
    assert seen == [1] * (1 + len(models))


def test_a_killed_benchmark_resumes_with_nothing_lost_and_nothing_done_twice(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        sys.executable, "-m", "contractive_gnn", "bench", "--dataset", "csbm", "--models", "gcn,mlp",
        "--attacks", "clean,random:0.2,random:0.5@evasion", "--seeds", "4", "--out", str(out),
        "--set", "training.epochs=40", "--jobs",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*command, "2"], env=environment, stdout=subprocess.DEVNULL) as killed:
        deadline = time.monotonic() + 600
        while not (out / RESULTS).exists() or (out / RESULTS).read_bytes().count(b"\n") < 3:
            assert killed.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
    before = (out / RESULTS).read_bytes()
    n_before = before.count(b"\n")
    assert 3 <= n_before < 24
    with (out / RESULTS).open("ab") as file:
        file.write(before.splitlines()[-1][:100])  # as if it had been killed while it wrote the next line

    resumed = subprocess.run([*command, "1"], env=environment, capture_output=True, text=True, check=True, timeout=600)
    after = (out / RESULTS).read_bytes()
    whole = before[: before.rfind(b"\n") + 1]
    assert after.startswith(whole)
    assert f"{n_before} of 24 numbers are in {out} already." in resumed.stderr
    cells = Counter(
        (line["model"], line["seed"], line["attack"]) for line in map(json.loads, after.decode().splitlines())
    )
    assert cells == {(m, s, a): 1 for m in ("gcn", "mlp") for s in range(4) for a in ("clean", "random")} | {
        (m, s, "random"): 2 for m in ("gcn", "mlp") for s in range(4)
    }
    assert len(read_results(out / RESULTS)) == 24
    assert (out / "report.html").exists()


def test_a_symbiotic_attack_meets_the_model_that_it_poisoned(tmp_path: Path) -> None:
    quick = ("dice:0.1+whitebox-pgd:0.1@symbiotic", "dice:0.1", "whitebox-pgd:0.1")
    options = {"epochs": 3, "fine_epochs": 1, "samples": 1, "swaps": 1}
    own = tuple(Override.parse(f"whitebox-pgd.attack.{name}={value}") for name, value in options.items())
    overrides = (Override.parse("training.epochs=10"), *own)
    benchmark = protocol(",".join(quick), models=("gcn",), seeds=(0,), overrides=overrides)
    both, poisoned, evaded = results_of(run(benchmark, tmp_path))
    assert (both.threat, both.attack) == ("symbiotic", "dice+whitebox-pgd:0.1")
    assert both.flips <= poisoned.flips + evaded.flips
    assert both.clean_accuracy == poisoned.clean_accuracy
    assert both.accuracy < poisoned.accuracy

    clean = benchmark.load()
    hyperparameters = benchmark.model_hyperparameters("gcn")
    left = AttackResult.load(next((tmp_path / "graphs").glob("*dice-0.1*"))).data
    model = build("gcn", 32, 4, **hyperparameters["model"])
    training.fit(model, left, seed=0, **hyperparameters["training"])
    allowed = Budget(flips=int(0.1 * clean.num_edges / 2))
    met = attacks.get("whitebox-pgd", **options).run(left, allowed, victim=model).data
    assert both.accuracy == training.evaluate(model, met, clean.test_mask)


def test_one_graph_cannot_hold_a_symbiotic_attack() -> None:
    with pytest.raises(ProtocolError, match="measure it with bench --attacks dice"):
        attack_once(protocol("dice:0.1+whitebox-pgd:0.1@symbiotic", models=("gcn",)), seed=0)
    with pytest.raises(ProtocolError, match=r"explain one of them, such as dice:0\.1@poisoning"):
        explain_once(protocol("dice:0.1+whitebox-pgd:0.1@symbiotic", models=("gcn",)), 3, seed=0, hops=1, most=9)
