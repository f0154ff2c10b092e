"""The similarity as a transform of PyG."""

from __future__ import annotations

from typing import Any

from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from contractive_gnn.inputs import checked
from contractive_gnn.nn.similarity.weights import Similarity


class SimilarityWeights(BaseTransform):  # type: ignore[misc]
    """:class:`Similarity` as a PyG transform: writes ``data.edge_weight``.

    Args:
        **hyperparameters: those of :class:`Similarity`.
    """

    def __init__(self, **hyperparameters: Any) -> None:
        self.similarity = Similarity(**hyperparameters)

    def forward(self, data: Data) -> Data:
        """The same graph, with weights multiplied by the similarity; shape ``[E]``.

        Raises:
            InputError: a graph that :mod:`contractive_gnn.inputs` refuses.
        """
        graph = checked(data, labels=False)
        data.edge_index = graph.edge_index
        given = graph.x, graph.edge_index, graph.get("edge_weight"), graph.get("batch")
        data.edge_weight = self.similarity(*given).detach()
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.similarity.extra_repr()})"
