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

import torch
from torch import Tensor

from contractive_gnn.activations import Activation
from contractive_gnn.certify.budget import FlipBudget

#: a node's (additions, deletions) pairs times channels that are tried at a time
_CHUNK = 20_000_000
#: candidates for an insertion beyond the budget itself, to have enough that are no neighbours yet
_SPARE = 4


@dataclass(frozen=True, eq=False)
class _Group:
    """The nodes with the same budget, the edges that can be deleted there, and the numbers of flips to try."""

    nodes: Tensor  # [m], node indices
    edges: Tensor  # positions of their incoming edges whose other end has a budget too, ordered by target
    owner: Tensor  # which of the m nodes each of these edges belongs to
    degree: Tensor  # [m], of all edges
    deletable: Tensor  # [m], number of the edges above
    added: Tensor  # [T], a of every pair (a, b)
    deleted: Tensor  # [T], b


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """An undirected graph with a budget, laid out for :func:`worst_step`.

    Build it with :meth:`of`.
    """

    num_nodes: int
    source: Tensor
    target: Tensor
    degree: Tensor
    start: Tensor  # [n + 1]: the edges into node i are start[i] … start[i + 1]
    partners: Tensor  # nodes at which an inserted edge can end
    groups: tuple[_Group, ...]
    budget: FlipBudget

    @classmethod
    def of(cls, edge_index: Tensor, budget: FlipBudget) -> Neighbourhoods:
        """Sort the edges and group the nodes by their budgets.

        Args:
            edge_index: ``[2, E]``, every undirected edge once in both orientations; self-loops are left out.
            budget: of the attacker; fixes the number of nodes. A global ``total`` below a node's budget lowers it.

        Raises:
            ValueError: an edge that is there twice, or in one orientation only.
        """
        n = budget.per_node.numel()
        if edge_index.numel() and int(edge_index.max()) >= n:
            raise ValueError(f"edge_index names node {int(edge_index.max())}, the budget has {n} nodes")
        edge_index = edge_index[:, edge_index[0] != edge_index[1]]
        key = edge_index[1] * n + edge_index[0]
        if len(torch.unique(key)) != len(key):
            raise ValueError("edge_index holds an edge twice; coalesce it first")
        key = key.sort().values
        target, source = key // n, key % n
        if not torch.equal((source * n + target).sort().values, key):
            raise ValueError("edge_index must hold both orientations of every edge; make the graph undirected first")
        degree = torch.bincount(target, minlength=n)
        start = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
        per_node = budget.per_node if budget.total is None else budget.per_node.clamp(max=budget.total)
        partners = (per_node > 0).nonzero().flatten() if budget.additions else per_node.new_zeros(0)
        groups = []
        for r in sorted(set(per_node.tolist())):
            if r == 0:
                continue
            nodes = (per_node == r).nonzero().flatten()
            place = torch.full((n,), -1, dtype=torch.long)
            place[nodes] = torch.arange(nodes.numel())
            edges = ((place[target] >= 0) & (per_node[source] > 0)).nonzero().flatten()
            owner = place[target[edges]]
            deletable = torch.bincount(owner, minlength=nodes.numel())
            most_added = min(r, partners.numel())
            most_deleted = min(r, int(deletable.max())) if budget.deletions else 0
            pairs = [
                (a, b) for a in range(most_added + 1) for b in range(min(most_deleted, r - a) + 1) if (a, b) != (0, 0)
            ]
            if pairs:
                added, deleted = torch.tensor(pairs).t()
                groups.append(_Group(nodes, edges, owner, degree[nodes], deletable, added, deleted))
        return cls(n, source, target, degree, start, partners, tuple(groups), budget)


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
    g = sigma.antisymmetric(z[graph.source] - z[graph.target])
    total = z.new_zeros(z.shape).index_add(0, graph.target, g)
    worst = total / (1 + graph.degree).to(z.dtype)[:, None]
    for group in graph.groups:
        best = _group_worst(z, g, total, graph, group, sigma)
        worst = worst.index_put((group.nodes,), torch.maximum(worst[group.nodes], best))
    return (1 - step * mu) * z + step * mu * anchor + step * worst


def _group_worst(
    z: Tensor, g: Tensor, total: Tensor, graph: Neighbourhoods, group: _Group, sigma: Activation
) -> Tensor:
    """Largest mean pull ``[m, c]`` over the pairs (a, b) of one group."""
    most_added, most_deleted = int(group.added.max()), int(group.deleted.max())
    gained = _largest_added(z, graph, group, most_added, sigma)
    lost = _smallest_deleted(z, g, graph, group, most_deleted)
    own, degree = total[group.nodes], group.degree
    chunk = max(1, _CHUNK // (group.added.numel() * z.shape[1]))
    parts = []
    for part in torch.split(torch.arange(group.nodes.numel()), chunk):
        value = own[part, None] + gained[part][:, group.added] - lost[part][:, group.deleted]
        size = (1 + degree[part, None] + group.added - group.deleted).to(z.dtype)
        possible = (group.deleted <= group.deletable[part, None])[..., None]
        value = torch.where(possible, value / size.clamp(min=1)[..., None], -torch.inf)
        parts.append(value.amax(dim=1))
    return torch.cat(parts)


def _largest_added(z: Tensor, graph: Neighbourhoods, group: _Group, most: int, sigma: Activation) -> Tensor:
    """Sums of the a largest pulls that insertions can add, ``[m, most + 1, c]`` for a = 0, …, most.

    ``−inf`` where fewer than a nodes are left to connect to.
    """
    m, c = group.nodes.numel(), z.shape[1]
    none = z.new_zeros(m, 1, c)
    if most == 0:
        return none
    chosen, exists = _free_partners(z.detach(), graph, group, most)
    channel = torch.arange(c)
    pulls = sigma.antisymmetric(z[chosen, channel] - z[group.nodes][:, None, :])
    return torch.cat([none, torch.where(exists, pulls, -torch.inf).cumsum(dim=1)], dim=1)


def _free_partners(z: Tensor, graph: Neighbourhoods, group: _Group, most: int) -> tuple[Tensor, Tensor]:
    """For every node of the group and channel the ``most`` non-neighbours with the largest z: ``[m, most, c]``."""
    m, c = group.nodes.numel(), z.shape[1]
    values = z.t()[:, graph.partners].contiguous()
    place = torch.full((graph.num_nodes,), -1, dtype=torch.long)
    place[group.nodes] = torch.arange(m)
    count = min(most + _SPARE, graph.partners.numel())
    while True:
        ranked = graph.partners[values.topk(count, dim=1).indices.t()]  # [count, c]
        blocked = torch.zeros(m, count, c, dtype=torch.bool)
        flat = ranked.flatten()
        itself = place[flat]
        slot = torch.arange(flat.numel())
        blocked.view(m, -1)[itself[itself >= 0], slot[itself >= 0]] = True
        lengths = graph.degree[flat]
        edges = _ranges(graph.start[flat], lengths)
        neighbours, slot = place[graph.source[edges]], slot.repeat_interleave(lengths)
        blocked.view(m, -1)[neighbours[neighbours >= 0], slot[neighbours >= 0]] = True
        enough = count == graph.partners.numel() or int(blocked.sum(dim=1).max()) <= count - most
        if enough:
            break
        count = min(4 * count, graph.partners.numel())
    # stable: the free ones first, in the order of their z; most nodes know none of the candidates
    order = torch.arange(min(most, count))[:, None].expand(m, -1, c).contiguous()
    some = blocked.flatten(1).any(dim=1).nonzero().flatten()
    order[some] = blocked[some].to(torch.uint8).sort(dim=1, stable=True).indices[:, :most]
    exists = ~blocked.gather(1, order)
    chosen = ranked[order, torch.arange(c)]
    short = most - order.shape[1]
    if short > 0:
        chosen = torch.cat([chosen, chosen.new_zeros(m, short, c)], dim=1)
        exists = torch.cat([exists, exists.new_zeros(m, short, c)], dim=1)
    return chosen, exists


def _smallest_deleted(z: Tensor, g: Tensor, graph: Neighbourhoods, group: _Group, most: int) -> Tensor:
    """Sums of the b smallest pulls of existing edges, ``[m, most + 1, c]`` for b = 0, …, most.

    Where fewer than b edges can be deleted the value means nothing, and the caller leaves it out.
    """
    m, c = group.nodes.numel(), z.shape[1]
    none = z.new_zeros(m, 1, c)
    if most == 0:
        return none
    mine = g[group.edges]
    if most == 1:
        least = z.new_full((m, c), torch.inf).scatter_reduce(
            0, group.owner[:, None].expand_as(mine), mine, "amin", include_self=True
        )
        least = least.masked_fill((group.deletable == 0)[:, None], 0.0)
        return torch.cat([none, least[:, None]], dim=1)
    first = torch.cat([group.deletable.new_zeros(1), group.deletable.cumsum(0)[:-1]])
    wanted = first[:, None] + torch.arange(most)
    real = (torch.arange(most) < group.deletable[:, None])[..., None]
    with torch.no_grad():
        # order the group's edges by node, then by z of the other end (σ keeps that order), channel by channel
        rank = torch.empty_like(z, dtype=torch.long)
        rank.scatter_(0, z.detach().argsort(dim=0), torch.arange(len(z))[:, None].expand_as(z))
        order = (group.owner[:, None] * len(z) + rank[graph.source[group.edges]]).argsort(dim=0)
        picked = order[wanted.clamp(max=max(len(mine) - 1, 0))]  # [m, most, c]
    pulls = torch.where(real, mine[picked, torch.arange(c)], 0.0)
    return torch.cat([none, pulls.cumsum(dim=1)], dim=1)


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
    unit_roundoff: float = 0.0,
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
        unit_roundoff: of the arithmetic in which the *model* runs; every step is widened by a bound of its rounding
            errors (see :func:`step_rounding`). 0 bounds the exact real dynamics.
        keep: return the bounds of every layer (L + 1 boxes) instead of the last one alone.

    Raises:
        ValueError: h beyond 1/(1 + μ) or a σ for which the step is not monotone.
    """
    if sigma.group or sigma.slopes[0] < 0 or sigma.slopes[1] > 1:
        raise ValueError(f"the bound needs an elementwise σ with slopes in [0, 1], got {sigma} with {sigma.slopes}")
    if mu < 0 or not 0 < step <= (1 + 1e-12) / (1 + mu):
        raise ValueError(f"the bound needs mu ≥ 0 and 0 < step ≤ 1/(1 + mu), got mu={mu!r}, step={step!r}")
    anchor = torch.cat([start.upper, -start.lower], dim=1)
    c = start.upper.shape[1]
    z = anchor
    boxes = [start]
    for _ in range(num_steps):
        z = worst_step(z, graph, sigma, anchor=anchor, step=step, mu=mu)
        if unit_roundoff:
            z = z + step_rounding(z.detach(), anchor.detach(), graph, sigma, unit_roundoff)
        if keep:
            boxes.append(Box(-z[:, c:], z[:, :c]))
    return boxes if keep else [Box(-z[:, c:], z[:, :c])]


def step_rounding(z: Tensor, anchor: Tensor, graph: Neighbourhoods, sigma: Activation, unit_roundoff: float) -> Tensor:
    r"""A bound on the rounding error of one step at every node, ``[n, 1]``.

    A difference, σ, a sum of k = d_i + r_i + 1 products and the Euler update in floating point with unit roundoff u
    are off by at most ``γ (s + 6 m)`` with ``γ = (k + 8) u / (1 − (k + 8) u)``, s = min(sup|σ|, 2m) the size of a pull
    and m the largest size of the state and the anchor (Higham, *Accuracy and Stability of Numerical Algorithms*, §3.1
    and 4.2; docs/certificates.md has the count).
    """
    terms = (graph.degree + graph.budget.per_node + 9).to(z.dtype) * unit_roundoff
    size = torch.maximum(z.abs().amax(), anchor.abs().amax())
    pulls = torch.minimum(2 * size, size.new_tensor(sigma.bound))
    return (terms / (1 - terms) * (pulls + 6 * size))[:, None]
