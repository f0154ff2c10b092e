"""A checkpoint file is read as it was written, or not at all."""

from __future__ import annotations

import pickle
import random

import pytest
import torch
from torch import Tensor

from contractive_gnn.pretrained import AlteredCheckpointError
from contractive_gnn.pretrained.files import packed, unpacked

pytest.importorskip("safetensors")

ABOUT = {"preset": "robust", "seed": 0, "accuracy": 84.80885028839111, "hyperparameters": {"model": {"λ": [1, None]}}}


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return {
        "weight": torch.randn(3, 4).t(),
        "half": torch.randn(5).half(),
        "flags": torch.tensor([True, False]),
        "count": torch.tensor(7),
    }


def test_what_is_written_is_read(tensors: dict[str, Tensor]) -> None:
    read, about = unpacked(packed(tensors, ABOUT), name="it")
    assert about == ABOUT
    assert set(read) == set(tensors)
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


def test_one_content_gives_one_file(tensors: dict[str, Tensor]) -> None:
    assert packed(tensors, ABOUT) == packed(dict(reversed(tensors.items())), dict(reversed(ABOUT.items())))


def test_a_flipped_bit_anywhere_is_refused(tensors: dict[str, Tensor]) -> None:
    content = packed(tensors, ABOUT)
    places = range(len(content)) if len(content) < 2000 else random.Random(0).sample(range(len(content)), 2000)
    for place in places:
        altered = bytearray(content)
        altered[place] ^= 1 << (place % 8)
        with pytest.raises(AlteredCheckpointError):
            unpacked(bytes(altered), name="it")


def test_a_shorter_file_is_refused(tensors: dict[str, Tensor]) -> None:
    content = packed(tensors, ABOUT)
    for length in (0, 5, 8, 100, len(content) - 1):
        with pytest.raises(AlteredCheckpointError, match="it is no checkpoint"):
            unpacked(content[:length], name="it")


def test_nothing_else_is_a_checkpoint(tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save

    for content in (b"", b"PK\3\4", pickle.dumps(tensors), save({"count": torch.tensor(7)})):
        with pytest.raises(AlteredCheckpointError, match="it is no checkpoint"):
            unpacked(content, name="it")
