"""What an attacker may do: how many edges may be flipped at every node at once, and how far features may move."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.utils import degree


@dataclass(frozen=True, eq=False)
class FlipBudget:
    """Undirected edges that may be flipped, at every node at once.

    A perturbed graph is within the budget if at most ``per_node[i]`` of the flipped edges end at node i, for all i
    together, and at most ``total`` are flipped in all. A flipped edge counts at both of its ends, so an edge can be
    flipped only where both of them have a budget.

    Attributes:
        per_node: int64 ``[n]``, at least 0.
        additions: whether edges may be inserted.
        deletions: whether edges may be deleted.
        total: at most this many flips in all; None for no further limit.

    Raises:
        ValueError: a negative budget, or neither additions nor deletions.
    """

    per_node: Tensor
    additions: bool = True
    deletions: bool = True
    total: int | None = None

    def __post_init__(self) -> None:
        if self.per_node.dim() != 1 or self.per_node.dtype.is_floating_point or self.per_node.dtype.is_complex:
            raise ValueError(
                f"per_node must hold one whole number of flips for every node, got {self.per_node.dtype} of shape "
                f"{list(self.per_node.shape)}; FlipBudget.fraction takes fractions of the degrees"
            )
        if self.per_node.numel() and int(self.per_node.min()) < 0:
            raise ValueError(f"a budget must be at least 0 at every node, got {int(self.per_node.min())}")
        if not (self.additions or self.deletions):
            raise ValueError("a budget must allow additions or deletions; give per_node = 0 for no flips at all")
        if self.total is not None and self.total < 0:
            raise ValueError(f"total must be at least 0, got {self.total}")

    @classmethod
    def uniform(
        cls, flips: int, num_nodes: int, *, additions: bool = True, deletions: bool = True, total: int | None = None
    ) -> FlipBudget:
        """``flips`` at every node."""
        per_node = torch.full((num_nodes,), int(flips), dtype=torch.long)
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

        Raises:
            ValueError: a negative fraction, or one that is not finite.
        """
        if not (math.isfinite(fraction) and fraction >= 0):
            raise ValueError(f"fraction must be finite and at least 0, got {fraction!r}")
        degrees = degree(edge_index[1], num_nodes=num_nodes, dtype=torch.float64)
        # a product that falls short of a whole number by rounding alone counts as that number
        per_node = torch.floor(fraction * degrees + 1e-9).long()
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
        if not (math.isfinite(self.linf) and self.linf >= 0 and self.flips >= 0):
            raise ValueError(f"budgets must be finite and at least 0, got linf={self.linf!r}, flips={self.flips!r}")
        if self.linf and self.flips:
            raise ValueError("give linf for real features or flips for binary ones, not both")

    @property
    def empty(self) -> bool:
        """Whether no feature may change."""
        return not (self.linf or self.flips)
