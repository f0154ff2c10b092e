"""The weights that a model gives to the edges, where it makes some of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from contractive_gnn.nn import CSGNN
from contractive_gnn.nn.evaluation import evaluating
from contractive_gnn.nn.similarity import SimilarityFlowGNN


@dataclass(frozen=True, eq=False)
class EdgeWeights:
    """Weights on the edges of one graph.

    Attributes:
        weight: by the two ends of an edge, the smaller node first.
        meaning: what they are, in words.
    """

    weight: dict[tuple[int, int], float]
    meaning: str


def edge_weights(model: nn.Module, x: Tensor, edge_index: Tensor) -> EdgeWeights | None:
    """The evolved adjacency of a model on a graph without weights, or None where the model has none.

    Of :class:`~contractive_gnn.nn.CSGNN` the adjacency that its last layer reads; of a
    :class:`~contractive_gnn.nn.similarity.SimilarityFlowGNN` (``robust``, ``robust-provable``) the A(0) that its
    features make.

    Args:
        model: fitted; asked in evaluation mode.
        x: ``[n, d]``.
        edge_index: int64 ``[2, E]``, both orientations of every edge.
    """
    with torch.no_grad(), evaluating(model):
        if isinstance(model, CSGNN):
            if all(block.adjacency_flow is None for block in model.layers()):
                return None
            graph = model.adjacencies(x, edge_index)[-2].graph()
            meaning = "the adjacency that the last layer reads"
        elif isinstance(model, SimilarityFlowGNN):
            graph = model.adjacency(x, edge_index)
            meaning = "A(0), from the similarity of the features"
        else:
            return None
    ends, weights = graph.edge_index.t().tolist(), graph.edge_weight.tolist()
    found = {(u, v): weight for (u, v), weight in zip(ends, weights, strict=True) if u < v}
    return EdgeWeights(found, meaning)
