"""One line of JSON for each image and attack."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from contractive_gnn.lines import ResultsError, finished_lines, json_object

Key = tuple[str, str, int]


@dataclass(frozen=True, kw_only=True)
class ImageLine:
    """What an attack did to one image.

    Attributes:
        network: what the model is called by whoever attacked it.
        model: digest of its structure and its weights, see :func:`model_digest`.
        index: of the image in the data.
        image: digest of the image and its label, see :func:`image_digest`.
        label: the right class.
        prediction: the model's on the image itself.
        correct: whether that is the label, without a tie.
        attack: name of the attack.
        norm: ``"l2"`` or ``"linf"``.
        epsilon: ε, raw pixel units.
        settings: everything else that decides what the attack does.
        survived: whether the model is right about all that was tried; False where it was wrong at once.
        lost_to: the part of the attack that won, or None.
        distance: of the image that it found, in the norm; None where there is none.
        lipschitz: the model's constant in ℓ2, or None.
        proved: whether this library proves it; False for one that others claim.
        radius: certified radius in ℓ2 of the prediction, None without a constant.
        certified: whether the image is right and no image within ε can be predicted otherwise, if the constant holds.
        attacked: False where the attack was left out because the image is certified.
        batch_size: of the evaluation; random numbers are shared in a batch.
        batch: how many images of the batch the model was right about.
        seconds: that the batch took, divided by that number; 0 where the model was wrong at once.
        forwards: images that went through the model, divided likewise.
        commit: of this library, or None.
        uncommitted_changes: whether its files differed from it.
        versions: of the packages that matter.
        device: where the model was.
    """

    network: str
    model: str
    index: int
    image: str
    label: int
    prediction: int
    correct: bool
    attack: str
    norm: str
    epsilon: float
    settings: Mapping[str, Any]
    survived: bool
    lost_to: str | None
    distance: float | None
    lipschitz: float | None
    proved: bool
    radius: float | None
    certified: bool
    attacked: bool
    batch_size: int
    batch: int
    seconds: float
    forwards: float
    commit: str | None
    uncommitted_changes: bool
    versions: Mapping[str, str]
    device: str

    @property
    def key(self) -> Key:
        """What makes this line another one than the next."""
        return (self.model, settings_digest(self.settings), self.index)

    def to_line(self) -> str:
        """The line, with its newline."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_line(cls, line: str) -> ImageLine:
        """Read a line; fields of later versions are passed over.

        Raises:
            ResultsError: the line is not a JSON object, or lacks a field.
        """
        record = json_object(line)
        names = [field.name for field in dataclasses.fields(cls)]
        if missing := [name for name in names if name not in record]:
            raise ResultsError(f"lacks the field(s) {', '.join(missing)}")
        return cls(**{name: record[name] for name in names})


def read_lines(path: Path) -> list[ImageLine]:
    """Every finished line of a file, in order; an unfinished last one (no newline) is passed over.

    Raises:
        ResultsError: the file cannot be read, or a finished line is none of these.
    """
    return finished_lines(path, ImageLine.from_line)


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that change when any setting does."""
    return _digest(json.dumps(settings, sort_keys=True, allow_nan=False).encode())


def model_digest(model: nn.Module) -> str:
    """Twelve hexadecimal digits that change with the model's printed structure, its weights and its buffers."""
    parts = [type(model).__module__, repr(model)]
    content = hashlib.sha256("\n".join(parts).encode())
    for name, value in sorted(model.state_dict().items()):
        content.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        content.update(_bytes(value))
    return content.hexdigest()[:12]


def image_digest(image: Tensor, label: int) -> str:
    """Twelve hexadecimal digits that change with any pixel and with the label."""
    return _digest(f"{image.dtype} {list(image.shape)} {label}".encode() + _bytes(image))


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
