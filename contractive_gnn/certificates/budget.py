"""What an attacker may do: how many edges may be flipped at every node at once, and how far features may move."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from contractive_gnn.checks import check_flag, check_real
from contractive_gnn.inputs import undirected


@dataclass(frozen=True, eq=False)
class FlipBudget:
    """Undirected edges that may be flipped, at every node at once.

    A perturbed graph is within the budget if at most ``per_node[i]`` of the flipped edges end at node i, for all i
    together, and at most ``total`` are flipped in all. A flipped edge counts at both of its ends, so an edge can be
    flipped only where both of them have a budget.

    A node has n − 1 pairs: more flips than that are the same budget, and are stored as n − 1.

    Attributes:
        per_node: int64 ``[n]``, from 0 to n − 1; any integer type is taken.
        additions: whether edges may be inserted.
        deletions: whether edges may be deleted.
        total: at most this many flips in all; None for no further limit.

    Raises:
        ValueError: a budget that is negative or no whole number, or neither additions nor deletions.
    """

    per_node: Tensor
    additions: bool = True
    deletions: bool = True
    total: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.per_node, Tensor):
            raise ValueError(
                f"per_node must be a tensor with one whole number of flips for every node, got {self.per_node!r}; "
                "FlipBudget.uniform takes one number for all"
            )
        kind = self.per_node.dtype
        if self.per_node.dim() != 1 or kind.is_floating_point or kind.is_complex or kind == torch.bool:
            raise ValueError(
                f"per_node must hold one whole number of flips for every node, got {kind} of shape "
                f"{list(self.per_node.shape)}; FlipBudget.fraction takes fractions of the degrees"
            )
        per_node = self.per_node.cpu().long()
        n = per_node.numel()
        if n and int(per_node.min()) < 0:
            raise ValueError(f"a budget must be at least 0 at every node, got {int(per_node.min())}")
        check_flag("additions", self.additions)
        check_flag("deletions", self.deletions)
        if not (self.additions or self.deletions):
            raise ValueError("a budget must allow additions or deletions; give per_node = 0 for no flips at all")
        # the same sets of pairs: a node has n − 1 of them, the graph n (n − 1)/2
        object.__setattr__(self, "per_node", per_node.clamp(max=max(0, n - 1)))
        if self.total is not None:
            object.__setattr__(self, "total", min(_count(self.total, "total"), n * (n - 1) // 2))

    @classmethod
    def uniform(
        cls, flips: int, num_nodes: int, *, additions: bool = True, deletions: bool = True, total: int | None = None
    ) -> FlipBudget:
        """``flips`` at every node, any whole number of at least 0.

        Raises:
            ValueError: another number of flips, or of nodes.
        """
        n = _count(num_nodes, "num_nodes")
        per_node = torch.full((n,), min(_count(flips, "flips"), n), dtype=torch.long)
        return cls(per_node, additions=additions, deletions=deletions, total=total)

    @classmethod
    def fraction(
        cls,
        fraction: float,
        edge_index: Tensor,
        num_nodes: int,
        *,
        additions: bool = True,
        deletions: bool = True,
        total: int | None = None,
    ) -> FlipBudget:
        """``⌊fraction · d_i⌋`` flips at node i, whose degree is d_i: below a degree of ``1/fraction`` none at all.

        Args:
            fraction: at least 0.
            edge_index: the clean graph, ``[2, E]`` with both orientations of every edge once, or a sparse matrix.
            num_nodes: n.
            additions: see the class.
            deletions: see the class.
            total: see the class.

        Raises:
            ValueError: a negative fraction, or one that is not finite; a graph that is not simple and undirected.
        """
        check_real("fraction", fraction, least=0)
        n = _count(num_nodes, "num_nodes")
        graph = undirected(torch.empty(n, 0), edge_index, weighted=False)
        degrees = torch.bincount(graph.target, minlength=n).double()
        # a product that falls short of a whole number by rounding alone counts as that number
        per_node = torch.floor(fraction * degrees + 1e-9).clamp(max=n).long()
        return cls(per_node, additions=additions, deletions=deletions, total=total)


@dataclass(frozen=True)
class FeatureBudget:
    """How far the features of every node may move, at all nodes at once.

    Attributes:
        linf: every entry may change by up to this much.
        flips: up to this many entries of every node's binary features may be flipped.

    Raises:
        ValueError: a negative budget, or both kinds at once.
    """

    linf: float = 0.0
    flips: int = 0

    def __post_init__(self) -> None:
        _count(self.flips, "flips")
        check_real("linf", self.linf, least=0)
        if self.linf and self.flips:
            raise ValueError("give linf for real features or flips for binary ones, not both")

    @property
    def empty(self) -> bool:
        """Whether no feature may change."""
        return not (self.linf or self.flips)


def _count(value: Any, name: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if number < 0 or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number of at least 0, got {value!r}")
    return number
