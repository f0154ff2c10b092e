"""Several graphs in one, each treated by itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from contractive_gnn.dynamics import Dynamics
from contractive_gnn.graph import Graph


def graph_by_graph(
    layer: Callable[[Tensor, Tensor, Tensor], Tensor],
    x: Tensor,
    edge_index: Tensor,
    edge_weight: Tensor | None,
    batch: Tensor,
    *,
    of_edges: bool = False,
) -> Tensor:
    """What ``layer`` answers on each graph of a batch, in the order of the nodes (or edges) of the whole.

    Args:
        layer: ``(x, edge_index, edge_weight)`` of one graph to one row for each of its nodes.
        x: ``[n, d]`` dense or ``sparse_csr``.
        edge_index: ``[2, E]``, or a sparse ``[n, n]`` matrix.
        edge_weight: ``[E]`` or None.
        batch: int64 ``[n]``, the graph of every node, as in a batch of PyG.
        of_edges: whether ``layer`` gives one row for each edge instead.

    Raises:
        ValueError: for a batch of another shape or type, or an edge between two graphs.
    """
    graph = Graph.of(x, edge_index, edge_weight)
    if batch.dtype != torch.int64 or list(batch.shape) != [graph.num_nodes]:
        raise ValueError(
            f"batch is {batch.dtype} {list(batch.shape)}; expected the graph of every node, int64 [{graph.num_nodes}]"
        )
    source, target = batch[graph.edge_index]
    if bool((source != target).any()):
        edge = int((source != target).nonzero()[0])
        raise ValueError(
            f"edge {tuple(graph.edge_index[:, edge].tolist())} joins graph {int(source[edge])} to graph "
            f"{int(target[edge])} of the batch; expected graphs without edges between them"
        )
    numbers, sizes = torch.unique(batch, return_counts=True)
    if len(numbers) < 2:
        return layer(x, graph.edge_index, graph.edge_weight)
    nodes = batch.argsort(stable=True)
    edges = source.argsort(stable=True)
    counts = torch.bincount(torch.searchsorted(numbers, source), minlength=len(numbers))
    place = torch.empty_like(nodes)
    answers = []
    for own, joined in zip(torch.split(nodes, sizes.tolist()), torch.split(edges, counts.tolist()), strict=True):
        place[own] = torch.arange(len(own), device=own.device)
        answers.append(layer(_rows(x, own), place[graph.edge_index[:, joined]], graph.edge_weight[joined]))
    whole = torch.cat(answers)
    return torch.zeros_like(whole).index_copy(0, edges if of_edges else nodes, whole)


def _rows(x: Tensor, nodes: Tensor) -> Tensor:
    if x.layout != torch.sparse_csr:
        return x[nodes]
    rows: Tensor = x.to_sparse_coo().index_select(0, nodes)  # type: ignore[no-untyped-call]
    return rows.coalesce().to_sparse_csr()


def graphs_meet(model: nn.Module) -> str:
    """The name of a part whose answer for one graph depends on the others, unless it is given ``batch``; or empty.

    It is one that says so (``reads_whole_graph``), or one of this library that takes ``batch``; but no layer around a
    field whose constants no graph changes.
    """
    for part in model.modules():
        if getattr(part, "reads_whole_graph", False):
            return type(part).__name__
        ours = type(part).__module__.startswith("contractive_gnn.")
        if ours and "batch" in inspect.signature(part.forward).parameters:
            field = getattr(part, "dynamics", None)
            if not (isinstance(field, Dynamics) and field.uniform):
                return type(part).__name__
    return ""
