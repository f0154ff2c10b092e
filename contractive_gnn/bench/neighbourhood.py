"""The nodes around one node, before and after an attack, and where each is drawn: the same place in both."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from contractive_gnn.attacks.base import edge_difference, undirected_edges

Pair = tuple[int, int]


@dataclass(frozen=True)
class Neighbourhood:
    """A part of two graphs on the same nodes.

    Attributes:
        node: the one in the middle.
        hops: every drawn node's distance from it in the two graphs together, the middle first.
        before: edges between drawn nodes in the first graph, each once, the smaller node first.
        after: the same of the second graph.
        place: by node, x and y in the unit disc.
        left_out: how many nodes within the largest distance are not drawn.
    """

    node: int
    hops: Mapping[int, int]
    before: frozenset[Pair]
    after: frozenset[Pair]
    place: Mapping[int, tuple[float, float]]
    left_out: int

    @property
    def added(self) -> frozenset[Pair]:
        """Edges that only the second graph has."""
        return self.after - self.before

    @property
    def removed(self) -> frozenset[Pair]:
        """Edges that only the first graph has."""
        return self.before - self.after


def neighbourhood(
    node: int, before: Tensor, after: Tensor, labels: Sequence[int], *, hops: int = 2, most: int = 60
) -> Neighbourhood:
    """The nodes within some hops of one, in two graphs together.

    Where there are more than ``most``, the nearest are drawn first; of equal distance those at flipped edges, then
    those with the smaller index. Edges between two nodes of the outer circle are left out, unless they are flipped.

    Args:
        node: index of the node.
        before: int64 ``[2, E]``, both orientations.
        after: the same of the second graph, on the same nodes.
        labels: of every node; nodes of one label stand beside one another.
        hops: at least 1.
        most: nodes to draw, at least 1.
    """
    edges = [{(int(u), int(v)) for u, v in undirected_edges(index.cpu()).t().tolist()} for index in (before, after)]
    beside: dict[int, set[int]] = {}
    for u, v in edges[0] | edges[1]:
        beside.setdefault(u, set()).add(v)
        beside.setdefault(v, set()).add(u)
    distance = {node: 0}
    ring = [node]
    for hop in range(1, hops + 1):
        ring = sorted({v for u in ring for v in beside.get(u, ())} - distance.keys())
        distance.update(dict.fromkeys(ring, hop))
    flipped = {int(end) for end in edge_difference(before.cpu(), after.cpu()).flatten().tolist()}
    order = sorted(distance, key=lambda v: (distance[v], v not in flipped, v))
    drawn = {v: distance[v] for v in order[:most]}

    def shown(pairs: Collection[Pair]) -> frozenset[Pair]:
        outer = hops
        inside = ((u, v) for u, v in pairs if u in drawn and v in drawn)
        changed = edges[0] ^ edges[1]
        return frozenset((u, v) for u, v in inside if min(drawn[u], drawn[v]) < outer or (u, v) in changed)

    return Neighbourhood(
        node, drawn, shown(edges[0]), shown(edges[1]), _places(drawn, beside, labels), len(distance) - len(drawn)
    )


def _places(
    drawn: Mapping[int, int], beside: Mapping[int, set[int]], labels: Sequence[int]
) -> dict[int, tuple[float, float]]:
    """A circle for each distance; on the first one by label, further out each node near those that lead to it."""
    farthest = max(drawn.values(), default=0)
    place: dict[int, tuple[float, float]] = {}
    angle: dict[int, float] = {}
    for hop in range(farthest + 1):
        ring = [v for v, distance in drawn.items() if distance == hop]
        wanted = {v: _towards([angle[u] for u in beside.get(v, ()) if drawn.get(u) == hop - 1]) for v in ring}
        ring.sort(key=lambda v: (labels[v], v) if hop == 1 else (wanted[v], v))
        for index, v in enumerate(ring):
            angle[v] = 2 * math.pi * (index + 0.5) / len(ring) if hop else 0.0
            radius = hop / farthest if farthest else 0.0
            # a crowded circle is drawn as two, so that its nodes do not cover one another
            if len(ring) > 24 and hop == farthest:
                radius *= 1.0 if index % 2 else 0.86
            place[v] = (radius * math.cos(angle[v]), radius * math.sin(angle[v]))
    return place


def _towards(angles: Sequence[float]) -> float:
    """The mean direction, in [0, 2π)."""
    if not angles:
        return 0.0
    return math.atan2(sum(map(math.sin, angles)), sum(map(math.cos, angles))) % (2 * math.pi)


def same_class(node: int, edges: Tensor, labels: Sequence[int]) -> tuple[int, int]:
    """How many neighbours a node has, and how many of them are of its label."""
    others = edges[1, edges[0] == node].tolist() if edges.numel() else []
    return len(others), sum(labels[v] == labels[node] for v in others)
