"""Checkpoints as safetensors: tensors and one JSON text, with a digest of both. Nothing in them is executed."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from contractive_gnn.extras import needs
from contractive_gnn.pretrained.errors import AlteredCheckpointError

_KEY: Final = "contractive_gnn"
_DIGEST: Final = "sha256"


def packed(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bytes:
    """The content of a checkpoint file.

    Args:
        tensors: a ``state_dict``.
        about: what JSON can hold: preset, data set, results, commit.

    Raises:
        MissingExtraError: safetensors is not installed.
    """
    with needs("bench", "a checkpoint"):
        from safetensors.torch import save
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = json.dumps({**about, _DIGEST: _content_digest(own, about)}, sort_keys=True, ensure_ascii=False)
    return save(own, metadata={_KEY: text})


def unpacked(content: bytes, *, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint file, and what it says about them.

    Args:
        content: of the file.
        name: what to call it in an error.

    Raises:
        AlteredCheckpointError: it is no file that :func:`packed` gave, or a byte of it has changed.
        MissingExtraError: safetensors is not installed.
    """
    with needs("bench", "a checkpoint"):
        from safetensors import SafetensorError
        from safetensors.torch import load
    try:
        tensors: dict[str, Tensor] = load(content)
        (length,) = struct.unpack("<Q", content[:8])
        about = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_KEY])
        expected = about.pop(_DIGEST)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise AlteredCheckpointError(f"{name} is no checkpoint of this package: {error}") from error
    if _content_digest(tensors, about) != expected:
        raise AlteredCheckpointError(f"{name} is altered: its tensors or its description have changed")
    return tensors, about


def _content_digest(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    whole = hashlib.sha256(json.dumps(about, sort_keys=True, ensure_ascii=False).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        whole.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        whole.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()
