"""Flips of edges: all that there are, and a block of the pairs that are none."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from contractive_gnn.attacks.base import Perturbation
from contractive_gnn.attacks.whitebox.flips import Flips
from contractive_gnn.nn.surrogate import gradient_surrogate


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
        self.guide = gradient_surrogate(victim)
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
