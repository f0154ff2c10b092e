"""What an injection raises: the loss of the nodes that count, and how well the new nodes fit in."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from contractive_gnn.attacks.injection.attack import Injection
from contractive_gnn.attacks.injection.grown import GrownGraph
from contractive_gnn.attacks.whitebox import Objective


@dataclass(frozen=True, eq=False)
class Goal:
    """L + λ h: the loss L of the objective, and the mean homophily h of the new nodes.

    With λ > 0 it is the harmonious adversarial objective (HAO) of Chen et al., ICLR 2022.

    Args:
        graph: the clean graph and the victim.
        objective: which old nodes count, and the loss.
        hao: λ ≥ 0.
    """

    graph: GrownGraph
    objective: Objective
    hao: float = 0.0

    def relaxed(self, x: Tensor, edges: Tensor, weight: Tensor) -> Tensor:
        """At features ``[k, d]`` and edges ``[2, m]`` of weights ``[m]``; differentiable in features and weights."""
        value = self.objective.value(self.graph.relaxed(x, edges, weight))
        return value + self.hao * self.graph.homophily(x, edges, weight) if self.hao else value

    def discrete(self, x: Tensor, edges: Tensor) -> Tensor:
        """At features ``[k, d]`` and whole edges ``[2, m]``; differentiable in the features."""
        value = self.objective.value(self.graph.discrete(x, edges))
        return value + self.hao * self.graph.homophily(x, edges, x.new_ones(edges.shape[1])) if self.hao else value

    def score(self, injection: Injection) -> tuple[int, float]:
        """How good an injection is: by the errors and then by the goal; with λ > 0 by the goal alone."""
        score = self.objective.score(self.graph.answer(injection))
        if not self.hao:
            return score
        fits = self.graph.homophily(injection.x, injection.edges, injection.x.new_ones(injection.edges.shape[1]))
        return 0, score.loss + self.hao * float(fits)

    def errors(self, injection: Injection) -> int:
        """How many of the nodes that count are wrong."""
        return self.objective.score(self.graph.answer(injection)).errors
