r"""Auto-PGD: projected gradient ascent that finds its own step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from contractive_gnn.attacks.images.attack import ImageAttack, ImageAttackResult, Run
from contractive_gnn.attacks.images.ball import BallNorm
from contractive_gnn.attacks.images.losses import (
    SPREAD,
    ScoreLoss,
    difference_of_logits_ratio,
    runner_up,
    scaled_cross_entropy,
    spread_scale,
    targeted_ratio,
)
from contractive_gnn.attacks.images.victim import Victim
from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.extras import needs

Loss = Literal["ce", "dlr", "targeted"]
#: wrong classes that are aimed at, the likeliest first, as in the paper
TARGETS = 9
NORMS = {"l2": "L2", "linf": "Linf"}
_CLASSES = {"ce": 2, "dlr": 3, "targeted": 4}


@dataclass(frozen=True, kw_only=True)
class APGD(ImageAttack):
    r"""Auto-PGD (Croce, Hein, ICML 2020): torchattacks' ascent, with the losses of the paper.

    .. math:: u = P(x + \eta\, g/\|g\|), \qquad x \leftarrow P(x + \tfrac34 (u - x) + \tfrac14 (x - x_{\text{old}}))

    in ℓ2, with the sign of the gradient g of the loss in ℓ∞; η starts at 2ε and is halved, for each image by itself,
    where the loss does not grow. ``"targeted"`` aims at the wrong classes one after the other: it is APGD-T.

    The cross-entropy is that of scores which are scaled, image by image, to ``max z − min z = 20`` on the image itself.
    No prediction changes by it, and the loss does: where scores lie close together, as those of a 1-Lipschitz network
    do, it is almost their mean and pulls towards no class in particular; where they lie far apart its gradient is 0 in
    single precision.

    torchattacks' own APGDT is not used: in ℓ2 all images of its batch move by the step of the first one
    (``step_size[0]``, version 3.5.1), so what it finds depends on the company. Here its APGD, where every image has a
    step of its own, ascends the targeted loss.

    Args:
        norm: ``"l2"`` or ``"linf"``.
        epsilon: ε, raw pixel units.
        seed: of the starts.
        loss: ``"ce"`` (cross-entropy), ``"dlr"`` or ``"targeted"``.
        num_steps: of each run.
        restarts: runs from other starts, for each target.
        spread: to which the scores of each image are scaled in the cross-entropy; None: not at all.

    Raises:
        ValueError: for numbers out of range; (called) where the loss needs more classes than there are.
    """

    loss: Loss = "ce"
    num_steps: int = 100
    restarts: int = 1
    spread: float | None = SPREAD

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.loss, str) or self.loss not in _CLASSES:
            raise ValueError(f"loss must be one of {', '.join(_CLASSES)}, got {self.loss!r}")
        check_whole("num_steps", self.num_steps, least=1)
        check_whole("restarts", self.restarts, least=1)
        if self.spread is not None:
            check_real("spread", self.spread, above=0)

    @property
    def name(self) -> str:
        """``apgd-ce``, ``apgd-dlr`` or ``apgd-t``."""
        return "apgd-t" if self.loss == "targeted" else f"apgd-{self.loss}"

    def _runs(self, victim: Victim, classes: int) -> Iterator[Run]:
        if classes < _CLASSES[self.loss]:
            raise ValueError(
                f"the loss {self.loss!r} needs at least {_CLASSES[self.loss]} classes, the model has {classes}: "
                "use loss='ce'"
            )
        for rank in range(1, min(TARGETS, classes - 1) + 1 if self.loss == "targeted" else 2):
            for _ in range(self.restarts):
                yield partial(self._run, victim, rank)

    def _run(self, victim: Victim, rank: int, x: Tensor, y: Tensor) -> Tensor:
        with needs("images", "APGD"):
            import torchattacks

        attack = torchattacks.APGD(
            victim, norm=NORMS[self.norm], eps=self.epsilon, steps=self.num_steps, loss="dlr", eot_iter=1, rho=0.75
        )
        attack.set_device(x.device)
        attack.dlr_loss = self._loss(victim, rank, x, y)
        strongest, held, _, wrong = attack.attack_single_run(x, y)
        return torch.where(held.view(-1, 1, 1, 1), strongest, wrong)

    def _loss(self, victim: Victim, rank: int, x: Tensor, y: Tensor) -> ScoreLoss:
        if self.loss == "dlr":
            return difference_of_logits_ratio
        with torch.no_grad():
            scores = victim(x)
        if self.loss == "ce":
            return scaled_cross_entropy(spread_scale(scores, self.spread))
        return targeted_ratio(runner_up(scores, y, rank))


def apgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: BallNorm,
    epsilon: float,
    loss: Loss = "ce",
    num_steps: int = 100,
    restarts: int = 1,
    seed: int = 0,
) -> ImageAttackResult:
    """:class:`APGD` on a batch of images.

    Example:
        ``apgd(model, images, labels, norm="l2", epsilon=0.5, loss="targeted").survived.float().mean()``
    """
    return APGD(norm=norm, epsilon=epsilon, loss=loss, num_steps=num_steps, restarts=restarts, seed=seed)(model, x, y)
