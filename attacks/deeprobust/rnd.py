"""RND: random edges from a target to training nodes of other classes."""

from __future__ import annotations

from typing import Any, ClassVar

from contractive_gnn.attacks.base import Kind, Knowledge, Scope, register
from contractive_gnn.attacks.deeprobust.adapter import DeepRobustAttack
from contractive_gnn.deeprobust import Arrays, import_deeprobust


@register
class RND(DeepRobustAttack):
    """DeepRobust's ``RND``: connects the target with random training nodes of other classes.

    The baseline of Zügner, Akbarnejad, Günnemann, *Adversarial Attacks on Neural Networks for Graph Data* (KDD 2018).
    It knows the target's label, and goes on with unlabelled nodes where there are too few such training nodes.
    """

    name: ClassVar[str] = "rnd"
    kind: ClassVar[Kind] = "structure"
    scope: ClassVar[Scope] = "targeted"
    knowledge: ClassVar[Knowledge] = "random"

    def _launch(self, arrays: Arrays, n_flips: int, target: int | None) -> Any:
        attack = import_deeprobust("graph.targeted_attack").RND()
        # A loop at the target keeps it from choosing the target as its own new neighbour, which it does where training
        # nodes of other classes run out.
        looped = arrays.adjacency.tolil()
        looped[target, target] = 1.0
        attack.attack(looped.tocsr(), arrays.labels, arrays.train, target, n_flips)
        attack.modified_adj[target, target] = 0.0
        return attack
