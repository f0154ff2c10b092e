"""Read a trained model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.datasets.fetch import cache_folder
from contractive_gnn.nn import build
from contractive_gnn.pretrained.digests import graph_digest, split_digest
from contractive_gnn.pretrained.errors import AlteredCheckpointError, MissingCheckpointError, WrongGraphError
from contractive_gnn.pretrained.files import unpacked
from contractive_gnn.pretrained.manifest import PACKAGE, Checkpoint, find


def load_pretrained(
    preset: str,
    dataset: str,
    *,
    seed: int = 0,
    data: Data | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> nn.Module:
    """A trained model, in evaluation mode, in single precision, on the CPU.

    It was trained by ``contractive-gnn bench`` on the clean graph of the fixed split, and has the accuracy of the
    tables there for its seed. The file is checked against the digest that the package has of it, and the tensors
    against the model: all of them, and no others.

    Args:
        preset: name of the model: ``robust``, ``robust-ensemble``, ``csgnn``, …; ``contractive-gnn pretrain`` lists
            them.
        dataset: name of the data set: ``cora`` or ``citeseer``.
        seed: of the training.
        data: the graph that you are going to ask the model about, clean. If given, it must be the one that the model
            was trained on, with the same split or none.
        folder: where ``contractive-gnn pretrain --out`` has written the checkpoint. If None, it is the one that comes
            with the package, or was made into the cache.

    Returns:
        a module with ``forward(x, edge_index, edge_weight=None) -> [n, classes]``.

    Raises:
        PretrainedError: there is no such checkpoint.
        MissingCheckpointError: it has to be made first; the text names the command.
        AlteredCheckpointError: the file is not the one that was written.
        WrongGraphError: ``data`` is another graph, or split otherwise.
        MissingExtraError: safetensors is not installed.

    Example:
        >>> import contractive_gnn as cg
        >>> model = cg.load_pretrained("robust", "cora")
        >>> sum(parameter.numel() for parameter in model.parameters())
        92231
    """
    checkpoint = find(preset, dataset, seed=seed)
    if data is not None:
        check_graph(checkpoint, data)
    content, where = _content(checkpoint, folder)
    tensors, about = unpacked(content, name=where)
    if (given := (about.get("preset"), about.get("dataset"), about.get("seed"))) != (
        expected := (checkpoint.preset, checkpoint.dataset, checkpoint.seed)
    ):
        raise AlteredCheckpointError(f"{where} holds {given}, expected {expected}; delete it and make it again")
    return restored(checkpoint, tensors, name=where)


def check_graph(checkpoint: Checkpoint, data: Data) -> None:
    """Raise WrongGraphError unless the model was trained on this graph, with its split if it has one."""
    if (found := graph_digest(data)) != checkpoint.graph:
        raise WrongGraphError(
            f"{checkpoint} was trained on a graph with the digest {checkpoint.graph[:12]}, and data has {found[:12]}; "
            f"give the clean graph of contractive_gnn.load({checkpoint.dataset!r}), and attack it afterwards"
        )
    if split_digest(data) not in (None, checkpoint.split):
        raise WrongGraphError(
            f"{checkpoint} was trained on the fixed split, and data is split otherwise: it has seen labels of nodes "
            f"that are test nodes there; take contractive_gnn.load({checkpoint.dataset!r}), or fit a model of your own"
        )


def restored(checkpoint: Checkpoint, tensors: Mapping[str, Tensor], *, name: str) -> nn.Module:
    """The model of a checkpoint with these tensors; half-precision ones are widened.

    Raises:
        AlteredCheckpointError: they are not those of the model.
    """
    with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten
        model = build(checkpoint.model, checkpoint.in_channels, checkpoint.out_channels, **checkpoint.hyperparameters)
    wanted = model.state_dict()
    state = {
        key: tensor.float() if tensor.dtype == torch.float16 and _is_single(wanted.get(key)) else tensor
        for key, tensor in tensors.items()
    }
    try:
        model.load_state_dict(state, strict=True)
    except (RuntimeError, ValueError, KeyError) as error:
        raise AlteredCheckpointError(f"{name} does not hold the tensors of {checkpoint}: {error}") from error
    return model.eval()


def made_file(checkpoint: Checkpoint, folder: str | os.PathLike[str] | None = None) -> Path:
    """Where a checkpoint lies that is made on this machine."""
    return (cache_folder() / "pretrained" if folder is None else Path(folder)) / checkpoint.file


def _content(checkpoint: Checkpoint, folder: str | os.PathLike[str] | None) -> tuple[bytes, str]:
    """The bytes of a checkpoint, and what to call them in an error."""
    if checkpoint.sha256 is None or folder is not None:
        path = made_file(checkpoint, folder)
        if not path.is_file():
            out = "" if folder is None else f" --out {folder}"
            raise MissingCheckpointError(
                f"{checkpoint}: there is no {path}; make it, in a minute or so: {checkpoint.command}{out}"
            )
        return path.read_bytes(), str(path)
    content = (resources.files(PACKAGE) / "weights" / checkpoint.file).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != checkpoint.sha256:
        raise AlteredCheckpointError(
            f"{checkpoint.file} is altered: its SHA-256 is {found}, expected {checkpoint.sha256}; "
            "install the package again"
        )
    return content, checkpoint.file


def _is_single(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.dtype == torch.float32
