"""Attacks that add nodes: what they share, and the limits that are kept for them."""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks.base import (
    Attack,
    AttackError,
    Kind,
    Perturbation,
    Scope,
    check_choice,
    flip_edges,
)
from contractive_gnn.attacks.injection.features import RULES, FeatureRange
from contractive_gnn.attacks.injection.rules import check_injection
from contractive_gnn.inputs import MASKS, UNKNOWN


@dataclass(frozen=True, eq=False)
class Injection:
    """New nodes.

    Args:
        x: their features, ``[k, d]``.
        edges: int64 ``[2, m]``, (new node, old node), the new ones counted from 0; each edge once.
    """

    x: Tensor
    edges: Tensor

    def __post_init__(self) -> None:
        if self.edges.dtype != torch.int64 or self.edges.dim() != 2 or len(self.edges) != 2:
            raise ValueError(f"edges is an int64 tensor [2, m], given {self.edges.dtype} {list(self.edges.shape)}")


class InjectionAttack(Attack):
    """Adds nodes with edges to old nodes, and leaves everything else as it was.

    The budget is ``Budget(nodes=60, edges=20)``: so many new nodes, each with at most so many edges. In the
    literature 60 × 20 on Cora, 90 × 10 on Citeseer, 200 × 100 on Pubmed (Chen et al., *Understanding and Improving
    Graph Injection Attack by Promoting Unnoticeability*, ICLR 2022).

    A subclass implements :meth:`_inject`. This class keeps the limits, whatever that returns: after each attack
    :func:`check_injection` compares the graphs. The attacked graph has the old nodes first. The label of a new node is
    unknown (−1) and it is in no mask, so that accuracy is that of the old test nodes.

    Args:
        features: "range": an entry of a new node lies between the least and the largest of its column, as in the
            literature; "words": it is 0 or 1 besides, and a new node has no more ones than an old one.
        seed: see :class:`Attack`.

    Raises:
        ValueError: (from ``run``) another budget, more edges than there are old nodes, "words" for features other
            than 0 and 1, or a field of nodes in the graph that new nodes have no value for.
        AttackError: (from ``run``) a limit was not kept; the text says which.
    """

    kind: ClassVar[Kind] = "injection"
    scope: ClassVar[Scope] = "global"

    def __init__(self, *, features: str = "range", seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.features = check_choice("features", features, RULES)

    @abstractmethod
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
        """Propose at most ``nodes`` ≥ 1 new nodes with at most ``edges`` ≥ 1 edges each.

        Args:
            data: a copy of the graph, which may be modified freely.
            nodes: how many may be added.
            edges: how many edges each may have.
            allowed: which features it may have.
            victim: frozen copy in eval mode for an adaptive attack, otherwise None.
            targets: the old nodes whose accuracy counts, or None where the caller gave none: then the test nodes.
        """

    @final
    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        nodes, edges = self._limits()
        n = int(data.num_nodes)
        if edges > n:
            raise ValueError(f"attack {self.name!r}: a new node cannot have {edges} edges in a graph of {n} nodes")
        allowed = FeatureRange.of(data.x, self.features)
        for key in sorted(set(data.keys()) - {"x", "y", "edge_index", "num_nodes", "targets", *MASKS}):
            if data.is_node_attr(key):
                raise ValueError(
                    f"attack {self.name!r}: data.{key} has a value for each node, and a new node has none; leave it "
                    f"out (del data.{key})"
                )
        found = self._inject(data, nodes, edges, allowed, victim=victim, targets=targets)
        if not isinstance(found, Injection):
            raise self._broken(f"returned {type(found).__name__}, not an Injection")
        new, old = found.edges.cpu()
        return Perturbation(edge_flips=torch.stack([old, n + new]), new_x=found.x)

    @final
    def _apply(self, data: Data, proposal: Perturbation, allowed: int) -> Data:
        nodes, edges = self._limits()
        n, d = data.x.shape
        x = proposal.new_x
        if not isinstance(x, Tensor) or x.dim() != 2 or x.shape[1] != d:
            given = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise self._broken(f"returned new features {given}, where [k, {d}] was expected")
        k = len(x)
        flips = self._check_flips(proposal.edge_flips, "edge_flips", (n, n + k))
        if flips.shape[1] and int(flips[1].min()) < n:
            raise self._broken("flipped an edge between old nodes")
        attacked = copy.copy(data)
        attacked.x = torch.cat([data.x, x.detach().to(data.x)])
        attacked.y = torch.cat([data.y, data.y.new_full((k,), UNKNOWN)])
        for key in MASKS:
            attacked[key] = torch.cat([data[key], data[key].new_zeros(k)])
        attacked.edge_index = flip_edges(data.edge_index, flips, num_nodes=n + k)
        if "num_nodes" in data.keys():  # noqa: SIM118  (of the graph, and not the property)
            attacked.num_nodes = n + k
        try:
            check_injection(data, attacked, nodes=nodes, edges=edges, features=self.features)
        except AttackError as error:
            raise self._broken(str(error).removeprefix("the injection ")) from error
        return attacked

    def _limits(self) -> tuple[int, int]:
        """How many nodes may be added, and how many edges each may have."""
        nodes, edges = (None, None) if self._budget is None else (self._budget.nodes, self._budget.edges)
        assert nodes is not None  # a budget without has been refused
        assert edges is not None
        return nodes, edges
