"""IG-FGSM: flips ranked by integrated gradients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from contractive_gnn.attacks.base import Attack, Kind, Knowledge, Perturbation, Scope, check_count, register
from contractive_gnn.deeprobust import train_gcn


class _IntegratedGradients(Attack):
    """Ranks the entries of one row of the adjacency or feature matrix by integrated gradients of a surrogate's loss.

    With the target's row z, a baseline row b (all ones or all zeros) and
        I_j = Σ_{k=0}^{steps} (k/steps) · ∂loss/∂z_j at b + (k/steps)(z − b),
    the score is −z_j·I_j for an entry that is there and (1 − z_j)·I_j for one that is absent. Wu et al., *Adversarial
    Examples on Graph Data: Deep Insights into Attack and Defense* (IJCAI 2019). The flips with the largest positive
    scores are made.

    The scores are those of DeepRobust's ``IGAttack`` (which differentiates by the *normalised* adjacency); it
    computes the path, which is one for all entries that are there and one for all that are not, anew for each entry:
    n·steps gradients where 2·steps do. So this is our own code, on DeepRobust's surrogate. It inherits a weakness: a
    row of ones is far from any normalised row, so that much of the path for absent edges lies where the loss saturates.
    """

    scope: ClassVar[Scope] = "targeted"
    knowledge: ClassVar[Knowledge] = "transfer"
    packages: ClassVar[tuple[str, ...]] = ("deeprobust",)

    _surrogate: Any = None

    def __init__(self, *, steps: int = 10, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.steps = check_count("steps", steps)

    def _prepare(self, data: Data) -> None:
        self._surrogate = train_gcn(data)

    @abstractmethod
    def _scores(self, x: Tensor, adjacency: Tensor, target: int, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Scores of the target's row; ``loss(x, normalised_adjacency)`` is the surrogate's at the target."""

    def _best(self, data: Data, n_flips: int, target: int) -> Tensor:
        """The columns of the target's row with the largest positive scores, at most ``n_flips``."""
        x, train = data.x.cpu().float(), data.train_mask.cpu()
        with torch.no_grad():
            labels = self._surrogate.predict().argmax(1)
        labels[train] = data.y.cpu()[train]
        n = x.shape[0]
        looped = torch.eye(n)
        looped[data.edge_index[0].cpu(), data.edge_index[1].cpu()] = 1.0
        scale = looped.sum(1).rsqrt()

        def loss(x: Tensor, normalised: Tensor) -> Tensor:
            return F.nll_loss(self._surrogate(x, normalised)[[target]], labels[[target]])

        scores = self._scores(x, scale[:, None] * looped * scale, target, loss)
        best = scores.topk(min(n_flips, scores.numel())).indices
        return best[scores[best] > 0]

    def _path(self, loss: Callable[[Tensor], Tensor], row: Tensor, baseline: Tensor) -> Tensor:
        """Σ_k (k/steps)·∇loss along the straight path from ``baseline`` to ``row``."""
        total = torch.zeros_like(row)
        for k in range(1, self.steps + 1):
            share = k / self.steps
            point = (baseline + share * (row - baseline)).requires_grad_()
            total += share * torch.autograd.grad(loss(point), point)[0]
        return total


def _with_row(matrix: Tensor, index: int, row: Tensor) -> Tensor:
    return matrix.index_copy(0, torch.tensor([index]), row[None])


@register
class IG(_IntegratedGradients):
    """IG-FGSM on the target's edges; paths run from no edges for those that are there, from all edges for the others.

    Args:
        steps: of the path.
        seed: see :class:`Attack`.
    """

    name: ClassVar[str] = "ig"
    kind: ClassVar[Kind] = "structure"

    def _scores(self, x: Tensor, adjacency: Tensor, target: int, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        row = adjacency[target]

        def along(row: Tensor) -> Tensor:
            return loss(x, _with_row(adjacency, target, row))

        present = -row * self._path(along, row, torch.zeros_like(row))
        absent = (1 - row) * self._path(along, row, torch.ones_like(row))
        scores = torch.where(row > 0, present, absent)
        scores[target] = -torch.inf
        return scores

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        assert targets is not None
        others = self._best(data, n_flips, int(targets))
        ends = torch.stack([others, torch.full_like(others, int(targets))])
        return Perturbation(edge_flips=ends.sort(dim=0).values)


@register
class IGFeatures(_IntegratedGradients):
    """IG-FGSM on the target's binary features.

    As in DeepRobust, and unlike for edges, paths run from all features for those that are there, from none for others.

    Args:
        steps: of the path.
        seed: see :class:`Attack`.
    """

    name: ClassVar[str] = "ig-features"
    kind: ClassVar[Kind] = "features"

    def _scores(self, x: Tensor, adjacency: Tensor, target: int, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        row = x[target]

        def along(row: Tensor) -> Tensor:
            return loss(_with_row(x, target, row), adjacency)

        present = -row * self._path(along, row, torch.ones_like(row))
        absent = (1 - row) * self._path(along, row, torch.zeros_like(row))
        return torch.where(row > 0, present, absent)

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        assert targets is not None
        columns = self._best(data, n_flips, int(targets))
        return Perturbation(feature_flips=torch.stack([torch.full_like(columns, int(targets)), columns]))
