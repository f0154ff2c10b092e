"""Attacks that stay within a certificate's budget and try to change what it certifies.

A certificate that one of them breaks is wrong. Where they change predictions that are *not* certified, they bound from
above what any certificate could hold.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from contractive_gnn.certificates.budget import FeatureBudget, FlipBudget
from contractive_gnn.certificates.certificate import Certificate
from contractive_gnn.certificates.parts import take_apart
from contractive_gnn.deprecated import aliases

Pair = tuple[int, int]


@dataclass(eq=False)
class Flips:
    """A set of flipped edges that never leaves its budget.

    Args:
        edge_index: the clean graph.
        budget: what may be flipped.
    """

    edge_index: Tensor
    budget: FlipBudget
    chosen: set[Pair] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.present: set[Pair] = {(i, j) for i, j in self.edge_index.t().tolist() if i < j}
        self.left: list[int] = self.budget.per_node.tolist()
        self.left_in_all: float = math.inf if self.budget.total is None else self.budget.total

    def try_flip(self, i: int, j: int) -> bool:
        """Flip the pair if the budget allows it; returns whether it was flipped."""
        pair = (min(i, j), max(i, j))
        allowed = self.budget.deletions if pair in self.present else self.budget.additions
        if i == j or pair in self.chosen or not allowed or self.left_in_all < 1 or min(self.left[i], self.left[j]) < 1:
            return False
        self.chosen.add(pair)
        self.left[i] -= 1
        self.left[j] -= 1
        self.left_in_all -= 1
        return True

    def graph(self) -> Tensor:
        """The flipped graph, ``[2, E']``."""
        pairs = torch.tensor(sorted(self.present ^ self.chosen), dtype=torch.long).view(-1, 2).t()
        return torch.cat([pairs, pairs.flip(0)], dim=1)


def random_flips(edge_index: Tensor, budget: FlipBudget, *, generator: torch.Generator) -> Flips:
    """As many random flips as fit: a random share of them deletions, the rest random pairs."""
    flips = Flips(edge_index, budget)
    n = budget.per_node.numel()
    edges = edge_index[:, edge_index[0] < edge_index[1]].t()
    share = float(torch.rand((), generator=generator))
    keep = torch.rand(len(edges), generator=generator) < share
    edges = edges[keep]
    for i, j in edges[torch.randperm(len(edges), generator=generator)].tolist():
        flips.try_flip(i, j)
    for _ in range(int(budget.per_node.max()) if n else 0):
        order = torch.randperm(n, generator=generator).tolist()
        for i, j in zip(order[::2], order[1::2], strict=False):
            flips.try_flip(i, j)
    return flips


def push_towards(scores: Tensor, edge_index: Tensor, budget: FlipBudget, *, goal: int, nodes: Iterable[int]) -> Flips:
    """Give every one of ``nodes``, in their order, the free partner that speaks the most for the class ``goal``.

    Args:
        scores: class scores ``[n, classes]`` of the clean model.
        edge_index: the clean graph.
        budget: what may be flipped.
        goal: the class.
        nodes: who is pushed first.
    """
    flips = Flips(edge_index, budget)
    others = scores.clone()
    others[:, goal] = -torch.inf
    partners = deque((scores[:, goal] - others.amax(dim=1)).argsort(descending=True).tolist())
    for node in nodes:
        if flips.left_in_all < 1:
            break
        for _ in range(flips.left[node]):
            while partners and not flips.left[partners[0]]:
                partners.popleft()
            free = (p for p in partners if (min(node, p), max(node, p)) not in flips.present)
            if not any(flips.try_flip(node, partner) for partner in free):
                break
    return flips


def aim_at(
    state: Tensor, edge_index: Tensor, budget: FlipBudget, *, target: int, own: int, goal: int, bound: float, reach: int
) -> Flips:
    """The flips that the bound itself would make, as far as one graph can have them all.

    From the target outwards, every node takes the flips that raise score_goal − score_own the most in one step: it
    loses the neighbour that holds it back the most, or gains the free node that pulls the hardest.

    Args:
        state: what diffuses, on the clean graph, ``[n, classes]``.
        edge_index: the clean graph.
        budget: what may be flipped.
        target: the node.
        own: its class.
        goal: the class to turn it to.
        bound: sup|σ|.
        reach: how many nodes around the target take part.
    """
    flips = Flips(edge_index, budget)
    neighbours = _Neighbours.of(edge_index, len(state))
    value = {label: state[:, label].tolist() for label in (goal, own)}
    strong = deque((state[:, goal] - state[:, own]).argsort(descending=True).tolist())

    def pull(i: int, j: int) -> float:
        clip = [max(-bound, min(bound, value[label][j] - value[label][i])) for label in (goal, own)]
        return float(clip[0] - clip[1])

    for node in neighbours.around(target, reach):
        if flips.left_in_all < 1:
            break
        around = {j: pull(node, j) for j in neighbours[node]}
        for _ in range(flips.left[node]):
            while strong and not flips.left[strong[0]]:
                strong.popleft()
            total, size = sum(around.values()), 1 + len(around)
            added = next((j for j in strong if j != node and flips.left[j] and j not in around), None)
            lost = min((j for j in around if flips.left[j]), key=around.__getitem__, default=None)
            gain = -math.inf if added is None else (total + pull(node, added)) / (size + 1)
            loss = -math.inf if lost is None else (total - around[lost]) / (size - 1)
            if added is not None and gain >= loss and gain > total / size and flips.try_flip(node, added):
                around[added] = pull(node, added)
            elif lost is not None and loss > total / size and flips.try_flip(node, lost):
                del around[lost]
            else:
                break
    return flips


@dataclass(frozen=True, eq=False)
class _Neighbours:
    source: list[int]
    start: list[int]

    @classmethod
    def of(cls, edge_index: Tensor, n: int) -> _Neighbours:
        order = edge_index[1].argsort(stable=True)
        degree = torch.bincount(edge_index[1], minlength=n)
        return cls(edge_index[0][order].tolist(), [0, *degree.cumsum(0).tolist()])

    def __getitem__(self, node: int) -> list[int]:
        return self.source[self.start[node] : self.start[node + 1]]

    def around(self, target: int, reach: int) -> list[int]:
        """The ``reach`` nodes nearest to the target, itself first."""
        seen, order = {target}, [target]
        for node in order:
            for other in self[node]:
                if len(order) >= reach:
                    return order
                if other not in seen:
                    seen.add(other)
                    order.append(other)
        return order


def ascend(
    model: nn.Module,
    x: Tensor,
    edge_index: Tensor,
    budget: FlipBudget,
    *,
    nodes: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    epochs: int = 20,
    candidates: int = 20_000,
    step: float = 0.3,
) -> Iterator[Flips]:
    """Projected gradient ascent on the mean tanh margin of ``nodes`` over relaxed flips; a rounding per epoch.

    Every existing edge and a random block of other pairs have a variable p in [0, 1]; after each step the variables at
    a node are scaled down to its budget. The rounding takes the pairs in the order of p, as the budget allows.

    Args:
        model: the frozen victim, which takes edge weights.
        x: features.
        edge_index: the clean graph.
        budget: what may be flipped.
        nodes: whose margins count, ``[k]``.
        labels: their predictions on the clean graph, ``[k]``.
        generator: of the random pairs.
        epochs: steps.
        candidates: number of the random pairs.
        step: how far the steepest entries move.
    """
    n = len(x)
    there = edge_index[:, edge_index[0] < edge_index[1]]
    pairs = torch.randint(0, n, (2, candidates), generator=generator).sort(dim=0).values
    pairs = pairs[:, pairs[0] < pairs[1]]
    key = torch.cat([there[0] * n + there[1], torch.unique(pairs[0] * n + pairs[1])])
    fresh = torch.ones(len(key), dtype=torch.bool)
    fresh[there.shape[1] :] = ~torch.isin(key[there.shape[1] :], key[: there.shape[1]])
    key = key[fresh]
    both = torch.stack([key // n, key % n])
    exists = torch.arange(len(key)) < there.shape[1]
    limit = budget.per_node.to(x.dtype)
    p = torch.zeros(len(key), dtype=x.dtype)
    index = torch.cat([both, both.flip(0)], dim=1)
    for _ in range(epochs):
        p.requires_grad_()
        weight = torch.where(exists, 1 - p, p)
        scores = model(x, index, weight.repeat(2))[nodes]
        own = scores.gather(1, labels[:, None])
        other = scores.scatter(1, labels[:, None], -torch.inf).amax(dim=1, keepdim=True)
        spread = (own - other).detach().abs().median().clamp(min=1e-6)
        loss = torch.tanh((other - own) / spread).mean()
        (slope,) = torch.autograd.grad(loss, p)
        with torch.no_grad():
            slope = slope / slope.abs().topk(min(len(slope), max(1, n // 2))).values.mean().clamp(min=1e-30)
            p = (p + step * slope).clamp(0, 1)
            used = torch.zeros(n, dtype=x.dtype).index_add(0, both[0], p).index_add(0, both[1], p)
            scale = torch.where(used > limit, limit / used.clamp(min=1e-30), 1.0)
            p = p * torch.minimum(scale[both[0]], scale[both[1]])
            flips = Flips(edge_index, budget)
            wanted = (p > 0).nonzero().flatten()
            for i, j in both[:, wanted[p[wanted].argsort(descending=True)]].t().tolist():
                flips.try_flip(i, j)
        yield flips


@dataclass(frozen=True, eq=False)
class EmpiricalAttack:
    """What the attacks did to a certificate.

    Attributes:
        graphs: how many perturbed inputs were tried.
        predictions: how many predictions on them were looked at.
        broken: certified nodes whose prediction changed: of a sound certificate, none.
        changed: nodes whose prediction some attack changed, bool ``[n]``.
        by: how many nodes each kind of attack changed.
        least_margin: the smallest margin of a certified node that was seen, minus its certified margin: how near the
            attacks came to the bound (negative only if it is wrong).
    """

    graphs: int
    predictions: int
    broken: int
    changed: Tensor
    by: dict[str, int]
    least_margin: float


def run(
    model: nn.Module,
    x: Tensor,
    edge_index: Tensor,
    certificate: Certificate,
    *,
    flips: FlipBudget,
    features: FeatureBudget | None = None,
    predictions: int = 100_000,
    targets: int | None = None,
    seed: int = 0,
) -> EmpiricalAttack:
    """Spend every attack here on a certificate.

    First the attacks aimed at single nodes, those nearest to the end of the bound first, for up to half of the
    predictions; then pushes towards each class, gradient ascent and random flips until enough have been looked at.

    Args:
        model: the certified model.
        x: clean features, dense.
        edge_index: the clean graph.
        certificate: of it, under the same budgets.
        flips: the budget of the edges.
        features: the budget of the features; every attack changes as many entries as it allows, by the gradient or at
            random.
        predictions: how many predictions to look at, at least.
        targets: at most this many nodes are aimed at one by one; None for no limit of its own.
        seed: of everything random.
    """
    generator = torch.Generator().manual_seed(seed)
    model.eval()
    n = len(x)
    with torch.no_grad():
        scores = model(x, edge_index)
    changed = torch.zeros(n, dtype=torch.bool)
    by: dict[str, Tensor] = {}
    graphs, least = 0, math.inf

    def attempt(kind: str, graph: Tensor) -> None:
        nonlocal graphs, least
        for attacked in _attacked_features(model, x, graph, certificate.prediction, features, generator):
            with torch.no_grad():
                out = model(attacked, graph)
            graphs += 1
            other = out.scatter(1, certificate.prediction[:, None], -torch.inf).amax(dim=1)
            margin = out.gather(1, certificate.prediction[:, None]).squeeze(1) - other
            moved = out.argmax(dim=1) != certificate.prediction
            by[kind] = by.get(kind, torch.zeros(n, dtype=torch.bool)) | moved
            changed.logical_or_(moved)
            room = (margin.double() - certificate.margin)[certificate.certified]
            least = min(least, float(room.min()) if room.numel() else math.inf)

    parts = take_apart(model)
    sigma_bound = math.inf if isinstance(parts, str) else parts.dynamics.sigma.bound
    order = certificate.margin.abs().argsort()
    second = scores.scatter(1, certificate.prediction[:, None], -torch.inf).argmax(dim=1)
    for node in order[: n if targets is None else targets].tolist():
        if 2 * graphs * n >= predictions:
            break
        own, goal = int(certificate.prediction[node]), int(second[node])
        attempt(
            "aimed",
            aim_at(
                scores, edge_index, flips, target=node, own=own, goal=goal, bound=sigma_bound, reach=min(n, 200)
            ).graph(),
        )
    near = order[: max(1, n // 4)]
    while graphs * n < predictions:
        for goal in range(scores.shape[1]):
            weakest = (scores.amax(dim=1) - scores[:, goal]).argsort().tolist()
            shuffled = torch.randperm(n, generator=generator).tolist()
            for nodes in (weakest, shuffled):
                attempt("push", push_towards(scores, edge_index, flips, goal=goal, nodes=nodes).graph())
        for found in ascend(
            model, x, edge_index, flips, nodes=near, labels=certificate.prediction[near], generator=generator
        ):
            attempt("gradient", found.graph())
        for _ in range(20):
            attempt("random", random_flips(edge_index, flips, generator=generator).graph())
    broken = int((changed & certificate.certified).sum())
    kinds = {kind: int(moved.sum()) for kind, moved in by.items()}
    return EmpiricalAttack(graphs, graphs * n, broken, changed, kinds, least)


def _attacked_features(
    model: nn.Module,
    x: Tensor,
    edge_index: Tensor,
    labels: Tensor,
    budget: FeatureBudget | None,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    """The features as they are, or changed at random and along the gradient as far as the budget allows."""
    if budget is None or budget.empty:
        yield x
        return
    moving = x.clone().requires_grad_()
    scores = model(moving, edge_index)
    own = scores.gather(1, labels[:, None]).squeeze(1)
    other = scores.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
    (slope,) = torch.autograd.grad((other - own).sum(), moving)
    for direction in (slope, torch.randn(x.shape, generator=generator, dtype=x.dtype)):
        if budget.flips:
            gain = direction * (1 - 2 * x)
            rows = gain.topk(budget.flips, dim=1).indices
            yield x.scatter(1, rows, 1 - x.gather(1, rows))
        else:
            yield x + budget.linf * direction.sign()


__getattr__ = aliases(__name__, {"Siege": f"{__name__}:EmpiricalAttack", "besiege": f"{__name__}:run"})
