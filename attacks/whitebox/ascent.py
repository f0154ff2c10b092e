"""Projected gradient ascent over relaxed flips, rounding, and exchanges of the flips that come of it.

Xu et al., *Topology Attack and Defense for Graph Neural Networks* (IJCAI 2019), for the relaxation; Geisler et al.,
*Robustness of Graph Neural Networks at Scale* (NeurIPS 2021), for the random blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from contractive_gnn.attacks.whitebox.constraints import Constraint, GlobalBudget
from contractive_gnn.attacks.whitebox.flips import Flips
from contractive_gnn.attacks.whitebox.objective import Objective, Score, gradient

_APART: Final = 5
"""While pairs are drawn anew p is still on its way: the rounded p is scored once in so many steps."""

_PATIENCE: Final = 10
"""Fine steps after each of which the rounded p is no better than the best: more of them find nothing."""

_STILL: Final = 5
"""Exchanges of a single flip that fail one after another, each beside other pairs: no better neighbour is near."""


@dataclass(frozen=True, eq=False)
class Found:
    """A discrete perturbation and its strength."""

    score: Score
    flips: Flips
    chosen: Tensor
    by: str


def search(
    flips: Flips,
    objective: Objective,
    budget: int | Constraint,
    *,
    epochs: int,
    fine_epochs: int,
    step: float,
    samples: int,
    swaps: int,
) -> Found:
    """Projected gradient ascent, rounding and exchanges.

    Args:
        flips: what is considered at first.
        objective: what is to be raised.
        budget: b ≥ 1, or another constraint.
        epochs: steps with a constant step size, after each of which flips with p = 0 are exchanged for others; every
            fifth p and the last one are rounded and scored.
        fine_epochs: steps from the best point of those on, without exchanges, with step size ∝ 1/√t; fewer where
            several in a row are no better.
        step: how far the b entries with the steepest gradient move in one step, on average.
        samples: random roundings of the best p, besides the b largest entries.
        swaps: attempts to exchange flips of the rounded result, at most; fewer where it stands still.
    """
    constraint = budget if isinstance(budget, Constraint) else GlobalBudget(budget)
    p = flips.none()
    best, best_p, worse = Found(objective.score(flips.done(p > 0)), flips, p > 0, "nothing"), p, 0
    for epoch in range(epochs + fine_epochs):
        slope = _ascent_direction(flips, objective, p, constraint)
        if slope is None:
            break
        size = step / math.sqrt(max(1, epoch - epochs + 1))
        p = constraint.project(p + size * slope, flips)
        if epoch >= epochs - 1 or epoch % _APART == 0:
            chosen = constraint.largest(p, flips)
            score = objective.score(flips.done(chosen))
            worse = 0 if score > best.score or epoch < epochs else worse + 1
            if score > best.score:
                best, best_p = Found(score, flips, chosen, "largest entries of p"), p
            if worse == _PATIENCE:
                break
        if epoch < epochs - 1:
            flips, p = flips.renew(p)
        elif epoch == epochs - 1:
            flips, p = best.flips, best_p
    for _ in range(samples):
        chosen = torch.bernoulli(best_p).bool()
        if constraint.holds(chosen, best.flips):
            score = objective.score(best.flips.done(chosen))
            if score > best.score:
                best = Found(score, best.flips, chosen, "a random rounding of p")
    return _exchange(best, objective, constraint, swaps)


def _ascent_direction(flips: Flips, objective: Objective, p: Tensor, constraint: Constraint) -> Tensor | None:
    """The gradient without what points out of the box, scaled so that its b largest entries are 1 on average."""
    _, slope = gradient(flips, objective, p)
    if slope is None:
        return None
    slope = slope.nan_to_num(0.0, 0.0, 0.0)
    slope = slope.masked_fill((p <= 0) & (slope < 0) | (p >= 1) & (slope > 0), 0.0)
    if (possible := constraint.open(flips)) is not None:
        slope = slope.masked_fill(~possible, 0.0)
    scale = float(slope.abs().topk(min(constraint.budget, flips.size)).values.mean())
    return slope / scale if scale > 0 else None


def _exchange(start: Found, objective: Objective, constraint: Constraint, attempts: int) -> Found:
    """Undo the k flips that the gradient at the discrete graph values least, do the k most promising instead.

    k starts at b / 4 and halves whenever the loss does not rise. The climb goes by the loss; the result by the score.
    It ends where a single exchange has failed several times in a row.
    """
    best = start
    flips, chosen, loss = start.flips, start.chosen, start.score.loss
    k, failed = max(1, constraint.budget // 4), 0
    for _ in range(attempts):
        p = chosen.to(flips.x.dtype)
        _, slope = gradient(flips, objective, p)
        if slope is None:
            break
        slope = slope.nan_to_num(0.0, 0.0, 0.0)
        done = int(chosen.sum())
        undone = slope.masked_fill(~chosen, math.inf).topk(min(k, done), largest=False).indices
        kept = chosen.clone()
        kept[undone] = False
        proposal = constraint.complete(kept, slope.masked_fill(chosen, -math.inf), flips)
        score = objective.score(flips.done(proposal))
        if score.loss > loss:
            chosen, loss, failed = proposal, score.loss, 0
            if score > best.score:
                best = Found(score, flips, chosen, "exchanges")
        else:
            failed += k == 1
            k = max(1, k // 2)
        if failed == _STILL:
            break
        flips, renewed = flips.renew(chosen.to(p.dtype))
        chosen = renewed > 0
    return best
