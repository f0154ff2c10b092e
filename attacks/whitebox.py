"""White-box evasion: projected gradient ascent through the victim itself, over edges or over binary features.

Every flip that is considered has a relaxed variable p ∈ [0, 1]; the victim sees an edge with weight 1 − p and a
non-edge with weight p (a feature entry x as x + (1 − 2x) p). With the budget b the attack solves

    max_p  L(victim(p))   subject to  0 ≤ p ≤ 1, Σ p ≤ b

by projected gradient ascent, rounds p, and then improves the rounded flips themselves by exchanging the least useful
ones for the most promising ones. Whatever counts is measured on the discrete graph, by the number of nodes
misclassified there.

Xu et al., *Topology Attack and Defense for Graph Neural Networks* (IJCAI 2019), for the relaxation; Geisler et al.,
*Robustness of Graph Neural Networks at Scale* (NeurIPS 2021), for the random blocks and the tanh margin; Croce & Hein,
*Reliable evaluation of adversarial robustness* (ICML 2020), for a loss that does not depend on the scale of the logits.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.data import Data

from contractive_gnn.attacks.base import (
    Attack,
    AttackError,
    Kind,
    Knowledge,
    Perturbation,
    Scope,
    check_choice,
    check_count,
    register,
    undirected_edges,
)
from contractive_gnn.checks import check_real
from contractive_gnn.nn.relaxed import relaxed

Loss = Callable[[Tensor, Tensor], Tensor]

# tanh(m/2) of a margin m in logits is the difference of the two probabilities of a two-class softmax
_TYPICAL_MARGIN: Final = 5.0
_RANDOM_DRAWS: Final = 8
_FEW: Final = 4096
# a rectified unit that is off can give a handful of flips a zero gradient without any masking
_MANY: Final = 0.05


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The largest other logit minus that of the label, ``[k]``: positive where the prediction is wrong.

    Args:
        logits: ``[k, classes]`` with at least two classes.
        labels: int64 ``[k]``.
    """
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -math.inf)
    return others.amax(dim=1) - own


def tanh_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of tanh(margin / 2): counts errors smoothly, and nodes far on either side hardly matter."""
    return torch.tanh(margin(logits, labels) / 2).mean()


def prob_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean margin of the softmax probabilities."""
    return margin(logits.softmax(dim=1), labels).mean()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy; spends its budget on nodes that are wrong already."""
    return functional.cross_entropy(logits, labels)


def carlini_wagner(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of min(margin, 0): nodes that are wrong already count no more."""
    return margin(logits, labels).clamp(max=0).mean()


LOSSES: Final[dict[str, Loss]] = {
    "tanh-margin": tanh_margin,
    "prob-margin": prob_margin,
    "cross-entropy": cross_entropy,
    "cw": carlini_wagner,
}


def project_onto_budget(values: Tensor, budget: float) -> Tensor:
    """The point of {p : 0 ≤ p ≤ 1, Σ p ≤ budget} nearest to ``values`` in ‖·‖₂.

    It is clip(values − μ, 0, 1) with the least μ ≥ 0 for which the sum is within the budget. The sum is piecewise
    linear in μ, with breakpoints at values and values − 1: μ is computed exactly, between the two that enclose it.

    Args:
        values: float ``[k]``, finite.
        budget: at least 0.

    Raises:
        ValueError: a negative budget.
    """
    if budget < 0:
        raise ValueError(f"budget must be at least 0, given {budget}")
    clipped = values.clamp(0, 1)
    if float(clipped.sum(dtype=torch.float64)) <= budget:
        return clipped
    # entries at or below a lower bound of μ end at 0: drop them while halving the interval, and sort what is left
    positive = values[values > 0].double()
    low, high = 0.0, float(positive.max())
    while positive.numel() > _FEW and high - low > 1e-12 * high:
        middle = (low + high) / 2
        if float((positive - middle).clamp(0, 1).sum()) >= budget:
            low, positive = middle, positive[positive > middle]
        else:
            high = middle
    breakpoints, order = torch.cat([positive - 1, positive]).sort()
    # between breakpoints the sum falls at the rate of the entries strictly between 0 and 1
    slopes = torch.cat([positive.new_full(positive.shape, -1.0), positive.new_ones(positive.shape)])[order].cumsum(0)
    falls = torch.zeros_like(breakpoints)
    falls[1:] = (slopes[:-1] * breakpoints.diff()).cumsum(0)
    sums = positive.numel() + falls
    # the last breakpoint whose sum is still at least the budget; the largest one has the sum 0
    at = int((sums >= budget).sum()) - 1
    slope = float(slopes[at])
    shift = float(breakpoints[at]) + ((float(sums[at]) - budget) / -slope if slope < 0 else 0.0)
    return (values.double() - shift).clamp(0, 1).to(values.dtype)


class Score(NamedTuple):
    """How strong a discrete perturbation is; compares by errors, then by loss."""

    errors: int
    loss: float


@dataclass(frozen=True, eq=False)
class Objective:
    """What is to be raised: a loss over some nodes, of the logits divided by a temperature.

    The temperature makes the median clean margin 5: a victim that multiplies its logits by a constant predicts the same
    and would otherwise saturate the loss (one form of gradient masking).
    """

    nodes: Tensor
    labels: Tensor
    loss: Loss
    temperature: float

    @classmethod
    def of(cls, data: Data, clean: Tensor, targets: Tensor | None, loss: str) -> Objective:
        """The objective on ``targets``, or on the test nodes where there are none.

        Args:
            data: the graph.
            clean: the victim's logits on it, ``[n, classes]``.
            targets: int64 ``[t]`` or None.
            loss: a key of :data:`LOSSES`.

        Raises:
            AttackError: the logits do not fit the graph, are not finite, or have fewer than two classes.
            ValueError: neither targets nor test nodes.
        """
        nodes = data.test_mask.nonzero().flatten() if targets is None else targets.to(data.y.device)
        if nodes.numel() == 0:
            raise ValueError("data.test_mask selects no node: give targets, or a graph with test nodes")
        if clean.dim() != 2 or clean.shape[0] != data.num_nodes or clean.shape[1] < 2:
            raise AttackError(
                f"the victim returned logits of shape {list(clean.shape)} where [{data.num_nodes}, classes ≥ 2] "
                "was expected"
            )
        if not bool(torch.isfinite(clean[nodes]).all()):
            raise AttackError(
                "the victim's logits on the clean graph are not finite: it cannot be attacked by gradients"
            )
        labels = data.y[nodes]
        typical = float(margin(clean[nodes], labels).abs().median())
        return cls(nodes, labels, LOSSES[loss], typical / _TYPICAL_MARGIN if typical > 0 else 1.0)

    def value(self, logits: Tensor) -> Tensor:
        """The loss of these logits ``[n, classes]``."""
        return self.loss(logits[self.nodes] / self.temperature, self.labels)

    def score(self, logits: Tensor) -> Score:
        """How strong the perturbation is that gave these logits."""
        errors = int((logits[self.nodes].argmax(dim=1) != self.labels).sum())
        return Score(errors, float(self.value(logits)))


class Flips(ABC):
    """A set of flips that are considered at the same time, in a fixed order.

    Attributes:
        size: how many there are.
        x: the clean features ``[n, d]``, whose dtype and device p has.
    """

    size: int
    x: Tensor

    @abstractmethod
    def relaxed(self, p: Tensor) -> Tensor:
        """The victim's logits where each flip is done to the degree p, differentiable in p ``[size]``."""

    @abstractmethod
    def done(self, chosen: Tensor) -> Tensor:
        """The victim's logits on the discrete graph in which the chosen flips (bool ``[size]``) are done."""

    @abstractmethod
    def perturbation(self, chosen: Tensor) -> Perturbation:
        """The chosen flips, for the base class."""

    @abstractmethod
    def draw(self, k: int) -> Tensor:
        """A random choice of at most k flips, half of them removals where there are as many; bool ``[size]``."""

    def renew(self, p: Tensor) -> tuple[Flips, Tensor]:
        """Exchange flips with p = 0 for others, where these are not all that there are."""
        return self, p

    def none(self) -> Tensor:
        """The p ``[size]`` that flips nothing."""
        return self.x.new_zeros(self.size)


class EdgeFlips(Flips):
    """All edges, and a block of the pairs that are none.

    Args:
        victim: ``forward(x, edge_index, edge_weight=None)``.
        x: ``[n, d]``.
        edges: int64 ``[2, m]``, every undirected edge once, u < v.
        candidates: how many other pairs to draw; None for all of them.
        block: int64 ``[2, k]``, u < v: the other pairs themselves, instead (edges among them are left out).
    """

    def __init__(
        self,
        victim: nn.Module,
        x: Tensor,
        edges: Tensor,
        *,
        candidates: int | None = None,
        block: Tensor | None = None,
    ) -> None:
        self.victim, self.x, self.edges = victim, x, edges
        self.guide = relaxed(victim)
        self._edge_codes = self._codes(edges)
        n = x.shape[0]
        available = n * (n - 1) // 2 - edges.shape[1]
        if block is not None:
            codes = self._codes(block)
            self._block = codes[~torch.isin(codes, self._edge_codes)]
        elif candidates is None or candidates >= available:
            self._block = self._every_pair()
        else:
            self._block = self._fresh(candidates)
        self._complete = self._block.numel() == available
        codes = torch.cat([self._edge_codes, self._block])
        self.pairs = torch.stack([codes // n, codes % n])
        self.size = codes.numel()
        self.present = torch.zeros(self.size, dtype=torch.bool, device=x.device)
        self.present[: edges.shape[1]] = True
        # both directions, sorted as the edge_index of a graph is
        both = torch.cat([self.pairs, self.pairs.flip(0)], dim=1)
        self._order = (both[0] * n + both[1]).argsort()
        self._both = both[:, self._order]

    def relaxed(self, p: Tensor) -> Tensor:
        """Logits with edge weight 1 − p at edges and p elsewhere."""
        weight = torch.where(self.present, 1 - p, p)
        return self.guide(self.x, self._both, torch.cat([weight, weight])[self._order])  # type: ignore[no-any-return]

    def done(self, chosen: Tensor) -> Tensor:
        """Logits on the discrete graph, without edge weights."""
        kept = self.present ^ chosen
        with torch.no_grad():
            return self.victim(self.x, self._both[:, torch.cat([kept, kept])[self._order]])  # type: ignore[no-any-return]

    def perturbation(self, chosen: Tensor) -> Perturbation:
        """The chosen pairs."""
        return Perturbation(edge_flips=self.pairs[:, chosen].cpu())

    def draw(self, k: int) -> Tensor:
        """Random edges to remove and random pairs to connect."""
        edges = self.edges.shape[1]
        removed = min(k // 2, edges)
        added = min(k - removed, self.size - edges)
        drawn = torch.cat([torch.randperm(edges)[:removed], edges + torch.randperm(self.size - edges)[:added]])
        chosen = torch.zeros(self.size, dtype=torch.bool)
        chosen[drawn] = True
        return chosen.to(self.x.device)

    def renew(self, p: Tensor) -> tuple[EdgeFlips, Tensor]:
        """Keep the pairs with the largest p > 0, at most half of the block, and draw the rest anew."""
        if self._complete:
            return self, p
        edges = self.edges.shape[1]
        values = p[edges:]
        kept = values.topk(min(int((values > 0).sum()), self._block.numel() // 2)).indices
        codes = torch.cat([self._block[kept], self._fresh(self._block.numel() - kept.numel(), self._block[kept])])
        n = self.x.shape[0]
        renewed = EdgeFlips(self.victim, self.x, self.edges, block=torch.stack([codes // n, codes % n]))
        return renewed, torch.cat([p[:edges], values[kept], p.new_zeros(codes.numel() - kept.numel())])

    def among(self, pairs: Tensor) -> Tensor:
        """Which of the considered pairs are in ``pairs`` (int64 ``[2, k]``, u < v); bool ``[size]``."""
        return torch.isin(self._codes(self.pairs), self._codes(pairs))

    def _codes(self, pairs: Tensor) -> Tensor:
        return pairs[0] * self.x.shape[0] + pairs[1]

    def _every_pair(self) -> Tensor:
        n = self.x.shape[0]
        u, v = torch.triu_indices(n, n, 1, device=self.x.device)
        codes: Tensor = u * n + v
        return codes[~torch.isin(codes, self._edge_codes)]

    def _fresh(self, k: int, kept: Tensor | None = None) -> Tensor:
        """Distinct codes, k of them, of pairs without an edge, none of them in ``kept``, in random order."""
        n = self.x.shape[0]
        known = self._edge_codes if kept is None else torch.cat([self._edge_codes, kept])
        found = known.new_empty(0)
        while found.numel() < k:
            u, v = torch.randint(n, (2, 2 * k), device=self.x.device)
            codes = (torch.minimum(u, v) * n + torch.maximum(u, v))[u != v]
            found = torch.unique(torch.cat([found, codes[~torch.isin(codes, known)]]))
        return found[torch.randperm(found.numel(), device=found.device)[:k]]


class FeatureFlips(Flips):
    """Every entry of a binary feature matrix, row by row.

    Args:
        victim: ``forward(x, edge_index, edge_weight=None)``.
        x: ``[n, d]``, entries 0 and 1.
        edge_index: int64 ``[2, 2m]``.
    """

    def __init__(self, victim: nn.Module, x: Tensor, edge_index: Tensor) -> None:
        self.victim, self.x, self.edge_index = victim, x, edge_index
        self.size = x.numel()
        self._direction = 1 - 2 * x

    def relaxed(self, p: Tensor) -> Tensor:
        """Logits with features x + (1 − 2x) p."""
        return self.victim(self.x + self._direction * p.view_as(self.x), self.edge_index)  # type: ignore[no-any-return]

    def done(self, chosen: Tensor) -> Tensor:
        """Logits with the chosen entries flipped."""
        with torch.no_grad():
            return self.relaxed(chosen.to(self.x.dtype))

    def perturbation(self, chosen: Tensor) -> Perturbation:
        """The chosen entries."""
        return Perturbation(feature_flips=chosen.view(self.x.shape).nonzero().t().contiguous().cpu())

    def draw(self, k: int) -> Tensor:
        """Random ones to clear and random zeros to set."""
        ones = self.x.flatten().nonzero().flatten()
        zeros = (self.x.flatten() == 0).nonzero().flatten()
        cleared = min(k // 2, ones.numel())
        chosen = torch.zeros(self.size, dtype=torch.bool, device=self.x.device)
        chosen[ones[torch.randperm(ones.numel())[:cleared]]] = True
        chosen[zeros[torch.randperm(zeros.numel())[: k - cleared]]] = True
        return chosen


@dataclass(frozen=True, eq=False)
class Found:
    """A discrete perturbation and its strength."""

    score: Score
    flips: Flips
    chosen: Tensor
    by: str


def gradient(flips: Flips, objective: Objective, p: Tensor) -> tuple[float, Tensor | None]:
    """The loss at p and its gradient, None where the victim's output does not depend on p at all."""
    with torch.enable_grad():
        p = p.detach().requires_grad_(True)
        loss = objective.value(flips.relaxed(p))
        if not loss.requires_grad:
            return float(loss), None
        (slope,) = torch.autograd.grad(loss, p, allow_unused=True)
    return float(loss.detach()), slope


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Whether the victim's gradient can be trusted to find its weak spots.

    Args:
        gradient: "ok"; "zero" where it vanishes everywhere (or there is none); "non-finite" where an entry is NaN or ∞.
        zero_fraction: share of the considered flips whose gradient at the clean graph is exactly 0.
        reacts: whether any random discrete flips changed the logits at all. Where none did, as for an MLP under edge
            flips, a zero gradient is the truth.
        unreliable: reasons not to believe that this attack is the strongest; empty where there is none.
    """

    gradient: str
    zero_fraction: float
    reacts: bool
    unreliable: tuple[str, ...]


def diagnose(flips: Flips, objective: Objective, clean: Tensor, budget: int) -> Diagnosis:
    """Look for gradient masking at the clean graph, before a search counts.

    The gradient is that of a weighted mean of the margins, which does not saturate whatever the victim's confidence.
    The weights differ, so that what one end of an edge gains and the other loses is no gradient of 0. Besides NaN and a
    gradient that vanishes everywhere: where it is exactly 0 for a twentieth of the flips or more, as many of these as
    the budget allows are done at once, and if the logits of the objective's nodes change, the gradient hides something.

    Args:
        flips: what is considered.
        objective: its nodes count.
        clean: the victim's logits on the clean graph.
        budget: how many flips to try at once.
    """
    weights = torch.linspace(0.7, 1.3, objective.nodes.numel(), device=clean.device).square()
    unsaturated = replace(objective, loss=lambda logits, labels: (weights * margin(logits, labels)).mean())
    _, slope = gradient(flips, unsaturated, flips.none())
    draws = [flips.done(flips.draw(budget)) for _ in range(2)]
    reacts = any(_differ(objective, clean, logits) for logits in draws)
    if slope is None:
        return Diagnosis(gradient="zero", zero_fraction=1.0, reacts=reacts, unreliable=_no_gradient(reacts))
    finite = torch.isfinite(slope)
    zero = slope == 0
    share = float(zero.double().mean())
    if not bool(finite.all()):
        reason = f"{int((~finite).sum())} of {flips.size} entries of the gradient are not finite"
        return Diagnosis(gradient="non-finite", zero_fraction=share, reacts=reacts, unreliable=(reason,))
    if bool(zero.all()):
        return Diagnosis(gradient="zero", zero_fraction=1.0, reacts=reacts, unreliable=_no_gradient(reacts))
    chosen = torch.zeros_like(zero)
    hidden = zero.nonzero().flatten()
    chosen[hidden[torch.randperm(hidden.numel(), device=hidden.device)[:budget]]] = True
    masked = share >= _MANY and _differ(objective, clean, flips.done(chosen))
    reason = f"flips whose gradient is exactly 0 ({share:.1%} of those considered) change the logits: masked gradient"
    return Diagnosis(gradient="ok", zero_fraction=share, reacts=reacts, unreliable=(reason,) if masked else ())


def _no_gradient(reacts: bool) -> tuple[str, ...]:
    return ("the gradient is zero everywhere, yet flips change the logits: masked gradient",) if reacts else ()


def _differ(objective: Objective, clean: Tensor, logits: Tensor) -> bool:
    # sums over edges in another order differ in the last bits
    difference = (logits - clean)[objective.nodes].abs().max() / objective.temperature
    return not float(difference) <= 1e-4


def search(
    flips: Flips,
    objective: Objective,
    budget: int,
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
        budget: b ≥ 1.
        epochs: steps with a constant step size, after each of which flips with p = 0 are exchanged for others.
        fine_epochs: steps from the best point of those on, without exchanges, with step size ∝ 1/√t.
        step: how far the b entries with the steepest gradient move in one step, on average.
        samples: random roundings of the best p, besides the b largest entries.
        swaps: attempts to exchange flips of the rounded result.
    """
    p = flips.none()
    best, best_p = Found(objective.score(flips.done(p > 0)), flips, p > 0, "nothing"), p
    for epoch in range(epochs + fine_epochs):
        slope = _ascent_direction(flips, objective, p, budget)
        if slope is None:
            break
        size = step / math.sqrt(max(1, epoch - epochs + 1))
        p = project_onto_budget(p + size * slope, budget)
        chosen = _largest(p, budget)
        score = objective.score(flips.done(chosen))
        if score > best.score:
            best, best_p = Found(score, flips, chosen, "largest entries of p"), p
        if epoch < epochs - 1:
            flips, p = flips.renew(p)
        elif epoch == epochs - 1:
            flips, p = best.flips, best_p
    for _ in range(samples):
        chosen = torch.bernoulli(best_p).bool()
        if int(chosen.sum()) <= budget:
            score = objective.score(best.flips.done(chosen))
            if score > best.score:
                best = Found(score, best.flips, chosen, "a random rounding of p")
    return _exchange(best, objective, budget, swaps)


def _ascent_direction(flips: Flips, objective: Objective, p: Tensor, budget: int) -> Tensor | None:
    """The gradient without what points out of the box, scaled so that its b largest entries are 1 on average."""
    _, slope = gradient(flips, objective, p)
    if slope is None:
        return None
    slope = slope.nan_to_num(0.0, 0.0, 0.0)
    slope = slope.masked_fill((p <= 0) & (slope < 0) | (p >= 1) & (slope > 0), 0.0)
    scale = float(slope.abs().topk(min(budget, flips.size)).values.mean())
    return slope / scale if scale > 0 else None


def _largest(p: Tensor, budget: int) -> Tensor:
    chosen = torch.zeros_like(p, dtype=torch.bool)
    chosen[p.topk(min(budget, p.numel())).indices] = True
    return chosen & (p > 0)


def _exchange(start: Found, objective: Objective, budget: int, attempts: int) -> Found:
    """Undo the k flips that the gradient at the discrete graph values least, do the k most promising instead.

    k starts at b / 4 and halves whenever the loss does not rise. The climb goes by the loss; the result by the score.
    """
    best = start
    flips, chosen, loss = start.flips, start.chosen, start.score.loss
    k = max(1, budget // 4)
    for _ in range(attempts):
        p = chosen.to(flips.x.dtype)
        _, slope = gradient(flips, objective, p)
        if slope is None:
            break
        slope = slope.nan_to_num(0.0, 0.0, 0.0)
        done = int(chosen.sum())
        undone = slope.masked_fill(~chosen, math.inf).topk(min(k, done), largest=False).indices
        room = min(budget - done + undone.numel(), flips.size - done)
        promising = slope.masked_fill(chosen, -math.inf).topk(room).indices
        proposal = chosen.clone()
        proposal[undone] = False
        proposal[promising[slope[promising] > 0]] = True
        score = objective.score(flips.done(proposal))
        if score.loss > loss:
            chosen, loss = proposal, score.loss
            if score > best.score:
                best = Found(score, flips, chosen, "exchanges")
        else:
            k = max(1, k // 2)
        flips, renewed = flips.renew(chosen.to(p.dtype))
        chosen = renewed > 0
    return best


def check_victim(name: str, victim: nn.Module, data: Data, *, kind: Kind) -> dict[str, Any]:
    """Call the victim as an attack will, and look for what it does not read.

    Args:
        name: of the attack.
        victim: in evaluation mode.
        data: the graph.
        kind: what the attack changes.

    Returns:
        ``repeats``: whether the scores are the same when asked for again; and for an attack on the structure
        ``reads_edges`` and ``reads_edge_weight``: whether they change without the first half of the edges, and with
        other weights. (Always on a graph with fewer than two edges.)

    Raises:
        AttackError: a victim that cannot be called so, or returns no tensor.
    """

    def answer(*given: Tensor, seed: int = 0) -> Tensor:
        torch.manual_seed(seed)  # noise of the victim's own is no answer to a change
        try:
            logits = victim(data.x, *given)
        except Exception as error:
            reason = str(error).split("\n", 1)[0]
            raise AttackError(
                f"attack {name!r}: the victim {type(victim).__name__} failed with {type(error).__name__}: {reason}; it "
                f"was called as {_SIGNATURE}"
            ) from error
        if not isinstance(logits, Tensor):
            raise AttackError(
                f"attack {name!r}: the victim {type(victim).__name__} returned a {type(logits).__name__}; expected "
                f"{_SIGNATURE}"
            )
        if logits.dim() == 2 and 1 < logits.shape[1] <= int(data.y.max()):
            raise AttackError(
                f"attack {name!r}: y holds class {int(data.y.max())}, and the victim {type(victim).__name__} scores "
                f"{logits.shape[1]} classes"
            )
        return logits

    with torch.no_grad(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        edge_index = data.edge_index
        clean = answer(edge_index)
        # sums over edges in another order, as on a GPU, differ in the last bits
        repeats = bool((clean - answer(edge_index, seed=1)).abs().max() <= 1e-4 * clean.abs().max())
        if kind == "features":
            return {"repeats": repeats}
        u, v = edge_index
        weighted = answer(edge_index, (0.5 + 0.4 * torch.cos((u + v).to(data.x.dtype))))
        edges = undirected_edges(edge_index)
        if edges.shape[1] < 2:
            return {"repeats": repeats, "reads_edges": True, "reads_edge_weight": True}
        kept = edges[:, edges.shape[1] // 2 :]
        fewer = answer(torch.cat([kept, kept.flip(0)], dim=1))
        reads = {
            "repeats": repeats,
            "reads_edges": not torch.equal(clean, fewer),
            "reads_edge_weight": not torch.equal(clean, weighted),
        }
    if not reads["reads_edges"]:
        warnings.warn(
            f"attack {name!r}: the scores of the victim {type(victim).__name__} are the same on another graph. It "
            "reads no edges, as a perceptron, or keeps those that it saw: then its accuracy under attack means nothing",
            stacklevel=2,
        )
    return reads


_SIGNATURE: Final = (
    "forward(x [n, d], edge_index [2, 2m], edge_weight [2m] or None) -> scores [n, classes]: wrap a model of another "
    "form in a module with this forward"
)


class AdaptiveAttack(Attack):
    """An attack through the victim, whose provenance says, under params, what :func:`weigh` says of it."""

    scope: ClassVar[Scope] = "global"
    knowledge: ClassVar[Knowledge] = "adaptive"

    def _tell(self, read: dict[str, Any], notes: dict[str, Any]) -> None:
        """Keep what :func:`check_victim` and :func:`weigh` say for the provenance."""
        self._notes.update(notes, **read)
        if not read["repeats"]:
            random = "the victim answers at random in evaluation mode: every count of errors is one draw"
            self._notes["unreliable"] = [*notes["unreliable"], random]


class _WhiteboxAttack(AdaptiveAttack):
    """What both attacks share: the checks, the search, and random flips to compare it with."""

    def __init__(
        self,
        *,
        loss: str,
        epochs: int,
        fine_epochs: int,
        step: float,
        samples: int,
        swaps: int,
        seed: int,
    ) -> None:
        super().__init__(seed=seed)
        self.loss = check_choice("loss", loss, tuple(LOSSES))
        self.epochs = check_count("epochs", epochs)
        self.fine_epochs = check_count("fine_epochs", fine_epochs, least=0)
        check_real("step", step, above=0)
        self.step = float(step)
        self.samples = check_count("samples", samples, least=0)
        self.swaps = check_count("swaps", swaps, least=0)

    @abstractmethod
    def _flips(self, data: Data, victim: nn.Module, n_flips: int) -> Flips:
        """What to consider."""

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        assert victim is not None  # the base class has checked it
        read = check_victim(self.name, victim, data, kind=self.kind)
        flips = self._flips(data, victim, n_flips)
        budget = min(n_flips, flips.size)
        clean = flips.done(flips.none() > 0)
        objective = Objective.of(data, clean, targets, self.loss)
        diagnosis = diagnose(flips, objective, clean, budget)
        found = search(
            flips,
            objective,
            budget,
            epochs=self.epochs,
            fine_epochs=self.fine_epochs,
            step=self.step,
            samples=self.samples,
            swaps=self.swaps,
        )
        found, notes = weigh(found, flips, objective, budget, diagnosis, clean)
        self._tell(read, notes)
        return found.flips.perturbation(found.chosen)


def weigh(
    found: Found, flips: Flips, objective: Objective, budget: int, diagnosis: Diagnosis, clean: Tensor
) -> tuple[Found, dict[str, Any]]:
    """Compare with random flips, and say for the provenance how far the attack can be trusted.

    Returns:
        the strongest of ``found`` and eight random choices, and notes: gradient, zero_gradient_fraction, unreliable
        (reasons), found_by, errors (clean, random, found) and nodes, how many could be wrong.

    The attacks add what :func:`check_victim` says: repeats, reads_edges and reads_edge_weight.
    """
    draws = [flips.draw(budget) for _ in range(_RANDOM_DRAWS)]
    guesses = [Found(objective.score(flips.done(chosen)), flips, chosen, "random flips") for chosen in draws]
    guess = max(guesses, key=lambda one: one.score)
    reasons = list(diagnosis.unreliable)
    if diagnosis.reacts and guess.score > found.score:
        reasons.append(
            f"random flips cause {guess.score.errors} errors (loss {guess.score.loss:.4g}), the search "
            f"{found.score.errors} (loss {found.score.loss:.4g})"
        )
    strongest = max(found, guess, key=lambda one: one.score)
    return strongest, {
        "gradient": diagnosis.gradient,
        "zero_gradient_fraction": diagnosis.zero_fraction,
        "unreliable": reasons,
        "found_by": strongest.by,
        "errors": {
            "clean": objective.score(clean).errors,
            "random": guess.score.errors,
            "found": strongest.score.errors,
        },
        "nodes": objective.nodes.numel(),
    }


@register
class WhiteboxPGD(_WhiteboxAttack):
    """Flips edges so that the frozen victim misclassifies as many of the nodes as possible.

    All existing edges are considered at every step, and a random block of the other pairs, whose members with p = 0 are
    drawn anew after each of the first ``epochs`` steps. The nodes are the test nodes, or ``targets`` where given; their
    true labels are known to the attacker, as usual for evasion (Geisler et al. 2021).

    The provenance says whether the gradient was "ok", "zero" or "non-finite", and lists under ``unreliable`` whatever
    speaks for gradient masking: the result is then not the worst case, and other attacks should be tried.

    Args:
        candidates: pairs without an edge per block (at least four per flip allowed); None for all of them at once,
            which takes O(n²) time and memory per step.
        loss: "tanh-margin", "prob-margin", "cross-entropy" or "cw".
        epochs: steps with new random pairs.
        fine_epochs: steps without, of decreasing size.
        step: how far the steepest entries of p move in one step.
        samples: random roundings to try.
        swaps: attempts to exchange flips of the result.
        seed: see :class:`Attack`.

    Raises:
        AttackError: (from ``run``) the victim's logits on the clean graph are not finite or do not fit it.
    """

    name: ClassVar[str] = "whitebox-pgd"
    kind: ClassVar[Kind] = "structure"

    def __init__(
        self,
        *,
        candidates: int | None = 20_000,
        loss: str = "tanh-margin",
        epochs: int = 100,
        fine_epochs: int = 25,
        step: float = 0.3,
        samples: int = 20,
        swaps: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__(
            loss=loss, epochs=epochs, fine_epochs=fine_epochs, step=step, samples=samples, swaps=swaps, seed=seed
        )
        self.candidates = None if candidates is None else check_count("candidates", candidates)

    def _flips(self, data: Data, victim: nn.Module, n_flips: int) -> Flips:
        candidates = None if self.candidates is None else max(self.candidates, 4 * n_flips)
        return EdgeFlips(victim, data.x, undirected_edges(data.edge_index), candidates=candidates)


@register
class WhiteboxPGDFeatures(_WhiteboxAttack):
    """Flips entries of a binary feature matrix so that the frozen victim misclassifies as many nodes as possible.

    All n·d entries are considered at every step. Otherwise as :class:`WhiteboxPGD`, whose arguments it takes except
    ``candidates``.

    Args:
        loss: "tanh-margin", "prob-margin", "cross-entropy" or "cw".
        epochs: steps of constant size.
        fine_epochs: steps of decreasing size.
        step: how far the steepest entries of p move in one step.
        samples: random roundings to try.
        swaps: attempts to exchange flips of the result.
        seed: see :class:`Attack`.

    Raises:
        ValueError: (from ``run``) x is not binary.
        AttackError: (from ``run``) the victim's logits on the clean graph are not finite or do not fit it.
    """

    name: ClassVar[str] = "whitebox-pgd-features"
    kind: ClassVar[Kind] = "features"

    def __init__(
        self,
        *,
        loss: str = "tanh-margin",
        epochs: int = 50,
        fine_epochs: int = 25,
        step: float = 0.3,
        samples: int = 20,
        swaps: int = 25,
        seed: int = 0,
    ) -> None:
        super().__init__(
            loss=loss, epochs=epochs, fine_epochs=fine_epochs, step=step, samples=samples, swaps=swaps, seed=seed
        )

    def _flips(self, data: Data, victim: nn.Module, n_flips: int) -> Flips:
        return FeatureFlips(victim, data.x, data.edge_index)
