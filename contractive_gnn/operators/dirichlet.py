"""The Dirichlet energy of node features: how far neighbours differ."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from contractive_gnn.graph import Graph
from contractive_gnn.operators.graph_gradient import GraphGradient


def dirichlet_energy(
    x: Tensor, graph: Graph, *, normalization: Literal["none", "sym", "degree"] = "sym", epsilon: float = 1.0
) -> Tensor:
    r"""``E(x) = ‖Gx‖² = ½ Σ_ij a_ij ‖s_i x_i − s_j x_j‖²``, a scalar tensor.

    It is 0 where neighbours agree. In deep graph networks it often decays with the layers, which is called
    over-smoothing (Cai and Wang, *A Note on Over-Smoothing for Graph Neural Networks*, 2020).

    Args:
        x: ``[n, c]``.
        graph: a.
        normalization: ``"sym"``: ``s_i = (d_i + ε)^-½``, as in a GCN; ``"none"`` and ``"degree"``: ``s_i = 1``.
        epsilon: ε > 0.

    Raises:
        ValueError: see :class:`~contractive_gnn.operators.GraphGradient`.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [0.0], [0.0]])
        >>> graph = Graph.of(x, torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]))
        >>> float(dirichlet_energy(x, graph, normalization="none"))
        1.0
    """
    differences: Tensor = GraphGradient(graph, normalization, epsilon=epsilon)(x)
    return differences.square().sum()
