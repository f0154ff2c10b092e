"""Models under names that they had before: asked for, configured, and read from results."""

from __future__ import annotations

import dataclasses
import json
import warnings
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from contractive_gnn import nn
from contractive_gnn.bench import own_models
from contractive_gnn.bench.own_models import ModelFileError
from contractive_gnn.bench.presets import load_preset
from contractive_gnn.bench.protocol import Override, Protocol
from contractive_gnn.bench.results import RESULTS, ResultsFile, read_results
from contractive_gnn.bench.runner import plan
from contractive_gnn.bench.spaces import Space, SpaceError, model_hyperparameters
from contractive_gnn.bench.spec import parse_attacks
from contractive_gnn.former import HYPERPARAMETERS, current_hyperparameters, current_model

MEASURED = {
    "accuracy": 80.0, "clean_accuracy": 80.0, "evaluated_on": "test", "n_evaluated": 10, "attack_source": "generated",
    "flips": 0, "unreliable": [], "train_s": 1.0, "attack_s": 0.0, "commit": None, "uncommitted_changes": False,
    "versions": {},
}  # fmt: skip


def protocol(model: str, *overrides: str) -> Protocol:
    return Protocol(
        dataset="csbm",
        models=(model,),
        attacks=parse_attacks("clean", dataset="csbm"),
        seeds=(0, 1),
        overrides=tuple(map(Override.parse, overrides)),
    )


def asked(benchmark: Protocol) -> list[dict[str, Any]]:
    """What every cell is asked with."""
    (model,) = benchmark.models
    return [
        dataclasses.asdict(cell)
        for seed in benchmark.seeds
        for _, cell in benchmark.cells(split="random", model=model, seed=seed)
    ]


def former(cell: dict[str, Any]) -> dict[str, Any]:
    """The same cell in the words of before."""
    own = {"share" if key == "weight" else key: value for key, value in cell["hyperparameters"]["model"].items()}
    return {**cell, "model": "robust-hedged", "hyperparameters": {**cell["hyperparameters"], "model": own}}


@pytest.mark.parametrize("name", ["robust-mixture", "robust-hedged"])
def test_what_was_measured_under_a_former_name_is_not_measured_again(tmp_path: Path, name: str) -> None:
    cells = asked(protocol("robust-mixture"))
    before = former(cells[0])
    assert before["hyperparameters"]["model"]["share"] == 0.4
    (tmp_path / RESULTS).write_text(json.dumps({**before, **MEASURED}) + "\n")
    (line,) = read_results(tmp_path / RESULTS)
    assert (line.model, line.hyperparameters) == ("robust-mixture", cells[0]["hyperparameters"])
    with ResultsFile(tmp_path / RESULTS) as results:
        found = plan(protocol(name), out=tmp_path, finished=results.finished)
        assert (found.n_cells, found.n_finished) == (2, 1)
        other = plan(protocol(name, f"{name}.model.weight=0.3"), out=tmp_path, finished=results.finished)
        assert (other.n_cells, other.n_finished) == (2, 0)
    assert (tmp_path / RESULTS).read_text() == json.dumps({**before, **MEASURED}) + "\n"


def test_a_former_hyperparameter_is_set_as_that_of_today() -> None:
    with pytest.warns(DeprecationWarning, match="the model 'robust-hedged' is called 'robust-mixture' now"):
        old = protocol("robust-hedged", "robust-hedged.model.share=0.3", "training.epochs=2")
    new = protocol("robust-mixture", "robust-mixture.model.weight=0.3", "training.epochs=2")
    assert asked(old) == asked(new)
    assert asked(new)[0]["hyperparameters"]["model"]["weight"] == 0.3
    with pytest.warns(DeprecationWarning, match="write 'robust-mixture'"):
        assert load_preset("robust-hedged", "cora") == load_preset("robust-mixture", "cora")


def test_models_within_models_are_renamed_too_and_nothing_else() -> None:
    given = {
        "model": {"members": [{"name": "hedged", "model": {"share": 0.2, "teacher": {"name": "gcn"}}}], "share": 1},
        "training": {"teacher": {"name": "robust-hedged", "model": {"share": 0.1}, "training": {"share": 3}}},
        "attack": {"name": "hedged", "params": {"share": 2}},
    }
    assert current_hyperparameters("ensemble", given) == {
        "model": {"members": [{"name": "mixture", "model": {"weight": 0.2, "teacher": {"name": "gcn"}}}], "share": 1},
        "training": {"teacher": {"name": "robust-mixture", "model": {"weight": 0.1}, "training": {"share": 3}}},
        "attack": {"name": "hedged", "params": {"share": 2}},
    }
    assert current_model("gcn") == "gcn"


def test_a_former_name_cannot_be_given_to_another_model() -> None:
    with pytest.raises(ValueError, match="'hedged' is what the model 'mixture' was called before"):
        nn.register("hedged")(nn.GCN)
    with pytest.raises(ModelFileError, match="a registered model is called 'hedged'"):
        own_models.use([own_models.OwnModel.of(nn.GCN, name="hedged")])


#: a model of each kind, with hyperparameters in the words of before
BEFORE = {
    "gcn": {"hidden": 32},
    "appnp": {"hidden": 32, "num_steps": 5},
    "csgnn": {"hidden": 32, "sigma": "tanh", "weight": True},
    "gradient-flow": {"hidden": 32, "num_steps": 5, "sigma": "group-huber", "weight": True},
    "linf-diffusion": {"hidden": 32, "num_steps": 5, "sigma": "huber"},
    "robust": {"hidden": 32, "num_steps": 5, "sigma": "group-mcp"},
    "diffusion": {"hidden": 32, "num_steps": 5, "sigma": "huber"},
}


def test_of_a_former_word_and_that_of_today_the_later_value_is_taken() -> None:
    for first, second in (("hidden", "hidden_channels"), ("hidden_channels", "hidden")):
        with pytest.warns(DeprecationWarning, match="hidden is called"):
            given = protocol("gcn", f"model.{first}=7", f"model.{second}=8").model_hyperparameters("gcn")
        assert given["model"]["hidden_channels"] == 8


@pytest.mark.parametrize("name", BEFORE)
def test_what_was_measured_with_former_words_is_not_measured_again(tmp_path: Path, name: str) -> None:
    settings = [f"{name}.model.{key}={json.dumps(value)}" for key, value in BEFORE[name].items()]
    with pytest.warns(DeprecationWarning, match=f"{name}.model.hidden is called {name}.model.hidden_channels now"):
        cells = asked(protocol(name, *settings))
    current = cells[0]["hyperparameters"]["model"]
    assert "hidden" not in current
    assert current["hidden_channels"] == 32
    before = {HYPERPARAMETERS[name].get(key, key): key for key in BEFORE[name]}
    own = {before.get(key, key): value for key, value in current.items()}
    line = {**cells[0], "hyperparameters": {**cells[0]["hyperparameters"], "model": own}, **MEASURED}
    assert own.items() >= BEFORE[name].items()
    (tmp_path / RESULTS).write_text(json.dumps(line) + "\n")
    with ResultsFile(tmp_path / RESULTS) as results:
        todays = [f"{name}.model.{key}={json.dumps(value)}" for key, value in current.items()]
        found = plan(protocol(name, *todays), out=tmp_path, finished=results.finished)
        assert (found.n_cells, found.n_finished) == (2, 1)


def test_every_model_is_built_from_both_words() -> None:
    for name, words in HYPERPARAMETERS.items():
        if name not in nn.model_names() or name in ("mixture", "robust-mixture"):
            continue
        assert {"hidden": "hidden_channels"}.items() <= words.items()
        known = model_hyperparameters(name)
        assert known is None or set(words.values()) <= set(known), name
        assert known is None or not {"hidden", "num_steps"} & set(known), name
        with pytest.warns(DeprecationWarning, match=r"\(hidden=…\) is \w+\(hidden_channels=…\) now"):
            nn.build(name, 5, 2, hidden=4)
    never_renamed = {"mass-diffusion", "wave", "volume-coupling"}
    assert {name for name in nn.model_names() if "hidden_channels" in (model_hyperparameters(name) or ())} == {
        name for name in HYPERPARAMETERS if name in nn.model_names() and name not in ("mixture", "robust-mixture")
    } | never_renamed


def test_packaged_presets_and_spaces_are_in_the_words_of_today() -> None:
    folder = resources.files("contractive_gnn.bench")
    for kind in ("presets", "spaces"):
        for file in (folder / kind).iterdir():
            name = file.name.removesuffix(".json")
            given = json.loads(file.read_text("utf-8"))
            for setting in given.values() if kind == "presets" else [given]:
                assert current_hyperparameters(name, setting) == setting, file.name


def test_a_space_of_ones_own_may_have_former_words() -> None:
    Space({"model": {"hidden": [8, 16], "num_steps": 3}}, "mine").check("linf-diffusion")
    with pytest.raises(SpaceError, match=r"no model hyperparameter is called 'hiden'"):
        Space({"model": {"hiden": [8, 16]}}, "mine").check("linf-diffusion")


def test_the_student_of_a_mixture_is_a_perceptron() -> None:
    given = {"model": {"teacher": {"name": "gcn", "model": {"hidden": 8}}, "student": {"hidden": 4}, "share": 0.3}}
    assert current_hyperparameters("mixture", given) == {
        "model": {
            "teacher": {"name": "gcn", "model": {"hidden_channels": 8}},
            "student": {"hidden_channels": 4},
            "weight": 0.3,
        }
    }


def test_published_results_are_read_in_the_words_of_today(repository: Path) -> None:
    """And what they say builds the model, without a warning."""
    settings = set()
    for path in (repository / "docs" / "results").rglob("*.jsonl"):
        for text in path.read_text("utf-8").splitlines():
            line = json.loads(text)
            given = line.get("hyperparameters")
            if "model" in line and isinstance(given, dict) and isinstance(given.get("model"), dict):
                name = current_model(line["model"], warn=False)
                settings.add((name, json.dumps(current_hyperparameters(name, given)["model"])))
    assert len(settings) > 50
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        for name, given in settings:
            if name in nn.model_names():
                nn.build(name, 5, 2, **json.loads(given))
