"""Nodes in an order that keeps neighbours near, and a graph cut into parts.

Both come from SciPy's reverse Cuthill–McKee order (Cuthill and McKee 1969), which numbers the nodes breadth first from
an outer one, or from METIS (Karypis and Kumar 1998, through pymetis, the extra ``scale``), which cuts few edges. The
first suits meshes and roads; where any node is a few steps from any other, only the second finds communities.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.checks import check_whole
from contractive_gnn.extras import needs
from contractive_gnn.inputs import MASKS, node_mask

Method = Literal["rcm", "metis"]

_FEW = 100
"""METIS's k-way scheme may leave a part empty where parts have few nodes: there it bisects."""

_NEAR = 2000
"""Nodes of a part whose rows lie in a processor's own cache: 64 channels in single precision take 512 kB."""


def node_order(edge_index: Tensor, num_nodes: int, *, method: Method = "rcm") -> Tensor:
    """The nodes in an order in which neighbours are near to each other, ``[n]`` int64: a permutation.

    Args:
        edge_index: ``[2, E]`` int64; directions, self-loops and edges given twice make no difference.
        num_nodes: n.
        method: ``"rcm"``, or ``"metis"``, which needs pymetis: part by part, about 2,000 nodes each.

    Raises:
        ValueError: for another method, and nodes that do not exist.
        MissingExtraError: for ``"metis"`` where pymetis is not installed.

    Example:
        >>> path = torch.tensor([[0, 2, 2, 1], [2, 0, 1, 2]])
        >>> node_order(path, 3).tolist() in ([0, 2, 1], [1, 2, 0])
        True
    """
    adjacency = _adjacency(edge_index, num_nodes)
    if check_method(method) == "rcm":
        return _cuthill_mckee(adjacency)
    parts = -(-num_nodes // _NEAR)
    # bisections: parts with near numbers are near
    return torch.from_numpy(np.argsort(_metis(adjacency, parts, recursive=True), kind="stable"))


def partition(edge_index: Tensor, num_nodes: int, parts: int, *, method: Method = "rcm") -> Tensor:
    """The part of every node, ``[n]`` int64 with values 0 … parts − 1; no part is empty.

    ``"rcm"`` cuts the order into pieces whose sizes differ by at most one node; those of ``"metis"`` differ by a few
    percent. The same graph gives the same parts.

    Args:
        edge_index: ``[2, E]`` int64; directions, self-loops and edges given twice make no difference.
        num_nodes: n.
        parts: how many, from 1 to n.
        method: ``"rcm"``, or ``"metis"``, which needs pymetis.

    Raises:
        ValueError: for another method, more parts than nodes, nodes that do not exist, and a graph that METIS cannot
            cut into so many parts.
        MissingExtraError: for ``"metis"`` where pymetis is not installed.

    Example:
        >>> two_pairs = torch.tensor([[0, 2, 1, 3], [2, 0, 3, 1]])
        >>> part = partition(two_pairs, 4, 2)
        >>> bool(part[0] == part[2] != part[1]), part.bincount().tolist()
        (True, [2, 2])
    """
    adjacency = _adjacency(edge_index, num_nodes)
    check_whole("parts", parts, least=1)
    if parts > num_nodes:
        raise ValueError(f"parts must be at most the number of nodes, got {parts} parts for {num_nodes} nodes")
    if check_method(method) == "rcm":
        found = torch.empty(num_nodes, dtype=torch.int64)
        found[_cuthill_mckee(adjacency)] = torch.arange(num_nodes) * parts // num_nodes
        return found
    part = _metis(adjacency, parts, recursive=num_nodes < _FEW * parts)
    if empty := int((np.bincount(part, minlength=parts) == 0).sum()):
        raise ValueError(f"METIS left {empty} of {parts} parts of {num_nodes} nodes empty; take fewer, or method='rcm'")
    return torch.from_numpy(part)


def reorder(data: Data, method: Method = "rcm") -> Data:
    """The same graph with its nodes in :func:`node_order`, so that a step reads rows that are near to each other.

    What a model says of the new node k it says of the old one ``n_id[k]``: ``back = torch.empty_like(scores)`` and
    ``back[new.n_id] = scores`` give the scores in the old order. Models here treat all nodes alike, so these are the
    scores on ``data`` up to rounding.

    Args:
        data: a graph with ``x`` and ``edge_index`` ``[2, E]``.
        method: see :func:`node_order`.

    Returns:
        a shallow copy. Fields of nodes (tensors, arrays and lists with an entry for each, and masks in any form) are in
        the new order, edges are sorted by target and source with their weights, and ``n_id`` ``[n]`` are the old
        numbers of the nodes. Other fields are shared.

    Raises:
        TypeError: something else than a ``Data``.
        InputError: a mask that cannot be read.
        ValueError: see :func:`node_order`; ``edge_index`` as a sparse matrix, weights that are not one for each edge,
            and fields of edges other than weights.

    Example:
        >>> ring = torch.tensor([[0, 2, 1, 3], [2, 1, 3, 0]])
        >>> new = reorder(Data(x=torch.arange(4.0).unsqueeze(1), edge_index=torch.cat([ring, ring.flip(0)], dim=1)))
        >>> bool((new.x[:, 0] == new.n_id).all()), new.num_edges
        (True, 8)
    """
    if not isinstance(data, Data):
        raise TypeError(f"data must be a torch_geometric.data.Data, got a {type(data).__name__}")
    n, weight = int(data.num_nodes or 0), data.get("edge_weight")
    order = node_order(data.edge_index, n, method=method)
    if weight is not None and list(weight.shape) != [data.num_edges]:
        raise ValueError(f"edge_weight must be [{data.num_edges}], one for each edge, got {list(weight.shape)}")
    fields = data.to_dict()
    if strange := [key for key in fields if data.is_edge_attr(key) and key not in ("edge_index", "edge_weight")]:
        raise ValueError(f"data.{strange[0]} belongs to the edges, and would be left in the old order; drop it")
    place = torch.empty_like(order)
    place[order] = torch.arange(n)
    device = data.edge_index.device
    source, target = place.to(device)[data.edge_index]
    sorting = torch.argsort(target * n + source)
    new = copy.copy(data)
    for key, value in node_fields(data, order):
        new[key] = value
    new.edge_index = torch.stack([source[sorting], target[sorting]])
    if weight is not None:
        new.edge_weight = weight[sorting]
    new.n_id = order.to(device)
    return new


def node_fields(data: Data, nodes: Tensor) -> Iterator[tuple[str, Any]]:
    """What a graph says of these nodes, field by field.

    Args:
        data: a graph. What has an entry for each node, as PyG tells it, is a field of nodes, and so is a mask in any
            form that :func:`~contractive_gnn.inputs.node_mask` takes.
        nodes: int64 ``[m]``.

    Raises:
        InputError: a mask that cannot be read.
    """
    n = int(data.num_nodes)
    for key, value in data.to_dict().items():
        if key in MASKS and value is not None:
            value = node_mask(value, n, name=key)  # indices would name other nodes
        elif not data.is_node_attr(key):
            continue
        if isinstance(value, Tensor):
            yield key, rows_of(value, nodes)
        elif isinstance(value, np.ndarray):
            yield key, value[nodes.cpu().numpy()]
        else:
            yield key, [value[node] for node in nodes.tolist()]


def rows_of(value: Tensor, nodes: Tensor) -> Tensor:
    """``value[nodes]``, which torch has not for sparse matrices; those come back as ``sparse_csr``.

    Args:
        value: a tensor with a row for each node.
        nodes: int64 ``[m]``.
    """
    if value.layout == torch.strided:
        return value[nodes.to(value.device)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        value = value.to_sparse_csr()
    parts = (part.cpu().numpy() for part in (value.values(), value.col_indices(), value.crow_indices()))
    rows = sp.csr_array(tuple(parts), shape=tuple(value.shape))[nodes.cpu().numpy()]
    arrays = (torch.from_numpy(part).to(value.device) for part in (rows.indptr, rows.indices, rows.data))
    pointer, column, values = arrays
    return torch.sparse_csr_tensor(pointer.long(), column.long(), values, rows.shape, check_invariants=False)


def check_method(method: str) -> str:
    """The method, if there is one of this name.

    Raises:
        ValueError: there is none.
    """
    if method not in ("rcm", "metis"):
        raise ValueError(f"method must be 'rcm' or 'metis', got {method!r}")
    return method


def _adjacency(edge_index: Tensor, num_nodes: int) -> sp.csr_array:
    """Symmetric, without self-loops, each edge once in a row."""
    check_whole("num_nodes", num_nodes, least=1)
    if not isinstance(edge_index, Tensor):
        raise ValueError(f"edge_index must be an int64 tensor [2, E], got a {type(edge_index).__name__}")
    if edge_index.layout != torch.strided:
        raise ValueError(
            "edge_index must be int64 [2, E], got a sparse matrix; take torch_geometric.utils.to_edge_index"
        )
    if edge_index.dim() != 2 or edge_index.size(0) != 2 or edge_index.dtype != torch.int64:
        raise ValueError(f"edge_index must be int64 [2, E], got {edge_index.dtype} {list(edge_index.shape)}")
    source, target = edge_index.detach().cpu().numpy()
    if source.size and (min(source.min(), target.min()) < 0 or max(source.max(), target.max()) >= num_nodes):
        raise ValueError(f"edge_index must hold nodes from 0 to {num_nodes - 1}, got others")
    other = source != target
    ends = source[other].astype(np.int32), target[other].astype(np.int32)
    one_way = sp.coo_array((np.ones(ends[0].size, np.int8), ends), shape=(num_nodes, num_nodes)).tocsr()
    one_way.data[:] = 1  # a sum of many would not fit
    both = one_way + one_way.T
    both.sort_indices()
    return both


def _cuthill_mckee(adjacency: sp.csr_array) -> Tensor:
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    return torch.from_numpy(reverse_cuthill_mckee(adjacency, symmetric_mode=True).astype(np.int64))


def _metis(adjacency: sp.csr_array, parts: int, *, recursive: bool) -> Any:
    with needs("scale", "the method 'metis'"):
        import pymetis

    if parts == 1:
        return np.zeros(adjacency.shape[0], np.int64)
    dtype = pymetis.zero_copy_dtype()
    _, part = pymetis.part_graph(
        parts,
        pymetis.CSRAdjacency(adjacency.indptr.astype(dtype), adjacency.indices.astype(dtype)),
        recursive=recursive,
        options=pymetis.Options(seed=0),
    )
    return np.asarray(part, np.int64)
