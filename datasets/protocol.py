"""The protocol that every graph here follows, and the check that it does.

Symmetrise, binarise, drop self-loops, keep the largest connected component with its nodes in their original order
(Zügner et al. 2018; Jin et al., *Graph structure learning for robust graph neural networks*, KDD 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.datasets.errors import InvalidGraphError, UnknownSplitError
from contractive_gnn.inputs import MASKS, InputError, undirected

IntArray = npt.NDArray[np.int64]


class Draw(Protocol):
    """A split that is drawn: :func:`random_split` or :func:`inductive_split`."""

    def __call__(self, labels: IntArray, *, seed: int) -> dict[str, IntArray]:
        """Indices of the three masks."""


#: the split whose test nodes are absent from the graph that a model is fitted on
INDUCTIVE: Final = "inductive"
#: of each class, labelled nodes for the training and as many for the validation, in an inductive split
PER_CLASS: Final = 20
#: of the nodes of each class, in an inductive split
TEST_SHARE: Final = 0.1


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
    check_split_seed(seed)
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


def check_split_seed(seed: object) -> None:
    """Raise UnknownSplitError unless it is a whole number from 0 to 2³² − 1."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise UnknownSplitError(f"split seed {seed!r} given; expected an integer from 0 to 2**32 - 1")


def inductive_split(labels: IntArray, *, seed: int) -> dict[str, IntArray]:
    """20 nodes of each class for the training, 20 of each for the validation, and a tenth of each class as test nodes.

    The split of Gosch et al., *Adversarial training for graph neural networks: pitfalls, solutions, and new directions*
    (NeurIPS 2023). The other nodes are in no mask: they are there in the training, without a label.

    Args:
        labels: int ``[n]``.
        seed: 0 … 2³² − 1.

    Raises:
        UnknownSplitError: the seed is out of range, or a class is too small.
    """
    check_split_seed(seed)
    generator = np.random.default_rng(seed)
    parts: dict[str, list[IntArray]] = {key: [] for key in MASKS}
    for label in np.unique(labels):
        nodes = generator.permutation(np.flatnonzero(labels == label))
        tested = 2 * PER_CLASS + max(1, round(TEST_SHARE * len(nodes)))
        if len(nodes) < tested:
            raise UnknownSplitError(
                f"class {label} has {len(nodes)} nodes; an inductive split wants {PER_CLASS} for the training, "
                f"{PER_CLASS} for the validation and a tenth for the test, {tested} in all: take the split 'random'"
            )
        for key, own in zip(MASKS, np.split(nodes, [PER_CLASS, 2 * PER_CLASS, tested]), strict=False):
            parts[key].append(own)
    return {key: np.sort(np.concatenate(own)) for key, own in parts.items()}


def known_only(draw: Draw, labels: IntArray, *, seed: int) -> dict[str, IntArray]:
    """A split of the nodes that have a label: ``labels`` is −1 where it is unknown."""
    known = np.flatnonzero(labels >= 0)
    return {key: known[nodes] for key, nodes in draw(labels[known], seed=seed).items()}


def with_masks(data: Data, indices: Mapping[str, IntArray], *, split: str) -> Data:
    """The same object with the masks and the name of a split."""
    for key in MASKS:
        mask = torch.zeros(data.num_nodes or 0, dtype=torch.bool, device=data.x.device)
        mask[torch.from_numpy(np.asarray(indices[key], dtype=np.int64))] = True
        data[key] = mask
    data.split = split
    return data


def without_test_nodes(data: Data) -> Data:
    """The graph without its test nodes and their edges: what a model is fitted on under the split "inductive".

    Args:
        data: with ``test_mask`` bool ``[n]``.

    Returns:
        the other nodes, in their order; no node is in its ``test_mask``.

    Example:
        >>> from contractive_gnn import datasets
        >>> whole = datasets.load("csbm", split="inductive")
        >>> known = datasets.without_test_nodes(whole)
        >>> int(whole.test_mask.sum()), known.num_nodes == whole.num_nodes - 100
        (100, True)
    """
    known = data.subgraph(~data.test_mask)
    assert isinstance(known, Data)
    return known


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
    data = Data(x=x, edge_index=edge_index(adjacency), y=torch.from_numpy(np.asarray(y, dtype=np.int64)))
    with_masks(data, indices, split=split)
    data.name = name
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
