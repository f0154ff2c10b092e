"""A checkpoint is made as the benchmark trains, and kept only where it predicts what is recorded."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import contractive_gnn as cg
from contractive_gnn.bench import pretrain as module
from contractive_gnn.bench.cli import app
from contractive_gnn.bench.pretrain import NotReproducedError, halved, pretrain, protocol_of, trained
from contractive_gnn.bench.protocol import Override
from contractive_gnn.bench.runner import accuracy, train
from contractive_gnn.pretrained import Checkpoint, checkpoints, loading
from contractive_gnn.training import predict

pytest.importorskip("safetensors")


@pytest.fixture(scope="module")
def row() -> Checkpoint:
    """Of a training on embedded data."""
    protocol = protocol_of("gcn", "csbm", seed=3)
    about = trained(protocol, protocol.load()).about
    same = {field.name: about[field.name] for field in dataclasses.fields(Checkpoint) if field.name in about}
    hyperparameters = about["hyperparameters"]["model"]
    data = protocol.load()
    widths = {"in_channels": data.num_features, "out_channels": int(data.y.max()) + 1}
    return Checkpoint(**{**same, **widths, "hyperparameters": hyperparameters}, sha256=None)


@pytest.fixture
def known(row: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    for place in (module, loading):
        monkeypatch.setattr(place, "find", lambda *_, **__: row)
    return row


def test_it_is_the_model_of_the_benchmark(row: Checkpoint) -> None:
    protocol = protocol_of("gcn", "csbm", seed=3)
    data = protocol.load()
    model = train(protocol, "gcn", data, seed=3).model
    assert accuracy(protocol, model, data, data.test_mask) == row.accuracy


def test_what_is_made_is_loaded(known: Checkpoint, tmp_path: Path) -> None:
    path = pretrain("gcn", "csbm", seed=3, folder=tmp_path / "new")
    assert path == tmp_path / "new" / "gcn-csbm-3.safetensors"
    data = cg.load("csbm")
    model = cg.load_pretrained("gcn", "csbm", seed=3, data=data, folder=tmp_path / "new")
    assert cg.evaluate(model, data, data.test_mask) == known.accuracy


def test_a_training_that_gives_something_else_is_not_kept(
    row: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find", lambda *_, **__: dataclasses.replace(row, predictions="0" * 64))
    with pytest.raises(NotReproducedError, match=r"gave other predictions than the recorded one \(accuracy"):
        pretrain("gcn", "csbm", seed=3, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_preset_for_certificates_is_trained_for_them() -> None:
    short = (Override.parse("training.epochs=2"),)
    protocol = dataclasses.replace(protocol_of("certified", "csbm", seed=0), overrides=short)
    data = protocol.load()
    outcome = trained(protocol, data)
    assert (outcome.about["preset"], outcome.about["model"]) == ("certified", "linf-diffusion")
    again = cg.build("linf-diffusion", data.num_features, 4, **outcome.about["hyperparameters"]["model"])
    again.load_state_dict(outcome.model.state_dict())
    assert torch.equal(predict(again, data), predict(outcome.model, data))


def test_single_precision_is_halved_and_nothing_else() -> None:
    state = {"a": torch.ones(2), "b": torch.ones(2, dtype=torch.float64), "c": torch.tensor([True])}
    assert [tensor.dtype for tensor in halved(state).values()] == [torch.float16, torch.float64, torch.bool]


def test_the_command_lists_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = CliRunner().invoke(app, ["pretrain"])
    assert said.exit_code == 0, said.output
    assert said.output.count("│") >= 6 * len(checkpoints())
    assert "with the package" in said.output
    assert "contractive-gnn pretrain robust-mixture --dataset cora" in said.output


def test_the_command_makes_nothing_that_is_there() -> None:
    said = CliRunner().invoke(app, ["pretrain", "gcn"])
    assert said.exit_code == 0, said.output
    assert "gcn on cora, seed 0 comes with the package: nothing to make" in said.output


def test_the_command_makes_one(known: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contractive_gnn.pretrained.find", lambda *_, **__: known)
    said = CliRunner().invoke(app, ["pretrain", "gcn", "--dataset", "csbm", "--seed", "3", "--out", str(tmp_path)])
    assert said.exit_code == 0, said.output
    assert f"{known.accuracy:.1f} % of the test nodes, as recorded" in " ".join(said.output.split())
    assert (tmp_path / known.file).is_file()


def test_an_unknown_model_is_one_line() -> None:
    said = CliRunner().invoke(app, ["pretrain", "robst"])
    assert said.exit_code != 0
    assert "Did you mean 'robust'" in said.output
