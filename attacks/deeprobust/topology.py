"""DeepRobust's PGD and Min-Max topology attacks, on a GCN surrogate."""

from __future__ import annotations

from typing import Any, ClassVar

from torch_geometric.data import Data

from contractive_gnn.attacks.base import AttackError, Kind, Scope, check_choice, check_count, register
from contractive_gnn.attacks.deeprobust.adapter import DeepRobustAttack
from contractive_gnn.deeprobust import Arrays, import_deeprobust, replaced, train_gcn


class _TopologyAttack(DeepRobustAttack):
    kind: ClassVar[Kind] = "structure"
    scope: ClassVar[Scope] = "global"
    deeprobust_class: ClassVar[str]

    def __init__(self, *, epochs: int = 200, loss: str = "CE", seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.epochs = check_count("epochs", epochs)
        self.loss = check_choice("loss", loss, ("CE", "CW"))

    def _surrogate_for(self, data: Data) -> Any:
        return train_gcn(data, dropout=0.5, with_relu=True, with_bias=True, patience=None)

    def _launch(self, arrays: Arrays, n_flips: int, target: int | None) -> Any:
        cls = getattr(import_deeprobust("graph.global_attack"), self.deeprobust_class)
        attack = cls(model=self._surrogate, nnodes=arrays.labels.size, loss_type=self.loss, device="cpu")
        # MinMax has its 200 epochs written into the loop: its progress bar is where another number can be passed
        with replaced(import_deeprobust("graph.global_attack.topology_attack"), tqdm=lambda _: range(self.epochs)):
            try:
                # dense: it takes ones_like of the adjacency, which a sparse tensor does not have
                attack.attack(arrays.features, arrays.adjacency.toarray(), arrays.labels, arrays.train, n_flips)
            except UnboundLocalError as error:
                raise AttackError(
                    f"attack {self.name!r}: each of the 20 graphs that DeepRobust drew at the end exceeds {n_flips} "
                    "flips; take another seed"
                ) from error
        return attack


@register
class PGD(_TopologyAttack):
    """DeepRobust's ``PGDAttack``: projected gradient ascent on relaxed flips s ∈ [0, 1]^{n(n−1)/2}, Σ s ≤ budget.

    It raises the loss of the training nodes of a GCN (two layers, ReLU, dropout 0.5) trained on the clean graph, then
    draws 20 graphs from s and keeps the worst within the budget. Xu et al., *Topology Attack and Defense for Graph
    Neural Networks* (IJCAI 2019). Memory and time per epoch are O(n²).

    Args:
        epochs: gradient steps.
        loss: "CE" (cross-entropy) or "CW" (margin).
        seed: see :class:`Attack`.
    """

    name: ClassVar[str] = "pgd"
    deeprobust_class: ClassVar[str] = "PGDAttack"


@register
class MinMax(_TopologyAttack):
    """DeepRobust's ``MinMax``: as ``pgd``, but the surrogate is trained on, against the flips, after every step.

    Args:
        epochs: pairs of one training step and one attack step.
        loss: "CE" (cross-entropy) or "CW" (margin).
        seed: see :class:`Attack`.
    """

    name: ClassVar[str] = "minmax"
    deeprobust_class: ClassVar[str] = "MinMax"
