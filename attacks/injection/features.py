"""Which features a new node may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from contractive_gnn.attacks.base import is_binary
from contractive_gnn.attacks.injection.rows import project_rows

#: the rules by name
RULES: Final = ("range", "words")


@dataclass(frozen=True, eq=False)
class FeatureRange:
    """What the features of the old nodes leave to those of the new ones.

    Entry j of a new node lies between the least and the largest entry that column j of the old nodes has. With
    ``words`` it is 0 or 1 besides, and a new node has at most as many ones as the old node with the most.

    Args:
        low: ``[d]``.
        high: ``[d]``.
        words: the largest number of ones; None where any numbers within the range will do.
    """

    low: Tensor
    high: Tensor
    words: int | None

    @classmethod
    def of(cls, x: Tensor, rule: str = "range") -> FeatureRange:
        """The range of features ``[n, d]``.

        Args:
            x: of the old nodes.
            rule: "range" or "words".

        Raises:
            ValueError: "words", and x has entries other than 0 and 1.

        Example:
            >>> import torch
            >>> from contractive_gnn.attacks.injection import FeatureRange
            >>> FeatureRange.of(torch.tensor([[0.0, 1.0], [0.0, 0.0]]), "words").words
            1
        """
        words = None
        if rule == "words":
            if not is_binary(x):
                raise ValueError(
                    "features='words' is for features of 0 and 1, and x has other entries: take features='range'"
                )
            words = int(x.sum(dim=1).max())
        low, high = x.aminmax(dim=0)
        return cls(low, high, words)

    def inside(self, x: Tensor) -> Tensor:
        """The features ``[k, d]`` within the range that are nearest in ‖·‖₂; of words their relaxation."""
        if self.words is None:
            return x.clamp(self.low, self.high)
        # a column of zeros alone stays one
        return project_rows(torch.where(self.high > 0, x, -1.0), self.words).clamp(self.low, self.high)

    def rounded(self, x: Tensor) -> Tensor:
        """Features ``[k, d]`` that a new node may have, from some of :meth:`inside`: of words the largest entries."""
        x = x.detach()
        if self.words is None:
            return x.clamp(self.low, self.high)
        # a column that is 1 everywhere comes first
        chosen = (x + 2 * self.low).topk(min(self.words, x.shape[1]), dim=1).indices
        ones = torch.zeros_like(x).scatter(1, chosen, 1.0)
        return torch.where(x > 0, ones, 0.0).clamp(self.low, self.high)

    def broken(self, x: Tensor) -> str:
        """How features ``[k, d]`` of new nodes break the rule, in words; empty where they do not."""
        if not bool(torch.isfinite(x).all()):
            return "gave a new node features that are not finite"
        outside = (x < self.low) | (x > self.high)
        if bool(outside.any()):
            node, column = outside.nonzero()[0].tolist()
            return (
                f"gave new node {node} the feature {float(x[node, column]):g} in column {column}, where the old nodes "
                f"have {float(self.low[column]):g} to {float(self.high[column]):g}"
            )
        if self.words is None:
            return ""
        if not is_binary(x):
            return "gave a new node features other than 0 and 1"
        most = int(x.sum(dim=1).max()) if len(x) else 0
        return f"gave a new node {most} words, where no old node has more than {self.words}" * (most > self.words)
