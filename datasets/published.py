"""The graphs, splits and attacked graphs of the Pro-GNN protocol, as published.

Graphs: Zügner and Günnemann, *Adversarial attacks on graph neural networks via meta learning* (ICLR 2019). Splits,
Metattack and Nettack graphs: Jin et al., *Graph structure learning for robust graph neural networks* (KDD 2020). The
attacked graphs are already reduced to the largest connected component.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.datasets.errors import (
    InvalidGraphError,
    UnknownAttackError,
    UnknownBudgetError,
    UnreadableFileError,
)
from contractive_gnn.datasets.fetch import Folder, Source, known, manifest, read
from contractive_gnn.datasets.protocol import IntArray, edge_index, largest_component, simple_graph, validate

PUBLISHED = ("cora", "citeseer", "polblogs", "cora_ml", "pubmed")
METATTACK_BUDGETS: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.25)
NETTACK_BUDGETS: tuple[int, ...] = (1, 2, 3, 4, 5)
ATTACKS: Mapping[str, Sequence[float]] = MappingProxyType({"metattack": METATTACK_BUDGETS, "nettack": NETTACK_BUDGETS})

Arrays = dict[str, npt.NDArray[Any]]


def graph_file(name: str) -> str:
    """Path of a clean graph inside a data folder."""
    return f"graphs/{name}.npz"


def split_file(name: str) -> str:
    """Path of a fixed split inside a data folder."""
    return f"splits/{name}_prognn_splits.json"


def attack_file(name: str, attack: str, budget: float) -> str:
    """Path of an attacked graph inside a data folder."""
    label = f"{float(budget):.1f}" if attack == "nettack" else f"{budget:g}"
    return f"{attack}/{name}_{'meta' if attack == 'metattack' else attack}_adj_{label}.npz"


def targets_file(name: str) -> str:
    """Path of the list of Nettack's target nodes inside a data folder."""
    return f"nettack/{name}_nettacked_nodes.json"


def arrays(content: bytes, required: Sequence[str], optional: Sequence[str] = (), *, source: Source) -> Arrays:
    """The named arrays of an npz file; others (some hold pickled objects) are not touched, and no pickle is loaded.

    Raises:
        UnreadableFileError: it is not an npz file, lacks a required array, or would need a pickle to read one.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: archive[name] for name in [*required, *(name for name in optional if name in archive.files)]}
    except (ValueError, KeyError, zipfile.BadZipFile, OSError) as error:
        raise UnreadableFileError(f"{source.file} is not an npz file of plain arrays ({error})") from error


def csr_names(prefix: str = "") -> list[str]:
    """The names of the four arrays that a sparse matrix is stored as."""
    return [f"{prefix}{part}" for part in ("data", "indices", "indptr", "shape")]


def csr(parts: Arrays, prefix: str = "") -> sp.csr_matrix:
    """The sparse matrix stored under :func:`csr_names`."""
    data, indices, indptr, shape = (parts[name] for name in csr_names(prefix))
    return sp.csr_matrix((data, indices, indptr), shape=tuple(shape.tolist()))


def clean_graph(name: str, *, root: Folder | None, download: bool) -> tuple[Tensor, sp.csr_matrix, IntArray]:
    """Features float32 ``[n, d]``, adjacency ``[n, n]`` and labels ``[n]`` of a published graph, by the protocol.

    A graph without features gets the identity.
    """
    source = known(graph_file(name))
    content = read(source, root=root, download=download)
    parts = arrays(content, [*csr_names("adj_"), "labels"], csr_names("attr_"), source=source)
    adjacency = simple_graph(csr(parts, "adj_"))
    nodes = largest_component(adjacency)
    if "attr_data" in parts:
        features = csr(parts, "attr_")[nodes].toarray().astype(np.float32)
    else:
        features = np.eye(len(nodes), dtype=np.float32)
    return torch.from_numpy(features), adjacency[nodes][:, nodes], parts["labels"][nodes].astype(np.int64)


def fixed_split(name: str, *, root: Folder | None, download: bool) -> dict[str, IntArray]:
    """The published split: node indices of the three masks."""
    split = json.loads(read(known(split_file(name)), root=root, download=download))
    return {f"{part}_mask": np.array(split[f"idx_{part}"], dtype=np.int64) for part in ("train", "val", "test")}


def has_published(name: str, attack: str) -> bool:
    """Whether attacked graphs of this dataset are published (``attack``: ``metattack`` or ``nettack``)."""
    return attack in ATTACKS and attack_file(name, attack, ATTACKS[attack][0]) in manifest()


def checked_budget(name: str, attack: str, budget: float) -> float:
    """The published budget that ``budget`` names.

    Raises:
        UnknownAttackError: nothing is published for this attack on this dataset.
        UnknownBudgetError: not this budget, or a float where an integer is meant.
    """
    if not has_published(name, attack):
        there = [f"{other} on {dataset}" for dataset in PUBLISHED for other in ATTACKS if has_published(dataset, other)]
        raise UnknownAttackError(
            f"no published graph of attack {attack!r} on dataset {name!r}; expected one of {', '.join(there)}. For any "
            "other, run the attack yourself (contractive_gnn.attacks)"
        )
    budgets = ATTACKS[attack]
    meaning = "an integer number of flips per target" if attack == "nettack" else "a fraction of the clean edges"
    matches = (
        [b for b in budgets if math.isclose(b, budget)]
        if isinstance(budget, int if attack == "nettack" else float) and not isinstance(budget, bool)
        else []
    )
    if not matches:
        raise UnknownBudgetError(
            f"{attack} budget {budget!r} given; expected {meaning}, one of {', '.join(map(str, budgets))}"
        )
    return matches[0]


def attacked_graph(clean: Data, attack: str, budget: float, *, root: Folder | None, download: bool) -> Data:
    """A copy of a clean graph with the published attacked edges, and with ``targets`` for Nettack."""
    name = str(clean.name)
    source = known(attack_file(name, attack, budget))
    adjacency = csr(arrays(read(source, root=root, download=download), csr_names(), source=source))
    n = int(clean.x.size(0))
    if adjacency.shape != (n, n):
        raise InvalidGraphError(f"{source.file} has shape {adjacency.shape}, but the clean {name} has {n} nodes")
    data = clean.clone()
    data.edge_index = edge_index(simple_graph(adjacency))
    if attack == "nettack":
        listed = json.loads(read(known(targets_file(name)), root=root, download=download))["attacked_test_nodes"]
        data.targets = torch.tensor(listed, dtype=torch.int64)
    validate(data)
    return data
