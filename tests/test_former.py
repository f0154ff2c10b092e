"""Models under names that they had before: asked for, configured, and read from results."""

from __future__ import annotations

import dataclasses
import json
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
from contractive_gnn.bench.spec import parse_attacks
from contractive_gnn.former import current_hyperparameters, current_model

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
