"""Flips of binary features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from contractive_gnn.attacks.base import Perturbation
from contractive_gnn.attacks.whitebox.flips import Flips


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
        return self.victim(self.moved(p), self.edge_index)  # type: ignore[no-any-return]

    def moved(self, p: Tensor) -> Tensor:
        """The features x + (1 − 2x) p, ``[n, d]``."""
        return self.x + self._direction * p.view_as(self.x)

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
