"""The edges of new nodes as flips, for the checks that white-box attacks share."""

from __future__ import annotations

import torch
from torch import Tensor

from contractive_gnn.attacks.base import Perturbation
from contractive_gnn.attacks.injection.endpoints import Endpoints
from contractive_gnn.attacks.injection.grown import GrownGraph
from contractive_gnn.attacks.whitebox import Flips


class NewEdges(Flips):
    """The candidates for edges of new nodes whose features are given.

    Args:
        graph: the clean graph and the victim.
        features: of the new nodes, ``[k, d]``.
        candidates: k rows.
    """

    def __init__(self, graph: GrownGraph, features: Tensor, candidates: Endpoints) -> None:
        self.graph, self.features, self.candidates = graph, features, candidates
        self.x, self.size = graph.x, candidates.p.numel()

    def relaxed(self, p: Tensor) -> Tensor:
        """Logits with edges of weight p."""
        return self.graph.relaxed(self.features, self.candidates.edges, p)

    def done(self, chosen: Tensor) -> Tensor:
        """Logits with the chosen edges; one that stands there twice counts once."""
        with torch.no_grad():
            return self.graph.discrete(self.features, self._edges(chosen))

    def perturbation(self, chosen: Tensor) -> Perturbation:
        """The chosen edges, and all new nodes."""
        new, old = self._edges(chosen).cpu()
        return Perturbation(edge_flips=torch.stack([old, len(self.x) + new]), new_x=self.features)

    def draw(self, k: int) -> Tensor:
        """Random edges, about as many at each new node."""
        share = -(-k // len(self.candidates.p))
        key = torch.rand(self.candidates.p.shape, device=self.x.device)
        chosen = torch.zeros_like(self.candidates.open)
        chosen.scatter_(1, key.topk(min(share, key.shape[1]), dim=1).indices, True)
        return chosen.flatten()

    def _edges(self, chosen: Tensor) -> Tensor:
        return self.candidates.edges[:, chosen & self.candidates.open.flatten()]
