r"""The bound for a total number of flips: each touched node's own effect on a target, and the worst of them added up.

With at most B flips in the whole graph, the numbers f_i of flips at the nodes add up to at most 2B. The monotone bound
u(f) for the budgets f stays within the sum of what each touched node does alone, ``u_t − x_t ≤ Σ_s C_ts(f_s)``, where
``C_ts`` is carried from layer to layer by the influence of the edges; the worst choice of f is a knapsack with unit
weights. docs/certificates.md, section 2, has the proof.
"""

from __future__ import annotations

import torch
from torch import Tensor

from contractive_gnn.activations import Activation, Huber
from contractive_gnn.certificates.bounds import (
    Block,
    Box,
    Neighbourhoods,
    Partners,
    diffusion_bounds,
    largest_added,
    smallest_deleted,
)
from contractive_gnn.certificates.budget import FlipBudget

#: rows of the n × n influences that are advanced at a time
_ROWS = 64
#: relative room for the rounding errors of the influences themselves, in float64
_SLACK = 1e-9


def total_harm(
    x: Tensor,
    edge_index: Tensor,
    budget: FlipBudget,
    sigma: Activation,
    *,
    classes: Tensor,
    mu: float,
    step: float,
    num_steps: int,
) -> Tensor:
    r"""How much ``x_y − x_k`` can fall within ``budget.total`` flips, for every class k: an upper bound ``[n, c]``.

    Args:
        x: ``[n, c]``, the start and the anchor, known exactly; float64.
        edge_index: ``[2, E]``, both orientations.
        budget: with a ``total``.
        sigma: elementwise, with slopes in [0, 1].
        classes: y of every node, ``[n]``.
        mu: μ ≥ 0.
        step: 0 < h ≤ 1/(1 + μ).
        num_steps: L.

    Returns:
        The bound; 0 where k = y. For the exact real dynamics. Takes O(E n c L) time and O(n² c) memory.

    Raises:
        ValueError: a budget without a total, or what :func:`diffusion_bounds` refuses.
    """
    total = budget.total
    if total is None:
        raise ValueError("the budget has no total; diffusion_bounds serves budgets per node")
    n, c = x.shape
    graph = Neighbourhoods.of(edge_index, budget)

    def trajectory(graph: Neighbourhoods) -> list[Box]:
        return diffusion_bounds(
            Box.exact(x), graph, sigma, mu=mu, step=step, num_steps=num_steps, keep=True
        )  # fmt: skip

    clean = trajectory(Neighbourhoods.of(edge_index, FlipBudget.uniform(0, n)))
    boxes = trajectory(graph)
    # in the order of the blocks: the upper bounds of x, then those of −x
    unit = x.new_zeros(2 * c, n, n)  # what one flip at s does to t
    most = unit.clone() if any(block.flips > 1 for block in graph.blocks) else unit  # what all that s can have do
    reach = x.new_zeros(n, 2 * c)  # an upper bound of the deviation
    for layer in range(num_steps):
        state = _mirrored(clean[layer], graph)
        own, whole = _largest_changes(state, reach, graph, sigma)
        influences = [_influence(state, reach, block, sigma, step, mu) for block in graph.blocks]
        for effects, source in ((unit, own), (most, whole)) if most is not unit else ((unit, own),):
            for channel in range(2 * c):
                effects[channel] = _advance(effects[channel], graph, channel, influences)
                effects[channel].diagonal().add_(step * source[:, channel])
        after = _mirrored(boxes[layer + 1], graph) - _mirrored(clean[layer + 1], graph)
        spent = torch.stack([_knapsack(unit[k], most[k], 2 * total) for k in range(2 * c)], dim=1)
        reach = torch.minimum(spent * (1 + _SLACK), after.clamp(min=0))
    harm = x.new_zeros(n, c)
    ordered = classes[graph.order]
    for y in range(c):
        rows = (ordered == y).nonzero().flatten()
        for k in range(c):
            if k != y:
                each, together = (part[c + y][rows] + part[k][rows] for part in (unit, most))
                spent = _knapsack(each, together, 2 * total) * (1 + _SLACK)
                harm[rows, k] = torch.minimum(spent, reach[rows, c + y] + reach[rows, k])
    return harm[graph.place]


def _mirrored(box: Box, graph: Neighbourhoods) -> Tensor:
    return torch.cat([box.upper, -box.lower], dim=1)[graph.order]


def _knapsack(unit: Tensor, most: Tensor, budget: int) -> Tensor:
    """The largest ``Σ_s min(f_s unit_s, most_s)`` over f ≥ 0 with ``Σ f ≤ budget``, row by row."""
    best, index = unit.topk(min(budget, unit.shape[1]), dim=1)
    if budget == 0:
        return unit.new_zeros(len(unit))
    # a node is worth its unit up to most/unit ≥ 1 flips, and nothing beyond
    useful = torch.where(best > 0, most.gather(1, index) / best, 1.0).clamp(min=1)
    before = useful.cumsum(dim=1) - useful
    return (best * torch.minimum((budget - before).clamp(min=0), useful)).sum(dim=1)


def _largest_changes(x: Tensor, reach: Tensor, graph: Neighbourhoods, sigma: Activation) -> tuple[Tensor, Tensor]:
    """The most that flips at node i change its own mean pull: per flip, and all that it can have; each ``[n, c]``.

    At any state between x and x + reach.
    """
    partners = Partners.of(x + reach, graph)
    own, whole = [x[:0]], [x[:0]]
    for block in graph.blocks:
        each, together = _block_changes(x, reach, block, partners, sigma)
        own.append(each)
        whole.append(together)
    return torch.cat(own), torch.cat(whole)


def _block_changes(
    x: Tensor, reach: Tensor, block: Block, partners: Partners, sigma: Activation
) -> tuple[Tensor, Tensor]:
    mine, others = x[block.rows], x[block.neighbours]
    row = torch.arange(block.rows.start, block.rows.stop)
    padding = (block.neighbours == row[:, None])[..., None]
    low = sigma.antisymmetric(others - (mine + reach[block.rows])[:, None]).masked_fill(padding, 0.0)
    high = sigma.antisymmetric(others + reach[block.neighbours] - mine[:, None]).masked_fill(padding, 0.0)
    gained = largest_added(x + reach, mine, block, partners, sigma)
    lost_low, lost_high = (smallest_deleted(pulls, block) for pulls in (low, high))
    all_low, all_high = low.sum(dim=1), high.sum(dim=1)
    size = (1 + block.degree).to(x.dtype)[:, None]
    each = together = torch.zeros_like(mine)
    for a in range(block.most_added + 1):
        for b in range(min(block.most_deleted, block.flips - a) + 1):
            if a + b == 0:
                continue
            after = (size + a - b).clamp(min=1)
            heavier = 1 / after - 1 / size
            if a >= b:
                change = (gained[:, a] - lost_low[:, b]) / after + heavier * all_low
            else:
                change = gained[:, a] / after - lost_low[:, b] / size + heavier * (all_high - lost_high[:, b])
            each, together = torch.maximum(each, change / (a + b)), torch.maximum(together, change)
    return each, together


def _influence(
    x: Tensor, reach: Tensor, block: Block, sigma: Activation, step: float, mu: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of ``C_is``, ``C_js`` and ``max(C_is, C_js)`` in the next ``C_is``: ``[m, c]`` and twice ``[m, D, c]``.

    ``σ(d + δ_j − δ_i) − σ(d) ≤ fall·δ_j + (rise − fall)·max(δ_i, δ_j) − rise·δ_i`` for all 0 ≤ δ ≤ reach.
    """
    d = x[block.neighbours] - x[block.rows][:, None]
    rise, fall = _secants(d, reach[block.neighbours], reach[block.rows][:, None], sigma)
    weight = step / (1 + block.degree).to(x.dtype)[:, None, None]
    return 1 - step * mu - (weight * rise).sum(dim=1), weight * fall, weight * (rise - fall)


def _secants(d: Tensor, up: Tensor, down: Tensor, sigma: Activation) -> tuple[Tensor, Tensor]:
    """The steepest secant of σ from d to the right, ``up`` far at most, and the flattest to the left, ``down`` far."""
    if type(sigma) is not Huber or sigma.learnable:
        return torch.full_like(d, sigma.slopes[1]), torch.full_like(d, sigma.slopes[0])
    bound = sigma.bound
    # from the flat part on the left the secant grows until the other end of the slope
    far = torch.minimum(up, bound - d).clamp(min=1e-300)
    below = (1 + (d + bound) / far).clamp(min=0)
    rise = torch.where(d >= bound, 0.0, torch.where(d >= -bound, 1.0, below))
    fall = torch.where((d > -bound) & (d <= bound), ((d + bound) / down.clamp(min=1e-300)).clamp(max=1), 0.0)
    return torch.maximum(rise, fall), fall


def _advance(
    effects: Tensor, graph: Neighbourhoods, channel: int, influences: list[tuple[Tensor, Tensor, Tensor]]
) -> Tensor:
    """One layer of C in one channel, without the new effects."""
    result = torch.empty_like(effects)
    for block, (keep, pass_on, spread) in zip(graph.blocks, influences, strict=True):
        for part in torch.split(torch.arange(len(keep)), _ROWS):
            row = block.rows.start + int(part[0])
            own = effects[row : row + len(part)]
            new = keep[part, channel, None] * own
            for column in range(block.neighbours.shape[1]):
                other = effects[block.neighbours[part, column]]
                mixed = spread[part, column, channel, None]
                if bool(mixed.any()):
                    new += mixed * torch.maximum(own, other)
                new += pass_on[part, column, channel, None] * other
            result[row : row + len(part)] = new
    return result
