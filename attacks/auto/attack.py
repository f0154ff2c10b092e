"""The ensemble as one attack."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks.auto.members import ensemble
from contractive_gnn.attacks.auto.verdict import auto
from contractive_gnn.attacks.base import Kind, Perturbation, check_count, register
from contractive_gnn.attacks.whitebox import AdaptiveAttack


@register
class AutoAttack(AdaptiveAttack):
    """The strongest perturbation of a fixed ensemble of attacks: see :func:`~contractive_gnn.attacks.auto.auto`.

    The provenance says, under ``diagnosis``, what each attack left (``accuracies``), the share of nodes that are right
    under all of them (``worst_per_node``), and why no stronger attack may be ruled out (``unreliable``).

    Args:
        population: of the evolutionary search.
        generations: of the evolutionary search.
        seed: see :class:`~contractive_gnn.attacks.Attack`.

    Raises:
        AttackError: (from ``run``) the model cannot be attacked.

    Example:
        >>> import contractive_gnn as cg
        >>> cg.attacks.get("auto", generations=10).generations
        10
    """

    name: ClassVar[str] = "auto"
    kind: ClassVar[Kind] = "structure"

    def __init__(self, *, population: int = 64, generations: int = 100, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.population = check_count("population", population, least=2)
        self.generations = check_count("generations", generations, least=0)

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        assert victim is not None  # the base class has checked it
        members = ensemble(population=self.population, generations=self.generations)
        verdict = auto(victim, data, flips=n_flips, targets=targets, seed=self.seed, members=members, progress=False)
        self._notes.update(
            verdict.read,
            nodes=int(data.test_mask.sum()) if targets is None else targets.numel(),
            accuracies=dict(verdict.accuracies),
            worst_per_node=verdict.worst_per_node,
            strongest=verdict.strongest,
            unreliable=list(verdict.unreliable),
        )
        return Perturbation(edge_flips=verdict.results[verdict.strongest].edge_flips)
