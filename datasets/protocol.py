"""The protocol that every graph here follows, and the check that it does.

Symmetrise, binarise, drop self-loops, keep the largest connected component with its nodes in their original order
(Zügner et al. 2018; Jin et al., *Graph structure learning for robust graph neural networks*, KDD 2020).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.datasets.errors import InvalidGraphError, UnknownSplitError
from contractive_gnn.inputs import MASKS, InputError, undirected

IntArray = npt.NDArray[np.int64]


def simple_graph(adjacency: sp.csr_matrix) -> sp.csr_matrix:
    """The undirected simple graph of a (directed, weighted) adjacency matrix: symmetric, binary, without self-loops."""
    coo = sp.coo_matrix(adjacency)
    keep = (coo.data != 0) & (coo.row != coo.col)
    row, col = coo.row[keep], coo.col[keep]
    both = np.concatenate([row, col]), np.concatenate([col, row])
    simple = sp.csr_matrix((np.ones(2 * len(row), dtype=np.float32), both), shape=coo.shape)  # sums duplicates
    simple.data[:] = 1.0
    return simple


def largest_component(adjacency: sp.csr_matrix) -> IntArray:
    """The nodes of the largest connected component, in ascending order."""
    _, component = sp.csgraph.connected_components(adjacency, directed=False)
    return np.flatnonzero(component == np.bincount(component).argmax())


def edge_index(adjacency: sp.csr_matrix) -> Tensor:
    """Both directions of every edge, sorted by row and then by column: int64 ``[2, 2m]``."""
    csr = sp.csr_matrix(adjacency)
    csr.sort_indices()
    coo = csr.tocoo()
    return torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))


def random_split(labels: IntArray, *, seed: int) -> dict[str, IntArray]:
    """10 % / 10 % / 80 % of the nodes, stratified by label.

    The same indices, in the same order, as DeepRobust's ``get_train_val_test(n, val_size=0.1, test_size=0.8,
    stratify=labels, seed=seed)``, but without seeding numpy's global generator. Rounding, as there, may leave a node in
    none of the three.

    Args:
        labels: int ``[n]``.
        seed: 0 … 2³² − 1.

    Raises:
        UnknownSplitError: the seed is out of range, or a class is too small to be stratified.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise UnknownSplitError(f"split seed {seed!r} given; expected an integer from 0 to 2**32 - 1")
    from sklearn.model_selection import train_test_split  # two seconds of import time that only a split needs

    generator = np.random.RandomState(int(seed))
    val_size, test_size = 0.1, 0.8
    train_size = 1 - val_size - test_size
    rest = train_size + val_size
    try:
        train_and_val, test = train_test_split(
            np.arange(len(labels)),
            random_state=generator,
            train_size=rest,
            test_size=test_size,
            stratify=labels,
        )
        train, val = train_test_split(
            train_and_val,
            random_state=generator,
            train_size=train_size / rest,
            test_size=val_size / rest,
            stratify=labels[train_and_val],
        )
    except ValueError as error:
        counts = dict(zip(*(values.tolist() for values in np.unique(labels, return_counts=True)), strict=True))
        raise UnknownSplitError(
            f"labels of {len(labels)} nodes with counts {counts} cannot be split 10/10/80 by class ({error}); "
            "give every class at least 20 nodes"
        ) from error
    return {"train_mask": train, "val_mask": val, "test_mask": test}


def assemble(
    *, name: str, split: str, x: Tensor, adjacency: sp.csr_matrix, y: IntArray, indices: Mapping[str, IntArray]
) -> Data:
    """A validated PyG graph.

    Args:
        name: of the dataset.
        split: of the split.
        x: float32 ``[n, d]``.
        adjacency: symmetric, binary ``[n, n]``.
        y: labels ``[n]``.
        indices: node indices of ``train_mask``, ``val_mask`` and ``test_mask``.
    """
    n = len(y)
    masks = {key: torch.zeros(n, dtype=torch.bool) for key in MASKS}
    for key, mask in masks.items():
        mask[torch.from_numpy(np.asarray(indices[key], dtype=np.int64))] = True
    data = Data(x=x, edge_index=edge_index(adjacency), y=torch.from_numpy(np.asarray(y, dtype=np.int64)), **masks)
    data.name, data.split = name, split
    validate(data)
    return data


def validate(data: Data) -> None:
    """Check that a graph follows the protocol.

    ``edge_index`` is int64 ``[2, 2m]`` within 0 … n − 1, holds both directions of every edge once, and no self-loop;
    ``x``, ``y`` and the masks, where present, have one row a node, and no node is in two masks.

    Raises:
        InvalidGraphError: it does not, and which rule it breaks.
    """
    _check_nodes(data)
    if isinstance(data.edge_index, Tensor) and data.edge_index.layout != torch.strided:
        raise InvalidGraphError(f"edge_index is a sparse matrix ({data.edge_index.layout}); expected int64 [2, 2m]")
    try:
        undirected(data.x, data.edge_index)
    except InputError as error:
        raise InvalidGraphError(str(error)) from None


def _check_nodes(data: Data) -> None:
    x = data.x
    if x is None:
        raise InvalidGraphError("the graph has no node features x; expected float [n, d]")
    if x.dim() != 2 or not x.is_floating_point():
        raise InvalidGraphError(f"x is {x.dtype} {list(x.shape)}; expected floating point [n, d]")
    n = int(x.size(0))
    if data.y is not None and (data.y.dtype != torch.int64 or list(data.y.shape) != [n]):
        raise InvalidGraphError(f"y is {data.y.dtype} {list(data.y.shape)}; expected int64 [{n}]")
    masks = [(key, data[key]) for key in MASKS if key in data]
    for key, mask in masks:
        if mask.dtype != torch.bool or list(mask.shape) != [n]:
            raise InvalidGraphError(f"{key} is {mask.dtype} {list(mask.shape)}; expected bool [{n}]")
    if masks and int(sum(mask.int() for _, mask in masks).max()) > 1:
        raise InvalidGraphError("a node is in two of train_mask, val_mask and test_mask; expected disjoint masks")
