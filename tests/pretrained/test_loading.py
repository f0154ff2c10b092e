"""Trained models come back whole: the accuracy of the tables, or an error that says what is wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch

import contractive_gnn as cg
from contractive_gnn.pretrained import (
    AlteredCheckpointError,
    Checkpoint,
    MissingCheckpointError,
    PretrainedError,
    WrongGraphError,
    checkpoints,
    find,
    graph_digest,
    load_pretrained,
    loading,
    prediction_digest,
    split_digest,
)
from contractive_gnn.pretrained.files import packed, unpacked
from contractive_gnn.training import evaluate, predict

pytest.importorskip("safetensors")
SHIPPED = [row for row in checkpoints() if row.sha256 is not None]
WEIGHTS = resources.files("contractive_gnn.pretrained") / "weights"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Path]:
    """A checkpoint that no package has, and the folder that it was made into."""
    data = cg.contextual_sbm(60, seed=0)
    model = cg.build("gcn", data.num_features, 4)
    row = Checkpoint(
        preset="gcn", model="gcn", dataset="cora", seed=0, in_channels=data.num_features, out_channels=4,
        hyperparameters={}, accuracy=50.0, graph=graph_digest(data), split=str(split_digest(data)),
        predictions=prediction_digest(predict(model, data)), sha256=None,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("made")
    (folder / row.file).write_bytes(packed(model.state_dict(), {"preset": "gcn", "dataset": "cora", "seed": 0}))
    return row, folder


@pytest.fixture
def only(made: tuple[Checkpoint, Path], monkeypatch: pytest.MonkeyPatch) -> tuple[Checkpoint, Path]:
    monkeypatch.setattr(loading, "find", lambda *_, **__: made[0])
    return made


def rewrite(folder: Path, tmp_path: Path, row: Checkpoint, change: Any) -> Path:
    tensors, about = unpacked((folder / row.file).read_bytes(), name="it")
    change(tensors, about)
    (tmp_path / row.file).write_bytes(packed(tensors, about))
    return tmp_path


@pytest.mark.parametrize("row", SHIPPED, ids=str)
def test_a_model_has_the_accuracy_that_is_recorded(row: Checkpoint, real_data: None) -> None:
    data = cg.load(row.dataset)
    model = load_pretrained(row.preset, row.dataset, data=data)
    assert not model.training
    assert evaluate(model, data, data.test_mask) == row.accuracy


def test_the_recorded_accuracies_are_those_of_the_tables(repository: Path) -> None:
    lines = (repository / "docs/results/pretrained.jsonl").read_text(encoding="utf-8").splitlines()
    measured = {(line["preset"], line["dataset"], line["seed"]): line for line in map(json.loads, lines)}
    assert {(row.preset, row.dataset, row.seed) for row in checkpoints()} == set(measured)
    for row in checkpoints():
        line = measured[row.preset, row.dataset, row.seed]
        assert row.accuracy == line["accuracy"] == line["table"]["accuracy"], row
        assert (row.graph, row.split, row.predictions) == (line["graph"], line["split"], line["predictions"])


def test_the_files_are_those_of_the_manifest() -> None:
    assert len(SHIPPED) > 5
    files = {entry.name: entry.read_bytes() for entry in WEIGHTS.iterdir()}
    assert set(files) == {row.file for row in SHIPPED}
    for row in SHIPPED:
        assert hashlib.sha256(files[row.file]).hexdigest() == row.sha256
        _, about = unpacked(files[row.file], name=row.file)
        assert (about["graph"], about["predictions"], about["accuracy"]) == (row.graph, row.predictions, row.accuracy)
        assert about["uncommitted_changes"] is False
        assert len(about["commit"]) == 40


def test_a_flipped_byte_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = SHIPPED[0]
    content = bytearray((WEIGHTS / row.file).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / row.file).write_bytes(content)
    monkeypatch.setattr(loading.resources, "files", lambda _: tmp_path)
    with pytest.raises(AlteredCheckpointError, match=f"{row.file} is altered: its SHA-256 is .* install the package"):
        load_pretrained(row.preset, row.dataset)


def test_loading_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    load_pretrained(SHIPPED[0].preset, SHIPPED[0].dataset)
    assert torch.equal(before, torch.get_rng_state())


def test_another_graph_is_refused(real_data: None) -> None:
    data = cg.load("cora")
    attacked = cg.attack(None, data, "random", flips=1, seed=0).data
    with pytest.raises(WrongGraphError, match=r"give the clean graph of contractive_gnn\.load\('cora'\)"):
        load_pretrained("gcn", "cora", data=attacked)
    other = cg.load("cora", split="random")
    with pytest.raises(WrongGraphError, match="it has seen labels of nodes that are test nodes there"):
        load_pretrained("gcn", "cora", data=other)
    for mask in ("train_mask", "val_mask", "test_mask"):
        del other[mask]
    load_pretrained("gcn", "cora", data=other)


def test_a_made_model_is_read_from_its_folder(only: tuple[Checkpoint, Path]) -> None:
    row, folder = only
    data = cg.contextual_sbm(60, seed=0)
    assert prediction_digest(predict(load_pretrained("gcn", "cora", data=data, folder=folder), data)) == row.predictions


def test_a_model_that_is_not_made_yet_names_the_command(only: tuple[Checkpoint, Path], tmp_path: Path) -> None:
    with pytest.raises(MissingCheckpointError, match=r"contractive-gnn pretrain gcn --dataset cora --out .*"):
        load_pretrained("gcn", "cora", folder=tmp_path)


def test_a_file_of_another_model_is_refused(only: tuple[Checkpoint, Path], tmp_path: Path) -> None:
    row, folder = only
    where = rewrite(folder, tmp_path, row, lambda _, about: about.update(preset="mlp"))
    with pytest.raises(AlteredCheckpointError, match=r"holds \('mlp', 'cora', 0\), expected \('gcn', 'cora', 0\)"):
        load_pretrained("gcn", "cora", folder=where)


@pytest.mark.parametrize("change", ["missing", "more", "shape"])
def test_other_tensors_are_refused(only: tuple[Checkpoint, Path], tmp_path: Path, change: str) -> None:
    def alter(tensors: dict[str, torch.Tensor], _: object) -> None:
        first = next(iter(tensors))
        if change == "missing":
            del tensors[first]
        elif change == "more":
            tensors["another"] = torch.zeros(2)
        else:
            tensors[first] = torch.zeros(2, 2)

    row, folder = only
    where = rewrite(folder, tmp_path, row, alter)
    with pytest.raises(AlteredCheckpointError, match="does not hold the tensors of gcn on cora, seed 0"):
        load_pretrained("gcn", "cora", folder=where)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("robst", "cora", 0), r"no pretrained model is called 'robst'\. Did you mean 'robust'"),
        (("robust", "core", 0), r"'robust' on 'core': no data set of it is called 'core'\. Did you mean 'cora'"),
        (("robust", "cora", 77), r"'robust' on 'cora' was trained with the seeds 0.*, not with 77"),
    ],
)
def test_a_name_that_there_is_not_is_answered_with_the_closest(asked: tuple[str, str, int], words: str) -> None:
    preset, dataset, seed = asked
    with pytest.raises(PretrainedError, match=words):
        find(preset, dataset, seed=seed)


def test_a_former_name_still_works() -> None:
    with pytest.warns(DeprecationWarning, match="called 'robust-mixture' now"):
        assert find("robust-hedged", "cora").preset == "robust-mixture"


def test_a_checkpoint_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SHIPPED[0].seed = 1  # type: ignore[misc]
