"""Train the checkpoints of :mod:`contractive_gnn.pretrained`, and keep one only where it predicts what is recorded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.bench.certified import Asked, PresetUnit
from contractive_gnn.bench.protocol import Protocol
from contractive_gnn.bench.results import current_commit, current_versions, make_folder, replacing
from contractive_gnn.bench.runner import Trained, train
from contractive_gnn.bench.spec import parse_attacks
from contractive_gnn.bench.workers import single_thread
from contractive_gnn.pretrained.digests import graph_digest, prediction_digest, split_digest
from contractive_gnn.pretrained.errors import PretrainedError
from contractive_gnn.pretrained.files import packed
from contractive_gnn.pretrained.loading import check_graph, made_file
from contractive_gnn.pretrained.manifest import find
from contractive_gnn.training import evaluate, predict


class NotReproducedError(PretrainedError):
    """The training on this machine gave a model that predicts something else."""


@dataclass(frozen=True)
class Outcome:
    """A training, and what came out.

    Attributes:
        model: on the CPU, in evaluation mode.
        about: what is written beside the tensors: preset, data set, seed, digests, accuracy, commit, versions.
    """

    model: nn.Module
    about: Mapping[str, Any]


def pretrain(
    preset: str,
    dataset: str,
    *,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    root: Path | None = None,
    download: bool = True,
) -> Path:
    """Train one checkpoint as the benchmark trains, check what it predicts, and write it.

    Args:
        preset: see :func:`contractive_gnn.load_pretrained`.
        dataset: the same.
        seed: the same.
        folder: where to write it; the cache if None.
        root: folder with the data; None for the usual places.
        download: whether missing data may be fetched.

    Returns:
        the file.

    Raises:
        PretrainedError: there is no such checkpoint.
        NotReproducedError: the model predicts something else than the recorded one. The last bits of sums differ
            between processors and versions of torch, and a training makes much of little.
        DatasetError: the data cannot be had.
    """
    checkpoint = find(preset, dataset, seed=seed)
    protocol = protocol_of(checkpoint.preset, dataset, seed=seed, root=root, download=download)
    data = protocol.load()
    check_graph(checkpoint, data)
    outcome = trained(protocol, data)
    if outcome.about["predictions"] != checkpoint.predictions:
        raise NotReproducedError(
            f"{checkpoint}: the training here gave other predictions than the recorded one (accuracy "
            f"{outcome.about['accuracy']:.2f} %, recorded {checkpoint.accuracy:.2f} %): the processor or the versions "
            "differ. Nothing was written; to use such a model, fit one: contractive_gnn.build and contractive_gnn.fit"
        )
    path = made_file(checkpoint, folder)
    make_folder(path.parent)
    content = packed(outcome.model.state_dict(), outcome.about)
    with replacing(path) as part:
        part.write_bytes(content)
    return path


def protocol_of(preset: str, dataset: str, *, seed: int, root: Path | None = None, download: bool = True) -> Protocol:
    """The benchmark of one model on the clean graph of the fixed split."""
    clean = parse_attacks("clean", dataset=dataset)
    return Protocol(dataset, (preset,), clean, (seed,), root=root, download=download)


def trained(protocol: Protocol, data: Data) -> Outcome:
    """Train the one model of a protocol with its one seed, in one thread."""
    (preset,), (seed,) = protocol.models, protocol.seeds
    with single_thread():
        fitted = _fitted(protocol, data)
        scores = predict(fitted.model, data)
    commit, changes = current_commit()
    return Outcome(
        fitted.model.eval(),
        {
            "preset": preset,
            "model": model_of(preset),
            "dataset": protocol.dataset,
            "seed": seed,
            "hyperparameters": protocol.model_hyperparameters(preset),
            "graph": graph_digest(data),
            "split": split_digest(data),
            "predictions": prediction_digest(scores),
            "accuracy": evaluate(fitted.model, data, data.test_mask),
            "train_s": round(fitted.seconds, 3),
            "commit": commit,
            "uncommitted_changes": changes,
            "versions": current_versions(),
        },
    )


def model_of(preset: str) -> str:
    """What :func:`contractive_gnn.build` calls the model of a preset; those for certificates train an ℓ∞ diffusion."""
    return "linf-diffusion" if preset.startswith("certified") else preset


def _fitted(protocol: Protocol, data: Data) -> Trained:
    (preset,), (seed,) = protocol.models, protocol.seeds
    if not preset.startswith("certified"):
        return train(protocol, preset, data, seed=seed)
    unit = PresetUnit(protocol, data, preset, seed, Asked())
    unit.train()
    return Trained(unit.net, unit.train_s)


def halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A ``state_dict`` with its single-precision tensors in half precision."""
    return {name: tensor.half() if tensor.dtype == torch.float32 else tensor for name, tensor in state.items()}
