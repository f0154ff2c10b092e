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

from contractive_gnn.attacks.base import AttackError, name_of
from contractive_gnn.attacks.whitebox.flips import Flips
from contractive_gnn.attacks.whitebox.goals import TargetLabels, aimed, check_goal
from contractive_gnn.attacks.whitebox.losses import Loss, loss_of, margin

# tanh(m/2) of a margin m in logits is the difference of the two probabilities of a two-class softmax
_TYPICAL_MARGIN: Final = 5.0


class Score(NamedTuple):
    """How strong a discrete perturbation is; compares by errors, then by loss.

    Under a targeted goal ``errors`` counts the nodes that are given the class aimed at.
    """

    errors: int
    loss: float


@dataclass(frozen=True, eq=False)
class Objective:
    """What is to be raised: a loss over some nodes, of the logits divided by a temperature.

    The temperature makes the median clean margin 5: a victim that multiplies its logits by a constant predicts the same
    and would otherwise saturate the loss (one form of gradient masking).

    Attributes:
        nodes: int64 ``[k]``, whose predictions count.
        labels: int64 ``[k]``: the true ones, or those to aim at where the goal is targeted.
        loss: of scores ``[k, classes]`` and labels ``[k]``; of one number for each node the mean counts.
        temperature: see above.
        goal: "untargeted" raises the loss of the true labels, "targeted" lowers that of the labels to aim at.
    """

    nodes: Tensor
    labels: Tensor
    loss: Loss
    temperature: float
    goal: str = "untargeted"

    @classmethod
    def of(
        cls,
        data: Data,
        clean: Tensor,
        targets: Tensor | None,
        loss: str | Loss,
        *,
        goal: str = "untargeted",
        target_labels: TargetLabels | None = None,
    ) -> Objective:
        """The objective on ``targets``, or on the test nodes where there are none.

        Args:
            data: the graph.
            clean: the victim's logits on it, ``[n, classes]``.
            targets: int64 ``[t]`` or None.
            loss: a key of :data:`LOSSES`, or a loss.
            goal: "untargeted" or "targeted".
            target_labels: for the targeted goal, one class for all nodes or int64 ``[n]``. Nodes that have their target
                label already are left out.

        Raises:
            AttackError: the logits do not fit the graph, are not finite, or have fewer than two classes; the loss does
                not give a finite number, or one for each node, with a finite gradient in the logits.
            ValueError: neither targets nor test nodes; a goal and target labels that do not fit each other or the
                graph.
        """
        goal, aims = check_goal(goal, target_labels)
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
        typical = float(margin(clean[nodes], data.y[nodes]).abs().median())
        labels = data.y[nodes]
        if aims is not None:
            nodes, labels = aimed(data, nodes, aims, classes=clean.shape[1])
        objective = cls(nodes, labels, loss_of(loss), typical / _TYPICAL_MARGIN if typical > 0 else 1.0, goal)
        objective._check_loss(clean)
        return objective

    def _check_loss(self, clean: Tensor) -> None:
        """Raise AttackError unless the loss has a finite value and a finite gradient on the clean graph."""
        name = name_of(self.loss)
        with torch.enable_grad():
            scores = clean.detach().requires_grad_()
            value = self.value(scores)
            slope = torch.autograd.grad(value, scores, allow_unused=True)[0] if value.requires_grad else None
        if slope is None:
            raise AttackError(f"the loss {name} has no gradient in the scores: a gradient cannot raise it")
        if not bool(torch.isfinite(value)):
            raise AttackError(
                f"the loss {name} is {float(value.detach())} on the clean graph; expected a finite number"
            )
        if not bool(torch.isfinite(slope).all()):
            raise AttackError(
                f"the loss {name} has a gradient that is not finite on the clean graph, as a root or a logarithm has "
                "at 0: a gradient cannot raise it; keep its argument away from there"
            )

    def value(self, logits: Tensor) -> Tensor:
        """What is raised, of these logits ``[n, classes]``: one number.

        Raises:
            AttackError: the loss gives something else than one number, or one for each node.
        """
        k = self.nodes.numel()
        loss: object = self.loss(logits[self.nodes] / self.temperature, self.labels)
        fits = isinstance(loss, Tensor) and loss.numel() in (1, k) and loss.dim() <= 1
        if not isinstance(loss, Tensor) or not fits or not loss.is_floating_point():
            given = type(loss).__name__
            if isinstance(loss, Tensor):
                given = f"a tensor of shape {list(loss.shape)}" if not fits else f"a tensor of {loss.dtype}"
            raise AttackError(
                f"the loss {name_of(self.loss)} returned {given} for the scores of {k} nodes; expected a floating "
                f"point tensor of one number, or of one for each node, [{k}]"
            )
        mean = loss.mean()
        return mean if self.goal == "untargeted" else -mean

    def score(self, logits: Tensor) -> Score:
        """How strong the perturbation is that gave these logits."""
        hit = logits[self.nodes].argmax(dim=1) == self.labels
        reached = hit if self.goal == "targeted" else ~hit
        return Score(int(reached.sum()), float(self.value(logits)))


def gradient(flips: Flips, objective: Objective, p: Tensor) -> tuple[float, Tensor | None]:
    """The loss at p and its gradient, None where the victim's output does not depend on p at all."""
    with torch.enable_grad():
        p = p.detach().requires_grad_(True)
        loss = objective.value(flips.relaxed(p))
        if not loss.requires_grad:
            return float(loss), None
        (slope,) = torch.autograd.grad(loss, p, allow_unused=True)
    return float(loss.detach()), slope
