"""DeepRobust's Nettack, on edges or on features; our own one on edges is in ``nettack``."""

from __future__ import annotations

from typing import Any, ClassVar

from torch_geometric.data import Data

from contractive_gnn.attacks.base import Kind, Scope, check_count, register
from contractive_gnn.attacks.deeprobust.adapter import DeepRobustAttack
from contractive_gnn.checks import check_real
from contractive_gnn.deeprobust import Arrays, import_deeprobust, train_gcn


class _Nettack(DeepRobustAttack):
    scope: ClassVar[Scope] = "targeted"

    cutoff: float = 0.004

    def __init__(self, *, influencers: int = 0, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.influencers = check_count("influencers", influencers, least=0)

    def _surrogate_for(self, data: Data) -> Any:
        return train_gcn(data)

    def _refuse(self, arrays: Arrays, n_flips: int) -> None:
        # its numba code takes the k-th node that has edges for node k
        self._refuse_isolated(arrays)

    def _launch(self, arrays: Arrays, n_flips: int, target: int | None) -> Any:
        attack = import_deeprobust("graph.targeted_attack").Nettack(
            self._surrogate,
            nnodes=arrays.labels.size,
            attack_structure=self.kind == "structure",
            attack_features=self.kind == "features",
            device="cpu",
        )
        try:
            attack.attack(
                arrays.features,
                arrays.adjacency,
                arrays.labels,
                target,
                n_flips,
                direct=self.influencers == 0,
                n_influencers=self.influencers,
                ll_cutoff=self.cutoff,
                verbose=False,
            )
        except IndexError as error:
            # So it ends when no edge is left that passes the test on the degrees: what it has flipped until then
            # stands.
            if "too many indices" not in str(error):
                raise
        return attack


@register
class DeepRobustNettack(_Nettack):
    """DeepRobust's ``Nettack``: greedy flips that lower the margin of the target in a linear two-layer GCN.

    Zügner, Akbarnejad, Günnemann, *Adversarial Attacks on Neural Networks for Graph Data* (KDD 2018). Flips that would
    leave a node without edges, or make the degrees look less like the power law that they had, are not considered, and
    it may undo its own flips, so that fewer than the budget remain. It
    knows the target's label. The surrogate is trained once, on the clean graph. The same flips come faster from
    ``nettack``.

    Args:
        influencers: 0 flips edges of the target itself; k > 0 flips edges of k of its neighbours instead.
        cutoff: of the likelihood-ratio test on the degrees; 0.004 is a p-value of about 0.95.
        seed: see :class:`Attack`.
    """

    name: ClassVar[str] = "nettack-deeprobust"
    kind: ClassVar[Kind] = "structure"

    def __init__(self, *, influencers: int = 0, cutoff: float = 0.004, seed: int = 0) -> None:
        super().__init__(influencers=influencers, seed=seed)
        check_real("cutoff", cutoff, above=0)
        self.cutoff = cutoff


@register
class NettackFeatures(_Nettack):
    """DeepRobust's ``Nettack`` on features: flips entries of a binary x, of the target or of its influencers.

    A feature may be added only where it plausibly occurs with those that the node has.

    Args:
        influencers: 0 changes the target's own features; k > 0 those of k of its neighbours.
        seed: see :class:`Attack`.
    """

    name: ClassVar[str] = "nettack-features"
    kind: ClassVar[Kind] = "features"
