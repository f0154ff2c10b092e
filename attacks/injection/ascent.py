"""Gradient ascent over the features and the edges of new nodes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from contractive_gnn.attacks.injection.attack import Injection
from contractive_gnn.attacks.injection.endpoints import Endpoints
from contractive_gnn.attacks.injection.features import FeatureRange
from contractive_gnn.attacks.injection.goal import Goal
from contractive_gnn.attacks.injection.rows import steepest

_APART: Final = 5
"""What a step leads to is rounded and scored once in so many steps, and after the last one."""


class Best:
    """The best injection that was scored."""

    def __init__(self, goal: Goal, start: Injection) -> None:
        self._goal = goal
        self.injection, self.score = start, goal.score(start)

    def look(self, injection: Injection) -> None:
        """Score another one."""
        score = self._goal.score(injection)
        if score > self.score:
            self.injection, self.score = injection, score


def ascend_edges(
    goal: Goal,
    x: Tensor,
    settled: Tensor,
    candidates: Endpoints,
    *,
    first: int,
    budget: int,
    epochs: int,
    step: float,
) -> Tensor:
    """Choose the edges of new nodes by the gradient, their features as they are.

    Args:
        goal: what to raise.
        x: features of all new nodes, ``[k, d]``.
        settled: edges (new node, old node) that stay, ``[2, m]``.
        candidates: of the new nodes ``first``, ``first`` + 1, …
        first: the first new node without edges.
        budget: how many edges each of these may have.
        epochs: steps; those with p = 0 are drawn anew after each of the first four fifths.
        step: how far the steepest entries of a row move in the first step; later ones ∝ 1/√t.

    Returns:
        their edges, ``[2, m']``.
    """
    for epoch in range(epochs):
        p = candidates.p.detach().requires_grad_(True)
        edges = _shifted(candidates.edges, first)
        weight = torch.cat([p.new_ones(settled.shape[1]), p.flatten()])
        slope = _slope(goal.relaxed(x, torch.cat([settled, edges], dim=1), weight), p)
        if slope is None:
            break
        candidates = candidates.moved(slope, step / math.sqrt(1 + epoch), budget)
        if epoch < epochs * 4 // 5:
            candidates = candidates.renewed()
    return _shifted(candidates.largest(budget), first)


def ascend_both(
    goal: Goal,
    x: Tensor,
    candidates: Endpoints,
    allowed: FeatureRange,
    *,
    budget: int,
    epochs: int,
    step: float,
    feature_step: float,
) -> Injection:
    """Move the edges and the features of new nodes at the same time, and keep the best that rounding gives.

    Args:
        goal: what to raise.
        x: features to begin with, ``[k, d]``.
        candidates: edges to begin with.
        allowed: which features a new node may have.
        budget: how many edges each new node may have.
        epochs: steps; edges with p = 0 are drawn anew after each of the first four fifths.
        step: how far the steepest edges of a node move in one step; ∝ 1/√t in the last fifth.
        feature_step: the same of the features, as a share of their range.
    """
    best = Best(goal, Injection(allowed.rounded(x), candidates.largest(budget)))
    settle = epochs * 4 // 5
    for epoch in range(epochs):
        x = x.detach().requires_grad_(True)
        p = candidates.p.detach().requires_grad_(True)
        value = goal.relaxed(x, candidates.edges, p.flatten())
        if not value.requires_grad:
            break
        by_x, by_p = torch.autograd.grad(value, (x, p), allow_unused=True)
        size = 1 / math.sqrt(max(1, epoch - settle + 1))
        if by_p is not None:
            candidates = candidates.moved(by_p, step * size, budget)
        if by_x is not None:
            x = moved(x.detach(), by_x, allowed, feature_step * size)
        if epoch % _APART == 0 or epoch == epochs - 1:
            best.look(Injection(allowed.rounded(x), candidates.largest(budget)))
        if epoch < settle:
            candidates = candidates.renewed()
    return best.injection


def ascend_features(
    goal: Goal, start: Injection, allowed: FeatureRange, *, epochs: int, feature_step: float
) -> Injection:
    """Projected gradient ascent over the features of new nodes, their edges as they are.

    Args:
        goal: what to raise.
        start: new nodes.
        allowed: which features they may have.
        epochs: steps, of decreasing size.
        feature_step: how far an entry moves in the first step, as a share of its range.
    """

    def step(x: Tensor, epoch: int) -> Tensor | None:
        x = x.detach().requires_grad_(True)
        slope = _slope(goal.discrete(x, start.edges), x)
        size = feature_step * (1 - epoch / epochs)
        return None if slope is None else moved(x.detach(), slope, allowed, size)

    return _climbed(goal, start, allowed, step, epochs)


def smooth_features(goal: Goal, start: Injection, allowed: FeatureRange, *, epochs: int, lr: float) -> Injection:
    r"""The smooth optimisation of features of TDGIA: Adam over z, where x never leaves its range.

    .. math:: x = \tfrac12 (l + h) + \tfrac12 (h - l) \sin z

    with the least and largest entries l and h of the columns. The gradient does not end at the border, as that of a
    clipped x does (Zou et al., *TDGIA*, KDD 2021).

    Args:
        goal: what to raise.
        start: new nodes.
        allowed: which features they may have.
        epochs: steps.
        lr: learning rate of z.
    """
    middle, half = (allowed.low + allowed.high) / 2, (allowed.high - allowed.low) / 2
    # a little inside: at the border itself the slope by z is 0
    share = ((start.x - middle) / half.clamp(min=1e-12)).clamp(-0.9, 0.9)
    z = share.arcsin().requires_grad_(True)
    adam = torch.optim.Adam([z], lr=lr, maximize=True)

    def step(_: Tensor, epoch: int) -> Tensor | None:
        slope = _slope(goal.discrete(middle + half * z.sin(), start.edges), z)
        if slope is None:
            return None
        z.grad = slope.nan_to_num(0.0, 0.0, 0.0)
        adam.step()
        return (middle + half * z.sin()).detach()

    return _climbed(goal, start, allowed, step, epochs)


def moved(x: Tensor, slope: Tensor, allowed: FeatureRange, size: float) -> Tensor:
    """The features after one step: by the sign of the slope, or its steepest words, within what is allowed."""
    if allowed.words is None:
        return allowed.inside(x + size * (allowed.high - allowed.low) * slope.nan_to_num(0.0, 0.0, 0.0).sign())
    return allowed.inside(x + size * steepest(slope, x, allowed.words))


def _climbed(
    goal: Goal,
    start: Injection,
    allowed: FeatureRange,
    step: Callable[[Tensor, int], Tensor | None],
    epochs: int,
) -> Injection:
    """The best rounded features on the way."""
    best, x = Best(goal, start), start.x
    for epoch in range(epochs):
        after = step(x, epoch)
        if after is None:
            break
        x = after
        if epoch % _APART == 0 or epoch == epochs - 1:
            best.look(Injection(allowed.rounded(x), start.edges))
    return best.injection


def _slope(value: Tensor, of: Tensor) -> Tensor | None:
    """The gradient, None where the value does not depend on it."""
    if not value.requires_grad:
        return None
    return torch.autograd.grad(value, of, allow_unused=True)[0]


def _shifted(edges: Tensor, first: int) -> Tensor:
    return torch.stack([first + edges[0], edges[1]])
