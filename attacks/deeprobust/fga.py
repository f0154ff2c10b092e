"""FGA: one gradient step at a time, around one node."""

from __future__ import annotations

from typing import Any, ClassVar

from torch_geometric.data import Data

from contractive_gnn.attacks.base import Kind, Scope, register
from contractive_gnn.attacks.deeprobust.adapter import DeepRobustAttack
from contractive_gnn.deeprobust import Arrays, import_deeprobust, train_gcn


@register
class FGA(DeepRobustAttack):
    """DeepRobust's ``FGA``: greedily flips the target's edge with the largest gradient of the surrogate's loss.

    Chen et al., *Fast Gradient Attack on Network Embedding* (2018). The surrogate is a linear two-layer GCN trained on
    the clean graph; outside of the training nodes its own predictions stand for the labels. It flips even where every
    gradient points the wrong way, and may undo its own flips, so that fewer than the budget remain.
    """

    name: ClassVar[str] = "fga"
    kind: ClassVar[Kind] = "structure"
    scope: ClassVar[Scope] = "targeted"

    def _surrogate_for(self, data: Data) -> Any:
        return train_gcn(data)

    def _launch(self, arrays: Arrays, n_flips: int, target: int | None) -> Any:
        attack = import_deeprobust("graph.targeted_attack").FGA(
            self._surrogate, nnodes=arrays.labels.size, device="cpu"
        )
        attack.attack(arrays.features, arrays.adjacency, arrays.labels, arrays.train, target, n_flips)
        return attack
