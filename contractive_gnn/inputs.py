"""One gate for what comes in: a graph, its features, labels and masks, checked before anything is computed from them.

What is accepted is used, what would not be used is refused. :func:`contractive_gnn.training.fit`, ``evaluate`` and
``predict``, the attacks, the certificates and the bounds all ask here, so one input has one answer everywhere:

==============  ===================================================  ===============================================
input           accepted                                             refused
==============  ===================================================  ===============================================
``x``           floating point ``[n, d]``, dense or sparse (COO and  None, integers, NaN, ±inf
                CSC become CSR); rows of zeros
``edge_index``  int64 ``[2, E]`` with both orientations of every     one orientation, an edge twice, self-loops, nodes
                edge, in any order, or a sparse ``[n, n]`` matrix    that do not exist (padding)
``edge_weight`` floating point ``[E]``, finite, at least 0           signs, NaN, two values for the two orientations
labels          whole numbers of any type, ``[n]`` or ``[n, 1]``;    one-hot, NaN, other negative numbers
                −1 and −100 where unknown; classes without a node
a mask          boolean ``[n]``, distinct indices of nodes, or       ``[n, k]``: choose a split; repeated indices; what
                ``[n]`` integers 0 and 1                             can be read both ways
other fields    of nodes and of the graph: left alone                of edges (``edge_attr``, ``adj_t``, …): no model
                                                                     here reads them
==============  ===================================================  ===============================================
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import to_edge_index

from contractive_gnn.graph import Graph, transformed

MASKS: Final = ("train_mask", "val_mask", "test_mask")

UNKNOWN: Final = -1
"""The label of a node whose class is not known."""

_LAYOUTS: Final = (torch.strided, torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)
_FLOATING: Final = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_UNKNOWN: Final = (-1, -100)  # the second one is torch's ignore_index


class InputError(ValueError):
    """An input that cannot be used as it is: the text says what was given, what was expected and what to do."""


def features(x: Tensor | None, *, dense: bool = False) -> Tensor:
    """Node features, finite floating point ``[n, d]``, dense or ``sparse_csr``.

    Args:
        x: a tensor of any layout.
        dense: refuse sparse ones.

    Raises:
        InputError: features that no model can take.
    """
    if not isinstance(x, Tensor):
        given = "None" if x is None else f"a {type(x).__name__}"
        raise InputError(
            f"x is {given}; expected node features, a floating point tensor [n, d]. A graph without features may take "
            "torch.eye(n), a feature of its own for every node"
        )
    if x.is_meta or x.is_nested or x.layout not in _LAYOUTS:
        raise InputError(f"x is a {'meta' if x.is_meta else x.layout} tensor; expected a dense one, COO, CSC or CSR")
    if x.dim() != 2 or x.dtype not in _FLOATING:
        todo = "" if x.dim() != 2 or x.is_complex() else "; convert it with x.float()"
        raise InputError(f"x is {x.dtype} {list(x.shape)}; expected floating point [n, d]{todo}")
    if x.layout != torch.strided and dense:
        raise InputError(f"x is sparse ({x.layout}); expected a dense tensor here: give x.to_dense()")
    if x.layout != torch.strided:
        x = _one_form(x)
    values = x if x.layout == torch.strided else x.values()
    # of the extremes, which a NaN passes on to: torch.isfinite(x) would copy x
    if values.numel() and not bool(torch.isfinite(torch.stack(torch.aminmax(values.detach()))).all()):
        bad = ~torch.isfinite(values.detach())
        where = ""
        if x.layout == torch.strided:
            row, column = bad.nonzero()[0].tolist()
            where = f", the first at node {row}, column {column}"
        raise InputError(
            f"x has {int(bad.sum())} entries that are not finite (NaN or inf){where}; expected numbers only"
        )
    return x


def _one_form(x: Tensor) -> Tensor:
    """A sparse matrix as CSR without stored zeros, rows in order: layers take what is stored for what is there."""
    if x.layout == torch.sparse_csr:
        column, start = x.col_indices(), x.crow_indices()
        rising = column.diff() > 0
        rising[start[1:-1][(start[1:-1] > 0) & (start[1:-1] < column.numel())] - 1] = True  # from one row to the next
        if bool(rising.all()) and bool((x.values() != 0).all()):
            return x
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        entries = x.to_sparse_coo().coalesce()  # type: ignore[no-untyped-call]
        there = entries.values() != 0  # a NaN is not 0
        return torch.sparse_coo_tensor(
            entries.indices()[:, there], entries.values()[there], x.shape, is_coalesced=True
        ).to_sparse_csr()


def undirected(x: Tensor, edge_index: Any, edge_weight: Any = None, *, weighted: bool = True) -> Graph:
    """A simple undirected graph on the nodes of ``x``.

    Args:
        x: ``[n, d]``; gives n, dtype and device.
        edge_index: int64 ``[2, E]`` with both orientations of every edge, each once, in any order, or a sparse
            ``[n, n]`` matrix, whose values are the weights.
        edge_weight: floating point ``[E]``, at least 0, or None for ones.
        weighted: whether weights other than 1 may be given.

    Raises:
        InputError: edges or weights that are not those of such a graph.
    """
    n = int(x.shape[0])
    if not isinstance(edge_index, Tensor):
        given = "None" if edge_index is None else f"a {type(edge_index).__name__}"
        raise InputError(
            f"edge_index is {given}; expected an int64 tensor [2, E] with both orientations of every edge, or a "
            f"torch.sparse matrix [{n}, {n}]; torch.empty(2, 0, dtype=torch.long) stands for no edges"
        )
    if edge_index.layout not in _LAYOUTS:
        raise InputError(f"edge_index is a {edge_index.layout} matrix; expected int64 [2, E], or COO, CSC or CSR")
    if edge_index.layout != torch.strided:
        edge_index, edge_weight = matrix_edges(edge_index, edge_weight, n)
    if edge_index.dtype != torch.int64 or edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise InputError(
            f"edge_index is {edge_index.dtype} {list(edge_index.shape)}; expected int64 [2, E], or a sparse matrix "
            f"[{n}, {n}]"
        )
    if edge_index.numel() and (int(edge_index.min()) < 0 or int(edge_index.max()) >= n):
        raise InputError(
            f"edge_index holds nodes from {int(edge_index.min())} to {int(edge_index.max())}; expected 0 to {n - 1}, "
            "without padding: keep the columns that are edges"
        )
    row, col = edge_index
    if bool((row == col).any()):
        raise InputError(f"node {int(row[row == col][0])} has a self-loop; drop it (remove_self_loops)")
    forward, order = _sorted(row * n + col, places=edge_weight is not None)
    repeated = forward[1:][forward[1:] == forward[:-1]]
    if len(repeated):
        first = int(repeated[0])
        raise InputError(f"edge ({first // n}, {first % n}) is there twice; drop duplicates (coalesce)")
    backward, reverse = _sorted(col * n + row, places=edge_weight is not None)
    if not torch.equal(forward, backward):
        lone = int(forward[~torch.isin(forward, backward)][0])
        raise InputError(
            f"edge ({lone // n}, {lone % n}) has no edge ({lone % n}, {lone // n}): the graph is directed; add both "
            "directions (to_undirected)"
        )
    if edge_weight is not None:
        edge_weight = _weights(edge_weight, x.dtype, edge_index.shape[1])
        _check_weights(edge_weight.detach(), edge_index, order, reverse, weighted=weighted)
    graph = Graph.of(x, edge_index, edge_weight)
    return Graph(graph.edge_index, graph.edge_weight, n, loop_free=True)


def _sorted(key: Tensor, *, places: bool) -> tuple[Tensor, Tensor]:
    """The entries in order and, where they are asked for, their places; numpy is the faster one where they are not."""
    if places or key.device.type != "cpu" or torch.compiler.is_compiling():
        found = torch.sort(key)
        return found.values, found.indices
    return torch.from_numpy(np.sort(key.numpy())), key[:0]


def matrix_edges(matrix: Tensor, edge_weight: Any, num_nodes: int) -> tuple[Tensor, Tensor]:
    """The edges, int64 ``[2, E]``, and the weights ``[E]`` of a sparse ``[n, n]`` matrix.

    Raises:
        InputError: for weights beside it, or a matrix of another size.
    """
    n = num_nodes
    if edge_weight is not None:
        raise InputError("edge_weight must be None where edge_index is a sparse matrix: its values are the weights")
    if list(matrix.shape) != [n, n]:
        raise InputError(f"edge_index is a sparse matrix {list(matrix.shape)}; expected [{n}, {n}], as x has")
    edges: tuple[Tensor, Tensor] = to_edge_index(matrix)
    return edges


def _weights(weight: Any, dtype: torch.dtype, count: int) -> Tensor:
    """The weights in the precision of the features."""
    if not isinstance(weight, Tensor) or not weight.is_floating_point() or list(weight.shape) != [count]:
        given = f"{weight.dtype} {list(weight.shape)}" if isinstance(weight, Tensor) else f"a {type(weight).__name__}"
        raise InputError(f"edge_weight is {given}; expected floating point [{count}] to match edge_index")
    return weight.to(dtype)


def _check_weights(weight: Tensor, edge_index: Tensor, order: Tensor, reverse: Tensor, *, weighted: bool) -> None:
    """Of the edge at place ``order[k]`` the other orientation is at ``reverse[k]``."""
    check_signs(weight, edge_index)
    uneven = weight[order] != weight[reverse]
    if bool(uneven.any()):
        k = int(uneven.nonzero()[0])
        u, v = edge_index[:, order[k]].tolist()
        raise InputError(
            f"edge_weight is asymmetric: {float(weight[order[k]])} at ({u}, {v}) and {float(weight[reverse[k]])} at "
            f"({v}, {u}); give both orientations one weight (to_undirected with reduce='mean')"
        )
    if not weighted and bool((weight != 1).any()):
        raise InputError(
            "the edges have weights other than 1, which are not supported here; give the graph without weights"
        )


def check_signs(edge_weight: Tensor, edge_index: Tensor) -> None:
    """Check that weights ``[E]`` are finite and at least 0. In compiled code and under torch.func no one can look.

    Raises:
        InputError: one is not, and at which edge.
    """
    if not edge_weight.numel() or torch.compiler.is_compiling() or transformed(edge_weight):
        return
    least, largest = torch.aminmax(edge_weight.detach())  # a NaN is both
    if bool(least >= 0) and bool(largest < torch.inf):
        return
    for broken, what in ((~edge_weight.isfinite(), "not finite"), (edge_weight < 0, "negative")):
        if bool(broken.any()):
            place = int(broken.nonzero()[0])
            u, v = edge_index[:, place].tolist()
            raise InputError(
                f"edge_weight has {int(broken.sum())} entries that are {what}, the first at edge ({u}, {v}): "
                f"{float(edge_weight[place])}; expected finite weights of at least 0 (signed graphs are not supported)"
            )


def class_labels(y: Tensor | None, num_nodes: int) -> Tensor:
    """Labels as int64 ``[n]``, −1 where the class is unknown.

    Args:
        y: whole numbers of any type, ``[n]`` or ``[n, 1]``; −1 and −100 stand for an unknown class.
        num_nodes: n.

    Raises:
        InputError: what cannot be read as one class a node.
    """
    if not isinstance(y, Tensor):
        given = "None" if y is None else f"a {type(y).__name__}"
        raise InputError(f"y is {given}; expected one class a node, an int64 tensor [{num_nodes}]")
    if list(y.shape) == [num_nodes, 1]:
        y = y.squeeze(1)
    if list(y.shape) != [num_nodes]:
        todo = "; take y.argmax(dim=1) of one-hot labels" if y.dim() == 2 and y.shape[0] == num_nodes else ""
        raise InputError(f"y is {y.dtype} {list(y.shape)}; expected one class a node, int64 [{num_nodes}]{todo}")
    if y.dtype == torch.int64 and not (y.numel() and int(y.min()) < UNKNOWN):
        return y
    if y.is_complex() or (y.is_floating_point() and bool((y != y.round()).any())):  # a NaN differs from itself
        raise InputError(f"y is {y.dtype} with values that are not whole numbers; expected classes 0, 1, … ")
    labels = y.to(torch.int64)
    labels = labels.masked_fill(torch.isin(labels, labels.new_tensor(_UNKNOWN)), UNKNOWN)
    if labels.numel() and int(labels.min()) < UNKNOWN:
        raise InputError(f"y holds {int(labels.min())}; expected classes 0, 1, …, and −1 or −100 where it is unknown")
    return labels


def node_mask(mask: Any, num_nodes: int, *, name: str = "mask") -> Tensor:
    """A choice of nodes as bool ``[n]``.

    Args:
        mask: boolean ``[n]`` (or ``[n, 1]``), distinct node indices of any integer type, or ``[n]`` integers 0 and 1; a
            tensor, an array or a list.
        num_nodes: n.
        name: what the caller knows it by.

    Raises:
        InputError: what is none of them, or could be read as more than one.
    """
    expected = f"expected bool [{num_nodes}], or the indices of the nodes"
    try:
        chosen = mask if isinstance(mask, Tensor) else torch.as_tensor(mask)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name} is {mask!r}; {expected}") from None
    if chosen.layout != torch.strided:
        raise InputError(f"{name} is a {chosen.layout} tensor; {expected}")
    if chosen.dim() == 2 and list(chosen.shape) == [num_nodes, 1]:
        chosen = chosen.squeeze(1)
    given = f"{name} is {chosen.dtype} {list(chosen.shape)}"
    if chosen.dim() == 2 and chosen.shape[0] == num_nodes:
        raise InputError(f"{given}: {chosen.shape[1]} splits; choose one of them, data.{name} = data.{name}[:, k]")
    if chosen.dim() != 1 or chosen.is_floating_point() or chosen.is_complex():
        raise InputError(f"{given}; {expected}")
    if chosen.dtype == torch.bool:
        if len(chosen) != num_nodes:
            raise InputError(f"{given}; {expected}")
        return chosen
    chosen = chosen.long()
    selected = torch.zeros(num_nodes, dtype=torch.bool, device=chosen.device)
    if chosen.numel() == 0:
        return selected
    if int(chosen.min()) < 0 or int(chosen.max()) >= max(num_nodes, 2):
        raise InputError(
            f"{given} with values from {int(chosen.min())} to {int(chosen.max())}; {expected}, 0 to {num_nodes - 1}"
        )
    distinct = torch.unique(chosen).numel() == chosen.numel()
    if len(chosen) == num_nodes and int(chosen.max()) <= 1:
        if distinct and int(chosen.max()) < num_nodes:  # [0, 1]: both nodes, or the second one?
            raise InputError(f"{given} of zeros and ones, a mask or indices; give it as bool")
        return chosen.bool()
    if not distinct:
        raise InputError(f"{given} with repeated values, neither indices nor zeros and ones; {expected}")
    selected[chosen] = True
    return selected


def checked(
    data: Any,
    *,
    what: str = "data",
    labels: bool = True,
    masks: Sequence[str] = (),
    weighted: bool = True,
    dense: bool = False,
) -> Data:
    """A shallow copy of the graph, its fields in one form.

    ``x`` as :func:`features` returns it, ``edge_index`` int64 ``[2, E]``, ``edge_weight`` ``[E]`` where there are
    weights other than 1, ``y`` int64 ``[n]`` and the masks bool ``[n]``. Other fields stay.

    Args:
        data: one graph.
        what: what errors call it.
        labels: whether ``y`` is needed.
        masks: those that are needed; others that are there are checked if ``labels`` are.
        weighted: whether ``edge_weight`` may be there.
        dense: whether x must be.

    Raises:
        TypeError: something else than a ``Data``.
        InputError: a field that is missing, or cannot be used.
    """
    if not isinstance(data, Data):
        raise TypeError(f"{what} is a torch_geometric.data.Data, given {type(data).__name__}")
    missing = [key for key in (*(["y"] if labels else []), *masks) if data.get(key) is None]
    if missing:
        raise InputError(f"{what} lacks {', '.join(missing)}; load the graph with labels and a split")
    unread = [
        key
        for key in data.keys()  # noqa: SIM118  (a Data iterates over pairs)
        if (key.startswith(("edge_", "adj")) and key not in ("edge_index", "edge_weight")) and data[key] is not None
    ]
    if unread:
        raise InputError(
            f"{what} has {', '.join(unread)}, which nothing here reads: delete it (del data.{unread[0]}), or give it "
            "as edge_weight if it is a weight"
        )
    if not weighted and data.get("edge_weight") is not None:
        raise InputError(
            f"{what} has edge_weight, and only unweighted graphs are taken here; delete it (del data.edge_weight)"
        )
    try:
        x = features(data.x, dense=dense)
        graph = undirected(x, data.get("edge_index"), data.get("edge_weight"))
        own = copy.copy(data)
        _check_size(own, int(x.shape[0]))
        own.x, own.edge_index = x.detach() if x.requires_grad else x, graph.edge_index
        if "edge_weight" in own:
            del own.edge_weight
        if bool((graph.edge_weight != 1).any()):
            own.edge_weight = graph.edge_weight.detach()
        if labels:
            _check_nodes(own, int(x.shape[0]))
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
    return own


def _check_size(data: Data, n: int) -> None:
    """``num_nodes`` and ``batch`` must be those of n rows of features."""
    if "num_nodes" in data and data.num_nodes != n:
        raise InputError(f"num_nodes is {data.num_nodes}, and x has {n} rows; give every node its row, or leave it out")
    batch = data.get("batch")
    if batch is None:
        return
    whole = isinstance(batch, Tensor) and not (batch.is_floating_point() or batch.is_complex())
    if not whole or list(batch.shape) != [n]:
        given = f"{batch.dtype} {list(batch.shape)}" if isinstance(batch, Tensor) else f"a {type(batch).__name__}"
        raise InputError(f"batch is {given}; expected the number of each node's graph, int64 [{n}]")


def _check_nodes(data: Data, n: int) -> None:
    """Labels and masks in one form, in place."""
    data.y = class_labels(data.y, n)
    for key in MASKS:
        if data.get(key) is not None:
            data[key] = node_mask(data[key], n, name=key)


def check_known(y: Tensor, mask: Tensor, *, name: str = "mask") -> None:
    """Check that a mask selects nodes, and that each of them has a label.

    Args:
        y: int64 ``[n]``, −1 where it is unknown.
        mask: bool ``[n]``.
        name: of the mask.

    Raises:
        InputError: a mask without nodes, or with unlabelled ones.
    """
    if not bool(mask.any()):
        raise InputError(f"{name} must select at least one node, it selects none")
    unknown = int((y[mask] == UNKNOWN).sum())
    if unknown:
        raise InputError(f"{name} selects {unknown} nodes without a label (−1); leave them out: {name} & (y >= 0)")
