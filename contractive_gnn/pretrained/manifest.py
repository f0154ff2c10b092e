"""The checkpoints that there are: one row each in ``manifest.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from contractive_gnn.former import current_model
from contractive_gnn.names import unknown
from contractive_gnn.pretrained.errors import PretrainedError

PACKAGE = "contractive_gnn.pretrained"


@dataclass(frozen=True)
class Checkpoint:
    """One trained model.

    Attributes:
        preset: name of its preset.
        model: what :func:`contractive_gnn.build` calls the model; the preset's own name, or what it trains.
        dataset: name of the data set it was trained on.
        seed: of its initial weights and its training.
        in_channels: number of features of the data set.
        out_channels: number of its classes.
        hyperparameters: keyword arguments of the model.
        accuracy: in percent, on the test nodes of the fixed split, of the clean graph.
        graph: :func:`~contractive_gnn.pretrained.graph_digest` of the data set.
        split: :func:`~contractive_gnn.pretrained.split_digest` of it.
        predictions: :func:`~contractive_gnn.pretrained.prediction_digest` of the model's scores on it.
        sha256: of the file that comes with the package; None for a checkpoint that one command makes.

    Example:
        >>> checkpoint = find("robust-mixture", "cora")
        >>> print(checkpoint, checkpoint.command, sep=": ")
        robust-mixture on cora, seed 0: contractive-gnn pretrain robust-mixture --dataset cora
    """

    preset: str
    model: str
    dataset: str
    seed: int
    in_channels: int
    out_channels: int
    hyperparameters: Mapping[str, Any]
    accuracy: float
    graph: str
    split: str
    predictions: str
    sha256: str | None

    @property
    def file(self) -> str:
        """Name of its file."""
        return f"{self.preset}-{self.dataset}-{self.seed}.safetensors"

    @property
    def command(self) -> str:
        """What makes it."""
        seed = f" --seed {self.seed}" if self.seed else ""
        return f"contractive-gnn pretrain {self.preset} --dataset {self.dataset}{seed}"

    def __str__(self) -> str:
        return f"{self.preset} on {self.dataset}, seed {self.seed}"


@cache
def checkpoints() -> tuple[Checkpoint, ...]:
    """Every checkpoint, by data set, model and seed.

    Example:
        >>> sorted({checkpoint.dataset for checkpoint in checkpoints()})
        ['citeseer', 'cora']
    """
    text = (resources.files(PACKAGE) / "manifest.json").read_text(encoding="utf-8")
    return tuple(Checkpoint(**row) for row in json.loads(text))


def find(preset: str, dataset: str, *, seed: int = 0) -> Checkpoint:
    """The checkpoint of this name.

    Args:
        preset: name of the preset.
        dataset: name of the data set.
        seed: of the training.

    Raises:
        PretrainedError: there is none; the text lists what there is.

    Example:
        >>> round(find("robust", "cora").accuracy, 1)
        84.8
    """
    preset = current_model(preset)
    rows = checkpoints()
    if preset not in (names := dict.fromkeys(row.preset for row in rows)):
        raise PretrainedError(unknown("pretrained model", [preset], names))
    rows = tuple(row for row in rows if row.preset == preset)
    if dataset not in (names := dict.fromkeys(row.dataset for row in rows)):
        raise PretrainedError(f"{preset!r} on {dataset!r}: {unknown('data set of it', [dataset], names)}")
    for row in rows:
        if row.dataset == dataset and row.seed == seed:
            return row
    seeds = ", ".join(str(row.seed) for row in rows if row.dataset == dataset)
    raise PretrainedError(f"{preset!r} on {dataset!r} was trained with the seeds {seeds}, not with {seed!r}")
