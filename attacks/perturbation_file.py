"""Perturbations of one or several graphs in one file, in the layout of the robustness unit test.

Mujkanovic, Geisler, Günnemann and Bojchevski, *Are Defenses for Graph Neural Networks Robust?* (NeurIPS 2022), publish
the strongest perturbations that they found as one ``.npz``, to be tried on any other model::

    {dataset}/dataset/adjacency             [m, 2]   every undirected edge once
    {dataset}/dataset/features              [q, 2]   node and column of the features that are 1
    {dataset}/dataset/labels                [n]
    {dataset}/splits/{k}/{train,val,test}   nodes
    {dataset}/perturbations/{evasion,poisoning}/{model}/split_{k}/budget_{b}    [b, 2]   edges to flip

Here ``{dataset}/dataset/feature_values`` is added where features are not binary.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.attacks.base import flip_edges, undirected_edges
from contractive_gnn.inputs import node_mask
from contractive_gnn.lines import replacing

Arrays = dict[str, "np.ndarray[Any, Any]"]
PARTS: Final = ("train", "val", "test")
_PERTURBATION: Final = re.compile(r"perturbations/(evasion|poisoning)/([^/]+)/split_(\d+)/budget_(\d+)")


class PerturbationKey(NamedTuple):
    """What a perturbation was made for: threat, the model it was found on, the split, and how many flips it has."""

    threat: str
    model: str
    split: int
    budget: int


@dataclass(frozen=True, eq=False)
class PerturbedGraph:
    """A graph, its splits, and perturbations of it.

    Args:
        name: of the dataset.
        data: the clean graph with ``x``, ``y`` and ``edge_index``; masks are in ``splits``.
        splits: by number, ``{"train", "val", "test"}`` with the nodes of each.
        flips: int64 ``[2, b]`` by what they were made for: undirected edges to flip, each once.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> found = cg.attack(None, data, "random", flips=3)
        >>> graph = PerturbedGraph.of(data, {("evasion", "gcn"): found.edge_flips}, name="mine")
        >>> [graph.attacked(key).num_edges != data.num_edges for key in graph.flips]
        [True]
    """

    name: str
    data: Data
    splits: Mapping[int, Mapping[str, Tensor]]
    flips: Mapping[PerturbationKey, Tensor]

    @classmethod
    def of(cls, data: Data, flips: Mapping[tuple[str, str], Tensor], *, name: str, split: int = 0) -> PerturbedGraph:
        """Perturbations ``{(threat, model): edge flips}`` of a graph with one split, its masks."""
        masks = {part: node_mask(data.get(f"{part}_mask"), int(data.num_nodes), name=f"{part}_mask") for part in PARTS}
        nodes = {part: mask.nonzero().flatten().cpu() for part, mask in masks.items()}
        keys = {
            PerturbationKey(threat, model, split, edges.shape[1]): edges for (threat, model), edges in flips.items()
        }
        return cls(name, data, {split: nodes}, keys)

    def clean(self, split: int) -> Data:
        """The graph with the masks of a split.

        Raises:
            KeyError: there is no such split.
        """
        if split not in self.splits:
            raise KeyError(f"{self.name} has no split {split}, only {sorted(self.splits)}")
        graph = Data(x=self.data.x, y=self.data.y, edge_index=self.data.edge_index, name=self.name)
        for part in PARTS:
            mask = torch.zeros(graph.num_nodes, dtype=torch.bool)
            mask[self.splits[split][part]] = True
            graph[f"{part}_mask"] = mask
        return graph

    def attacked(self, key: PerturbationKey) -> Data:
        """The graph with the flips of ``key`` done, and the masks of its split."""
        graph = self.clean(key.split)
        graph.edge_index = flip_edges(graph.edge_index, self.flips[key], num_nodes=graph.num_nodes)
        return graph


def save_perturbations(path: str | os.PathLike[str], *graphs: PerturbedGraph) -> None:
    """Write graphs and their perturbations, under a temporary name that is then renamed.

    Args:
        path: an ``.npz``.
        *graphs: of different names.

    Raises:
        ValueError: two graphs of one name; a name with a slash in it; or that of a model with one of ``/ : , @ +``,
            with which an attack on the command line (``FILE.npz:NAME@evasion``) could not name it.
    """
    arrays: Arrays = {}
    for graph in graphs:
        _check_name("dataset", graph.name, "/")
        if f"{graph.name}/dataset/labels" in arrays:
            raise ValueError(f"two graphs are called {graph.name!r}; give each a name of its own")
        arrays |= {f"{graph.name}/{key}": array for key, array in _arrays(graph).items()}
    with replacing(Path(path)) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_perturbations(path: str | os.PathLike[str]) -> dict[str, PerturbedGraph]:
    """Read what :func:`save_perturbations` wrote, or the file of Mujkanovic et al., by the names of the datasets.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not of this layout, or a perturbation does not fit its graph.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{os.fspath(path)} is no .npz of arrays: {error}") from error
    names = [key.removesuffix("/dataset/labels") for key in arrays if key.endswith("/dataset/labels")]
    if not names:
        raise ValueError(
            f"{os.fspath(path)} has no array NAME/dataset/labels; expected the layout of the robustness unit test, as "
            "save_perturbations writes it"
        )
    found = {}
    for name in names:
        own = {key.removeprefix(f"{name}/"): array for key, array in arrays.items() if key.startswith(f"{name}/")}
        try:
            found[name] = _graph(name, own)
        except (KeyError, ValueError, IndexError) as error:
            raise ValueError(f"{os.fspath(path)}: {name}: {error}") from error
    return found


def _check_name(what: str, name: str, without: str) -> None:
    if not name or any(sign in name for sign in without):
        signs = " or ".join(map(repr, without))
        raise ValueError(f"the {what}'s name must have no {signs} and not be empty, got {name!r}")


def _arrays(graph: PerturbedGraph) -> Arrays:
    """Those of one graph, without its name."""
    x, ones = graph.data.x.cpu(), graph.data.x.cpu().nonzero()
    found: Arrays = {
        "dataset/adjacency": undirected_edges(graph.data.edge_index).cpu().T.numpy(),
        "dataset/features": ones.numpy(),
        "dataset/labels": graph.data.y.cpu().numpy(),
    }
    values = x[tuple(ones.T)]
    if not bool((values == 1).all()) or not bool(x[:, -1:].any()):  # their readers take the largest column as the last
        found["dataset/feature_values"] = values.numpy()
        found["dataset/feature_shape"] = np.array(x.shape)
    for number, nodes in graph.splits.items():
        found |= {f"splits/{number}/{part}": nodes[part].cpu().numpy() for part in PARTS}
    for key, flips in graph.flips.items():
        _check_name("model", key.model, "/:,@+")
        place = f"perturbations/{key.threat}/{key.model}/split_{key.split}/budget_{key.budget:05d}"
        found[place] = flips.cpu().T.numpy()
    return found


def _graph(name: str, arrays: Arrays) -> PerturbedGraph:
    labels = torch.from_numpy(arrays["dataset/labels"]).long()
    n = labels.numel()
    edges = _pairs(arrays["dataset/adjacency"], n, "the adjacency")
    ones = torch.from_numpy(arrays["dataset/features"]).long().reshape(-1, 2)
    values = arrays.get("dataset/feature_values")
    shape = arrays.get("dataset/feature_shape")
    columns = int(shape[1]) if shape is not None else int(ones[:, 1].max()) + 1 if ones.numel() else 0
    if ones.numel() and (int(ones.min()) < 0 or bool((ones.amax(dim=0) >= torch.tensor([n, columns])).any())):
        raise ValueError(f"the features have an entry outside of {n} nodes and {columns} columns")
    x = torch.zeros(n, columns, dtype=torch.float32 if values is None else torch.from_numpy(values).dtype)
    x[ones[:, 0], ones[:, 1]] = torch.ones(len(ones)) if values is None else torch.from_numpy(values)
    data = Data(x=x, y=labels, edge_index=torch.cat([edges, edges.flip(0)], dim=1), name=name)
    numbers = sorted({int(key.split("/")[1]) for key in arrays if key.startswith("splits/")})
    splits = {
        k: {part: _nodes(arrays[f"splits/{k}/{part}"], n, f"splits/{k}/{part}") for part in PARTS} for k in numbers
    }
    flips = {}
    for key, array in arrays.items():
        if found := _PERTURBATION.fullmatch(key):
            threat, model, split, budget = found.groups()
            pairs = _pairs(array, n, key)
            if pairs.shape[1] > int(budget):
                raise ValueError(f"{key} flips {pairs.shape[1]} edges, more than its budget")
            flips[PerturbationKey(threat, model, int(split), int(budget))] = pairs
    return PerturbedGraph(name, data, splits, flips)


def _nodes(array: np.ndarray[Any, Any], n: int, what: str) -> Tensor:
    """int64 ``[k]``, nodes of the graph."""
    nodes = torch.from_numpy(np.asarray(array, dtype=np.int64)).flatten()
    if nodes.numel() and (int(nodes.min()) < 0 or int(nodes.max()) >= n):
        raise ValueError(f"{what} has a node outside of 0 … {n - 1}")
    return nodes


def _pairs(array: np.ndarray[Any, Any], n: int, what: str) -> Tensor:
    """int64 ``[2, k]``, u < v, each once."""
    pairs = torch.from_numpy(np.asarray(array, dtype=np.int64)).reshape(-1, 2).T
    pairs = torch.stack([pairs.amin(dim=0), pairs.amax(dim=0)]) if pairs.numel() else pairs
    if pairs.numel() and (int(pairs.min()) < 0 or int(pairs.max()) >= n or bool((pairs[0] == pairs[1]).any())):
        raise ValueError(f"{what} has a pair that is none of two different nodes of 0 … {n - 1}")
    codes = _codes(pairs, n).sort().values
    if bool((codes.diff() == 0).any()):
        raise ValueError(f"{what} has a pair twice")
    return pairs


def _codes(pairs: Tensor, n: int) -> Tensor:
    return pairs.amin(dim=0) * n + pairs.amax(dim=0) if pairs.numel() else pairs.new_empty(0)
