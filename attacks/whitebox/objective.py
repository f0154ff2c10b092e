"""What a search raises, its slope, and how strong a discrete perturbation is.

Croce & Hein, *Reliable evaluation of adversarial robustness* (ICML 2020), for a loss that does not depend on the scale
of the logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.attacks.base import AttackError
from contractive_gnn.attacks.whitebox.flips import Flips
from contractive_gnn.attacks.whitebox.losses import LOSSES, Loss, margin

# tanh(m/2) of a margin m in logits is the difference of the two probabilities of a two-class softmax
_TYPICAL_MARGIN: Final = 5.0


class Score(NamedTuple):
    """How strong a discrete perturbation is; compares by errors, then by loss."""

    errors: int
    loss: float


@dataclass(frozen=True, eq=False)
class Objective:
    """What is to be raised: a loss over some nodes, of the logits divided by a temperature.

    The temperature makes the median clean margin 5: a victim that multiplies its logits by a constant predicts the same
    and would otherwise saturate the loss (one form of gradient masking).
    """

    nodes: Tensor
    labels: Tensor
    loss: Loss
    temperature: float

    @classmethod
    def of(cls, data: Data, clean: Tensor, targets: Tensor | None, loss: str) -> Objective:
        """The objective on ``targets``, or on the test nodes where there are none.

        Args:
            data: the graph.
            clean: the victim's logits on it, ``[n, classes]``.
            targets: int64 ``[t]`` or None.
            loss: a key of :data:`LOSSES`.

        Raises:
            AttackError: the logits do not fit the graph, are not finite, or have fewer than two classes.
            ValueError: neither targets nor test nodes.
        """
        nodes = data.test_mask.nonzero().flatten() if targets is None else targets.to(data.y.device)
        if nodes.numel() == 0:
            raise ValueError("data.test_mask selects no node: give targets, or a graph with test nodes")
        if clean.dim() != 2 or clean.shape[0] != data.num_nodes or clean.shape[1] < 2:
            raise AttackError(
                f"the victim returned logits of shape {list(clean.shape)} where [{data.num_nodes}, classes ≥ 2] "
                "was expected"
            )
        if not bool(torch.isfinite(clean[nodes]).all()):
            raise AttackError(
                "the victim's logits on the clean graph are not finite: it cannot be attacked by gradients"
            )
        labels = data.y[nodes]
        typical = float(margin(clean[nodes], labels).abs().median())
        return cls(nodes, labels, LOSSES[loss], typical / _TYPICAL_MARGIN if typical > 0 else 1.0)

    def value(self, logits: Tensor) -> Tensor:
        """The loss of these logits ``[n, classes]``."""
        return self.loss(logits[self.nodes] / self.temperature, self.labels)

    def score(self, logits: Tensor) -> Score:
        """How strong the perturbation is that gave these logits."""
        errors = int((logits[self.nodes].argmax(dim=1) != self.labels).sum())
        return Score(errors, float(self.value(logits)))


def gradient(flips: Flips, objective: Objective, p: Tensor) -> tuple[float, Tensor | None]:
    """The loss at p and its gradient, None where the victim's output does not depend on p at all."""
    with torch.enable_grad():
        p = p.detach().requires_grad_(True)
        loss = objective.value(flips.relaxed(p))
        if not loss.requires_grad:
            return float(loss), None
        (slope,) = torch.autograd.grad(loss, p, allow_unused=True)
    return float(loss.detach()), slope
