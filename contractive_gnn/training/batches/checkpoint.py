"""Checkpoints of a training: written whole or not at all, and read only by the training that wrote them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from contractive_gnn.lines import replacing

_FORMAT = 2


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or belongs to another training."""


def save_checkpoint(path: Path, state: Mapping[str, Any], *, identity: Mapping[str, str]) -> None:
    """Write a state, so that whatever happens the file holds this one or the one before.

    Args:
        path: of the file; its folder is made.
        state: numbers, text, lists, dictionaries and tensors.
        identity: what :func:`load_checkpoint` compares.
    """
    with replacing(path) as partial, partial.open("wb") as file:
        torch.save({"format": _FORMAT, "identity": dict(identity), "state": dict(state)}, file)
        file.flush()
        os.fsync(file.fileno())  # before the new name: a crash of the machine leaves one of the two whole


def load_checkpoint(path: Path, *, identity: Mapping[str, str]) -> dict[str, Any] | None:
    """The state that was saved; None where there is no file.

    No code of the file is run.

    Raises:
        CheckpointError: the file is no checkpoint, or was written by a training of another identity.
    """
    if not path.exists():
        return None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if saved["format"] != _FORMAT:
            raise KeyError(f"format {saved['format']}")
        theirs, state = saved["identity"], saved["state"]
    except Exception as error:  # of a damaged file torch raises almost anything, IndexError too
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CheckpointError(
            f"{path} is no checkpoint of this release ({reason}); delete it to train from the start, or give another "
            "path"
        ) from error
    strange = [
        f"{key}: {theirs.get(key, 'absent')} there, {identity.get(key, 'absent')} here"
        for key in sorted({*theirs, *identity})
        if theirs.get(key) != identity.get(key)
    ]
    if strange:
        raise CheckpointError(
            f"{path} belongs to another training ({'; '.join(strange)}); delete it to train from the start, or give "
            "another path"
        )
    checked: dict[str, Any] = state
    return checked


def model_identity(model: nn.Module) -> str:
    """Text that is another for a model of other parts, shapes or arguments, whatever the values of its weights are.

    The arguments of a part are those that its ``repr`` shows.
    """
    parts = [f"{name}: {type(part).__qualname__}({part.extra_repr()})" for name, part in model.named_modules()]
    tensors = [f"{name}: {value.dtype} {list(value.shape)}" for name, value in _tensors(model)]
    digest = hashlib.sha256("\n".join([*parts, *tensors]).encode()).hexdigest()
    return f"{type(model).__name__} {digest[:16]}"


def _tensors(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [(name, value) for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)]
