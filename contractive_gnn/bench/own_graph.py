"""A graph of your own in a benchmark: a file (``--data FILE``), or a ``Data`` of this process."""

from __future__ import annotations

import copy
import hashlib
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch_geometric.data import Data

from contractive_gnn import datasets, inputs
from contractive_gnn.datasets import DatasetError, UnknownSplitError
from contractive_gnn.datasets.files import FILE_SPLITS, digest
from contractive_gnn.datasets.protocol import INDUCTIVE, inductive_split, known_only, random_split, with_masks
from contractive_gnn.names import unknown

#: of a Data in this process: its own masks, or a split that is drawn
_SPLITS: Final = ("own", "random", INDUCTIVE)


@dataclass(frozen=True)
class OwnGraph:
    """Where a graph of one's own is.

    Attributes:
        name: what the results call the data set.
        digest: of its content, 12 digits of the SHA-256.
        path: the file; None for a graph of this process.
        labels: a file of labels beside it, if it has none.
        features: a file of features beside it, if it has none.
        data: the graph, where it is in no file.
    """

    name: str
    digest: str
    path: Path | None = None
    labels: Path | None = None
    features: Path | None = None
    data: Data | None = field(default=None, compare=False, repr=False)

    @classmethod
    def file(cls, path: Path, *, labels: Path | None = None, features: Path | None = None) -> OwnGraph:
        """The graph in a file.

        Raises:
            DatasetError: there is no such file.
        """
        return cls(path.name, digest(path, *filter(None, (labels, features))), path, labels, features)

    @classmethod
    def of(cls, data: Data) -> OwnGraph:
        """A graph of this process: ``x``, ``edge_index``, ``y`` and, if it has them, masks; ``name`` if it has one.

        Raises:
            InputError: a graph that :mod:`contractive_gnn.inputs` refuses, or one with weights.
        """
        given = inputs.checked(data, weighted=False)
        masks = [key for key in inputs.MASKS if given.get(key) is not None]
        if masks and len(masks) < len(inputs.MASKS):
            missing = [key for key in inputs.MASKS if key not in masks]
            raise inputs.InputError(f"data has {', '.join(masks)} and no {', '.join(missing)}; give all three, or none")
        whole = hashlib.sha256()
        for key in ("x", "edge_index", "y", *masks):
            value = given[key] if given[key].layout == torch.strided else given[key].to_dense()
            whole.update(f"{key} {value.dtype} {list(value.shape)}".encode())
            whole.update(value.detach().cpu().contiguous().numpy().tobytes())
        name = given.get("name")
        return cls(name if isinstance(name, str) and name else "data", whole.hexdigest()[:12], data=given)

    @property
    def identity(self) -> dict[str, Any]:
        """What of it is among the hyperparameters of a result."""
        return {"name": self.name, "sha256": self.digest}

    def check_split(self, split: str | None) -> None:
        """Raise unless a split of this name can be asked for.

        Raises:
            DatasetError: it cannot.
        """
        known = FILE_SPLITS if self.path is not None else _SPLITS
        if split is not None and split not in known:
            raise UnknownSplitError(unknown("split", [split], known))

    def load(self, *, split: str | None, split_seed: int) -> Data:
        """The graph with a split.

        Raises:
            DatasetError: the file has changed since this object was made, or it has no such split.
        """
        if self.path is None:
            return self._split(split, split_seed)
        if digest(self.path, *filter(None, (self.labels, self.features))) != self.digest:
            raise DatasetError(f"{self.path} has changed since this run began; start it again")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the notes are told once, by the command
            data = datasets.read(
                self.path, split=split, split_seed=split_seed, labels=self.labels, features=self.features
            )
        data.name = self.name
        return data

    def _split(self, split: str | None, split_seed: int) -> Data:
        assert self.data is not None
        data = copy.copy(self.data)
        own = data.get("train_mask") is not None
        kind = split or ("own" if own else "random")
        if kind == "own" and not own:
            raise DatasetError("data has no masks; give it train_mask, val_mask and test_mask, or split='random'")
        if kind not in _SPLITS:
            raise UnknownSplitError(unknown("split", [kind], _SPLITS))
        if kind != "own":
            draw = inductive_split if kind == INDUCTIVE else random_split
            with_masks(data, known_only(draw, data.y.numpy(), seed=split_seed), split=kind)
        else:
            for key in inputs.MASKS:  # a node without a label is neither trained on nor evaluated
                data[key] = data[key] & (data.y >= 0)
        data.name, data.split, data.notes = self.name, kind, ""
        return data
