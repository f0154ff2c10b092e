"""Checkpoints: whole or not at all, and of this training only."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from contractive_gnn.training.batches.checkpoint import (
    CheckpointError,
    load_checkpoint,
    model_identity,
    save_checkpoint,
)

IDENTITY = {"seed": "0", "epochs": "3"}


def test_a_state_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.pt"
    assert load_checkpoint(path, identity=IDENTITY) is None
    state: dict[str, Any] = {"w": torch.randn(3), "records": [{"loss": 0.5, "val": None}], "n": 2}
    save_checkpoint(path, state, identity=IDENTITY)
    loaded = load_checkpoint(path, identity=IDENTITY)
    assert loaded is not None
    assert torch.equal(loaded["w"], state["w"])
    assert (loaded["records"], loaded["n"]) == (state["records"], 2)
    assert [file.name for file in path.parent.iterdir()] == ["x.pt"]


def test_a_write_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pt"
    save_checkpoint(path, {"n": 1}, identity=IDENTITY)

    def half(content: object, file: Any) -> None:
        file.write(b"half of it")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half)
        with pytest.raises(OSError, match="no space left"):
            save_checkpoint(path, {"n": 2}, identity=IDENTITY)
    assert load_checkpoint(path, identity=IDENTITY) == {"n": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


def test_another_training_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    save_checkpoint(path, {"n": 1}, identity=IDENTITY)
    with pytest.raises(CheckpointError, match=r"another training \(epochs: 3 there, 4 here\); delete it"):
        load_checkpoint(path, identity={**IDENTITY, "epochs": "4"})
    with pytest.raises(CheckpointError, match=r"loss: absent there, hinge here"):
        load_checkpoint(path, identity={**IDENTITY, "loss": "hinge"})


class Code:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


def test_what_is_no_checkpoint_is_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pt"
    save_checkpoint(path, {"n": 1}, identity=IDENTITY)
    whole = path.read_bytes()
    torch.save({"format": 1, "identity": IDENTITY, "state": Code()}, tmp_path / "code.pt")
    torch.save({"format": 0, "identity": IDENTITY, "state": {}}, tmp_path / "old.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    contents = [
        *(b"", b"text", whole[:-30], pickle.dumps(Code())),
        *((tmp_path / name).read_bytes() for name in ("code.pt", "old.pt", "list.pt")),
    ]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"x.pt is no checkpoint of this release \("):
            load_checkpoint(path, identity=IDENTITY)
    assert not (tmp_path / "ran").exists()


def test_a_model_is_told_by_its_parts_shapes_and_arguments_and_not_by_its_weights() -> None:
    def model(*middle: nn.Module, width: int = 4) -> nn.Module:
        return nn.Sequential(nn.Linear(3, width), *middle)

    same = {model_identity(model(nn.ReLU())) for _ in range(2)}  # of other weights
    others = [
        model(nn.Tanh()),
        model(),
        model(nn.ReLU(), width=5),
        model(nn.ReLU()).double(),
        model(nn.LeakyReLU(0.1)),
        model(nn.LeakyReLU(0.2)),
    ]
    assert len(same) == 1
    assert len({*same, *map(model_identity, others)}) == 7
