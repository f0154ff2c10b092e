"""Poisoning of node embeddings through the spectrum of the graph."""

from __future__ import annotations

from typing import Any, ClassVar

from contractive_gnn.attacks.base import AttackError, Kind, Scope, check_choice, check_count, register
from contractive_gnn.attacks.deeprobust.adapter import DeepRobustAttack
from contractive_gnn.deeprobust import Arrays, import_deeprobust


@register
class NodeEmbedding(DeepRobustAttack):
    """DeepRobust's ``NodeEmbeddingAttack``: flips that raise DeepWalk's loss, estimated from the spectrum.

    Bojchevski and Günnemann, *Adversarial Attacks on Node Embeddings via Graph Poisoning* (ICML 2019). It looks at
    neither features nor labels. One dense generalised eigenproblem, O(n³).

    Args:
        edit: "remove" (leaves every node at least one edge), "add", or "add-by-remove" (adds the candidates whose
            removal from a graph with all of them would matter most).
        dim: dimension of the embedding.
        window: DeepWalk's window.
        candidates: non-edges drawn, for both ways of adding.
        seed: see :class:`Attack`.
    """

    name: ClassVar[str] = "node-embedding"
    kind: ClassVar[Kind] = "structure"
    scope: ClassVar[Scope] = "global"

    def __init__(
        self, *, edit: str = "remove", dim: int = 32, window: int = 5, candidates: int = 10_000, seed: int = 0
    ) -> None:
        super().__init__(seed=seed)
        self.edit = check_choice("edit", edit, ("remove", "add", "add-by-remove"))
        self.dim = check_count("dim", dim)
        self.window = check_count("window", window)
        self.candidates = check_count("candidates", candidates)

    def _refuse(self, arrays: Arrays, n_flips: int) -> None:
        # the generalised eigenproblem has the degrees on its right-hand side
        self._refuse_isolated(arrays)

    def _launch(self, arrays: Arrays, n_flips: int, target: int | None) -> Any:
        attack = import_deeprobust("graph.global_attack").NodeEmbeddingAttack()
        try:
            attack.attack(
                arrays.adjacency.astype(float),
                n_perturbations=n_flips,
                dim=self.dim,
                window_size=self.window,
                attack_type=self.edit.replace("-", "_"),
                n_candidates=self.candidates,
            )
        except (AssertionError, AttributeError) as error:  # AttributeError: not a single candidate
            if self.edit == "remove":
                reason = f"fewer than {n_flips} edges can go if each node keeps one of its own"
            else:
                reason = f"it takes candidates={self.candidates} non-edges, at least the {n_flips} of the budget"
            raise AttackError(f"attack {self.name!r} cannot {self.edit} {n_flips} edges: {reason}") from error
        return attack
