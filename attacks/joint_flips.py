"""White-box evasion on edges and binary features at the same time, under one budget."""

from __future__ import annotations

import copy
import math
from typing import ClassVar, Final

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks.base import (
    AttackError,
    Kind,
    Perturbation,
    check_choice,
    check_count,
    is_binary,
    register,
    undirected_edges,
)
from contractive_gnn.attacks.whitebox import (
    LOSSES,
    AdaptiveAttack,
    EdgeFlips,
    FeatureFlips,
    Flips,
    Found,
    Objective,
    check_victim,
    diagnose,
    gradient,
    weigh,
)
from contractive_gnn.attacks.whitebox.searching import Searching

_HALVINGS: Final = 50


class JointFlips(Flips):
    """Flips of edges first, then of feature entries; a flip of an edge costs 1, one of an entry 1/w.

    Args:
        edges: the flips of edges.
        features: the flips of entries.
        words_per_edge: w.
    """

    def __init__(self, edges: EdgeFlips, features: FeatureFlips, words_per_edge: int) -> None:
        self.edges, self.features, self.words_per_edge = edges, features, words_per_edge
        self.x, self.size = edges.x, edges.size + features.size
        self.cost = torch.cat([self.x.new_ones(edges.size), self.x.new_full((features.size,), 1 / words_per_edge)])

    def relaxed(self, p: Tensor) -> Tensor:
        """Logits with the edges and the features that p says."""
        of_edges, of_features = p[: self.edges.size], p[self.edges.size :]
        return self.edges.with_features(self.features.moved(of_features)).relaxed(of_edges)

    def done(self, chosen: Tensor) -> Tensor:
        """Logits with the chosen flips done."""
        of_edges, of_features = chosen[: self.edges.size], chosen[self.edges.size :]
        with torch.no_grad():
            x = self.features.moved(of_features.to(self.x.dtype))
            return self.edges.with_features(x).done(of_edges)

    def perturbation(self, chosen: Tensor) -> Perturbation:
        """The chosen flips."""
        of_edges, of_features = chosen[: self.edges.size], chosen[self.edges.size :]
        return Perturbation(
            edge_flips=self.edges.perturbation(of_edges).edge_flips,
            feature_flips=self.features.perturbation(of_features).feature_flips,
        )

    def draw(self, k: int) -> Tensor:
        """Random flips at the cost k, half of it for edges."""
        words = self.words_per_edge * (k - k // 2)
        return torch.cat([self.edges.draw(k // 2), self.features.draw(min(words, self.features.size))])

    def renew(self, p: Tensor) -> tuple[JointFlips, Tensor]:
        """With other pairs in the place of those with p = 0."""
        of_edges, of_features = p[: self.edges.size], p[self.edges.size :]
        renewed = copy.copy(self)
        renewed.edges, kept = self.edges.renew(of_edges)
        return renewed, torch.cat([kept, of_features])

    def project(self, p: Tensor, budget: float) -> Tensor:
        """The q in [0, 1] with Σ cost q ≤ budget that is nearest to p in Σ cost (q − p)²: clip(p − μ, 0, 1)."""
        if float((self.cost * p.clamp(0, 1)).sum()) <= budget:
            return p.clamp(0, 1)
        # entries at or below a lower bound of μ end at 0: they are left out while the interval is halved
        positive = p > 0
        values, cost = p[positive], self.cost[positive]
        low, high = 0.0, float(values.max())
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if float((cost * (values - middle).clamp(0, 1)).sum()) <= budget:
                high = middle
            else:
                low, above = middle, values > middle
                values, cost = values[above], cost[above]
        return (p - high).clamp(0, 1)

    def largest(self, p: Tensor, budget: int) -> Tensor:
        """The flips with the largest p > 0 that the budget pays for, bool ``[size]``."""
        # no more than w b flips can be paid for
        values, order = p.topk(min(self.words_per_edge * budget + 1, self.size))
        order = order[values > 0]
        of_edge = order < self.edges.size
        # whole edges, and what is begun of an edge's worth of words
        spent = of_edge.cumsum(0) + (~of_edge).cumsum(0).add(self.words_per_edge - 1) // self.words_per_edge
        chosen = torch.zeros_like(p, dtype=torch.bool)
        chosen[order[spent <= budget]] = True
        return chosen


@register
class JointPGD(Searching, AdaptiveAttack):
    r"""Flips edges and entries of a binary feature matrix so that the frozen victim misclassifies most.

    The budget b is one for both, in edges: a flipped edge costs 1, and w flipped words cost 1,

    .. math:: \#\mathrm{edges} + \lceil \#\mathrm{words} / w \rceil \le b.

    Relaxed flips p ascend along ∂L/∂p per cost, and are projected onto the budget. Whatever counts is measured on the
    discrete graph. The search is done for edges alone and for words alone too, as :class:`WhiteboxPGD` and
    :class:`WhiteboxPGDFeatures` do it, and the strongest of the three is kept: both together are never weaker than
    either by this search.

    Args:
        words_per_edge: w ≥ 1, how many words cost as much as an edge. With 1 a word is as dear as an edge, as the
            budget of other attacks on both counts them.
        candidates: pairs without an edge considered at the same time (at least four per flip allowed).
        loss: "tanh-margin", "prob-margin", "cross-entropy" or "cw".
        epochs: steps of constant size.
        fine_epochs: steps of decreasing size.
        step: how far the steepest entries of p move in one step.
        samples: random roundings to try, of edges alone and of words alone.
        swaps: attempts to exchange flips of each of the three results.
        seed: see :class:`Attack`.

    Raises:
        ValueError: (from ``run``) a fraction as the budget.
        AttackError: (from ``run``) x is not binary; the victim's logits on the clean graph are not finite or do not fit
            it.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> data.x = (data.x > 0).float()
        >>> model = cg.build("gcn", data.num_features, 4)
        >>> quick = {"epochs": 3, "fine_epochs": 1, "samples": 1, "swaps": 1}
        >>> result = cg.attack(model, data, "joint-pgd", flips=5, words_per_edge=4, **quick)
        >>> result.edge_flips.shape[1] + result.feature_flips.shape[1] / 4 <= 5
        True
    """

    name: ClassVar[str] = "joint-pgd"
    kind: ClassVar[Kind] = "both"

    def __init__(
        self,
        *,
        words_per_edge: int = 1,
        candidates: int = 20_000,
        loss: str = "tanh-margin",
        epochs: int = 60,
        fine_epochs: int = 20,
        step: float = 0.3,
        samples: int = 10,
        swaps: int = 25,
        seed: int = 0,
    ) -> None:
        super().__init__(seed=seed)
        self.words_per_edge = check_count("words_per_edge", words_per_edge)
        self.candidates = check_count("candidates", candidates)
        self.loss = check_choice("loss", loss, tuple(LOSSES))
        self._set_search(epochs=epochs, fine_epochs=fine_epochs, step=step, samples=samples, swaps=swaps)

    def _cost(self, edges: int, entries: int) -> int:
        """What so many flips cost, in edges."""
        return edges + -(-entries // self.words_per_edge)

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        assert victim is not None  # the base class has checked it
        if not is_binary(data.x):
            raise AttackError(
                f"attack {self.name!r} flips binary features, but x has entries other than 0 and 1: binarise x first, "
                "or attack the edges alone with 'whitebox-pgd'"
            )
        read = check_victim(self.name, victim, data, kind=self.kind)
        candidates = max(self.candidates, 4 * n_flips)
        edges = EdgeFlips(victim, data.x, undirected_edges(data.edge_index), candidates=candidates)
        words = FeatureFlips(victim, data.x, data.edge_index)
        flips = JointFlips(edges, words, self.words_per_edge)
        clean = flips.done(flips.none() > 0)
        objective = Objective.of(data, clean, targets, self.loss)
        diagnosis = diagnose(flips, objective, clean, n_flips)
        found = [_exchange(self._ascend(flips, objective, n_flips), objective, n_flips, self.swaps)]
        for alone, budget in ((edges, n_flips), (words, self.words_per_edge * n_flips)):
            found.append(self._search_by_settings(alone, objective, min(budget, alone.size)))
        strongest, notes = weigh(max(found, key=lambda one: one.score), flips, objective, n_flips, diagnosis, clean)
        self._tell(read, notes)
        return strongest.flips.perturbation(strongest.chosen)

    def _ascend(self, flips: JointFlips, objective: Objective, budget: int) -> Found:
        """Projected gradient ascent over both, and the best rounding on the way."""
        p = flips.none()
        best = Found(objective.score(flips.done(p > 0)), flips, p > 0, "nothing")
        for epoch in range(self.epochs + self.fine_epochs):
            _, slope = gradient(flips, objective, p)
            if slope is None:
                break
            slope = slope.nan_to_num(0.0, 0.0, 0.0).masked_fill((p <= 0) & (slope < 0) | (p >= 1) & (slope > 0), 0.0)
            slope = slope / flips.cost
            steepest = flips.largest(slope.abs(), budget)
            if not bool(steepest.any()):
                break
            size = self.step / max(1, epoch - self.epochs + 1) ** 0.5
            p = flips.project(p + size * slope / slope[steepest].abs().mean(), budget)
            if epoch >= self.epochs - 1 or epoch % 5 == 0:
                chosen = flips.largest(p, budget)
                score = objective.score(flips.done(chosen))
                if score > best.score:
                    best = Found(score, flips, chosen, "edges and words together")
            if epoch < self.epochs - 1:
                flips, p = flips.renew(p)
        return best


def _exchange(start: Found, objective: Objective, budget: int, attempts: int) -> Found:
    """Undo what is worth least for its cost, by the gradient at the discrete graph, and do what promises most instead.

    What is undone costs b / 4 at first, and half of that whenever the loss does not rise.
    """
    best, chosen, loss = start, start.chosen, start.score.loss
    flips = start.flips
    assert isinstance(flips, JointFlips)
    amount = max(1.0, budget / 4)
    for _ in range(attempts):
        _, slope = gradient(flips, objective, chosen.to(flips.x.dtype))
        if slope is None:
            break
        value = slope.nan_to_num(0.0, 0.0, 0.0) / flips.cost
        done = chosen.nonzero().flatten()
        done = done[value[done].argsort()]
        undone = done[flips.cost[done].cumsum(0) <= amount]
        rank = torch.where(chosen, math.inf, value.clamp(min=0))
        rank[undone] = 0.0
        proposal = flips.largest(rank, budget)
        score = objective.score(flips.done(proposal))
        if score.loss > loss:
            chosen, loss = proposal, score.loss
            if score > best.score:
                best = Found(score, flips, chosen, "edges and words together")
        else:
            amount = max(1.0, amount / 2)
        flips, renewed = flips.renew(chosen.to(flips.x.dtype))
        chosen = renewed > 0
    return best
