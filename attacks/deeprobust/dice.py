"""DICE: delete internally, connect externally."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from contractive_gnn.attacks.base import Kind, Knowledge, Scope, register
from contractive_gnn.attacks.deeprobust.adapter import DeepRobustAttack
from contractive_gnn.deeprobust import Arrays, import_deeprobust


@register
class DICE(DeepRobustAttack):
    """DeepRobust's ``DICE``: each flip removes, by a fair coin, an edge within a class or adds one between two classes.

    It knows all labels, those of the test nodes too. Waniek, Michalak, Wooldridge, Rahwan, *Hiding individuals and
    communities in a social network* (Nature Human Behaviour 2018). DeepRobust counts an added edge that it drew in both
    directions twice, so it may make a few flips fewer than the budget.

    Raises:
        ValueError: (from ``run``) too few edges within, or pairs between, classes for the budget.
        AttackError: (from ``run``) a node without a label.
    """

    name: ClassVar[str] = "dice"
    kind: ClassVar[Kind] = "structure"
    scope: ClassVar[Scope] = "global"
    knowledge: ClassVar[Knowledge] = "random"

    def _refuse(self, arrays: Arrays, n_flips: int) -> None:
        self._refuse_unlabelled(arrays)
        # DeepRobust draws until it has found enough, and never ends where there are too few
        sizes = np.bincount(arrays.labels)
        row, column = arrays.adjacency.nonzero()
        within = int((arrays.labels[row] == arrays.labels[column]).sum()) // 2
        between = int(arrays.labels.size**2 - (sizes**2).sum()) // 2 - (row.size // 2 - within)
        if n_flips > between or within == 0:
            raise ValueError(
                f"attack 'dice' cannot make {n_flips} flips: there are {within} edges within a class to delete, "
                f"and {between} pairs of nodes of different classes to connect"
            )

    def _launch(self, arrays: Arrays, n_flips: int, target: int | None) -> Any:
        attack = import_deeprobust("graph.global_attack").DICE()
        attack.attack(arrays.adjacency, arrays.labels, n_perturbations=n_flips)
        return attack
