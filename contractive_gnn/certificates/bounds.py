r"""Bounds on the whole trajectory of the ℓ∞ diffusion over all graphs within a budget.

One Euler step of the diffusion with ``h ≤ 1/(1 + μ)`` and slopes of σ in [0, 1] is *monotone*: a larger state gives a
larger next state, for every graph. So if ``x ≤ u`` entry by entry, then whatever graph G the attacker chose,

.. math::
    \mathrm{step}_G(x)_i \le \mathrm{step}_G(u)_i \le \max_{G'} \mathrm{step}_{G'}(u)_i =: u^+_i,

and the maximum over the flips at node i is found exactly: the best a additions are the non-neighbours with the largest
u, the best b deletions the neighbours with the smallest, and all (a, b) are tried. σ is odd, so a lower bound ℓ is the
upper bound −ℓ of the mirrored state: both are carried as one state with twice the channels. docs/certificates.md
has the proofs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from contractive_gnn.activations import Activation
from contractive_gnn.certificates.budget import FlipBudget
from contractive_gnn.certificates.rounding import Unproved, dtype_of, gamma, in_range, positive
from contractive_gnn.compiled import kernels, row_threads

#: edges whose pulls are held at a time: few enough for a processor's cache
_BLOCK = 16_384
#: candidates for an insertion beyond the budget itself, to have enough that are no neighbours yet
_SPARE = 8


@dataclass(frozen=True, eq=False)
class Block:
    """Some nodes with the same budget and about the same degree, and their edges side by side."""

    rows: slice  # the m nodes, in the order of all blocks
    degree: Tensor  # [m]
    neighbours: Tensor  # [m, D] in that order; where a node has fewer, itself, which does not pull at it
    deletable: Tensor  # [m, D]: an edge whose other end has a budget too
    flips: int
    most_added: int
    most_deleted: int


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """An undirected graph with a budget, laid out for :func:`worst_step`.

    Build it with :meth:`of`.
    """

    num_nodes: int
    source: Tensor
    degree: Tensor
    start: Tensor  # [n + 1]: the edges into node i come from source[start[i]] … source[start[i + 1] − 1]
    partners: Tensor  # nodes at which an inserted edge can end
    blocks: tuple[Block, ...]
    order: Tensor  # [n]: the nodes as the blocks hold them, one after the other
    place: Tensor  # [n]: where each node stands in that order
    budget: FlipBudget

    @classmethod
    def of(cls, edge_index: Tensor, budget: FlipBudget) -> Neighbourhoods:
        """Sort the edges and lay the nodes out by their budgets and degrees.

        Args:
            edge_index: ``[2, E]``, every undirected edge once in both orientations; self-loops are left out.
            budget: of the attacker; fixes the number of nodes. A global ``total`` below a node's budget lowers it.

        Raises:
            ValueError: an edge that is there twice, or in one orientation only.
        """
        n = budget.per_node.numel()
        outside = edge_index[(edge_index < 0) | (edge_index >= n)]
        if outside.numel():
            raise ValueError(f"edge_index names node {int(outside[0])}, the budget has {n} nodes")
        edge_index = edge_index[:, edge_index[0] != edge_index[1]]
        key = (edge_index[1] * n + edge_index[0]).sort().values
        if bool((key[1:] == key[:-1]).any()):
            raise ValueError("edge_index holds an edge twice; coalesce it first")
        target, source = key // n, key % n
        if not torch.equal((source * n + target).sort().values, key):
            raise ValueError("edge_index must hold both orientations of every edge; make the graph undirected first")
        degree = torch.bincount(target, minlength=n)
        start = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
        per_node = budget.per_node if budget.total is None else budget.per_node.clamp(max=budget.total)
        partners = (per_node > 0).nonzero().flatten() if budget.additions else per_node.new_zeros(0)
        # up to 8 neighbours stand in rows of their number, more in rows of the next power of two
        width = torch.where(degree <= 8, degree, 2 ** (degree - 1).clamp(min=1).double().log2().floor().long().add(1))
        shape, kind = torch.unique(torch.stack([per_node, width]), dim=1, return_inverse=True)
        order = kind.argsort(stable=True)
        place = torch.empty_like(order).scatter_(0, order, torch.arange(n))
        blocks, first = [], 0
        for (flips, columns), members in zip(shape.t().tolist(), torch.bincount(kind).tolist(), strict=True):
            column = torch.arange(columns)
            for nodes in order[first : first + members].split(max(1, _BLOCK // max(1, columns))):
                there = column < degree[nodes, None]
                position = (start[nodes, None] + column).clamp(max=max(0, source.numel() - 1))
                neighbours = torch.where(there, source[position], nodes[:, None])
                deletable = there & (per_node[neighbours] > 0) & budget.deletions
                blocks.append(
                    Block(
                        rows=slice(first, first + nodes.numel()),
                        degree=degree[nodes],
                        neighbours=place[neighbours],
                        deletable=deletable,
                        flips=flips,
                        most_added=min(flips, partners.numel()),
                        most_deleted=min(flips, int(deletable.sum(dim=1).amax())),
                    )
                )
                first += nodes.numel()
        return cls(n, source, degree, start, partners, tuple(blocks), order, place, budget)


def worst_step(
    z: Tensor,
    neighbourhoods: Neighbourhoods,
    sigma: Activation,
    *,
    anchor: Tensor,
    step: float,
    mu: float,
) -> Tensor:
    r"""The largest next state over all flips within the budget, entry by entry and exactly.

    .. math::
        z^+_i = (1 - h\mu) z_i + h\mu\,\hat z_i + h \max_{a + b \le r_i}
        \frac{\sum_{j \in N_i} g_{ij} - (b \text{ smallest}) + (a \text{ largest of non-neighbours})}{1 + d_i + a - b},
        \qquad g_{ij} = \sigma(z_j - z_i)

    Args:
        z: ``[n, c]``, an upper bound of the state.
        neighbourhoods: the clean graph with the budget.
        sigma: an odd (or symmetrised) elementwise activation with slopes in [0, 1].
        anchor: ``[n, c]``, an upper bound of the anchor.
        step: h ≤ 1/(1 + μ).
        mu: μ of the fidelity.

    Returns:
        ``[n, c]``, an upper bound of the next state; differentiable in ``z`` and ``anchor``.
    """
    graph = neighbourhoods
    return _ordered_step(z[graph.order], graph, sigma, anchor=anchor[graph.order], step=step, mu=mu)[graph.place]


def _ordered_step(
    z: Tensor, graph: Neighbourhoods, sigma: Activation, *, anchor: Tensor, step: float, mu: float
) -> Tensor:
    """:func:`worst_step` with all nodes in the order of the blocks."""
    partners = Partners.of(z.detach(), graph)
    parts = [z[:0]]
    for block in graph.blocks:
        own = z[block.rows]
        pull = _block_worst(z, own, block, partners, sigma)
        parts.append((1 - step * mu) * own + step * mu * anchor[block.rows] + step * pull)
    return torch.cat(parts)


def _block_worst(z: Tensor, own: Tensor, block: Block, partners: Partners, sigma: Activation) -> Tensor:
    """Largest mean pull ``[m, c]`` over all numbers a of additions and b of deletions, a + b ≤ r."""
    g = sigma.antisymmetric(z[block.neighbours] - own[:, None])
    gained = largest_added(z, own, block, partners, sigma)
    lost = smallest_deleted(g, block)
    total, size = g.sum(dim=1), (1 + block.degree).to(z.dtype)[:, None]
    worst = total / size
    for a in range(block.most_added + 1):
        b = torch.arange(min(block.most_deleted, block.flips - a) + 1, dtype=z.dtype)
        value = (total + gained[:, a])[:, None] - lost[:, : b.numel()]
        worst = torch.maximum(worst, (value / (size + a - b).clamp(min=1)[..., None]).amax(dim=1))
    return worst


@dataclass(frozen=True, eq=False)
class _Compiled:
    """:func:`_ordered_step` by a compiled loop, for states through which no gradient goes."""

    graph: Neighbourhoods
    arrays: tuple[Any, ...]  # where the entries of each node begin, the neighbours, which are deletable; flips allowed
    kind: int
    parameter: float

    @classmethod
    def serves(cls, z: Tensor, sigma: Activation) -> bool:
        """Whether it can take the place of the tensor operations."""
        differentiated = torch.is_grad_enabled() and z.requires_grad
        return not differentiated and z.dtype == torch.float64 and kernels.available(sigma, z)

    @classmethod
    def of(cls, graph: Neighbourhoods, sigma: Activation) -> _Compiled:
        """The edges by node, in the order of the blocks."""
        named = kernels.code(sigma)
        assert named is not None  # serves has asked
        degree, budget = graph.degree[graph.order], graph.budget
        allowed = budget.per_node if budget.total is None else budget.per_node.clamp(max=budget.total)
        source = graph.source[_ranges(graph.start[graph.order], degree)]
        deletable = (allowed[source] > 0) & budget.deletions
        pointer = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
        tensors = pointer, graph.place[source], deletable, allowed[graph.order]
        return cls(graph, tuple(tensor.numpy() for tensor in tensors), named[0], named[1])

    def step(self, z: Tensor, *, anchor: Tensor, step: float, mu: float) -> Tensor:
        """The largest next state, with all nodes in the order of the blocks."""
        from contractive_gnn.compiled import worst_loops  # numba is imported where it is needed

        partners = Partners.of(z, self.graph)
        joined = (t.numpy() for t in (partners.best, partners.slot, partners.chosen, partners.exists))
        arrays = z.numpy(), anchor.numpy(), *self.arrays, *joined, self.kind, self.parameter, float(step), float(mu)
        out = torch.empty_like(z)
        row_threads.by_rows(worst_loops.worst_rows, arrays, self.arrays[0], out.numpy())
        return out


@dataclass(frozen=True, eq=False)
class Partners:
    """For every channel the nodes with the largest z, the best other ends of an insertion; in the blocks' order."""

    best: Tensor  # [most, c]: for a node that has no edge to any candidate
    slot: Tensor  # [n]: the place of a node that has one in the next two, −1 for all others
    chosen: Tensor  # [s, most, c]: the best of its non-neighbours
    exists: Tensor  # [s, most, c]: false where there are fewer

    @classmethod
    def of(cls, z: Tensor, graph: Neighbourhoods) -> Partners:
        """Of z ``[n, c]``, in the order of the blocks."""
        c, most = z.shape[1], max((block.most_added for block in graph.blocks), default=0)
        count = min(most + _SPARE if most else 0, graph.partners.numel())
        partners = graph.place[graph.partners]
        ranked = partners[z.t()[:, partners].topk(count, dim=1).indices.t()]  # [count, c]
        flat, slot = graph.order[ranked.flatten()], torch.arange(count * c)
        edges = _ranges(graph.start[flat], graph.degree[flat])
        # who cannot insert an edge to a candidate: the candidate itself and its neighbours
        nodes, row = torch.unique(torch.cat([flat, graph.source[edges]]), return_inverse=True)
        blocked = torch.zeros(nodes.numel(), count * c, dtype=torch.bool)
        blocked[row, torch.cat([slot, slot.repeat_interleave(graph.degree[flat])])] = True
        blocked = blocked.view(nodes.numel(), count, c)
        # stable: the free candidates first, in the order of their z
        first = blocked.to(torch.uint8).sort(dim=1, stable=True).indices[:, :most]
        chosen, exists = ranked[first, torch.arange(c)], ~blocked.gather(1, first)
        if count < graph.partners.numel():
            for index in (~exists).flatten(1).any(dim=1).nonzero().flatten().tolist():
                node = int(nodes[index])
                free = torch.zeros(graph.num_nodes, dtype=torch.bool)
                free[graph.partners] = True
                free[graph.source[int(graph.start[node]) : int(graph.start[node + 1])]] = False
                free[node] = False
                others = graph.place[free.nonzero().flatten()]
                found = min(most, others.numel())
                chosen[index, :found] = others[z[others].topk(found, dim=0).indices]
                exists[index] = (torch.arange(most) < found)[:, None]
        place = torch.full((graph.num_nodes,), -1, dtype=torch.long)
        place[graph.place[nodes]] = torch.arange(nodes.numel())
        return cls(ranked[:most], place, chosen, exists)


def largest_added(z: Tensor, own: Tensor, block: Block, partners: Partners, sigma: Activation) -> Tensor:
    """Sums of the a largest pulls that insertions can add, ``[m, most + 1, c]`` for a = 0, …, most.

    ``−inf`` where fewer than a nodes are left to connect to.
    """
    most, channel = block.most_added, torch.arange(z.shape[1])
    none = torch.zeros_like(own)[:, None]
    if most == 0:
        return none
    ends = z[partners.best[:most], channel].expand(len(own), -1, -1)
    slot = partners.slot[block.rows]
    near = (slot >= 0).nonzero().flatten()
    if near.numel() == 0:
        return torch.cat([none, sigma.antisymmetric(ends - own[:, None]).cumsum(dim=1)], dim=1)
    slot = slot[near]
    ends = ends.index_put((near,), z[partners.chosen[slot, :most], channel])
    missing = torch.zeros(ends.shape, dtype=torch.bool)
    missing[near] = ~partners.exists[slot, :most]
    pulls = sigma.antisymmetric(ends - own[:, None]).masked_fill(missing, -torch.inf)
    return torch.cat([none, pulls.cumsum(dim=1)], dim=1)


def smallest_deleted(g: Tensor, block: Block) -> Tensor:
    """Sums of the b smallest pulls of the edges that can be deleted, ``[m, most + 1, c]`` for b = 0, …, most.

    ``inf`` where fewer than b edges can be deleted.
    """
    none = g.new_zeros(g.shape[0], 1, g.shape[2])
    if block.most_deleted == 0:
        return none
    mine = g.masked_fill(~block.deletable[..., None], torch.inf)
    if block.most_deleted == 1:
        return torch.cat([none, mine.amin(dim=1, keepdim=True)], dim=1)
    least = mine.topk(block.most_deleted, dim=1, largest=False).values
    return torch.cat([none, least.cumsum(dim=1)], dim=1)


def _ranges(start: Tensor, length: Tensor) -> Tensor:
    """``start[0], …, start[0] + length[0] − 1, start[1], …`` in one tensor."""
    offset = torch.cat([length.new_zeros(1), length.cumsum(0)[:-1]])
    return torch.arange(int(length.sum())) + (start - offset).repeat_interleave(length)


@dataclass(frozen=True, eq=False)
class Box:
    """Entrywise bounds of a state over everything the attacker may do.

    Attributes:
        lower: ``[n, c]``.
        upper: ``[n, c]``.
    """

    lower: Tensor
    upper: Tensor

    @classmethod
    def exact(cls, x: Tensor) -> Box:
        """A state that is known."""
        return cls(x, x)

    def widened(self, by: Tensor | float) -> Box:
        """The box with ``by`` more room on either side."""
        return Box(self.lower - by, self.upper + by)


def diffusion_bounds(
    start: Box,
    graph: Neighbourhoods,
    sigma: Activation,
    *,
    mu: float,
    step: float,
    num_steps: int,
    dtype: torch.dtype | None = None,
    unit_roundoff: float | None = None,
    keep: bool = False,
) -> list[Box]:
    r"""Bounds on the trajectory of the diffusion for every graph within the budget and every start within a box.

    Args:
        start: bounds of ``x⁽⁰⁾``, which is also the anchor.
        graph: the clean graph with the budget of the flips.
        sigma: elementwise, with slopes in [0, 1].
        mu: μ ≥ 0.
        step: 0 < h ≤ 1/(1 + μ).
        num_steps: L.
        dtype: in which the *model* runs; every step is widened by a bound of its rounding errors (see
            :func:`step_rounding`). None bounds the exact real dynamics.
        unit_roundoff: deprecated, the ``eps`` of that dtype.
        keep: return the bounds of every layer (L + 1 boxes) instead of the last one alone.

    Raises:
        ValueError: h beyond 1/(1 + μ) or a σ for which the step is not monotone.
        Unproved: the rounding errors in ``dtype`` cannot be bounded.
    """
    dtype = dtype if unit_roundoff is None else dtype_of(unit_roundoff)
    if sigma.group or sigma.slopes[0] < 0 or sigma.slopes[1] > 1:
        raise ValueError(f"the bound needs an elementwise σ with slopes in [0, 1], got {sigma} with {sigma.slopes}")
    if mu < 0 or not 0 < step <= (1 + 1e-12) / (1 + mu):
        raise ValueError(f"the bound needs mu ≥ 0 and 0 < step ≤ 1/(1 + mu), got mu={mu!r}, step={step!r}")
    z = anchor = torch.cat([start.upper[graph.order], -start.lower[graph.order]], dim=1)
    c = start.upper.shape[1]
    compiled = _Compiled.of(graph, sigma) if _Compiled.serves(z, sigma) else None
    boxes = [start]
    for index in range(num_steps):
        before = z
        if compiled is None:
            z = _ordered_step(z, graph, sigma, anchor=anchor, step=step, mu=mu)
        else:
            z = compiled.step(z, anchor=anchor, step=step, mu=mu)
        if dtype is not None:
            size = torch.stack([end.abs() for state in (before, anchor) for end in state.detach().aminmax()]).amax()
            z = z + step_rounding(size, graph, sigma, mu=mu, dtype=dtype)[graph.order]
        if keep or index == num_steps - 1:
            upper, lower = torch.split(z[graph.place], c, dim=1)
            boxes.append(Box(-lower, upper))
    return boxes if keep else boxes[-1:]


def step_rounding(size: Tensor, graph: Neighbourhoods, sigma: Activation, *, mu: float, dtype: torch.dtype) -> Tensor:
    r"""A bound on the rounding error of one step at every node, ``[n, 1]``.

    A difference, σ, a sum of k products and the Euler update are off by at most
    ``γ_{k+9} (s + 6 m) + (k + 9) τ (1 + λ + s + 2 (1 + μ) m)`` with s = min(sup|σ|, 2m) the size of a pull and k the
    largest degree that node i can have, at most ``d_i + r_i`` and ``n − 1`` (docs/certificates.md has the count).

    Args:
        size: m, a bound of the state before the step and of the anchor.
        graph: the clean graph with the budget.
        sigma: σ; λ is its threshold if it has one.
        mu: μ.
        dtype: in which the model runs; see :mod:`.rounding` for γ and τ.

    Raises:
        Unproved: an overflow is possible, λ is not a normal number of the dtype, or the degree is too large for it.
    """
    scale, tiny = float(getattr(sigma, "threshold", 1.0)), torch.finfo(dtype).tiny
    in_range((1 + mu) * (1 + 4 * size), dtype, "a difference of states, or its fidelity,")
    in_range(scale, dtype, "the threshold of σ")
    if scale < tiny:
        raise Unproved(f"the threshold {scale:.3g} of σ is too small for {dtype}")
    terms = (graph.degree + graph.budget.per_node).clamp(max=max(0, graph.num_nodes - 1)).double() + 9
    pulls = torch.minimum(2 * size, size.new_tensor(sigma.bound))
    lost = terms * tiny * (1 + scale + pulls + 2 * (1 + mu) * size)
    return positive(gamma(terms, dtype) * (pulls + 6 * size) + lost)[:, None]
