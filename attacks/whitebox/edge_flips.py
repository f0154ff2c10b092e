"""Flips of edges: all that there are, and a block of the pairs that are none."""

from __future__ import annotations

import copy
from typing import Final

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
        always: int64 ``[2, k]``, u < v: pairs that stay when others are drawn anew, beside the edges (edges among them
            are left out).
    """

    def __init__(
        self,
        victim: nn.Module,
        x: Tensor,
        edges: Tensor,
        *,
        candidates: int | None = None,
        block: Tensor | None = None,
        always: Tensor | None = None,
    ) -> None:
        self.victim, self.x, self.edges = victim, x, edges
        self.guide = gradient_surrogate(victim)
        self._known = self._codes(edges).sort().values
        n = x.shape[0]
        fixed = edges.new_empty(2, 0) if always is None else always[:, ~_within(self._codes(always), self._known)]
        self._fixed = torch.cat([edges, fixed], dim=1)
        self._known = self._codes(self._fixed).sort().values
        available = n * (n - 1) // 2 - self._fixed.shape[1]
        if block is not None:
            codes = self._codes(block)
            block = block[:, ~_within(codes, self._known)]
        elif candidates is None or candidates >= available:
            block = self._every_pair()
        else:
            block = self._fresh(candidates)
        self._complete = block.shape[1] == available
        self._take(block)

    def _take(self, block: Tensor) -> None:
        """Consider these pairs ``[2, k]`` besides the edges and the pairs that stay."""
        self._block = block
        self.pairs = torch.cat([self._fixed, block], dim=1)
        self.size = self.pairs.shape[1]
        self.present = torch.zeros(self.size, dtype=torch.bool, device=self.x.device)
        self.present[: self.edges.shape[1]] = True
        self._both = torch.cat([self.pairs, self.pairs.flip(0)], dim=1)

    def relaxed(self, p: Tensor) -> Tensor:
        """Logits with edge weight 1 − p at edges and p elsewhere."""
        edges = self.edges.shape[1]
        weight = torch.cat([1 - p[:edges], p[edges:]])
        return self.guide(self.x, self._both, torch.cat([weight, weight]))  # type: ignore[no-any-return]

    def with_features(self, x: Tensor) -> EdgeFlips:
        """The same flips on a graph with other features ``[n, d]``."""
        other = copy.copy(self)
        other.x = x
        return other

    def done(self, chosen: Tensor) -> Tensor:
        """Logits on the discrete graph, without edge weights."""
        n = self.x.shape[0]
        pairs = self.pairs[:, self.present ^ chosen]
        # both directions, sorted as the edge_index of the result is: the sums are the same to the last bit
        codes = torch.cat([self._codes(pairs), self._codes(pairs.flip(0))]).sort().values
        with torch.no_grad():
            return self.victim(self.x, _ends(codes, n))  # type: ignore[no-any-return]

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
        fixed, size = self._fixed.shape[1], self._block.shape[1]
        values = p[fixed:]
        kept = values.topk(min(int((values > 0).sum()), size // 2)).indices
        fresh = self._fresh(size - kept.numel(), self._block[:, kept])
        renewed = copy.copy(self)  # what is known of the edges and of the victim stays
        renewed._take(torch.cat([self._block[:, kept], fresh], dim=1))
        return renewed, torch.cat([p[:fixed], values[kept], p.new_zeros(size - kept.numel())])

    def among(self, pairs: Tensor) -> Tensor:
        """Which of the considered pairs are in ``pairs`` (int64 ``[2, k]``, u < v); bool ``[size]``."""
        return torch.isin(self._codes(self.pairs), self._codes(pairs))

    def _codes(self, pairs: Tensor) -> Tensor:
        return pairs[0] * self.x.shape[0] + pairs[1]

    def _every_pair(self) -> Tensor:
        n = self.x.shape[0]
        pairs = torch.triu_indices(n, n, 1, device=self.x.device)
        return pairs[:, ~_within(self._codes(pairs), self._known)]

    def _fresh(self, k: int, kept: Tensor | None = None) -> Tensor:
        """Distinct pairs that are not fixed ``[2, k]``, none of them in ``kept``, drawn at random."""
        n = self.x.shape[0]
        excluded = [self._known] if kept is None else [self._known, self._codes(kept).sort().values]
        found = self._known.new_empty(0)
        while found.numel() < k:
            missing = k - found.numel()
            u, v = torch.randint(n, (2, missing + missing // 16 + _MORE), device=self.x.device)
            codes = (torch.minimum(u, v) * n + torch.maximum(u, v))[u != v].sort().values
            codes = codes[codes.diff(prepend=codes.new_tensor([-1])) > 0]
            for known in (*excluded, found):
                codes = codes[~_within(codes, known)]
            if codes.numel() > missing:
                codes = codes[torch.randperm(codes.numel(), device=codes.device)[:missing]]
            found = codes if not found.numel() else torch.cat([found, codes]).sort().values
        return _ends(found, n)


_MORE: Final = 256
"""So many pairs and a sixteenth are drawn beyond those that are wanted, since some are drawn twice or known."""


def _within(codes: Tensor, known: Tensor) -> Tensor:
    """Which of the codes are among the known ones, which are sorted."""
    if not known.numel():
        return torch.zeros_like(codes, dtype=torch.bool)
    place = torch.searchsorted(known, codes).clamp(max=known.numel() - 1)
    return known[place] == codes


def _ends(codes: Tensor, n: int) -> Tensor:
    """The pairs of these codes, ``[2, k]``."""
    u = codes // n
    return torch.stack([u, codes - n * u])
