r"""What APGD ascends: functions of the scores that are large where the model is wrong."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

#: scores ``[n, classes]`` and labels ``[n]`` to ``[n]``
ScoreLoss = Callable[[Tensor, Tensor], Tensor]
#: largest minus smallest score to which the cross-entropy scales: neither flat nor saturated
SPREAD = 20.0
#: keeps a quotient of equal scores finite
_TINY = 1e-12


def scaled_cross_entropy(scale: Tensor) -> ScoreLoss:
    """The cross-entropy of scores times a number for each image, ``[n]``."""

    def loss(scores: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(scale[:, None] * scores, y, reduction="none")

    return loss


def spread_scale(scores: Tensor, spread: float | None) -> Tensor:
    """What brings the scores of each image to ``max z − min z = spread``, ``[n]``; 1 for None, and for equal scores."""
    width = scores.amax(dim=1) - scores.amin(dim=1)
    if spread is None:
        return torch.ones_like(width)
    return torch.where(width > 0, spread / width, 1.0).clamp(max=torch.finfo(scores.dtype).max)


def difference_of_logits_ratio(scores: Tensor, y: Tensor) -> Tensor:
    r"""``−(z_y − max_{j ≠ y} z_j)/(z_(1) − z_(3))`` with ``z_(1) ≥ z_(2) ≥ …`` the sorted scores.

    It does not change when the scores are shifted or scaled (Croce, Hein, ICML 2020, eq. 6).
    """
    ordered = scores.sort(dim=1, descending=True).values
    own = scores.gather(1, y[:, None]).squeeze(1)
    other = scores.scatter(1, y[:, None], -torch.inf).amax(dim=1)
    return (other - own) / (ordered[:, 0] - ordered[:, 2] + _TINY)


def targeted_ratio(target: Tensor) -> ScoreLoss:
    r"""``−(z_y − z_t)/(z_(1) − (z_(3) + z_(4))/2)``, t the target of each image (Croce, Hein, ICML 2020, eq. 7)."""

    def loss(scores: Tensor, y: Tensor) -> Tensor:
        ordered = scores.sort(dim=1, descending=True).values
        own, other = (scores.gather(1, label[:, None]).squeeze(1) for label in (y, target))
        return (other - own) / (ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2 + _TINY)

    return loss


def runner_up(scores: Tensor, y: Tensor, rank: int) -> Tensor:
    """The wrong class with the rank-th largest score, ``[n]``; rank 1 is the likeliest."""
    order = scores.scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True)
    return order[:, rank - 1]
