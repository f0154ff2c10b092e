"""Injections that add their nodes a few at a time: edges first, then features."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from contractive_gnn.attacks.base import check_count, register
from contractive_gnn.attacks.injection.adaptive import AdaptiveInjection
from contractive_gnn.attacks.injection.ascent import ascend_edges, ascend_features, smooth_features
from contractive_gnn.attacks.injection.attack import Injection
from contractive_gnn.attacks.injection.features import FeatureRange
from contractive_gnn.attacks.injection.goal import Goal
from contractive_gnn.attacks.injection.random_injection import random_nodes
from contractive_gnn.checks import check_real


class _SequentialInjection(AdaptiveInjection):
    """Adds a share of the nodes, gives them edges, moves the features of all new nodes, and goes on."""

    def __init__(
        self,
        *,
        features: str,
        hao: float,
        loss: str,
        candidates: int,
        share: float,
        feature_epochs: int,
        seed: int,
    ) -> None:
        super().__init__(features=features, hao=hao, loss=loss, candidates=candidates, seed=seed)
        check_real("share", share, above=0, most=1)
        self.share = float(share)
        self.feature_epochs = check_count("feature_epochs", feature_epochs)

    @abstractmethod
    def _edges(self, goal: Goal, x: Tensor, settled: Tensor, first: int, edges: int) -> Tensor:
        """Edges (new node, old node) of the new nodes ``first``, ``first`` + 1, …, by all features and the others."""

    @abstractmethod
    def _features(self, goal: Goal, found: Injection, allowed: FeatureRange) -> Injection:
        """The same nodes with other features."""

    def _search(self, goal: Goal, nodes: int, edges: int, allowed: FeatureRange) -> Injection:
        found = Injection(goal.graph.x[:0], torch.empty(2, 0, dtype=torch.int64, device=goal.graph.x.device))
        size = max(1, math.ceil(self.share * nodes))
        for first in range(0, nodes, size):
            drawn = random_nodes(goal.graph.x, min(size, nodes - first), edges).x
            x = torch.cat([found.x, drawn])
            added = self._edges(goal, x, found.edges, first, edges)
            found = self._features(goal, Injection(x, torch.cat([found.edges, added], dim=1)), allowed)
        return found


@register
class TDGIA(_SequentialInjection):
    r"""Joins new nodes to those that the topology makes vulnerable, and moves their features smoothly.

    Of the nodes that count and are right, those with the largest

    .. math:: \lambda_v = (2 - p_v)\,\Big(\frac{k_1}{d_v} + \frac{k_2}{\sqrt{d_v b}}\Big)

    get a new neighbour each, with the degree d_v, the victim's probability p_v of the right class, and b edges of a new
    node. A new node is joined to nodes with the same runner-up class, so that one set of features serves all. After
    each share of the nodes the features of all new ones are moved: by Adam over z, with x = (l + h)/2 + (h − l)/2 sin z
    between the least and largest entries l and h of the columns, and words by projected gradient ascent.

    After Zou et al., *TDGIA: Effective Injection Attacks on Graph Neural Networks* (KDD 2021). There a surrogate
    stands for the victim, and the runner-up class plays no part.

    Args:
        features: "range" or "words", see :class:`InjectionAttack`.
        hao: weight λ of homophily, see :class:`Goal`.
        loss: "tanh-margin", "prob-margin", "cross-entropy" or "cw".
        share: of the nodes that are added at a time, in (0, 1].
        feature_epochs: steps on the features after each.
        lr: learning rate of these.
        k1: ≥ 0, weight of 1/d.
        k2: ≥ 0, weight of 1/√(d b).
        seed: see :class:`Attack`.

    Raises:
        ValueError: (from ``run``) see :class:`InjectionAttack`.
        AttackError: (from ``run``) the victim's logits on the clean graph are not finite or do not fit it.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> model = cg.build("gcn", data.num_features, 4)
        >>> cg.attack(model, data, "tdgia", nodes=2, edges=5, feature_epochs=2).data.num_nodes
        62
    """

    name: ClassVar[str] = "tdgia"

    def __init__(
        self,
        *,
        features: str = "range",
        hao: float = 0.0,
        loss: str = "tanh-margin",
        share: float = 0.2,
        feature_epochs: int = 60,
        lr: float = 0.1,
        k1: float = 0.9,
        k2: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(
            features=features,
            hao=hao,
            loss=loss,
            candidates=10_000,
            share=share,
            feature_epochs=feature_epochs,
            seed=seed,
        )
        check_real("lr", lr, above=0)
        for name, value in (("k1", k1), ("k2", k2)):
            check_real(name, value, least=0)
        self.lr, self.k1, self.k2 = float(lr), float(k1), float(k2)

    def _edges(self, goal: Goal, x: Tensor, settled: Tensor, first: int, edges: int) -> Tensor:
        nodes, labels, graph = goal.objective.nodes, goal.objective.labels, goal.graph
        before = Injection(x[:first], settled)
        probability = (graph.answer(before)[nodes] / goal.objective.temperature).softmax(dim=1)
        own = probability.gather(1, labels[:, None]).squeeze(1)
        runner_up = probability.scatter(1, labels[:, None], -1.0).argmax(dim=1)
        joined = torch.bincount(settled[1], minlength=len(graph.x))
        degree = (graph.degrees + joined)[nodes] + 1.0  # with its self-loop, as in a GCN
        vulnerable = (2 - own) * (self.k1 / degree + self.k2 / (degree * edges).sqrt())
        # what is wrong already comes last
        vulnerable = vulnerable - 1e6 * (probability.argmax(dim=1) != labels)
        k = len(x) - first
        best = vulnerable.topk(min(k * edges, nodes.numel())).indices
        best = best[runner_up[best].argsort(stable=True)]
        place = torch.arange(best.numel(), device=best.device)
        return torch.stack([first + place // edges, nodes[best]])

    def _features(self, goal: Goal, found: Injection, allowed: FeatureRange) -> Injection:
        if allowed.words is not None:  # of a smooth x the words that are kept are too small a part
            return ascend_features(goal, found, allowed, epochs=self.feature_epochs, feature_step=0.1)
        return smooth_features(goal, found, allowed, epochs=self.feature_epochs, lr=self.lr)


@register
class AGIA(_SequentialInjection):
    """Joins new nodes where the gradient says, then moves their features by projected gradient ascent.

    A share of the nodes at a time: first the weights of their edges ascend, with the features of old nodes that were
    drawn at random, and the largest ones become edges; then the features of all new nodes ascend. The gradient adapts
    the edges to the victim, where :class:`TDGIA` chooses them by degrees.

    After the adaptive gradient injection of Chen et al., *Understanding and Improving Graph Injection Attack by
    Promoting Unnoticeability* (ICLR 2022). There a surrogate stands for the victim.

    Args:
        features: "range" or "words", see :class:`InjectionAttack`.
        hao: weight λ of homophily, see :class:`Goal`.
        loss: "tanh-margin", "prob-margin", "cross-entropy" or "cw".
        candidates: pairs (new node, old node) considered at the same time.
        share: of the nodes that are added at a time, in (0, 1].
        edge_epochs: steps on the edges of each.
        feature_epochs: steps on the features after each.
        step: how far the steepest edges of a new node move in the first step.
        feature_step: how far a feature moves in one step, as a share of its range.
        seed: see :class:`Attack`.

    Raises:
        ValueError: (from ``run``) see :class:`InjectionAttack`.
        AttackError: (from ``run``) the victim's logits on the clean graph are not finite or do not fit it.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> model = cg.build("gcn", data.num_features, 4)
        >>> cg.attack(model, data, "agia", nodes=2, edges=5, edge_epochs=2, feature_epochs=2).data.num_nodes
        62
    """

    name: ClassVar[str] = "agia"

    def __init__(
        self,
        *,
        features: str = "range",
        hao: float = 0.0,
        loss: str = "tanh-margin",
        candidates: int = 30_000,
        share: float = 0.2,
        edge_epochs: int = 20,
        feature_epochs: int = 40,
        step: float = 0.5,
        feature_step: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(
            features=features,
            hao=hao,
            loss=loss,
            candidates=candidates,
            share=share,
            feature_epochs=feature_epochs,
            seed=seed,
        )
        self.edge_epochs = check_count("edge_epochs", edge_epochs)
        for name, value in (("step", step), ("feature_step", feature_step)):
            check_real(name, value, above=0)
        self.step, self.feature_step = float(step), float(feature_step)

    def _edges(self, goal: Goal, x: Tensor, settled: Tensor, first: int, edges: int) -> Tensor:
        k = len(x) - first
        return ascend_edges(
            goal,
            x,
            settled,
            self._draw(goal, k, edges, of=k),
            first=first,
            budget=edges,
            epochs=self.edge_epochs,
            step=self.step,
        )

    def _features(self, goal: Goal, found: Injection, allowed: FeatureRange) -> Injection:
        return ascend_features(goal, found, allowed, epochs=self.feature_epochs, feature_step=self.feature_step)
