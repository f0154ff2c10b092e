"""Injections through the victim: the checks around the search, and random injections to compare it with."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Final

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks.base import Knowledge, Scope, check_choice, check_count
from contractive_gnn.attacks.injection.attack import Injection, InjectionAttack
from contractive_gnn.attacks.injection.endpoints import Endpoints
from contractive_gnn.attacks.injection.features import FeatureRange
from contractive_gnn.attacks.injection.goal import Goal
from contractive_gnn.attacks.injection.grown import GrownGraph
from contractive_gnn.attacks.injection.new_edges import NewEdges
from contractive_gnn.attacks.injection.random_injection import random_nodes
from contractive_gnn.attacks.whitebox import LOSSES, AdaptiveAttack, Objective, check_victim, diagnose
from contractive_gnn.checks import check_real

_RANDOM_DRAWS: Final = 3


class AdaptiveInjection(InjectionAttack, AdaptiveAttack):
    """An injection through the victim, whose provenance says, under params, how far it can be trusted.

    Args:
        features: see :class:`InjectionAttack`.
        hao: λ ≥ 0 of the harmonious adversarial objective, see :class:`Goal`; 0 for none.
        loss: "tanh-margin", "prob-margin", "cross-entropy" or "cw".
        candidates: pairs (new node, old node) considered at the same time, at least four for each edge that is allowed.
        seed: see :class:`Attack`.
    """

    scope: ClassVar[Scope] = "global"
    knowledge: ClassVar[Knowledge] = "adaptive"

    def __init__(self, *, features: str, hao: float, loss: str, candidates: int, seed: int) -> None:
        super().__init__(features=features, seed=seed)
        check_real("hao", hao, least=0)
        self.hao = float(hao)
        self.loss = check_choice("loss", loss, tuple(LOSSES))
        self.candidates = check_count("candidates", candidates)

    @abstractmethod
    def _search(self, goal: Goal, nodes: int, edges: int, allowed: FeatureRange) -> Injection:
        """The injection that raises the goal most."""

    def _draw(self, goal: Goal, nodes: int, edges: int, *, of: int) -> Endpoints:
        """Candidates for the edges of ``nodes`` new nodes, of which there are ``of`` in all."""
        graph = goal.graph
        return Endpoints.draw(nodes, max(self.candidates // of, 4 * edges), len(graph.x), graph.x)

    def _inject(
        self,
        data: Data,
        nodes: int,
        edges: int,
        allowed: FeatureRange,
        *,
        victim: nn.Module | None,
        targets: Tensor | None,
    ) -> Injection:
        assert victim is not None  # the base class has checked it
        read = check_victim(self.name, victim, data, kind=self.kind)
        graph = GrownGraph(victim, data)
        start = random_nodes(data.x, nodes, edges)
        goal = Goal(graph, self._objective(data, graph, targets), self.hao)
        flips = NewEdges(graph, start.x, self._draw(goal, nodes, edges, of=nodes))
        clean = flips.done(flips.none() > 0)
        diagnosis = diagnose(flips, goal.objective, clean, nodes * edges)
        reasons = list(diagnosis.unreliable)

        guesses = [start, *(random_nodes(data.x, nodes, edges) for _ in range(_RANDOM_DRAWS - 1))]
        guess = max(guesses, key=goal.score)
        found = self._search(goal, nodes, edges, allowed)
        by = self.name
        errors = {"clean": goal.objective.score(clean).errors, "random": goal.errors(guess)}
        if goal.score(guess) > goal.score(found):
            if diagnosis.reacts:
                reasons.append(f"random new nodes cause {errors['random']} errors, the search {goal.errors(found)}")
            found, by = guess, "random new nodes"
        self._tell(
            read,
            {
                "gradient": diagnosis.gradient,
                "zero_gradient_fraction": diagnosis.zero_fraction,
                "unreliable": reasons,
                "found_by": by,
                "errors": {**errors, "found": goal.errors(found)},
                "nodes": goal.objective.nodes.numel(),
                "homophily": float(graph.homophily(found.x, found.edges, found.x.new_ones(found.edges.shape[1]))),
            },
        )
        return found

    def _objective(self, data: Data, graph: GrownGraph, targets: Tensor | None) -> Objective:
        with torch.no_grad():
            return Objective.of(data, graph.victim(graph.x, graph.edge_index), targets, self.loss)
