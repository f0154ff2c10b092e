"""SGA: Nettack's aim on a small subgraph, for large graphs."""

from __future__ import annotations

from typing import Any, ClassVar

import scipy.sparse as sp
from torch_geometric.data import Data

from contractive_gnn.attacks.base import AttackError, Kind, Scope, check_count, register
from contractive_gnn.attacks.deeprobust.adapter import DeepRobustAttack
from contractive_gnn.deeprobust import Arrays, import_deeprobust, replaced


@register
class SGA(DeepRobustAttack):
    """DeepRobust's ``SGAttack``: gradients of a linear SGC within the target's neighbourhood and a few attacker nodes.

    Li, Xie, Chen, Zheng, *Adversarial Attack on Large Scale Graph* (TKDE 2021). It knows the labels of all
    nodes, among which it looks for attackers of the best wrong class. The surrogate is trained once, on the clean
    graph.

    Args:
        hops: K of the SGC, and radius of the subgraph.
        seed: see :class:`Attack`.
    """

    name: ClassVar[str] = "sga"
    kind: ClassVar[Kind] = "structure"
    scope: ClassVar[Scope] = "targeted"

    def __init__(self, *, hops: int = 2, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.hops = check_count("hops", hops)

    def _surrogate_for(self, data: Data) -> Any:
        surrogate = import_deeprobust("graph.defense").SGC(
            nfeat=data.x.shape[1], nclass=int(data.y.max()) + 1, K=self.hops, lr=0.1, device="cpu"
        )
        surrogate.fit([data.cpu()], train_iters=200, patience=200)
        return surrogate

    def _refuse(self, arrays: Arrays, n_flips: int) -> None:
        self._refuse_unlabelled(arrays)

    def _launch(self, arrays: Arrays, n_flips: int, target: int | None) -> Any:
        if arrays.adjacency[target].nnz == 0:
            raise AttackError(
                f"attack {self.name!r} starts from the neighbours of its target, and node {target} has none; "
                "'nettack' needs none"
            )
        attack = import_deeprobust("graph.targeted_attack").SGAttack(
            self._surrogate, nnodes=arrays.labels.size, device="cpu"
        )
        # scipy no longer spells .toarray() as .A
        with replaced(sp.spmatrix, A=property(lambda matrix: matrix.toarray())):
            try:
                attack.attack(arrays.features, arrays.adjacency, arrays.labels, target, n_flips)
            except RuntimeError as error:
                if "out of range" not in str(error):
                    raise
                raise AttackError(
                    f"attack {self.name!r} needs, for {n_flips} flips, {n_flips + 1} nodes of the class that it wants "
                    f"node {target} to be taken for and that are not its neighbours; there are fewer: lower the budget"
                ) from error
        return attack
