from __future__ import annotations

import dataclasses
import inspect
import json
import pickle
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from torch_geometric.data import Data
from typer.testing import CliRunner

from contractive_gnn import datasets, training
from contractive_gnn.attacks import AttackResult
from contractive_gnn.bench import tune
from contractive_gnn.bench.cli import app
from contractive_gnn.bench.protocol import Protocol
from contractive_gnn.bench.results import open_alone, read_results
from contractive_gnn.bench.runner import Stamp, Trained
from contractive_gnn.bench.spaces import Range, Space, SpaceError
from contractive_gnn.bench.spec import parse_attacks
from contractive_gnn.bench.tune import Record, Search, TrialJob
from contractive_gnn.nn import build

SPACE = {
    "model": {"hidden_channels": [4, 8, 16], "dropout": {"low": 0.0, "high": 0.8}},
    "training": {"lr": {"low": 0.001, "high": 0.3, "log": True}, "epochs": 4},
}


def hard_graph(*_: Any, **__: Any) -> Data:
    """A block model whose validation accuracy tells settings apart."""
    return datasets.contextual_sbm(150, homophily=0.5, feature_signal=1.0, seed=0)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Data:
    """The graph that "csbm" means here; a test may change it."""
    data = hard_graph()
    monkeypatch.setattr(datasets, "load", lambda *_, **__: data.clone())
    return data


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.json"
    path.write_text(json.dumps(SPACE))
    return path


def invoke(*arguments: object, command: str = "tune") -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [command, *map(str, arguments)], env={"COLUMNS": "200"})
    return done.exit_code, done.stdout, done.stderr


def search(out: Path, space: Path, *more: object, trials: int = 4) -> tuple[int, str, str]:
    return invoke(
        "--dataset", "csbm", "--model", "gcn", "--attacks", "clean,random:0.5", "--space", space,
        "--trials", trials, "--out", out, *more,
    )  # fmt: skip


def trials_in(out: Path) -> list[dict[str, Any]]:
    """Without the times, which no two runs share."""
    lines = (out / tune.TRIALS).read_text(encoding="utf-8").splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


def test_the_objective_is_the_mean_validation_accuracy_and_the_preset_the_best(
    tmp_path: Path, space: Path, loaded: Data
) -> None:
    code, out, err = search(tmp_path / "run", space)
    assert (code, err) == (0, "")
    trials = trials_in(tmp_path / "run")
    assert [(trial["number"], trial["state"]) for trial in trials] == [(k, "complete") for k in range(4)]
    assert len({trial["objective"] for trial in trials}) > 1
    best = max(trials, key=lambda trial: trial["objective"])

    noisy = AttackResult.load(next((tmp_path / "run" / "graphs").iterdir())).data
    by_hand: dict[str, list[float]] = {}
    for name, data in (("clean", loaded), ("random:0.5@poisoning", noisy)):
        for seed in (0, 1):
            model = build("gcn", 32, 4, **best["hyperparameters"]["model"])
            fitted = training.fit(model, data, seed=seed, **best["hyperparameters"]["training"])
            by_hand.setdefault(name, []).append(fitted.val_accuracy)
    assert best["val_accuracy"] == by_hand
    assert best["objective"] == pytest.approx(mean(a for each in by_hand.values() for a in each))

    assert json.loads((tmp_path / "run" / "preset.json").read_text()) == {"csbm": best["hyperparameters"]}
    assert best["hyperparameters"]["training"]["epochs"] == 4
    assert {"torch", "optuna"} <= set(best["versions"])
    assert (best["sampler_seed"], best["dataset"], best["model"]) == (0, "csbm", "gcn")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {tune.STUDY, tune.TRIALS, tune.PRESET, "graphs"}
    assert f"{best['objective']:.2f}" in out


def test_the_preset_is_what_bench_takes(tmp_path: Path, space: Path, loaded: Data) -> None:
    _, out, _ = search(tmp_path / "run", space, trials=1)
    (line,) = (line for line in out.splitlines() if line.startswith("On the test nodes: contractive-gnn bench "))
    arguments = line.partition(" bench ")[2].split()
    assert "--preset" in arguments
    bench = (*arguments, "--seeds", "1", "--jobs", "1", "--out", tmp_path / "bench")
    assert invoke(*bench, "--set", "model.hidden_channels=5", command="bench")[0] == 0
    (trial,) = trials_in(tmp_path / "run")
    clean, noisy = read_results(tmp_path / "bench" / "results.jsonl")
    assert (
        clean.hyperparameters["training"] == noisy.hyperparameters["training"] == trial["hyperparameters"]["training"]
    )
    assert clean.hyperparameters["model"] == {
        **trial["hyperparameters"]["model"],
        "hidden_channels": 5,
    }  # --set goes over it
    command = json.loads((tmp_path / "bench" / "commands.jsonl").read_text())["command"]
    assert f"--preset gcn={tmp_path / 'run' / 'preset.json'}" in command


@pytest.mark.parametrize(
    ("preset", "complaint"),
    [
        ("{file}", "expected MODEL=FILE.json"),
        ("gcn=nowhere.json", "there is no file nowhere.json"),
        ("mlp={file}", "--preset mlp=…: 'mlp' is not in this benchmark; it has gcn"),
        ("gcn={space}", "has neither 'csbm' nor 'default'"),
    ],
)
def test_a_wrong_preset_is_answered_in_one_line(tmp_path: Path, space: Path, preset: str, complaint: str) -> None:
    file = tmp_path / "preset.json"
    file.write_text('{"csbm": {"model": {"hidden_channels": 4}}}')
    given = preset.format(file=file, space=space)
    code, _, err = invoke("--dataset", "csbm", "--models", "gcn", "--preset", given, "--out", tmp_path, command="bench")
    assert code == 2
    assert complaint in err


class TestTestLabels:
    @pytest.fixture
    def usual(self, tmp_path: Path, space: Path, loaded: Data) -> list[dict[str, Any]]:
        assert search(tmp_path / "usual", space)[0] == 0
        return trials_in(tmp_path / "usual")

    def garbage(self, data: Data, mask: torch.Tensor, most: int) -> None:
        drawn = torch.randint(0, most, (int(mask.sum()),), generator=torch.Generator().manual_seed(1))
        assert not torch.equal(data.y[mask], drawn)
        data.y[mask] = drawn

    def test_they_do_not_change_the_search(
        self, tmp_path: Path, space: Path, loaded: Data, usual: list[dict[str, Any]]
    ) -> None:
        self.garbage(loaded, loaded.test_mask, 99)
        assert int(loaded.y.max()) > 90  # there are four classes: even their number is not looked at
        assert search(tmp_path / "garbage", space)[0] == 0
        assert trials_in(tmp_path / "garbage") == usual

    def test_those_of_the_validation_do(
        self, tmp_path: Path, space: Path, loaded: Data, usual: list[dict[str, Any]]
    ) -> None:
        self.garbage(loaded, loaded.val_mask, 4)
        assert search(tmp_path / "garbage", space)[0] == 0
        assert trials_in(tmp_path / "garbage") != usual

    def test_nobody_who_trains_gets_them(self, tmp_path: Path, space: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fit, seen = training.fit, []

        def watched(model: torch.nn.Module, data: Data, **options: Any) -> Any:
            seen.append((data.y[~(data.train_mask | data.val_mask)].unique().tolist(), bool(data.test_mask.any())))
            return fit(model, data, **options)

        monkeypatch.setattr(training, "fit", watched)
        search(tmp_path / "run", space, trials=1)
        assert seen == [([-1], False)] * 4


def test_a_stopped_search_goes_on_as_if_it_had_not_been(
    tmp_path: Path, space: Path, loaded: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(
        tmp_path / "whole", space, "--seeds", 1, trials=13
    )  # three of them drawn by the estimator, after ten at random
    fit, calls = training.fit, []

    def stop(*arguments: Any, **options: Any) -> Any:
        calls.append(options["seed"])
        if len(calls) == 11 * 2 + 2:  # within the twelfth trial
            raise KeyboardInterrupt
        return fit(*arguments, **options)

    monkeypatch.setattr(training, "fit", stop)
    code, _, err = search(tmp_path / "stopped", space, "--seeds", 1, trials=13)
    assert code == 130
    assert "Stopped. 11 trials are kept in" in err
    with (tmp_path / "stopped" / tune.STUDY).open("a") as file:
        file.write('{"op_code": 4, "tri')  # what a full disk leaves
    code, _, err = search(tmp_path / "stopped", space, "--seeds", 1, trials=13)
    assert (code, err) == (0, f"11 trials are in {tmp_path / 'stopped'} already.\n")
    assert trials_in(tmp_path / "stopped") == trials_in(tmp_path / "whole")
    assert (tmp_path / "stopped" / "preset.json").read_text() == (tmp_path / "whole" / "preset.json").read_text()


def test_a_larger_search_keeps_the_smaller_and_another_sampler_seed_draws_others(
    tmp_path: Path, space: Path, loaded: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(tmp_path / "a", space, trials=2)
    two = trials_in(tmp_path / "a")
    search(tmp_path / "b", space, "--sampler-seed", 1, trials=2)
    assert all(
        a["hyperparameters"] != b["hyperparameters"] for a, b in zip(two, trials_in(tmp_path / "b"), strict=True)
    )
    search(tmp_path / "a", space, trials=3)
    assert trials_in(tmp_path / "a")[:2] == two
    monkeypatch.setattr(tune, "train", None)  # nothing is trained again
    assert search(tmp_path / "a", space, trials=3)[0] == 0


def test_trials_can_run_side_by_side_in_other_processes(tmp_path: Path, space: Path, loaded: Data) -> None:
    protocol = Protocol("csbm", ("gcn",), parse_attacks("clean", dataset="csbm"), seeds=(0,))
    asked = Search(protocol, Space.read(space, "gcn"), tmp_path)
    _, tasks = asked.prepare()
    with Record(asked) as record:
        running = asked.study().ask()  # another process is at it
        job = pickle.loads(pickle.dumps(TrialJob(asked, 1, tasks, Stamp.now())))
        (done,) = job.run()
        assert list(job.run()) == [done]  # begun again, after its process died before it told
        record.write()
        assert record.trials == [done]
        assert running.number != done.number
    with Record(asked) as record:  # and was killed
        assert [trial.state.name for trial in asked.study().trials] == ["FAIL", "COMPLETE"]
        assert record.trials == [done]


def test_a_trial_that_was_written_down_but_not_yet_told_counts(
    tmp_path: Path, space: Path, loaded: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "_tell", lambda *_: None)
    search(tmp_path / "run", space, trials=1)
    assert trials_in(tmp_path / "run") == []
    monkeypatch.undo()
    monkeypatch.setattr(tune, "train", None)  # nothing is trained again
    assert search(tmp_path / "run", space, trials=1)[0] == 0
    assert len(trials_in(tmp_path / "run")) == 1


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, loaded: Data) -> Iterator[list[float | Exception]]:
    """What the trainings give, one after the other."""
    script: list[float | Exception] = []

    def train(*_: Any, **__: Any) -> Trained:
        if isinstance(script[0], Exception):
            raise script.pop(0)  # type: ignore[misc]
        return Trained(torch.nn.Identity(), 0.0)

    monkeypatch.setattr(tune, "train", train)
    monkeypatch.setattr(training, "evaluate", lambda *_: script.pop(0))
    yield script
    assert script == []


def test_a_diverging_run_counts_zero(tmp_path: Path, space: Path, scripted: list[float | Exception]) -> None:
    scripted += [80.0, FloatingPointError("the training loss is nan"), 60.0, 40.0]
    assert search(tmp_path / "run", space, trials=1)[0] == 0
    (trial,) = trials_in(tmp_path / "run")
    assert trial["val_accuracy"] == {"clean": [80.0, 60.0], "random:0.5@poisoning": [0.0, 40.0]}
    assert trial["objective"] == 45.0


def test_a_setting_that_the_model_does_not_take_fails_alone(
    tmp_path: Path, space: Path, scripted: list[float | Exception]
) -> None:
    scripted += [ValueError("step and width do not go together"), 70.0, 70.0, 70.0, 70.0]
    code, _, err = search(tmp_path / "run", space, trials=2)
    assert code == 0
    assert "1 trials failed; the last, 0: ValueError: step and width do not go together" in err
    failed, complete = trials_in(tmp_path / "run")
    assert (failed["state"], failed["objective"]) == ("failed", None)
    assert complete["objective"] == 70.0


def test_a_search_in_which_every_trial_fails_has_no_preset(
    tmp_path: Path, space: Path, scripted: list[float | Exception]
) -> None:
    scripted += [ValueError("no")] * 2
    code, _, err = search(tmp_path / "run", space, trials=2)
    assert code == 2
    assert "no trial is complete" in err
    assert not (tmp_path / "run" / tune.PRESET).exists()


def test_pruning_gives_up_below_the_median(tmp_path: Path, space: Path, scripted: list[float | Exception]) -> None:
    scripted += [70.0] * 4 * 5  # the pruner looks on for five trials
    scripted += [10.0, 70.5, 70.5, 70.5, 70.5]
    assert search(tmp_path / "run", space, "--prune", trials=7)[0] == 0
    *_, pruned, best = trials_in(tmp_path / "run")
    assert (pruned["state"], pruned["val_accuracy"]) == ("pruned", {"clean": [10.0]})
    assert (best["state"], best["objective"]) == ("complete", 70.5)
    assert json.loads((tmp_path / "run" / "preset.json").read_text())["csbm"] == best["hyperparameters"]


def test_a_folder_holds_one_search(tmp_path: Path, space: Path, loaded: Data) -> None:
    search(tmp_path / "run", space, trials=1)
    code, _, err = search(tmp_path / "run", space, "--seeds", 1, "--prune")
    assert code == 2
    assert "holds another search, with other seeds, prune; choose another --out" in err
    with open_alone(tmp_path / "run" / tune.STUDY):
        assert "another run is writing to" in search(tmp_path / "run", space)[2]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--model", "gnn"), "no model is called 'gnn'. Did you mean 'csgnn'? There are: "),
        (("--model", "gcn,mlp"), "no model is called 'gcn,mlp'"),
        (("--model", "gat"), "no packaged space is called 'gat'. "),
        (("--attacks", "pgd:0.1"), "attack pgd:0.1@evasion: evasion leaves the training as it is; a search trains on"),
        (("--attacks", "whitebox-pgd:0.1@poisoning"), "its graph depends on the model, which a trial changes"),
        (("--attacks", "metatack:0.1"), "Did you mean 'metattack'?"),
        (("--trials", "0"), "--trials: expected at least 1, got 0"),
        (("--jobs", "0"), "--jobs: expected at least 1, got 0"),
        (("--seeds", "0"), "--seeds: expected at least 1, got 0"),
        (("--space", "nowhere.json"), "--space nowhere.json: there is no such file"),
    ],
)
def test_mistakes_are_answered_in_one_line(tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    code, out, err = invoke("--model", "gcn", "--dataset", "csbm", "--out", tmp_path / "run", *arguments)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert complaint in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({}, "has nothing to search"),
        ({"model": {"hidden_channels": [8], "dropout": 0.5}}, "has nothing to search"),
        ({"modell": {"hidden_channels": [8, 16]}}, "got the section(s) 'modell'"),
        ([], "expected {'model': {…}, 'training': {…}}, got []"),
        ({"model": {"hidden_channels": []}}, "model.hidden_channels: expected at least one value in the list"),
        ({"model": {"dropout": {"low": 0.1}}}, "model.dropout: missing a required argument: 'high'"),
        ({"model": {"dropout": {"low": 0.1, "height": 1}}}, "model.dropout: "),
        ({"model": {"dropout": {"low": 0.5, "high": 0.1}}}, "expected low below high, got 0.5 and 0.1"),
        ({"training": {"lr": {"low": 0, "high": 1, "log": True}}}, "a logarithmic range begins above 0"),
        ({"training": {"lr": {"low": "0", "high": 1}}}, "expected numbers for low, high and step, got '0', 1"),
        ({"model": {"muu": [1, 2]}}, "no model hyperparameter is called 'muu'. There are: dropout, hidden_channels"),
        ({"training": {"rate": [1, 2]}}, "no training hyperparameter is called 'rate'. There are: epochs, lr"),
        ({"training": {"seed": [1, 2]}}, "no training hyperparameter is called 'seed'"),
    ],
)
def test_a_space_that_makes_no_sense_is_named(tmp_path: Path, given: Any, complaint: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(given))
    with pytest.raises(SpaceError, match=r"mine\.json") as error:
        Space.read(file, "gcn").check("gcn")
    assert complaint in str(error.value)


def test_a_model_that_trains_itself_has_no_training_to_search(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"training": {"lr": [0.1, 0.2]}}')
    with pytest.raises(SpaceError, match="the model 'rgcn' trains itself"):
        Space.read(file, "rgcn").check("rgcn")


def test_what_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{")
    with pytest.raises(SpaceError, match=r"mine\.json is not JSON"):
        Space.read(tmp_path / "mine.json", "gcn")


def test_a_range_is_of_whole_numbers_where_its_ends_are() -> None:
    class Drawn:
        def suggest_int(self, name: str, low: int, high: int, *, log: bool, step: int) -> tuple[Any, ...]:
            return "int", low, high, log, step

        def suggest_float(
            self, name: str, low: float, high: float, *, log: bool, step: float | None
        ) -> tuple[Any, ...]:
            return "float", low, high, log, step

    drawn: Any = Drawn()
    assert Range(2, 12).draw(drawn, "n") == ("int", 2, 12, False, 1)
    assert Range(2, 12, step=5).draw(drawn, "n") == ("int", 2, 12, False, 5)
    assert Range(0.01, 1, log=True).draw(drawn, "n") == ("float", 0.01, 1, True, None)
    assert Range(0, 1, step=0.25).draw(drawn, "n") == ("float", 0, 1, False, 0.25)


@pytest.mark.parametrize(
    "model", [f.name.removesuffix(".json") for f in (resources.files("contractive_gnn.bench") / "spaces").iterdir()]
)
def test_every_packaged_space_fits_its_model(model: str) -> None:
    space = Space.read(None, model)
    space.check(model)
    setting = space.example()
    built = build(model, 32, 4, **setting["model"])
    inspect.signature(training.fit).bind(built, hard_graph(), **setting["training"])


def test_without_optuna_the_error_says_what_to_install(
    tmp_path: Path, space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "contractive_gnn.bench.tune")
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, err = search(tmp_path / "run", space)
    assert code == 2
    assert "pip install 'contractive-gnn[tune]'" in err


@pytest.mark.filterwarnings("ignore:.* is called:DeprecationWarning")
def test_a_search_in_former_words_is_carried_on(tmp_path: Path, space: Path, loaded: Data) -> None:
    """The study knows its parameters by them, so that the draws that follow are those that would have followed."""
    former = json.loads(json.dumps(SPACE).replace("hidden_channels", "hidden"))
    written = tmp_path / "former.json"
    written.write_text(json.dumps(former))
    run_search(Search(searched(), Space.read(written, "gcn"), tmp_path / "whole"), trials=3)
    run_search(Search(searched(), Space.read(written, "gcn"), tmp_path / "run"), trials=2)
    kept = trials_in(tmp_path / "run")
    record = run_search(Search(searched(), Space.read(space, "gcn"), tmp_path / "run"), trials=3)
    assert trials_in(tmp_path / "run")[:2] == kept
    assert trials_in(tmp_path / "run") == trials_in(tmp_path / "whole")
    assert tune.table(record.trials, record.search.space).row_count == 3
    best = json.loads((tmp_path / "run" / tune.PRESET).read_text())["csbm"]
    assert "hidden_channels" in best["model"]
    assert "hidden" not in best["model"]
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"model": {"hidden_channels": [3, 5]}}))
    assert "with other attacks, seeds, space" in search(tmp_path / "run", other)[2]


def searched() -> Protocol:
    return Protocol(dataset="csbm", models=("gcn",), attacks=parse_attacks("clean", dataset="csbm"), seeds=(0,))


def run_search(asked: Search, *, trials: int) -> Record:
    graphs, tasks = asked.prepare()
    with Record(asked) as record:
        list(tune.execute(record, graphs, tasks, trials=trials, processes=1))
    return record


def test_a_search_on_an_inductive_split_does_not_see_the_test_nodes(tmp_path: Path, space: Path) -> None:
    asked = dataclasses.replace(searched(), split="inductive")
    _, tasks = Search(asked, Space.read(space, "gcn"), tmp_path).prepare()
    (graph,) = tune._graphs(asked, tasks).values()
    whole = asked.load()
    assert graph.num_nodes == whole.num_nodes - int(whole.test_mask.sum())
    assert int(graph.val_mask.sum()) == int(whole.val_mask.sum())
