"""What a set of flips has to keep to: a number of flips in all, and a number of them at each node.

Gosch, Geisler, Sturm, Charpentier, Zügner, Günnemann, *Adversarial Training for Graph Neural Networks: Pitfalls,
Solutions, and New Directions* (NeurIPS 2023), for local budgets beside the global one, and for the greedy projection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from contractive_gnn.attacks.base import check_count
from contractive_gnn.attacks.whitebox.edge_flips import EdgeFlips
from contractive_gnn.attacks.whitebox.flips import Flips
from contractive_gnn.attacks.whitebox.projection import project_onto_budget


class Constraint(ABC):
    """What a search may choose, relaxed and discrete.

    Attributes:
        budget: no set of flips that keeps to the constraint is larger.
    """

    budget: int

    @abstractmethod
    def project(self, values: Tensor, flips: Flips) -> Tensor:
        """Relaxed flips p, 0 ≤ p ≤ 1, near ``values`` ``[size]``, that keep to the constraint."""

    def open(self, flips: Flips) -> Tensor | None:
        """Which flips may be chosen at all, bool ``[size]``; None where all of them may."""
        return None

    @abstractmethod
    def complete(self, kept: Tensor, values: Tensor, flips: Flips) -> Tensor:
        """The flips in ``kept``, and beside them those of the largest values > 0, the largest first; bool ``[size]``.

        Args:
            kept: bool ``[size]``, which keeps to the constraint.
            values: ``[size]``; those of ``kept`` are not read.
            flips: what is considered.
        """

    @abstractmethod
    def holds(self, chosen: Tensor, flips: Flips) -> bool:
        """Whether these flips, bool ``[size]``, keep to the constraint."""

    def largest(self, values: Tensor, flips: Flips) -> Tensor:
        """The flips of the largest values > 0 that keep to the constraint, the largest first; bool ``[size]``."""
        return self.complete(torch.zeros_like(values, dtype=torch.bool), values, flips)

    def draw(self, flips: Flips) -> Tensor:
        """A random choice that keeps to the constraint; bool ``[size]``."""
        return flips.draw(self.budget)


class GlobalBudget(Constraint):
    """At most ``budget`` flips in all, wherever they are."""

    def __init__(self, budget: int) -> None:
        self.budget = check_count("budget", budget, least=0)

    def project(self, values: Tensor, flips: Flips) -> Tensor:
        """See :func:`project_onto_budget`."""
        return project_onto_budget(values, self.budget)

    def complete(self, kept: Tensor, values: Tensor, flips: Flips) -> Tensor:
        """As many as there is room for."""
        room = min(self.budget - int(kept.sum()), flips.size)
        others = values.masked_fill(kept, -torch.inf)
        promising = others.topk(room).indices
        chosen = kept.clone()
        chosen[promising[others[promising] > 0]] = True
        return chosen

    def holds(self, chosen: Tensor, flips: Flips) -> bool:
        """Whether there are not more than the budget."""
        return int(chosen.sum()) <= self.budget


class LocalBudget(Constraint):
    r"""At most ``budget`` flips of edges in all, and at most ``per_node[i]`` of them at node i, for all i.

    .. math:: \sum_e p_e \le b, \qquad \sum_{e \ni i} p_e \le b_i, \qquad 0 \le p \le 1

    :meth:`project` first projects onto what the global budget allows, and then goes through the entries from the
    largest to the smallest and cuts each down to what its two ends have left. What comes out keeps to all budgets; a
    point that does so already is not changed. It is the projection of Gosch et al. after that of PR-BCD, and not the
    nearest point.

    Args:
        budget: b.
        per_node: int64 ``[n]``, b_i ≥ 0; a flip counts at both of its ends.

    Raises:
        ValueError: another shape or dtype, or a negative number.

    Example:
        >>> import torch
        >>> from contractive_gnn.attacks.whitebox import EdgeFlips, LocalBudget
        >>> pairs = torch.tensor([[0, 0, 1], [1, 2, 2]])  # a triangle of non-edges, one flip at each node
        >>> flips = EdgeFlips(torch.nn.Identity(), torch.ones(3, 1), torch.empty(2, 0, dtype=torch.long), block=pairs)
        >>> budget = LocalBudget(2, torch.tensor([1, 1, 1]))
        >>> budget.largest(torch.tensor([0.5, 0.9, 0.8]), flips)
        tensor([False,  True, False])
        >>> budget.project(torch.tensor([0.2, 0.9, 0.4]), flips)
        tensor([0.1000, 0.9000, 0.1000])
    """

    def __init__(self, budget: int, per_node: Tensor) -> None:
        self.budget = check_count("budget", budget, least=0)
        if per_node.dtype != torch.int64 or per_node.dim() != 1 or bool((per_node < 0).any()):
            raise ValueError(
                f"per_node holds one whole number of flips ≥ 0 for every node, int64 [n]; given {per_node.dtype} of "
                f"shape {list(per_node.shape)}"
            )
        self.per_node = per_node

    def project(self, values: Tensor, flips: Flips) -> Tensor:
        """See above."""
        p = project_onto_budget(values.masked_fill(~self.open(flips), 0.0), self.budget)
        return self._fill(p, self._pairs(flips))

    def open(self, flips: Flips) -> Tensor:
        """Those both of whose ends have a budget."""
        return (self.per_node[self._pairs(flips)] > 0).all(dim=0)

    def complete(self, kept: Tensor, values: Tensor, flips: Flips) -> Tensor:
        """One after another, as long as both ends have a flip left."""
        pairs = self._pairs(flips)
        left = (self.per_node - self._at_nodes(kept, pairs)).tolist()
        room = self.budget - int(kept.sum())
        chosen = kept.clone()
        promising = values.masked_fill(kept | ~self.open(flips), 0.0).clamp(min=0)
        order = promising.nonzero().flatten()
        order = order[promising[order].argsort(descending=True, stable=True)]
        taken = []
        for place, u, v in zip(order.tolist(), *pairs[:, order].tolist(), strict=True):
            if not room:
                break
            if left[u] and left[v]:
                left[u] -= 1
                left[v] -= 1
                room -= 1
                taken.append(place)
        chosen[taken] = True
        return chosen

    def holds(self, chosen: Tensor, flips: Flips) -> bool:
        """Whether no budget is exceeded."""
        at_nodes = self._at_nodes(chosen, self._pairs(flips))
        return int(chosen.sum()) <= self.budget and bool((at_nodes <= self.per_node).all())

    def draw(self, flips: Flips) -> Tensor:
        """A random order of random flips, as far as the budgets go."""
        drawn = flips.draw(min(flips.size, 4 * self.budget))
        return self.largest(torch.rand(flips.size, device=drawn.device) * drawn, flips)

    def _pairs(self, flips: Flips) -> Tensor:
        if not isinstance(flips, EdgeFlips):
            raise TypeError(f"a budget at each node is for flips of edges, given {type(flips).__name__}")
        return flips.pairs

    def _at_nodes(self, chosen: Tensor, pairs: Tensor) -> Tensor:
        ends = pairs[:, chosen].flatten()
        return torch.bincount(ends, minlength=self.per_node.numel())

    def _fill(self, p: Tensor, pairs: Tensor) -> Tensor:
        """Each entry, the largest first, or as much of it as is left at both of its ends."""
        order = p.nonzero().flatten()
        order = order[p[order].argsort(descending=True, stable=True)]
        left = [float(b) for b in self.per_node.tolist()]
        amounts = []
        for amount, u, v in zip(p[order].tolist(), *pairs[:, order].tolist(), strict=True):
            given = min(amount, left[u], left[v])
            left[u] -= given
            left[v] -= given
            amounts.append(given)
        filled = torch.zeros_like(p)
        filled[order] = torch.tensor(amounts, dtype=p.dtype, device=p.device)
        return filled
