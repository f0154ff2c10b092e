"""One part of a graph in one process, beside copies of the neighbours that other processes hold."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from contractive_gnn.dynamics import Adjacency
from contractive_gnn.graph import Graph


class Halo:
    """The nodes of one part, the neighbours of them elsewhere (the halo), and the edges that touch the part.

    Rows are numbered here: the part's own nodes first, in the order of the whole graph, then the halo by the part that
    holds it. :meth:`filled` fetches the rows of the halo from the processes that hold them.

    Args:
        edge_index: ``[2, E]`` int64 of the whole graph, both orientations.
        edge_weight: ``[E]``.
        part: of every node, ``[n]`` int64; process p holds the nodes of part p.
        rank: the part of this process.
        parts: how many there are.

    Attributes:
        num_nodes: of the whole graph.
        own: numbers of the own nodes in the whole graph, ``[m]``.
        graph: the edges that touch the part, on own nodes and halo, with the degrees of the whole graph.
    """

    def __init__(self, edge_index: Tensor, edge_weight: Tensor, part: Tensor, *, rank: int, parts: int) -> None:
        self.num_nodes = part.numel()
        self.own = (part == rank).nonzero().squeeze(1)
        source, target = part[edge_index[0]], part[edge_index[1]]
        outside = torch.unique(edge_index[0, (target == rank) & (source != rank)])
        outside = outside[torch.argsort(part[outside], stable=True)]
        self._received = part[outside].bincount(minlength=parts).tolist()
        number = edge_index.new_full((part.numel(),), -1)
        number[self.own] = torch.arange(self.own.numel(), device=part.device)
        number[outside] = self.own.numel() + torch.arange(outside.numel(), device=part.device)
        sent = [torch.unique(edge_index[0, (source == rank) & (target == p)]) for p in range(parts) if p != rank]
        sent.insert(rank, edge_index.new_zeros(0))
        self._sent = [nodes.numel() for nodes in sent]
        self._rows = number[torch.cat(sent)]
        touching = (source == rank) | (target == rank)
        local = number[edge_index[:, touching]]
        kept = (local >= 0).all(dim=0)
        self.graph = PartGraph(
            local[:, kept], edge_weight[touching][kept], self.own.numel() + outside.numel(), halo=self
        )

    def filled(self, x: Tensor) -> Tensor:
        """The rows of the own nodes ``[m, …]`` with those of the halo below, ``[m + halo, …]``; differentiable.

        Every process must call it, in the same order; the gradients of the copies go back to the rows they are of.
        """
        out: Tensor = _Exchange.apply(x, self)
        return out

    def padded(self, x: Tensor) -> Tensor:
        """The rows of the own nodes with zeros below, where nobody reads the rows of the halo."""
        return torch.nn.functional.pad(x, (0, 0, 0, self.graph.num_nodes - x.size(0)))

    def fetch(self, x: Tensor) -> Tensor:
        """Rows of the halo, given those of the own nodes."""
        out = x.new_empty(sum(self._received), *x.shape[1:])
        dist.all_to_all_single(out, x[self._rows], self._received, self._sent)
        return out

    def give_back(self, g: Tensor) -> Tensor:
        """The adjoint of :meth:`filled`: what the copies got is added to the rows they are of."""
        m = self.own.numel()
        back = g.new_empty(sum(self._sent), *g.shape[1:])
        dist.all_to_all_single(back, g[m:].contiguous(), self._sent, self._received)
        return g[:m].index_add(0, self._rows, back)


class _Exchange(torch.autograd.Function):
    """:meth:`Halo.filled`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, halo: Halo) -> Tensor:
        ctx.halo = halo
        return torch.cat([x, halo.fetch(x)])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return ctx.halo.give_back(g), None


@dataclass(frozen=True, eq=False)
class PartGraph(Graph):
    """The edges that touch a part; the sums over the edges of a node are those of the whole graph.

    Attributes:
        halo: whose graph it is.
    """

    halo: Halo | None = None

    def _row_sum(self, edge_weight: Tensor) -> Tensor:
        assert self.halo is not None
        return self.halo.filled(super()._row_sum(edge_weight)[: self.halo.own.numel()])


@dataclass(frozen=True, eq=False)
class PartAdjacency(Adjacency):
    """The adjacency on the edges that touch a part; its sums are those over the whole graph.

    Attributes:
        halo: whose it is.
    """

    halo: Halo | None = None

    @classmethod
    def on(cls, halo: Halo) -> PartAdjacency:
        """That of the graph of the part."""
        plain = Adjacency.of(halo.graph)
        return cls(**{field.name: vars(plain)[field.name] for field in fields(plain)}, halo=halo)

    @property
    def num_nodes(self) -> int:
        """Of the whole graph."""
        assert self.halo is not None
        return self.halo.num_nodes

    def graph(self) -> Graph:
        """The graph of the entries on the edges of the part."""
        return PartGraph(self.edge_index, self.edge_weight(), self.diagonal.size(0), loop_free=True, halo=self.halo)

    def total(self, values: Tensor) -> Tensor:
        """The sum over the nodes of the whole graph, of those of the part with its halo, ``[]``."""
        assert self.halo is not None
        total: Tensor = _Total.apply(values[: self.halo.own.numel()].sum())
        return total

    def row_sums(self) -> Tensor:
        """``A1`` of the part's nodes and of the halo."""
        assert self.halo is not None
        return self.halo.filled(super().row_sums()[: self.halo.own.numel()])


class _Total(torch.autograd.Function):
    """The sum over the processes; each of them may read it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        total = g.clone()
        dist.all_reduce(total)
        return total
