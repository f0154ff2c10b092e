"""The old nodes that each new node may be joined to, some at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from contractive_gnn.attacks.injection.rows import project_rows, steepest


@dataclass(frozen=True, eq=False)
class Endpoints:
    """So many old nodes for each of k new nodes, and how far each edge is there.

    Args:
        old: int64 ``[k, c]``, old nodes.
        p: ``[k, c]``, in [0, 1].
        open: bool ``[k, c]``: False where a node stands in its row a second time.
        n: how many old nodes there are.
    """

    old: Tensor
    p: Tensor
    open: Tensor
    n: int

    @classmethod
    def draw(cls, k: int, c: int, n: int, like: Tensor) -> Endpoints:
        """Take c random old nodes for each of k new ones, or all n where these are no more; no edge is there."""
        if c >= n:
            old = torch.arange(n, device=like.device).repeat(k, 1)
            return cls(old, like.new_zeros(k, n), torch.ones_like(old, dtype=torch.bool), n)
        empty = torch.zeros(k, 0, dtype=torch.int64, device=like.device)
        return cls(empty, like.new_zeros(k, 0), empty.bool(), n)._filled(c)

    @property
    def edges(self) -> Tensor:
        """(new node, old node) of every candidate, int64 ``[2, k c]``."""
        new = torch.arange(len(self.old), device=self.old.device).repeat_interleave(self.old.shape[1])
        return torch.stack([new, self.old.flatten()])

    def moved(self, slope: Tensor, step: float, budget: int) -> Endpoints:
        """One step of ascent: the steepest ``budget`` entries of a row move by ``step`` on average."""
        slope = steepest(slope.masked_fill(~self.open, 0.0), self.p, budget)
        p = project_rows(self.p + step * slope, budget)
        return Endpoints(self.old, p.masked_fill(~self.open, 0.0), self.open, self.n)

    def renewed(self) -> Endpoints:
        """The candidates with the largest p > 0, at most half of each row, and others drawn anew."""
        c = self.old.shape[1]
        if c >= self.n:
            return self
        values, place = self.p.topk(c // 2, dim=1)
        kept = values > 0
        return Endpoints(self.old.gather(1, place), values, kept, self.n)._filled(c)

    def largest(self, budget: int) -> Tensor:
        """The edges (new node, old node) of the ``budget`` largest p > 0 in every row, int64 ``[2, m]``."""
        chosen = torch.zeros_like(self.open)
        chosen.scatter_(1, self.p.topk(min(budget, self.p.shape[1]), dim=1).indices, True)
        return self.edges[:, (chosen & (self.p > 0)).flatten()]

    def _filled(self, c: int) -> Endpoints:
        """With random nodes up to c in a row; one that the row has already is closed."""
        k, kept = self.old.shape
        fresh = torch.randint(self.n, (k, c - kept), device=self.old.device)
        old = torch.cat([self.old, fresh], dim=1)
        p = torch.cat([self.p, self.p.new_zeros(fresh.shape)], dim=1)
        # a closed place is behind all open ones of its node
        key = old + self.n * torch.cat([~self.open, torch.zeros_like(fresh, dtype=torch.bool)], dim=1).long()
        order = key.argsort(dim=1, stable=True)
        old, p, key = old.gather(1, order), p.gather(1, order), key.gather(1, order)
        first = torch.ones_like(old, dtype=torch.bool)
        first[:, 1:] = key[:, 1:] != key[:, :-1]
        return Endpoints(old, p, first & (key < self.n), self.n)
