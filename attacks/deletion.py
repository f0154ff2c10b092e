"""Attacks that delete nodes: random, by degree and by gradient.

A deleted node loses all its edges. It stays in the graph, alone, and where it is a test node it still counts: a model
that reads its own features can still be right about it.
"""

from __future__ import annotations

import copy
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.utils import degree

from contractive_gnn.attacks.base import (
    Attack,
    Kind,
    Knowledge,
    Perturbation,
    Scope,
    check_choice,
    register,
)
from contractive_gnn.attacks.whitebox import (
    LOSSES,
    AdaptiveAttack,
    Flips,
    Objective,
    check_victim,
    diagnose,
    weigh,
)
from contractive_gnn.attacks.whitebox.searching import Searching
from contractive_gnn.nn.surrogate import gradient_surrogate


class Deletion(Attack):
    """Deletes nodes: takes all edges from them. The budget is ``Budget(nodes=30)``, or a fraction of the nodes.

    A subclass proposes nodes, as ``Perturbation(deleted=nodes)``; this class takes the edges and nothing else.

    Args:
        candidates: "all" nodes may be deleted, or only the "others" than those whose accuracy counts.
        seed: see :class:`Attack`.
    """

    kind: ClassVar[Kind] = "deletion"
    scope: ClassVar[Scope] = "global"

    def __init__(self, *, candidates: str = "all", seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.candidates = check_choice("candidates", candidates, ("all", "others"))

    def _candidates(self, data: Data, n_nodes: int, targets: Tensor | None) -> Tensor:
        """The nodes with an edge that may be deleted, int64 ``[c]``.

        Raises:
            ValueError: there are fewer than are to be deleted.
        """
        free = degree(data.edge_index[0], num_nodes=data.num_nodes) > 0
        if self.candidates == "others":
            free[data.test_mask if targets is None else targets.to(free.device)] = False
        found: Tensor = free.nonzero().flatten()
        if found.numel() < n_nodes:
            raise ValueError(
                f"attack {self.name!r} cannot delete {n_nodes} nodes: {found.numel()} with an edge may be deleted; "
                "lower the budget" + ("" if self.candidates == "all" else ", or take candidates='all'")
            )
        return found

    @final
    def _apply(self, data: Data, proposal: Perturbation, allowed: int) -> Data:
        nodes = proposal.deleted
        if proposal.edge_flips.shape[1] or proposal.feature_flips.shape[1] or proposal.x is not None:
            raise self._broken("deletes nodes, but flipped edges or features")
        if proposal.new_x is not None:
            raise self._broken("deletes nodes, but added some")
        if not isinstance(nodes, Tensor) or nodes.dtype != torch.int64 or nodes.dim() != 1:
            raise self._broken("returned no int64 tensor [k] of nodes to delete")
        nodes = nodes.to(data.edge_index.device)
        if nodes.numel() and (int(nodes.min()) < 0 or int(nodes.max()) >= data.num_nodes):
            raise self._broken(f"deleted nodes outside of 0…{data.num_nodes - 1}")
        if len(set(nodes.tolist())) != nodes.numel():
            raise self._broken("listed a node twice")
        if nodes.numel() > allowed:
            raise self._broken(f"deleted {nodes.numel()} nodes where {allowed} are allowed")
        perturbed = copy.copy(data)
        perturbed.edge_index = data.edge_index[:, ~torch.isin(data.edge_index, nodes).any(dim=0)]
        return perturbed


@register
class RandomDeletion(Deletion):
    """Deletes nodes that are drawn at random.

    Args:
        candidates: "all" or "others", see :class:`Deletion`.
        seed: see :class:`Attack`.

    Raises:
        ValueError: (from ``run``) fewer nodes may be deleted than the budget says.
    """

    name: ClassVar[str] = "random-deletion"
    knowledge: ClassVar[Knowledge] = "random"

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        free = self._candidates(data, n_flips, targets)
        return Perturbation(deleted=free[torch.randperm(free.numel())[:n_flips].to(free.device)])


@register
class DegreeDeletion(Deletion):
    """Deletes the nodes with the most neighbours; of equal ones those with the smaller index.

    Args:
        candidates: "all" or "others", see :class:`Deletion`.
        seed: of no effect.

    Raises:
        ValueError: (from ``run``) fewer nodes may be deleted than the budget says.
    """

    name: ClassVar[str] = "degree-deletion"
    knowledge: ClassVar[Knowledge] = "random"

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        free = self._candidates(data, n_flips, targets)
        degrees = degree(data.edge_index[0], num_nodes=data.num_nodes)[free]
        return Perturbation(deleted=free[degrees.argsort(descending=True, stable=True)[:n_flips]])


class _Deletions(Flips):
    """Nodes that may be deleted: with p_u the edge (u, v) has weight (1 − p_u)(1 − p_v)."""

    def __init__(self, victim: nn.Module, data: Data, nodes: Tensor) -> None:
        self.victim, self.x, self.edge_index, self.nodes = victim, data.x, data.edge_index, nodes
        self.guide = gradient_surrogate(victim)
        self.size = nodes.numel()

    def relaxed(self, p: Tensor) -> Tensor:
        kept = 1 - p.new_zeros(len(self.x)).index_put((self.nodes,), p)
        u, v = self.edge_index
        return self.guide(self.x, self.edge_index, kept[u] * kept[v])  # type: ignore[no-any-return]

    def done(self, chosen: Tensor) -> Tensor:
        kept = ~torch.isin(self.edge_index, self.nodes[chosen]).any(dim=0)
        with torch.no_grad():
            return self.victim(self.x, self.edge_index[:, kept])  # type: ignore[no-any-return]

    def perturbation(self, chosen: Tensor) -> Perturbation:
        return Perturbation(deleted=self.nodes[chosen].cpu())

    def draw(self, k: int) -> Tensor:
        chosen = torch.zeros(self.size, dtype=torch.bool)
        chosen[torch.randperm(self.size)[:k]] = True
        return chosen.to(self.x.device)


@register
class GradientDeletion(Searching, Deletion, AdaptiveAttack):
    r"""Deletes the nodes whose deletion makes the frozen victim misclassify most.

    .. math:: \max_p L(\mathrm{victim}(A_{uv} (1 - p_u)(1 - p_v))), \qquad 0 \le p \le 1,\; \sum_u p_u \le b

    by projected gradient ascent, rounding and exchanges, as :class:`WhiteboxPGD` does with edges. Whatever counts is
    measured on the graph without the nodes' edges.

    Args:
        candidates: "all" or "others", see :class:`Deletion`.
        loss: "tanh-margin", "prob-margin", "cross-entropy" or "cw".
        epochs: steps of constant size.
        fine_epochs: steps of decreasing size.
        step: how far the steepest entries of p move in one step.
        samples: random roundings to try.
        swaps: attempts to exchange deletions of the result.
        seed: see :class:`Attack`.

    Raises:
        ValueError: (from ``run``) fewer nodes may be deleted than the budget says.
        AttackError: (from ``run``) the victim's logits on the clean graph are not finite or do not fit it.
    """

    name: ClassVar[str] = "gradient-deletion"
    scope: ClassVar[Scope] = "global"
    knowledge: ClassVar[Knowledge] = "adaptive"

    def __init__(
        self,
        *,
        candidates: str = "all",
        loss: str = "tanh-margin",
        epochs: int = 50,
        fine_epochs: int = 25,
        step: float = 0.3,
        samples: int = 20,
        swaps: int = 30,
        seed: int = 0,
    ) -> None:
        super().__init__(candidates=candidates, seed=seed)
        self.loss = check_choice("loss", loss, tuple(LOSSES))
        self._set_search(epochs=epochs, fine_epochs=fine_epochs, step=step, samples=samples, swaps=swaps)

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        assert victim is not None  # the base class has checked it
        read = check_victim(self.name, victim, data, kind=self.kind)
        flips = _Deletions(victim, data, self._candidates(data, n_flips, targets))
        clean = flips.done(flips.none() > 0)
        objective = Objective.of(data, clean, targets, self.loss)
        diagnosis = diagnose(flips, objective, clean, n_flips)
        found = self._search_by_settings(flips, objective, n_flips)
        found, notes = weigh(found, flips, objective, n_flips, diagnosis, clean)
        self._tell(read, notes)
        return found.flips.perturbation(found.chosen)
